// SPDX-License-Identifier: MIT
// bn2d_bench_company: bn2d between the operations of a host that computes with OpenMP, as in a
// training step, with each thread pool. A program of its own, because the main one makes idle
// OpenMP workers sleep soon, and here they are to do what they do in a host: spin for a while and
// take the cores from whoever else has work.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <random>
#include <thread>
#include <vector>

#include "bn2d/bn2d.h"
#include "ours.h"
#include "problem.h"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// The host's operation: some tens of microseconds of arithmetic in the caches of its threads, so
/// that it evicts nothing of ours and what is seen is the threads alone.
class HostOperation {
 public:
  void operator()() {
    constexpr int kPasses = 32;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < kParts; ++part) {
      float *const at = data_.data() + part * kPart;
      for (int pass = 0; pass < kPasses; ++pass)
        for (int64_t i = 0; i < kPart; ++i) at[i] = at[i] * 0.5f + 1.0f;
    }
  }

 private:
  static constexpr int64_t kParts = 64, kPart = 1024;
  std::vector<float> data_ = std::vector<float>(kParts * kPart);
};

/// A host with a pool of its own: here the same OpenMP, through the host's function.
void run_workers(void *, int32_t workers, bn2d_work work, void *context) {
#pragma omp parallel for schedule(static, 1)
  for (int32_t w = 0; w < workers; ++w) work(context, w);
}

struct Pool {
  const char *name;
  void (*choose)();
};
constexpr int kPools = 3;
const Pool kAllPools[kPools] = {
    {"tbb", [] { check(bn2d_set_thread_pool(BN2D_POOL_TBB)); }},
    {"openmp", [] { check(bn2d_set_thread_pool(BN2D_POOL_OPENMP)); }},
    {"host", [] { check(bn2d_set_host_thread_pool(run_workers, nullptr, omp_get_max_threads())); }},
};

/// Everybody's idle workers sleep after this (GNU's OpenMP: 9 ms were seen).
void fall_asleep() { std::this_thread::sleep_for(std::chrono::milliseconds(15)); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Microseconds of a call, by rounds.
struct Times {
  std::vector<double> alone,
      between;               // our call: one after another, and each after an operation of the host
  std::vector<double> host;  // the host's operation, each after a call of ours
};

struct Settings {
  int rounds = 41;
  double sample_us = 2000;
};

double time_alone(const std::function<void()> &call, int calls) {
  fall_asleep();
  call();
  const auto start = Clock::now();
  for (int i = 0; i < calls; ++i) call();
  return us_since(start) / calls;
}

void time_between(const std::function<void()> &call, const std::function<void()> &host, int calls,
                  Times *times) {
  fall_asleep();
  host();
  call();
  double ours = 0, hosts = 0;
  for (int i = 0; i < calls; ++i) {
    auto start = Clock::now();
    host();
    hosts += us_since(start);
    start = Clock::now();
    call();
    ours += us_since(start);
  }
  times->between.push_back(ours / calls);
  times->host.push_back(hosts / calls);
}

void run_row(Op op, const Shape &shape, const Settings &settings) {
  Problem problem{op, Fuse::kNone, DType::kF32, Layout::kNchw, shape, omp_get_max_threads(), {}};
  Memory memory;
  memory.provide(&problem, 0);
  const Variant variant = ours(problem, kOurs);
  const std::function<void()> call = [&] { variant.run(1); };
  HostOperation operation;
  const std::function<void()> host = [&] { operation(); };

  kAllPools[0].choose();
  const int calls =
      static_cast<int>(std::clamp(settings.sample_us / time_alone(call, 3), 1.0, 100.0));
  Times times[kPools];
  std::vector<double> host_alone;
  std::vector<int> order = {0, 1, 2};
  std::mt19937 random(20240229);
  for (int round = 0; round < settings.rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const int i : order) {
      kAllPools[i].choose();
      times[i].alone.push_back(time_alone(call, calls));
      time_between(call, host, calls, &times[i]);
    }
    host_alone.push_back(time_alone(host, calls));
  }
  std::printf("%-32s", (name_of(op, Fuse::kNone) + "/" + name_of(shape)).c_str());
  for (const Times &t : times) std::printf(" %8.0f", median(t.alone));
  std::printf("  |");
  for (const Times &t : times) std::printf(" %8.0f", median(t.between));
  std::printf("  | %8.0f", median(host_alone));
  for (const Times &t : times) std::printf(" %8.0f", median(t.host));
  std::printf("\n");
  std::fflush(stdout);
}

void run_all(const Settings &settings) {
  std::printf("bn2d %s, %s, %d threads; microseconds, medians of %d rounds\n",
              bn2d_version_string(), bn2d_simd_target(), omp_get_max_threads(), settings.rounds);
  std::printf("%-32s  %-26s |  %-25s |  %s\n", "", "our call alone", "after the host's loop",
              "the host's loop: alone, after our call");
  std::printf("%-32s", "");
  for (const Pool &pool : kAllPools) std::printf(" %8s", pool.name);
  std::printf("  |");
  for (const Pool &pool : kAllPools) std::printf(" %8s", pool.name);
  std::printf("  | %8s", "alone");
  for (const Pool &pool : kAllPools) std::printf(" %8s", pool.name);
  std::printf("\n");
  for (const Shape &shape : {Shape{32, 1024, 14, 14}, Shape{32, 512, 7, 7}, Shape{1, 64, 112, 112}})
    for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval}) run_row(op, shape, settings);
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) {
  bench::Settings settings;
  if (argc == 2 && std::strcmp(argv[1], "--smoke") == 0) {
    settings.rounds = 1;
    settings.sample_us = 0;
  } else if (argc > 1) {
    std::fputs("usage: bn2d_bench_company [--smoke]\n", stderr);
    return 2;
  }
  try {
    bench::run_all(settings);
    return 0;
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
