// Thread pools: who runs the workers of a call. The bits never depend on it.
#if defined(_OPENMP)
#include <dlfcn.h>
#include <omp.h>
#endif

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "support/contract_process.h"
#include "support/numerics_case.h"

namespace {

using namespace numerics;

// Large enough for several workers, in both kinds of plans: groups as a whole, and split sums.
Case pool_case(const Extents &e) {
  Case c;
  c.e = e;
  c.activation = {Activation::relu, 0};
  return c;
}
const std::vector<Extents> kShapes = {{4, 32, 40, 40}, {2, 3, 130, 130}};

void serial(void *, int32_t workers, bn2d_work work, void *context) {
  for (int32_t w = 0; w < workers; ++w) work(context, w);
}
void reverse(void *, int32_t workers, bn2d_work work, void *context) {
  for (int32_t w = workers - 1; w >= 0; --w) work(context, w);
}
void nobody(void *, int32_t, bn2d_work, void *) {}
void only_last(void *, int32_t workers, bn2d_work work, void *context) {
  work(context, workers - 1);
}
void threads(void *, int32_t workers, bn2d_work work, void *context) {
  std::vector<std::thread> all;
  for (int32_t w = 0; w < workers; ++w) all.emplace_back(work, context, w);
  for (std::thread &t : all) t.join();
}
// Asks for each worker twice, at the same time, and for some that do not exist.
void twice(void *, int32_t workers, bn2d_work work, void *context) {
  std::vector<std::thread> all;
  for (int32_t w = -2; w < workers + 2; ++w)
    for (int k = 0; k < 2; ++k) all.emplace_back(work, context, w);
  for (std::thread &t : all) t.join();
}
void throws(void *, int32_t, bn2d_work work, void *context) {
  work(context, 0);
  throw std::runtime_error("the host's own trouble");
}

struct Named {
  const char *name;
  bn2d_run_workers run;
};
const std::vector<Named> kPools = {
    {"serial", serial},   {"reverse", reverse}, {"nobody", nobody}, {"only_last", only_last},
    {"threads", threads}, {"twice", twice},     {"throws", throws}};

// Threads that were there before the call, and are there after it.
class LastingThreads {
 public:
  explicit LastingThreads(int count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { live(); });
  }
  ~LastingThreads() {
    {
      const std::lock_guard<std::mutex> locked(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    for (std::thread &t : threads_) t.join();
  }
  LastingThreads(const LastingThreads &) = delete;
  LastingThreads &operator=(const LastingThreads &) = delete;

  bool has_worked() const { return count_ != 0; }

  // A bn2d_run_workers; the user pointer is a LastingThreads.
  static void run(void *user, int32_t workers, bn2d_work work, void *context) {
    LastingThreads &t = *static_cast<LastingThreads *>(user);
    std::unique_lock<std::mutex> locked(t.mutex_);
    t.work_ = work, t.context_ = context, t.next_ = 0, t.count_ = workers, t.left_ = workers;
    t.changed_.notify_all();
    t.changed_.wait(locked, [&] { return t.left_ == 0; });
  }

 private:
  void live() {
    std::unique_lock<std::mutex> locked(mutex_);
    for (;;) {
      changed_.wait(locked, [&] { return ends_ || next_ < count_; });
      if (ends_) return;
      const int32_t worker = next_++;
      locked.unlock();
      work_(context_, worker);
      locked.lock();
      if (--left_ == 0) changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  bn2d_work work_ = nullptr;
  void *context_ = nullptr;
  int32_t next_ = 0, count_ = 0, left_ = 0;
  bool ends_ = false;
};

struct DefaultPool {
  ~DefaultPool() { bn2d_set_thread_pool(BN2D_POOL_DEFAULT); }
};

}  // namespace

// Catches: a worker that nobody runs, one that runs twice at once in the same memory, an order that
// matters.
TEST_CASE("pools: any host's pool gives the same bits", "[pools]") {
  const DefaultPool restored;
  for (const Extents &e : kShapes) {
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      Case c = pool_case(e);
      c.x = c.y = c.dx = layout;
      const Inputs in = random_inputs(c, 91);
      REQUIRE(bn2d_set_thread_pool(BN2D_POOL_DEFAULT) == BN2D_OK);
      const Outputs want = run(c, in);
      for (const Named &pool : kPools) {
        for (const int32_t most : {1, 3, 20}) {
          INFO(pool.name << " of " << most << ", " << describe(c));
          REQUIRE(bn2d_set_host_thread_pool(pool.run, nullptr, most) == BN2D_OK);
          CHECK(bn2d_get_thread_pool() == BN2D_POOL_HOST);
          CHECK(first_difference(want, run(c, in)) == "");
        }
      }
    }
  }
}

// Catches: a user pointer that is lost, a pool that is asked for one worker, a limit of threads
// that is ignored.
TEST_CASE("pools: the host's function gets its pointer and the workers of the limit", "[pools]") {
  const DefaultPool restored;
  struct Seen {
    std::atomic<int> calls{0}, most{0}, least{1000};
  } seen;
  const auto count = [](void *user, int32_t workers, bn2d_work work, void *context) {
    Seen &s = *static_cast<Seen *>(user);
    ++s.calls;
    s.most = std::max<int>(s.most, workers);
    s.least = std::min<int>(s.least, workers);
    serial(nullptr, workers, work, context);
  };
  const Case c = pool_case({4, 32, 40, 40});
  const Inputs in = random_inputs(c, 92);
  REQUIRE(bn2d_set_host_thread_pool(count, &seen, 6) == BN2D_OK);
  run(c, in);
  CHECK(seen.calls > 0);
  CHECK(seen.most <= 6);
  CHECK(seen.most >= 2);
  CHECK(seen.least >= 2);  // one worker is the calling thread, without the pool
  seen.most = 0;
  REQUIRE(bn2d_set_num_threads(3) == BN2D_OK);
  run(c, in);
  bn2d_set_num_threads(0);
  CHECK(seen.most <= 3);
}

// Catches: a module's pool that is the process's, or the other way round.
TEST_CASE("pools: a module may have its own", "[pools]") {
  const DefaultPool restored;
  std::atomic<int> calls{0};
  const auto count = [](void *user, int32_t workers, bn2d_work work, void *context) {
    ++*static_cast<std::atomic<int> *>(user);
    serial(nullptr, workers, work, context);
  };
  const Extents e{4, 32, 40, 40};
  Module own(e.c, ModuleOptions()), other(e.c, ModuleOptions());
  int32_t kind = -1;
  CHECK(bn2d_module_get_thread_pool(own, &kind) == BN2D_OK);
  CHECK(kind == BN2D_POOL_DEFAULT);
  REQUIRE(bn2d_module_set_host_thread_pool(own, count, &calls, 2) == BN2D_OK);
  CHECK(bn2d_module_get_thread_pool(own, &kind) == BN2D_OK);
  CHECK(kind == BN2D_POOL_HOST);
  Tensor x(BN2D_F32, e, random_inputs(pool_case(e), 93).x), y(BN2D_F32, e);
  REQUIRE(bn2d_forward(other, x.view(), y.view(), nullptr) == BN2D_OK);
  CHECK(calls == 0);
  REQUIRE(bn2d_forward(own, x.view(), y.view(), nullptr) == BN2D_OK);
  const int after_own = calls;
  CHECK(after_own > 0);
  REQUIRE(bn2d_set_host_thread_pool(serial, nullptr, 2) ==
          BN2D_OK);  // of the process: not of this module
  REQUIRE(bn2d_forward(own, x.view(), y.view(), nullptr) == BN2D_OK);
  CHECK(calls > after_own);
  REQUIRE(bn2d_module_set_thread_pool(own, BN2D_POOL_DEFAULT) == BN2D_OK);
  const int before = calls;
  REQUIRE(bn2d_forward(own, x.view(), y.view(), nullptr) == BN2D_OK);
  CHECK(calls == before);
}

// Catches: running statistics that are set with the limit or the pool of the process.
TEST_CASE("pools: running statistics are set with the module's limit and pool", "[pools]") {
  constexpr int64_t channels = 1 << 19;
  const Extents e{2, channels, 1, 1};
  Random random(93);
  const Tensor x(BN2D_F32, e, normal_values(random, BN2D_F32, e.size()));
  bn2d_statistics *statistics = nullptr;
  REQUIRE(bn2d_statistics_create(channels, &statistics) == BN2D_OK);
  REQUIRE(bn2d_statistics_accumulate(statistics, x.view()) == BN2D_OK);
  Module module(channels, ModuleOptions());
  int calls = 0;
  REQUIRE(bn2d_module_set_host_thread_pool(
              module,
              [](void *user, int32_t workers, bn2d_work work, void *context) {
                ++*static_cast<int *>(user);
                serial(nullptr, workers, work, context);
              },
              &calls, 3) == BN2D_OK);
  CHECK(bn2d_module_set_running_stats(module, statistics) == BN2D_OK);
  CHECK(calls > 0);
  calls = 0;
  REQUIRE(bn2d_module_set_num_threads(module, 1) == BN2D_OK);
  CHECK(bn2d_module_set_running_stats(module, statistics) == BN2D_OK);
  CHECK(calls == 0);
  bn2d_statistics_release(statistics);
}

// Catches: errors that change the pool.
TEST_CASE("pools: errors change nothing", "[pools]") {
  const DefaultPool restored;
  REQUIRE(bn2d_set_host_thread_pool(serial, nullptr, 2) == BN2D_OK);
  CHECK(bn2d_set_thread_pool(BN2D_POOL_HOST) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(bn2d_set_thread_pool(17) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(bn2d_set_host_thread_pool(nullptr, nullptr, 2) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(bn2d_set_host_thread_pool(serial, nullptr, 0) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(std::string(bn2d_last_error()) == "threads is 0, must be 1 or more");
  CHECK(bn2d_get_thread_pool() == BN2D_POOL_HOST);
}

// Catches: a worker of a foreign pool that computes in its own rounding or flush-to-zero mode, or
// keeps the caller's. A thread starts with the mode of its parent, so the threads are older than
// the caller's mode.
TEST_CASE("pools: workers follow the caller's floating-point mode", "[pools]") {
#if defined(__SSE__)
  const DefaultPool restored;
  const Extents e{4, 32, 60, 60};  // enough for a forward alone to be shared out
  Random random(94);
  Values x_values = normal_values(random, BN2D_F32, e.size());
  for (double &v : x_values) v = rounded(BN2D_F32, v * 1e-41);  // y is too: eps is much larger
  const Tensor x(BN2D_F32, e, x_values);  // not in that mode, in which these would be zeros
  const auto forward = [&] {
    Module module(e.c, ModuleOptions());
    Tensor y(BN2D_F32, e);
    REQUIRE(bn2d_forward(module, x.view(), y.view(), nullptr) == BN2D_OK);
    return y.bits();
  };
  REQUIRE(bn2d_set_num_threads(1) == BN2D_OK);
  const Bits with_denormals = forward();
  const unsigned mode = __builtin_ia32_stmxcsr();
  LastingThreads lasting(3);
  __builtin_ia32_ldmxcsr(mode | 0x8040);  // flush to zero, denormals are zero
  const Bits want = forward();
  CHECK(want != with_denormals);
  bn2d_set_num_threads(0);
  for (const Named &pool : kPools) {
    INFO(pool.name);
    REQUIRE(bn2d_set_host_thread_pool(pool.run, nullptr, 4) == BN2D_OK);
    CHECK(forward() == want);
  }
  REQUIRE(bn2d_set_host_thread_pool(LastingThreads::run, &lasting, 4) == BN2D_OK);
  CHECK(forward() == want);
  CHECK(lasting.has_worked());
  std::vector<unsigned> modes(30);
  LastingThreads::run(
      &lasting, 30,
      [](void *context, int32_t worker) {
        (*static_cast<std::vector<unsigned> *>(context))[static_cast<size_t>(worker)] =
            __builtin_ia32_stmxcsr();
      },
      &modes);
  for (const unsigned one : modes) CHECK((one & 0x8040) == (mode & 0x8040));
  __builtin_ia32_ldmxcsr(mode);
#endif
}

#if defined(_OPENMP)
// The parallel regions of this process, and the threads of the last one. The bits are the same in
// any pool, so only the runtime knows whether it was asked.
std::atomic<int> g_regions{0};
std::atomic<unsigned> g_threads{0};

// Before the runtime's, which it calls.
extern "C" __attribute__((visibility("default"))) void GOMP_parallel(void (*work)(void *),
                                                                     void *data, unsigned threads,
                                                                     unsigned flags) {
  using Function = void (*)(void (*)(void *), void *, unsigned, unsigned);
  static const auto of_runtime = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  ++g_regions;
  g_threads = threads;
  of_runtime(work, data, threads, flags);
}

// Catches: a runtime that is not asked, or for other threads than it has; a region that is not run.
TEST_CASE("pools: the OpenMP runtime of the process", "[pools]") {
  const DefaultPool restored;
  for (const Extents &e : kShapes) {
    const Case c = pool_case(e);
    const Inputs in = random_inputs(c, 95);
    REQUIRE(bn2d_set_thread_pool(BN2D_POOL_TBB) == BN2D_OK);
    CHECK(bn2d_get_thread_pool() == BN2D_POOL_TBB);
    const Outputs want = run(c, in);
    REQUIRE(bn2d_set_thread_pool(BN2D_POOL_OPENMP) == BN2D_OK);
    CHECK(bn2d_get_thread_pool() == BN2D_POOL_OPENMP);
    for (const int most : {1, 2, 3}) {
      omp_set_num_threads(most);
      INFO("OpenMP with " << most << " threads, " << describe(c));
      g_regions = 0;
      CHECK(first_difference(want, run(c, in)) == "");
      CHECK((g_regions > 0) == (most > 1));
      if (most > 1) CHECK(g_threads == static_cast<unsigned>(most));
    }
  }
}

// Catches: a call inside a parallel region of the host, which waits for threads that are all busy,
// and a region inside it.
TEST_CASE("pools: calls inside a parallel region of OpenMP", "[pools]") {
  const DefaultPool restored;
  const Extents e{4, 32, 40, 40};
  const Values values = random_inputs(pool_case(e), 97).x;
  REQUIRE(bn2d_set_thread_pool(BN2D_POOL_OPENMP) == BN2D_OK);
  constexpr int kCalls = 4;
  std::vector<std::unique_ptr<Module>> modules;
  std::vector<std::unique_ptr<Tensor>> x, y;
  for (int i = 0; i <= kCalls; ++i) {
    modules.push_back(std::make_unique<Module>(e.c, ModuleOptions()));
    x.push_back(std::make_unique<Tensor>(BN2D_F32, e, values));
    y.push_back(std::make_unique<Tensor>(BN2D_F32, e));
  }
  int32_t status[kCalls + 1];
  g_regions = 0;
  // No assertion in here: Catch2's are for one thread.
#pragma omp parallel for num_threads(kCalls)
  for (int i = 0; i < kCalls; ++i)
    status[i] = bn2d_forward(*modules[i], x[i]->view(), y[i]->view(), nullptr);
  CHECK(g_regions <= 1);  // of this program; Clang has another function for it
  g_regions = 0;
  status[kCalls] = bn2d_forward(*modules[kCalls], x[kCalls]->view(), y[kCalls]->view(), nullptr);
  CHECK(g_regions > 0);
  const Bits want = y[kCalls]->bits();
  for (int i = 0; i <= kCalls; ++i) {
    CHECK(status[i] == BN2D_OK);
    CHECK(y[i]->bits() == want);
  }
}

// Catches: a child of fork() that waits for workers which do not exist there.
TEST_CASE("pools: a child of fork() computes without the OpenMP runtime", "[pools]") {
  const DefaultPool restored;
  const Extents e{4, 32, 40, 40};
  Module module(e.c, ModuleOptions());
  Tensor x(BN2D_F32, e, random_inputs(pool_case(e), 96).x), y(BN2D_F32, e);
  REQUIRE(bn2d_set_thread_pool(BN2D_POOL_OPENMP) == BN2D_OK);
  omp_set_num_threads(4);
  REQUIRE(bn2d_forward(module, x.view(), y.view(), nullptr) == BN2D_OK);
  CHECK(bn2d_test::in_child([&] { return bn2d_forward(module, x.view(), y.view(), nullptr); }) ==
        BN2D_OK);
}

TEST_CASE("pools alone: a fork before the first call", "[.]") {
  const int64_t n = 8, c = 16, side = 64;
  std::vector<float> x(static_cast<size_t>(n * c * side * side), 1.0f), y(x.size());
  bn2d_module *module = nullptr;
  if (bn2d_module_create(c, nullptr, &module) != BN2D_OK) _exit(2);
  int ran = 0;
#pragma omp parallel for num_threads(2) reduction(+ : ran)
  for (int i = 0; i < 2; ++i) ran += 1;
  if (ran != 2 || bn2d_set_thread_pool(BN2D_POOL_OPENMP) != BN2D_OK) _exit(3);
  const int status = bn2d_test::in_child(
      [&] { return bn2d_forward_f32(module, x.data(), n, side, side, y.data(), nullptr); }, 10);
  _exit(status == BN2D_OK ? bn2d_test::kWell : 4);
}
// Catches: the same where only the host has used the runtime before the fork.
TEST_CASE("pools: a child of a host that has computed with OpenMP", "[pools]") {
  CHECK(bn2d_test::run_alone("pools alone: a fork before the first call", "") == bn2d_test::kWell);
}
#endif
