// The streaming threshold of a test.
#pragma once
#include "bn2d/bn2d.h"

namespace numerics {

// Sets the streaming threshold back when the test ends.
class Streaming {
 public:
  explicit Streaming(int64_t bytes) : before_(bn2d_get_streaming_threshold()) {
    bn2d_set_streaming_threshold(bytes);
  }
  ~Streaming() { bn2d_set_streaming_threshold(before_); }
  Streaming(const Streaming &) = delete;
  Streaming &operator=(const Streaming &) = delete;

 private:
  int64_t before_;
};

}  // namespace numerics
