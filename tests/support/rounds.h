// How often a test goes round. The address sanitizer makes it ten times as long, and looks for
// other faults than wrong numbers, which a few rounds show as well as many.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

constexpr int rounds(int count) { return kIsSanitized ? (count + 4) / 5 : count; }
