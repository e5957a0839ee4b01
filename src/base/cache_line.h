// The unit in which memory travels.
#pragma once
#include <cstdint>

namespace bn2d {

inline constexpr int64_t kLineBytes = 64;

}  // namespace bn2d
