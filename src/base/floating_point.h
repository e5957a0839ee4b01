// The floating-point state of a thread while it computes for us.
//
// A host may trap invalid operations, and it may read the exception flags. Vectors compute in lanes
// whose results nobody uses, and sums are tried in a range that turns out too small: both raise
// flags that the mathematics does not. So a call runs with all exceptions masked, and leaves flags
// and masks as they were. The rounding mode and flush-to-zero stay the host's.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace bn2d {

class QuietArithmetic {
 public:
  QuietArithmetic(const QuietArithmetic &) = delete;
  QuietArithmetic &operator=(const QuietArithmetic &) = delete;

#if defined(__SSE__)
  // Reading the register takes 2 ns, writing it 10: most hosts trap nothing, and have seen an inexact
  // result before.
  QuietArithmetic() : state_(_mm_getcsr()) {
    if ((state_ & kMaskAll) != kMaskAll) _mm_setcsr(state_ | kMaskAll);
  }
  ~QuietArithmetic() {
    if (_mm_getcsr() != state_) _mm_setcsr(state_);
  }

 private:
  static constexpr unsigned kMaskAll = 0x1F80;
  const unsigned state_;
#elif defined(__aarch64__)
  QuietArithmetic() {
    asm volatile("mrs %0, fpcr" : "=r"(control_));
    asm volatile("mrs %0, fpsr" : "=r"(status_));
    asm volatile("msr fpcr, %0" : : "r"(control_ & ~kTrapAll));
  }
  ~QuietArithmetic() {
    asm volatile("msr fpsr, %0" : : "r"(status_));
    asm volatile("msr fpcr, %0" : : "r"(control_));
  }

 private:
  static constexpr unsigned long kTrapAll = 0x9F00;
  unsigned long control_, status_;
#else
  QuietArithmetic() { std::feholdexcept(&state_); }
  ~QuietArithmetic() { std::fesetenv(&state_); }

 private:
  std::fenv_t state_;
#endif
};

}  // namespace bn2d
