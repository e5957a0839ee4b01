// The floating-point state of a thread while it computes for us.
//
// A host may trap invalid operations, and it may read the exception flags. Vectors compute in lanes
// whose results nobody uses, and sums are tried in a range that turns out too small: both raise
// flags that the mathematics does not. So a call runs with all exceptions masked, and leaves flags
// and masks as they were. The rounding mode and flush-to-zero stay the caller's, on workers, too.
//
// We do not compute on the x87 unit, but its masks are set as well. oneTBB hands the caller's to
// its workers, and a worker has inherited the flags of the thread that started it: with an overflow
// from long ago and that trap switched on, it would die inside of oneTBB. The caller may be in that
// state itself. Then most instructions of the unit trap; fnstenv does not, and masks all.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>

#include <cstdint>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "bn2d needs its checks of NaN: compile it without -ffast-math"
#endif

namespace bn2d {

#if defined(__SSE__)
// The control bits of a thread: rounding, flush-to-zero, masks.
class FloatingPointMode {
 public:
  FloatingPointMode() : bits_(_mm_getcsr() & ~kFlags) {}

 private:
  friend class QuietArithmetic;
  static constexpr unsigned kFlags = 0x3F, kMaskAll = 0x1F80;
  unsigned bits_;
};

class QuietArithmetic {
 public:
  // In this mode, or in the thread's own. Reading the register takes 2 ns, writing it 10: most
  // hosts trap nothing, and have seen an inexact result before.
  explicit QuietArithmetic(FloatingPointMode mode = {})
      : before_(_mm_getcsr()), x87_traps_(x87_traps()) {
    const unsigned wanted =
        mode.bits_ | FloatingPointMode::kMaskAll | (before_ & FloatingPointMode::kFlags);
    if (before_ != wanted) _mm_setcsr(wanted);
    if (x87_traps_) asm volatile("fnstenv %0" : "=m"(x87_before_));
  }
  ~QuietArithmetic() {
    if (_mm_getcsr() != before_) _mm_setcsr(before_);
    if (x87_traps_) asm volatile("fldenv %0" : : "m"(x87_before_));
  }
  QuietArithmetic(const QuietArithmetic &) = delete;
  QuietArithmetic &operator=(const QuietArithmetic &) = delete;

 private:
  static bool x87_traps() {
    constexpr uint16_t kMaskAll = 0x3F;
    uint16_t control;
    asm volatile("fnstcw %0" : "=m"(control));
    return (control & kMaskAll) != kMaskAll;
  }

  const unsigned before_;
  const bool x87_traps_;
  struct {
    uint32_t words[7];
  } x87_before_;  // control, status, tags and where the unit is
};
#elif defined(__aarch64__)
class FloatingPointMode {
 public:
  FloatingPointMode() { asm volatile("mrs %0, fpcr" : "=r"(bits_)); }

 private:
  friend class QuietArithmetic;
  static constexpr unsigned long kTrapAll = 0x9F00;
  unsigned long bits_;
};

class QuietArithmetic {
 public:
  explicit QuietArithmetic(FloatingPointMode mode = {}) {
    asm volatile("mrs %0, fpsr" : "=r"(flags_));
    asm volatile("msr fpcr, %0" : : "r"(mode.bits_ & ~FloatingPointMode::kTrapAll));
  }
  ~QuietArithmetic() {
    asm volatile("msr fpsr, %0" : : "r"(flags_));
    asm volatile("msr fpcr, %0" : : "r"(before_.bits_));
  }
  QuietArithmetic(const QuietArithmetic &) = delete;
  QuietArithmetic &operator=(const QuietArithmetic &) = delete;

 private:
  const FloatingPointMode before_;
  unsigned long flags_;
};
#else
class FloatingPointMode {
 public:
  FloatingPointMode() { std::fegetenv(&environment_); }

 private:
  friend class QuietArithmetic;
  std::fenv_t environment_;
};

class QuietArithmetic {
 public:
  explicit QuietArithmetic(FloatingPointMode mode = {}) {
    std::fesetenv(&mode.environment_);
    std::fenv_t ignored;
    std::feholdexcept(&ignored);
  }
  ~QuietArithmetic() { std::fesetenv(&before_.environment_); }
  QuietArithmetic(const QuietArithmetic &) = delete;
  QuietArithmetic &operator=(const QuietArithmetic &) = delete;

 private:
  const FloatingPointMode before_;
};
#endif

}  // namespace bn2d
