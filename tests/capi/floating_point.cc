// A call leaves the floating-point environment of its thread as it was: flags, masks, rounding, and
// does not trap where the host traps invalid operations, divisions by zero and overflows. On
// ordinary and on extreme, finite numbers.
#include <cfenv>

#include "support/contract_functions.h"
#include "support/contract_process.h"
#include "support/norms_case.h"
#include "support/numerics_cases.h"
#include "support/numerics_parts.h"

#if defined(__GLIBC__)

namespace {

using namespace numerics;

constexpr int kTraps = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW;

std::string names_of(int flags) {
  std::string text;
  const std::pair<int, const char *> all[] = {{FE_INVALID, "invalid"},
                                              {FE_DIVBYZERO, "division by zero"},
                                              {FE_OVERFLOW, "overflow"},
                                              {FE_UNDERFLOW, "underflow"},
                                              {FE_INEXACT, "inexact"}};
  for (const auto &[flag, name] : all)
    if ((flags & flag) != 0) text += std::string(text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

// The flags that a call has raised, or taken away.
struct Changed {
  int raised = 0, lowered = 0;
};

template <class Call>
Changed flags_changed_by(Call call) {
  Changed changed;
  std::feclearexcept(FE_ALL_EXCEPT);
  call();
  changed.raised = std::fetestexcept(FE_ALL_EXCEPT);
  std::feraiseexcept(FE_ALL_EXCEPT);
  call();
  changed.lowered = FE_ALL_EXCEPT & ~std::fetestexcept(FE_ALL_EXCEPT);
  std::feclearexcept(FE_ALL_EXCEPT);
  return changed;
}

// Around a call: every other one begins with all flags set, the rest with none.
class Watch {
 public:
  Around around() {
    return [this](const char *function, const std::function<int32_t()> &call) {
      std::feclearexcept(FE_ALL_EXCEPT);
      if (toggle_ ^= true; toggle_) std::feraiseexcept(FE_ALL_EXCEPT);
      const int before = std::fetestexcept(FE_ALL_EXCEPT);
      const int32_t status = call();
      const int after = std::fetestexcept(FE_ALL_EXCEPT);
      std::feclearexcept(FE_ALL_EXCEPT);
      note(function, after & ~before, before & ~after);
      return status;
    };
  }
  void note(const std::string &function, int raised, int lowered) {
    ++calls;
    if (raised == 0 && lowered == 0) return;
    ++changes;
    if (!first.empty()) return;
    first = function + " raised: " + names_of(raised) + "; lowered: " + names_of(lowered);
  }
  int calls = 0, changes = 0;
  std::string first;

 private:
  bool toggle_ = false;
};

// Around a call: with traps, as a host sets them. A trap ends the program, which the framework
// reports.
Around trapped() {
  return [](const char *, const std::function<int32_t()> &call) {
    std::feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(kTraps);
    const int32_t status = call();
    const int traps = fegetexcept();
    fedisableexcept(FE_ALL_EXCEPT);
    std::feclearexcept(FE_ALL_EXCEPT);
    if (traps != kTraps) FAIL_CHECK("the traps are other ones after the call");
    return status;
  };
}

void run_norms(const Around &around) {
  uint64_t seed = 1;
  for (const int32_t norm : {BN2D_NORM_BATCH, BN2D_NORM_GROUP, BN2D_NORM_INSTANCE})
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
      for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
        for (const Extents &e : {Extents{3, 8, 5, 5}, Extents{5, 12, 2, 2}, Extents{4, 6, 1, 3}}) {
          NormCase c = case_of(e, norm, 2);
          c.ghost = norm == BN2D_NORM_BATCH ? 2 : 0;
          c.stateless = ++seed % 2 == 0 && norm == BN2D_NORM_GROUP;
          c.data = c.module = dtype;
          c.x = c.y = c.dx = layout;
          c.activation = {Activation::leaky, -0.5};
          INFO(describe(c));
          run(c, random_inputs(c, seed), around);
          Case plain;
          plain.e = e;
          plain.data = plain.module = dtype;
          for (int kind = 0; kind < static_cast<int>(Extreme::count); ++kind) {
            INFO("extreme numbers of kind " << kind);
            run(c, extreme_inputs(plain, static_cast<Extreme>(kind), seed), around);
          }
        }
}

void run_statistics(const Around &around) {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const Layout layout : all_layouts) {
      Case c;
      c.e = {3, 17, 6, 7};
      c.data = c.module = dtype;
      c.x = c.y = c.dx = layout;
      INFO(describe(c));
      run_parts(c, random_inputs(c, 5), {2, 1}, around);
      for (int kind = 0; kind < static_cast<int>(Extreme::count); ++kind) {
        INFO("extreme numbers of kind " << kind);
        run_parts(c, extreme_inputs(c, static_cast<Extreme>(kind), 5), {2, 1}, around);
      }
    }
}

void run_all(const Around &around) {
  uint64_t seed = 1;
  for (const Case &c : every_case()) {
    INFO(describe(c));
    run(c, random_inputs(c, ++seed), around);
    if (c.e.size() > 4000) continue;
    for (int kind = 0; kind < static_cast<int>(Extreme::count); ++kind) {
      INFO("extreme numbers of kind " << kind);
      run(c, extreme_inputs(c, static_cast<Extreme>(kind), seed), around);
    }
  }
  run_norms(around);
  run_statistics(around);
}

}  // namespace

// In a process of its own, in which no worker has started yet.
TEST_CASE("floating point alone: traps after workers began with flags", "[.]") {
  Case c;  // large enough for other threads
  c.e = {8, 64, 56, 56};
  const Inputs in = random_inputs(c, 3);
  run(c, in, [](const char *, const std::function<int32_t()> &call) {
    std::feraiseexcept(FE_ALL_EXCEPT);
    return call();
  });
  for (int i = 0; i < 10; ++i) run(c, in, trapped());
  _exit(bn2d_test::kWell);
}

// Catches: a worker that inherits flags of the x87 unit from the thread that starts it, and dies
// when a later call hands it the caller's traps.
TEST_CASE("floating point: traps after workers began with flags", "[floating_point]") {
  CHECK(bn2d_test::run_alone("floating point alone: traps after workers began with flags", "",
                             60) == bn2d_test::kWell);
}

// Catches: an instruction of the x87 unit in a call, where an exception is pending there.
TEST_CASE("floating point: a trap that is switched on after its flag", "[floating_point]") {
  for (const int flag : {FE_OVERFLOW, FE_UNDERFLOW, FE_INEXACT, FE_DIVBYZERO, FE_INVALID}) {
    Case c;
    c.e = {2, 3, 4, 5};
    int flags = 0, traps = 0;
    run(c, random_inputs(c, 3), [&](const char *, const std::function<int32_t()> &call) {
      std::feclearexcept(FE_ALL_EXCEPT);
      std::feraiseexcept(flag);
      feenableexcept(flag);
      const int32_t status = call();
      flags = std::fetestexcept(FE_ALL_EXCEPT);
      std::feclearexcept(FE_ALL_EXCEPT);  // before what waits for the unit, as the next ones do
      traps = fegetexcept();
      fedisableexcept(FE_ALL_EXCEPT);
      return status;
    });
    INFO(names_of(flag));
    CHECK((flags & flag) != 0);
    CHECK(traps == flag);
  }
}

// Catches: lanes behind the last element that hold 0/0, conversions of infinities, a sum tried in a
// range that is too small, on any SIMD target (simd.*).
TEST_CASE("floating point: no call of an operation changes an exception flag", "[floating_point]") {
  Watch watch;
  run_all(watch.around());
  INFO("first: " << watch.first);
  CHECK(watch.changes == 0);
  CHECK(watch.calls > 8000);
}

// Catches: the same in a worker thread, whose trap would end the program; traps that a call
// switches off for good.
TEST_CASE("floating point: no call of an operation traps", "[floating_point]") {
  run_all(trapped());
  Case c;  // large enough for other threads
  c.e = {8, 64, 56, 56};
  c.activation = relu;
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
    for (const Mode mode : {Mode::train, Mode::eval}) {
      c.mode = mode;
      c.x = c.y = c.dx = layout;
      run(c, random_inputs(c, 3), trapped());
      run(c, extreme_inputs(c, Extreme::ends, 3), trapped());
    }
  }
}

// Catches: a function outside of the operations that computes: rounding of values, text of numbers.
TEST_CASE("floating point: no function of the C ABI changes a flag or traps", "[floating_point]") {
  using namespace bn2d_test;
  for (const FunctionEntry &entry : all_functions()) {
    INFO("bn2d_" << entry.name);
    World world;
    const Changed changed = flags_changed_by([&] {
      world.release_outs();
      (void)entry.call_with(world, kNoPointer, nullptr);
    });
    CHECK(names_of(changed.raised) == "none");
    CHECK(names_of(changed.lowered) == "none");
    world.release_outs();
    feenableexcept(kTraps);
    (void)entry.call_with(world, kNoPointer, nullptr);
    fedisableexcept(FE_ALL_EXCEPT);
    for (int extra = 0; extra < 3; ++extra) {  // what three calls have retained
      world.release_retained(entry.name);
    }
  }
}

// Catches: numbers that change a flag on their way from dtype to dtype.
TEST_CASE("floating point: copies of tensors change no flag", "[floating_point]") {
  using namespace bn2d_test;
  const double values[] = {0.1, -0.0, 1e300, 1e-300, 65520, 1e-8, 3.4e38, 5e-324, 1.0};
  const int32_t dtypes[] = {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16};
  for (const int32_t own : dtypes) {
    Settings settings;
    settings.dtype = own;
    const bn2d_test::Module module = make_module(static_cast<int64_t>(std::size(values)), settings);
    const bn2d_test::Tensor weight = tensor_of(module, "weight");
    for (const int32_t other : dtypes) {
      std::vector<unsigned char> memory(std::size(values) * 8);
      for (size_t i = 0; i < std::size(values); ++i)
        write_element(other, &memory[i * size_of(other)], rounded(other, values[i]));
      const View view = View::vector(memory.data(), other, static_cast<int64_t>(std::size(values)));
      INFO(bn2d_dtype_name(own) << " and " << bn2d_dtype_name(other));
      const Changed from =
          flags_changed_by([&] { CHECK(bn2d_tensor_copy_from(weight.get(), view) == BN2D_OK); });
      const Changed to =
          flags_changed_by([&] { CHECK(bn2d_tensor_copy_to(weight.get(), view) == BN2D_OK); });
      CHECK(names_of(from.raised | to.raised) == "none");
      CHECK(names_of(from.lowered | to.lowered) == "none");
    }
  }
}

#endif
