// When memory runs out: every allocation of every call fails once. The program's own operator new
// and aligned_alloc come before those of the C and C++ libraries, also for the library under test;
// the sanitisers have theirs, so not with them.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "support/contract_functions.h"
#include "support/contract_process.h"
#include "support/norms_case.h"

namespace {

// Allocations of this thread until one fails; negative: none does.
thread_local int t_until_failure = -1;
thread_local bool t_failed = false;
thread_local int t_allocations = 0;

bool fails_now() {
  ++t_allocations;
  if (t_until_failure < 0) return false;
  if (t_until_failure-- > 0) return false;
  t_failed = true;
  return true;
}

void *aligned(size_t alignment, size_t bytes) {
  void *memory = nullptr;
  return posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) ==
                 0
             ? memory
             : nullptr;
}

void *allocate(size_t alignment, size_t bytes) {
  if (bytes == 0) bytes = 1;
  if (fails_now()) return nullptr;
  return alignment == 0 ? std::malloc(bytes) : aligned(alignment, bytes);
}

// Instead of throwing: as the allocator of a host may.
thread_local bool t_ends_thread = false;

void *allocate_or_throw(size_t alignment, size_t bytes) {
  void *memory = allocate(alignment, bytes);
  if (memory == nullptr && t_ends_thread) pthread_exit(nullptr);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Not inlined: the compiler would see free() meet operator new.
#define NOINLINE __attribute__((noinline))
NOINLINE void *operator new(size_t bytes) { return allocate_or_throw(0, bytes); }
NOINLINE void *operator new[](size_t bytes) { return allocate_or_throw(0, bytes); }
NOINLINE void *operator new(size_t bytes, const std::nothrow_t &) noexcept {
  return allocate(0, bytes);
}
NOINLINE void *operator new[](size_t bytes, const std::nothrow_t &) noexcept {
  return allocate(0, bytes);
}
NOINLINE void *operator new(size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(static_cast<size_t>(alignment), bytes);
}
NOINLINE void *operator new[](size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(static_cast<size_t>(alignment), bytes);
}
NOINLINE void *operator new(size_t bytes, std::align_val_t alignment,
                            const std::nothrow_t &) noexcept {
  return allocate(static_cast<size_t>(alignment), bytes);
}
NOINLINE void *operator new[](size_t bytes, std::align_val_t alignment,
                              const std::nothrow_t &) noexcept {
  return allocate(static_cast<size_t>(alignment), bytes);
}
NOINLINE void operator delete(void *memory) noexcept { std::free(memory); }
NOINLINE void operator delete[](void *memory) noexcept { std::free(memory); }
NOINLINE void operator delete(void *memory, size_t) noexcept { std::free(memory); }
NOINLINE void operator delete[](void *memory, size_t) noexcept { std::free(memory); }
NOINLINE void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
NOINLINE void operator delete[](void *memory, std::align_val_t) noexcept { std::free(memory); }
NOINLINE void operator delete(void *memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}
NOINLINE void operator delete[](void *memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}
// Clang would hide it with the rest of the program (-fvisibility=hidden); GCC follows its
// declaration.
extern "C" __attribute__((visibility("default"))) void *aligned_alloc(size_t alignment,
                                                                      size_t bytes) {
  return fails_now() ? nullptr : aligned(alignment, bytes);
}

using namespace bn2d_test;

TEST_CASE("memory: each allocation of each call fails once", "[memory]") {
  // Catches an exception that crosses the boundary, a counter or an output that moved before the
  // allocation, a handle that was half made, and an exclusive call that keeps the module.
  int failures = 0;
  std::vector<std::string> covered;
  for (const FunctionEntry &entry : all_functions()) {
    INFO("bn2d_" << entry.name);
    covered.push_back(entry.name);
    const int before_this = failures;
    for (int until = 0;; ++until) {
      REQUIRE(until < 200);
      World world;
      // A module whose pools are empty, with tensors that need working memory.
      const Snapshot before = world.snapshot();
      mark_message();
      t_failed = false;
      t_until_failure = until;
      const int32_t status = entry.call_with(world, kNoPointer, nullptr);
      t_until_failure = -1;
      const std::string message = bn2d_last_error();
      if (!t_failed) {
        if (entry.returns_status) CHECK(status >= 0);
        world.release_retained(entry.name);
        break;
      }
      ++failures;
      INFO("allocation " << until << ": " << bn2d_status_name(status) << ", " << message);
      if (status == BN2D_OK) continue;  // it could do without
      CHECK(status == BN2D_ERROR_OUT_OF_MEMORY);
      CHECK(message_fault(message.c_str()) == "");
      CHECK(message.find(kMarker) == std::string::npos);
      CHECK(before.difference() == "");
      CHECK(entry.call_with(world, kNoPointer, nullptr) ==
            BN2D_OK);  // and with memory it works again
    }
    // What makes something that no pool holds.
    if (entry.name == "module_create" || entry.name.find("to_dlpack") != std::string::npos)
      CHECK(failures > before_this);
  }
  for (const std::string &name : listed_functions()) {
    INFO("bn2d_" << name);
    CHECK(std::find(covered.begin(), covered.end(), name) != covered.end());
  }
}

// Around calls: each allocation of a call fails once, and then the call has all the memory.
numerics::Around failing_once(std::map<std::string, int> &failures) {
  return [&failures](const char *function, const std::function<int32_t()> &call) {
    int32_t status = BN2D_OK;
    for (int until = 0;; ++until) {
      REQUIRE(until < 50);
      t_failed = false;
      t_until_failure = until;
      status = call();
      t_until_failure = -1;
      if (!t_failed || status == BN2D_OK) return status;  // enough, or it could do without
      ++failures[function];
      if (status != BN2D_ERROR_OUT_OF_MEMORY) return status;
    }
  };
}

TEST_CASE("memory: operations on so many channels that no pool has their working memory",
          "[memory]") {
  // Catches the same in every operation: a result, a counter or a gradient of a call that failed
  // shows as other bits than those of a run that had all the memory.
  std::map<std::string, int> failures;
  const numerics::Around failing = failing_once(failures);
  numerics::Case c;
  c.e = {1, 700000, 1, 2};
  c.x = c.y = c.dx = c.z = c.dz =
      numerics::Layout::nhwc;  // planned as a whole, so its memory grows with the channels
  c.residual = true;
  for (const bool stateless : {false, true}) {
    for (const double slope : {0.25, -0.5}) {  // the second needs a mask
      c.stateless = stateless;
      c.activation = {numerics::Activation::leaky, slope};
      const numerics::Inputs in = numerics::random_inputs(c, 41);
      const numerics::Outputs right = numerics::run(c, in);
      INFO(numerics::describe(c));
      CHECK(numerics::first_difference(numerics::run(c, in, failing), right) == "");
    }
    // In steps (ops/double_backward_in_steps.h): an output that is written before the last of them
    // has its memory, or in place of what a later one reads.
    c.activation = {numerics::Activation::silu, 0};
    c.gradient_in_place = numerics::GradientInPlace::dx;
    const numerics::Inputs in = numerics::random_inputs(c, 42);
    const numerics::Outputs right = numerics::run(c, in);
    INFO(numerics::describe(c));
    CHECK(numerics::first_difference(numerics::run(c, in, failing), right) == "");
    c.gradient_in_place = numerics::GradientInPlace::no;
  }
  // Without kernels for rows of channels, groups of them are packed, whose memory does not grow.
  const std::string target = bn2d_simd_target();
  if (target == "SSE4" || target == "SCALAR") return;
  for (const char *function :
       {"bn2d_forward_act", "bn2d_backward", "bn2d_double_backward", "bn2d_batch_norm_forward",
        "bn2d_batch_norm_backward", "bn2d_batch_norm_double_backward", "bn2d_double_backward_act",
        "bn2d_batch_norm_double_backward_act"}) {
    INFO(function);
    CHECK(failures[function] > 0);
  }
}

TEST_CASE("memory: norms of so many sets that no pool has their working memory",
          "[memory][norms]") {
  // Catches the same in the other norms: ghost batches that have moved the running statistics when
  // the memory for the last of them, which is shorter, is missing.
  std::map<std::string, int> failures;
  const numerics::Around failing = failing_once(failures);
  numerics::NormCase c;
  c.e = {5, 160000, 1, 2};
  c.x = c.y = c.dx = numerics::Layout::nhwc;
  c.residual = true;
  c.activation = {numerics::Activation::leaky, -0.5};
  for (const int32_t norm : {BN2D_NORM_BATCH, BN2D_NORM_INSTANCE, BN2D_NORM_GROUP}) {
    c.norm = norm;
    c.ghost = norm == BN2D_NORM_BATCH ? 2 : 0;
    c.groups = 80000;
    const numerics::Inputs in = numerics::random_inputs(c, 43);
    INFO(numerics::describe(c));
    const numerics::Outputs right = numerics::run(c, in);
    CHECK(numerics::first_difference(numerics::run(c, in, failing), right) == "");
  }
  // As the last one, by sets as planes (ops/sets_as_planes.h): copied first, and in place.
  c.residual = false;
  c.activation = {};
  for (const numerics::Layout layout : {numerics::Layout::nhwc, numerics::Layout::nchw}) {
    c.x = c.y = c.dx = layout;
    const numerics::Inputs in = numerics::random_inputs(c, 44);
    INFO(numerics::describe(c));
    const numerics::Outputs right = numerics::run(c, in);
    CHECK(numerics::first_difference(numerics::run(c, in, failing), right) == "");
  }
  const std::string target = bn2d_simd_target();
  if (target == "SSE4" || target == "SCALAR") return;  // as above
  for (const char *function : {"bn2d_forward_act", "bn2d_backward", "bn2d_double_backward"}) {
    INFO(function);
    CHECK(failures[function] > 0);
  }
}

TEST_CASE("memory: large tensors, whose working memory is not in any pool", "[memory]") {
  // Catches the same in the paths that small tensors do not take: split planes, half dtypes, masks.
  {  // oneTBB starts, with all the memory that it wants: else the rest of this program would have
     // one thread.
    std::vector<float> x(size_t{8} * 16 * 64 * 64, 1.0f);
    REQUIRE(bn2d_forward_f32(make_module(16).get(), x.data(), 8, 64, 64, x.data(), nullptr) ==
            BN2D_OK);
  }
  int failures = 0;
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16}) {
    for (const Extents &shape : {Extents{2, 2, 200, 200}, Extents{2, 40, 60, 20}}) {
      for (int call = 0; call < 3; ++call) {
        for (int until = 0;; ++until) {
          REQUIRE(until < 200);
          Settings settings;
          settings.dtype = dtype;
          const Module module = make_module(shape[1], settings);
          std::vector<float> x(static_cast<size_t>(count_of(shape))), y(x.size()), dx(x.size());
          for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17);
          const Extents strides = until % 2 == 0 ? nchw_strides(shape) : nhwc_strides(shape);
          const View view_x(x.data(), dtype, shape, strides),
              view_y(y.data(), dtype, shape, strides);
          const View view_dx(dx.data(), dtype, shape, strides);
          bn2d_record *raw = nullptr;
          const auto forward = [&] {
            return bn2d_forward_act(module.get(), view_x, nullptr, BN2D_ACT_LEAKY_RELU, -0.5,
                                    view_y, &raw);
          };
          Record record;
          if (call > 0) {
            REQUIRE(forward() == BN2D_OK);
            record.reset(raw);
          }
          Snapshot before;
          before.add("module", module.get());
          before.add("y", y);
          before.add("dx", dx);
          before.add("record", &raw, sizeof raw);
          t_failed = false;
          t_until_failure = until;
          const int32_t status = call == 0 ? forward()
                                 : call == 1
                                     ? bn2d_backward(module.get(), raw, view_x, view_dx, nullptr)
                                     : bn2d_double_backward(module.get(), raw, view_x, view_y,
                                                            nullptr, nullptr, view_dx, nullptr);
          t_until_failure = -1;
          const std::string difference = before.difference();
          if (call == 0 && raw != nullptr) record.reset(raw);
          INFO("call " << call << " allocation " << until << " dtype " << dtype);
          if (!t_failed) {
            CHECK(status == BN2D_OK);
            break;
          }
          ++failures;
          if (status == BN2D_OK) continue;
          CHECK(status == BN2D_ERROR_OUT_OF_MEMORY);
          CHECK(difference == "");
        }
      }
    }
  }
  CHECK(failures > 0);
}

TEST_CASE("memory: training allocates nothing once it has begun", "[memory]") {
  // Catches a record, a handle or working memory that goes back to the system instead of into its
  // pool.
  const Extents shape{2, 40, 30, 20};
  std::vector<float> x(static_cast<size_t>(count_of(shape)), 1.0f), y(x.size()), dx(x.size());
  x[17] = 3.0f;
  for (const double slope : {0.25, -0.25}) {  // the side from x or in a mask
    for (const bool residual : {false, true}) {
      Settings settings;
      settings.threads = 1;  // oneTBB allocates as it likes
      const Module module = make_module(shape[1], settings);
      const View view_x(x.data(), BN2D_F32, shape), view_y(y.data(), BN2D_F32, shape);
      const View view_dx(dx.data(), BN2D_F32, shape);
      int allocations = 0;
      for (int step = 0; step < 5; ++step) {
        t_allocations = 0;
        bn2d_record *record = nullptr;
        const int32_t forward =
            bn2d_forward_act(module.get(), view_x, residual ? view_x.get() : nullptr,
                             BN2D_ACT_LEAKY_RELU, slope, view_y, &record);
        const int32_t backward = bn2d_backward(module.get(), record, view_y, view_dx, nullptr);
        bn2d_record_release(record);
        if (step >= 2) allocations += t_allocations;
        REQUIRE(forward == BN2D_OK);
        REQUIRE(backward == BN2D_OK);
      }
      INFO("slope " << slope << " residual " << residual);
      CHECK(allocations == 0);
    }
  }
}

// An allocator that ends its thread: of a function that takes views, and of one that does not.
TEST_CASE("memory alone: a thread that ends in an allocation", "[.]") {
  struct Job {
    bool is_flat;
    static void *run(void *pointer) {
      const bool is_flat = static_cast<Job *>(pointer)->is_flat;
      const Extents shape{2, 3, 4, 5};
      std::vector<float> x(static_cast<size_t>(count_of(shape)), 1.0f), y(x.size());
      const Module module = make_module(3);
      const View view_x(x.data(), BN2D_F32, shape), view_y(y.data(), BN2D_F32, shape);
      bn2d_record *record = nullptr;
      t_ends_thread = true;
      t_until_failure = 0;
      if (is_flat) {
        (void)bn2d_forward_flat(module.get(), BN2D_F32, BN2D_NCHW, x.data(), nullptr, 2, 4, 5,
                                BN2D_ACT_NONE, 0, y.data(), &record);
      } else {
        (void)bn2d_forward(module.get(), view_x, view_y, &record);
      }
      _exit(2);  // nothing was allocated
    }
  };
  for (const bool is_flat : {false, true}) {
    Job job = {is_flat};
    pthread_t thread;
    if (pthread_create(&thread, nullptr, Job::run, &job) != 0) _exit(3);
    if (pthread_join(thread, nullptr) != 0) _exit(4);
  }
  _exit(kWell);
}

TEST_CASE("memory: an allocator may end its thread", "[memory]") {
  // Catches a function that nothing may leave but by return (noexcept): the process would abort.
  CHECK(run_alone("memory alone: a thread that ends in an allocation", "") == kWell);
}
#endif
