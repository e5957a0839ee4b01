// The unit in which memory travels.
#pragma once
#include <cstdint>

namespace bn2d {

inline constexpr int64_t kLineBytes = 64;
// So many bytes, in whole lines.
constexpr int64_t in_lines(int64_t bytes) {
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

}  // namespace bn2d
