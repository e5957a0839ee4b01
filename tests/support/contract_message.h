// The message of a failed call, free of any test framework.
#pragma once
#include <bn2d/bn2d.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace bn2d_test {

// Puts a message of the test's own making into this thread's slot, so that a failure without a
// message of its own shows, and so does a success that writes one.
inline constexpr const char *kMarker = "bn2d_test_marker";
inline void mark_message() {
  int64_t value = 0;
  (void)bn2d_constant_by_name(kMarker, &value);
}
inline bool message_is_marked() { return std::strstr(bn2d_last_error(), kMarker) != nullptr; }

// "" for a message as the header promises it: one line of at most 255 bytes of UTF-8, no "failed
// to"; else what is wrong.
inline std::string message_fault(const char *message) {
  if (message == nullptr) return "NULL";
  const std::string text(message);
  if (text.empty()) return "empty";
  if (text.size() > 255) return "longer than 255 bytes";
  if (text.find("failed to") != std::string::npos) return "says \"failed to\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return "has a control character";
    if (byte < 0x80) continue;
    const size_t more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
    if (more == 0) return "is not UTF-8";
    for (size_t k = 1; k <= more; ++k) {
      if (i + k >= text.size() || (static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80)
        return "is not UTF-8";
    }
    i += more;
  }
  return "";
}

}  // namespace bn2d_test
