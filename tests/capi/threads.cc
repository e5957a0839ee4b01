// Threads: who may do what at the same time, the same bits whatever the number of threads, and a
// good guest in the host's arena, floating-point mode and fork. Assertions are made on the main
// thread only.
#include <pthread.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <filesystem>
#include <thread>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "support/contract_dlpack.h"
#include "support/contract_failures.h"
#include "support/contract_gate.h"
#include "support/contract_handles.h"
#include "support/contract_process.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

std::vector<float> noise(size_t count, float scale = 1, unsigned seed = 1) {
  std::vector<float> values(count);
  for (float &value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = scale * (static_cast<float>(seed >> 8) / 16777216.0f - 0.375f);
  }
  return values;
}

int threads_of_process() {
  int count = 0;
  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task"))
    count += entry.is_directory();
  return count;
}

// Everything that one training step and one eval step compute, as bytes.
struct Results {
  std::vector<float> y, dx, eval, state;
  std::vector<int32_t> statuses;
  bool operator==(const Results &other) const {
    const auto same = [](const std::vector<float> &a,
                         const std::vector<float> &b) {  // also NaN, also -0
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(y, other.y) && same(dx, other.dx) && same(eval, other.eval) &&
           same(state, other.state) && statuses == other.statuses;
  }
  bool ok() const {
    for (const int32_t status : statuses) {
      if (status != BN2D_OK) return false;
    }
    return true;
  }
};

struct Problem {
  int64_t n, c, h, w;
  bool nhwc;
  std::vector<float> x, dy;
  Problem(int64_t n_, int64_t c_, int64_t h_, int64_t w_, bool nhwc_ = false, float scale = 1)
      : n(n_), c(c_), h(h_), w(w_), nhwc(nhwc_) {
    const auto count = static_cast<size_t>(n * c * h * w);
    x = noise(count, scale, 3);
    dy = noise(count, 1, 5);
  }
  // No assertion in here: it runs on any thread.
  Results solve(int32_t module_threads = 0) const {
    Results out;
    const auto check = [&](int32_t status) { out.statuses.push_back(status); };
    out.y.assign(x.size(), 0);
    out.dx.assign(x.size(), 0);
    out.eval.assign(x.size(), 0);
    bn2d_module *module = nullptr;
    check(bn2d_module_create(c, nullptr, &module));
    check(bn2d_module_set_num_threads(module, module_threads));
    const Extents shape{n, c, h, w}, strides = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
    const auto view = [&](const std::vector<float> &values) {
      return View(const_cast<float *>(values.data()), BN2D_F32, shape, strides);
    };
    bn2d_record *record = nullptr;
    check(bn2d_forward_act(module, view(x), nullptr, BN2D_ACT_LEAKY_RELU, -0.5, view(out.y),
                           &record));
    check(bn2d_backward(module, record, view(dy), view(out.dx), nullptr));
    bn2d_record_release(record);
    check(bn2d_module_eval(module));
    check(bn2d_forward(module, view(x), view(out.eval), nullptr));
    for (const char *name : {"running_mean", "running_var", "weight.grad", "bias.grad"}) {
      bn2d_tensor *tensor = nullptr;
      void *data = nullptr;
      check(bn2d_module_tensor_by_name(module, name, &tensor));
      check(bn2d_tensor_data(tensor, &data));
      out.state.insert(out.state.end(), static_cast<float *>(data), static_cast<float *>(data) + c);
      bn2d_tensor_release(tensor);
    }
    bn2d_module_release(module);
    return out;
  }
};

// Large enough to be shared out: many channels, few channels, one channel, channels last.
std::vector<Problem> problems() {
  std::vector<Problem> all;
  all.emplace_back(4, 64, 28, 28);
  all.emplace_back(8, 3, 96, 96);
  all.emplace_back(2, 1, 300, 301);
  all.emplace_back(4, 33, 31, 29, true);
  all.emplace_back(64, 512, 2, 2);
  return all;
}

}  // namespace

TEST_CASE("threads: eval without running statistics is exclusive", "[threads]") {
  // Catches "eval is shared" without its condition. Recording in eval, on the other hand, stays
  // shared.
  for (const bool track : {false, true}) {
    Settings settings;
    settings.track = track;
    const Module module = make_module(3, settings);
    REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
    std::vector<float> x = noise(3 * 1024), y(3 * 1024), held_y(3 * 1024);
    Gate gate(x.size() * sizeof(float));
    auto *gated = static_cast<float *>(gate.data());
    std::copy(x.begin(), x.end(), gated);
    gate.close();
    int32_t held = BN2D_ERROR_INTERNAL;
    std::thread holding(
        [&] { held = bn2d_forward_f32(module.get(), gated, 1, 32, 32, held_y.data(), nullptr); });
    const bool under_way = gate.wait_until_touched();
    bn2d_record *record = nullptr;
    const int32_t status = bn2d_forward_f32(module.get(), x.data(), 1, 32, 32, y.data(), &record);
    bn2d_record_release(record);
    gate.open();
    holding.join();
    REQUIRE(under_way);
    CHECK(held == BN2D_OK);
    CHECK(status == (track ? BN2D_OK : BN2D_ERROR_BUSY));
  }
}

TEST_CASE("threads: a failing call gives the module back", "[threads]") {
  // Catches an error path that leaves the module marked as in use.
  const Module module = make_module(3);
  std::vector<float> x = noise(12), y(12);
  for (int i = 0; i < 3; ++i) {
    CHECK(bn2d_forward_f32(module.get(), x.data(), -1, 2, 2, y.data(), nullptr) ==
          BN2D_ERROR_SHAPE);
    CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 1, 1, y.data(), nullptr) ==
          BN2D_ERROR_TOO_FEW_VALUES);
    CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, x.data() + 1, nullptr) ==
          BN2D_ERROR_OVERLAP);
    CHECK(bn2d_module_train(module.get(), 7) == BN2D_ERROR_INVALID_ARGUMENT);
  }
  CHECK(bn2d_module_eval(module.get()) == BN2D_OK);
  CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, x.data() + 1, nullptr) ==
        BN2D_ERROR_OVERLAP);
  CHECK(bn2d_module_train(module.get(), 1) == BN2D_OK);
  CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, y.data(), nullptr) == BN2D_OK);
}

TEST_CASE("threads: eight threads evaluate one module", "[threads]") {
  // Catches a scratch buffer that belongs to the module.
  const Module module = make_module(16);
  give_character(module);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  const std::vector<float> x = noise(2 * 16 * 20 * 20);
  std::vector<float> expected(x.size());
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 20, 20, expected.data(), nullptr) == BN2D_OK);
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      std::vector<float> y(x.size());
      for (int i = 0; i < 40; ++i) {
        bn2d_record *record = nullptr;
        const bool good = bn2d_forward_f32(module.get(), x.data(), 2, 20, 20, y.data(),
                                           i % 2 ? &record : nullptr) == BN2D_OK;
        bn2d_record_release(record);
        if (!good || y != expected) ++bad;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(bad == 0);
}

TEST_CASE("threads: training on several threads counts what it has done", "[threads]") {
  // Catches a lost update: the counter is the number of calls that returned OK, whoever was
  // refused; and so is the state.
  const Module module = make_module(4);
  const std::vector<float> x = noise(4 * 4 * 16 * 16);
  std::atomic<int64_t> good{0}, other{0}, backwards{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<float> y(x.size()), dx(x.size());
      for (int i = 0; i < 300; ++i) {
        bn2d_record *record = nullptr;
        const int32_t status = bn2d_forward_f32(module.get(), x.data(), 4, 16, 16, y.data(),
                                                t % 2 == 0 ? &record : nullptr);
        if (status == BN2D_OK) ++good;
        if (status != BN2D_OK && status != BN2D_ERROR_BUSY) ++other;
        if (record != nullptr) {
          const int32_t back = bn2d_backward_f32(module.get(), record, y.data(), dx.data());
          if (back == BN2D_OK) ++backwards;
          if (back != BN2D_OK && back != BN2D_ERROR_BUSY) ++other;
        }
        bn2d_record_release(record);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(other == 0);
  CHECK(good > 0);
  CHECK(batches_of(module) == good);
  // The running statistics are those of as many steps over the same batch, one after the other.
  const Module serial = make_module(4);
  std::vector<float> y(x.size()), dx(x.size());
  for (int64_t i = 0; i < good; ++i) {
    REQUIRE(bn2d_forward_f32(serial.get(), x.data(), 4, 16, 16, y.data(), nullptr) == BN2D_OK);
  }
  for (const char *name : {"running_mean", "running_var"}) {
    CHECK(std::memcmp(data_of<float>(serial, name), data_of<float>(module, name),
                      4 * sizeof(float)) == 0);
  }
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(serial.get(), x.data(), 4, 16, 16, y.data(), &raw) == BN2D_OK);
  const Record record(raw);
  for (int64_t i = 0; i < backwards; ++i) {
    REQUIRE(bn2d_backward_f32(serial.get(), raw, y.data(), dx.data()) == BN2D_OK);
  }
  for (const char *name : {"weight.grad", "bias.grad"}) {
    CHECK(std::memcmp(data_of<float>(serial, name), data_of<float>(module, name),
                      4 * sizeof(float)) == 0);
  }
}

TEST_CASE("threads: different modules in parallel", "[threads]") {
  // Catches state that is shared between modules.
  const Problem problem(4, 8, 24, 24);
  const Results expected = problem.solve();
  REQUIRE(expected.ok());
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        if (!(problem.solve() == expected)) ++bad;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(bad == 0);
}

TEST_CASE("threads: the same bits for every number of threads", "[threads]") {
  // Catches a sum that is split by the number of threads: limit of the process, of the module, of
  // the host's arena.
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 8);
  for (const Problem &problem : problems()) {
    INFO(problem.n << " " << problem.c << " " << problem.h << " " << problem.w << " nhwc "
                   << problem.nhwc);
    const Results expected = problem.solve();
    REQUIRE(expected.ok());
    for (const int32_t threads : {1, 2, 3, 7}) {
      INFO("threads " << threads);
      REQUIRE(bn2d_set_num_threads(threads) == BN2D_OK);
      CHECK(problem.solve() == expected);
      REQUIRE(bn2d_set_num_threads(0) == BN2D_OK);
      CHECK(problem.solve(threads) == expected);
      tbb::task_arena arena(threads);
      Results in_arena;
      arena.execute([&] { in_arena = problem.solve(); });
      CHECK(in_arena == expected);
      arena.execute([&] { in_arena = problem.solve(5); });
      CHECK(in_arena == expected);
    }
    for (int again = 0; again < 5; ++again) CHECK(problem.solve() == expected);
  }
}

TEST_CASE("threads: inside the host's parallel loop", "[threads]") {
  // Catches scratch memory that is shared by nested calls, and bits that depend on who helps.
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 4);
  const Problem problem(2, 8, 48, 48);
  const Results expected = problem.solve();
  std::atomic<int> bad{0}, nested{0}, bodies{0};
  const auto body = [&](int) {
    static thread_local int depth = 0;
    if (depth != 0) ++nested;
    ++depth;
    if (!(problem.solve() == expected)) ++bad;
    --depth;
    ++bodies;
  };
  tbb::task_arena arena(4);
  for (int round = 0; round < 3; ++round) {
    arena.execute([&] { tbb::parallel_for(0, 32, body); });
  }
  tbb::parallel_for(0, 16, body);
  CHECK(bodies == 112);
  CHECK(bad == 0);
  CHECK(nested == 0);
}

TEST_CASE("threads: a call that waits runs no task of the host", "[threads]") {
  // Catches a call that waits for its workers by running other tasks of the arena: the host's task
  // would then run below our call, with whatever lock the host holds around it. A worker is held up
  // in our input, so that the calling thread has to wait, and then the host gets tasks to do.
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 2);
  const int64_t channels = 16, side = 128;
  const auto plane = static_cast<size_t>(side * side);
  Gate gate(16 * plane * sizeof(float), 8 * plane * sizeof(float),
            plane * sizeof(float));  // the ninth channel's plane
  auto *x = static_cast<float *>(gate.data());
  const std::vector<float> values = noise(16 * plane);
  std::copy(values.begin(), values.end(), x);
  std::vector<float> y(16 * plane), expected(16 * plane);
  REQUIRE(bn2d_forward_f32(make_module(channels).get(), x, 1, side, side, expected.data(),
                           nullptr) == BN2D_OK);
  const Module module = make_module(channels);
  tbb::task_arena arena(2);
  static thread_local bool inside = false;
  std::atomic<int> nested{0};
  const pthread_t caller = pthread_self();
  int waited = 0;
  for (int round = 0; round < 300 && waited < 3; ++round) {
    gate.close();
    bool by_worker = false;
    std::thread host([&] {
      by_worker = gate.wait_until_touched() && pthread_equal(gate.first_visitor(), caller) == 0;
      if (by_worker) {
        for (int i = 0; i < 8; ++i) {
          arena.enqueue([&] {
            if (inside) ++nested;
          });
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
      }
      gate.open();
    });
    int32_t status = BN2D_ERROR_INTERNAL;
    arena.execute([&] {
      inside = true;
      status = bn2d_forward_f32(module.get(), x, 1, side, side, y.data(), nullptr);
      inside = false;
    });
    host.join();
    if (by_worker) ++waited;
    CHECK(status == BN2D_OK);
    CHECK(y == expected);
  }
  // On one processor a worker seldom takes part.
  CHECK((waited > 0 || processors() == 1));
  CHECK(nested == 0);
}

#if defined(__SSE2__)
TEST_CASE("threads: the host's floating-point mode counts, and stays", "[threads]") {
  // Catches a library that sets or restores another MXCSR, workers that keep their own mode (the
  // bits would then depend on who did which part), and a mode that sticks to the workers.
  const Problem tiny(4, 16, 40, 40, false, 1e-38f);  // subnormal differences: flushing shows
  const Problem plain(4, 3, 64, 64);
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 4);
  for (const Problem *problem : {&tiny, &plain}) {
    const Results clean = problem->solve();
    REQUIRE(clean.ok());
    const unsigned saved = _mm_getcsr();
    constexpr unsigned kFlags = 0x3f, kFtz = 0x8000, kDaz = 0x0040, kUp = 0x4000,
                       kTowardsZero = 0x6000;
    for (const unsigned mode : {kFtz | kDaz, kUp, kTowardsZero, kFtz | kDaz | kUp}) {
      INFO("mode " << std::hex << mode);
      _mm_setcsr(saved | mode);
      const Results one = problem->solve(1);
      const unsigned after_one = _mm_getcsr();
      const Results many = problem->solve();
      const unsigned after_many = _mm_getcsr();
      tbb::task_arena arena(3);
      Results in_arena;
      arena.execute([&] { in_arena = problem->solve(); });
      const unsigned after_arena = _mm_getcsr();
      bool from_body = true;
      tbb::parallel_for(0, 8, [&](int) {
        const unsigned before = _mm_getcsr() & ~kFlags;
        (void)problem->solve();
        if ((_mm_getcsr() & ~kFlags) != before) from_body = false;
      });
      (void)bn2d_last_error();
      _mm_setcsr(saved);
      const Results clean_again = problem->solve();
      CHECK((after_one & ~kFlags) == ((saved | mode) & ~kFlags));
      CHECK((after_many & ~kFlags) == ((saved | mode) & ~kFlags));
      CHECK((after_arena & ~kFlags) == ((saved | mode) & ~kFlags));
      CHECK(from_body);
      CHECK(one.ok());
      CHECK(many == one);
      CHECK(in_arena == one);
      CHECK(clean_again == clean);
    }
  }
}
#endif

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("threads: fork", "[threads]") {
  // Catches a child that waits for worker threads that it does not have, or that splits its sums
  // differently.
  const Problem problem(4, 16, 40, 40);
  const Results expected = problem.solve();
  REQUIRE(expected.ok());
  const Module parent_module = make_module(3);
  const std::vector<float> x = noise(3 * 64);
  std::vector<float> y(x.size());
  for (int round = 0; round < 5; ++round) {
    REQUIRE(problem.solve() == expected);  // the workers have just been used and are idle
    const int wrong_in_child = in_child(
        [&] {
          int wrong = 0;
          if (!(problem.solve() == expected)) wrong |= 1;
          if (bn2d_forward_f32(parent_module.get(), x.data(), 1, 8, 8, y.data(), nullptr) !=
              BN2D_OK)
            wrong |= 2;
          if (threads_of_process() != 1) wrong |= 8;  // computed on the calling thread
          Results on_thread;
          std::thread([&] { on_thread = problem.solve(); }).join();
          if (!(on_thread == expected)) wrong |= 4;
          return wrong;
        },
        60);
    CHECK(wrong_in_child == 0);
    CHECK(problem.solve() == expected);  // and the parent goes on
  }
  CHECK(batches_of(parent_module) == 0);  // the child's training was the child's
}
#endif

TEST_CASE("threads: a thread limit of 1 computes on the calling thread", "[threads]") {
  // Catches a limit that is stored but not used: with a limit of 1 no second thread touches the
  // data. So much work that the workers of the test before, which take their time to fall asleep on
  // a busy machine, do not count.
  const int64_t n = 32, c = 16, h = 64, w = 64;
  const auto count = static_cast<size_t>(n * c * h * w);
  const std::vector<float> x = noise(count);
  std::vector<float> y(count);
  const auto clock_of_thread = [] {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  const auto clock_of_process = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  struct Limits {
    int32_t process, module;
  };
  for (const Limits &limits :
       {Limits{1, 0}, Limits{0, 1}, Limits{1, 4}, Limits{4, 1}}) {  // the stricter one counts
    const Module module = make_module(c);
    REQUIRE(bn2d_module_set_num_threads(module.get(), limits.module) == BN2D_OK);
    REQUIRE(bn2d_set_num_threads(limits.process) == BN2D_OK);
    std::this_thread::sleep_for(
        std::chrono::milliseconds(20));  // workers of the test before fall asleep
    const double process = clock_of_process(), thread = clock_of_thread();
    for (int i = 0; i < 60; ++i)
      (void)bn2d_forward_f32(module.get(), x.data(), n, h, w, y.data(), nullptr);
    const double all = clock_of_process() - process, own = clock_of_thread() - thread;
    REQUIRE(bn2d_set_num_threads(0) == BN2D_OK);
    INFO("limits " << limits.process << " and " << limits.module << ": process " << all
                   << " s, this thread " << own << " s");
    CHECK(own > 0.8 * all);
  }
}
