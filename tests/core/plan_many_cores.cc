// What the plan does on machines that we do not have: ResNet-50's shapes on 64 and 256 threads. The
// table is for a reader (bn2d_core_tests "[#plan_many_cores]" prints it); it shows
// whether a group that is read twice stays in L2 meanwhile. The checks are that nobody waits for
// the busiest thread.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "kernels/kernels.h"
#include "parallel/plan.h"
#include "plan_units.h"
#include "support/catch.h"

using namespace bn2d;

namespace {

// Channels and plane of ResNet-50's batch norms.
struct Layer {
  int64_t c, hw;
};
constexpr Layer kResnet50[] = {{64, 112},  {256, 56}, {64, 56},  {512, 28}, {128, 28},
                               {1024, 14}, {256, 14}, {2048, 7}, {512, 7}};

// Training reads x for the sums and again for the map; backward reads x and dy as often.
struct Operation {
  const char *name;
  int reads;
};
constexpr Operation kOperations[] = {{"training", 1}, {"backward", 2}};

constexpr int kThreads[] = {64, 256};
constexpr int64_t kL2 = 1 << 20;  // of a core, as AMD's servers have it; Intel's have twice as much

Work work_of(const Layer &layer, int64_t batch, const Operation &operation) {
  Work work;
  work.size = {batch, layer.c, layer.hw, layer.hw};
  work.reads = operation.reads;
  work.passes = 2;
  return work;
}

// Elements of each worker: of the units, or of the tiles.
template <class Elements>
std::vector<int64_t> shares(int64_t units, int workers, const Elements &elements) {
  std::vector<int64_t> all;
  for (int w = 0; w < workers; ++w) {
    int64_t mine = 0;
    for (int64_t i = share_begin(units, workers, w); i < share_begin(units, workers, w + 1); ++i)
      mine += elements(i);
    all.push_back(mine);
  }
  return all;
}

struct Balance {
  int64_t busiest = 0;
  double over_mean = 0;
};

Balance balance_of(const std::vector<int64_t> &shares, const Work &work) {
  Balance balance;
  balance.busiest = *std::max_element(shares.begin(), shares.end());
  balance.over_mean = static_cast<double>(balance.busiest) * static_cast<double>(shares.size()) /
                      static_cast<double>(work.size.numel());
  return balance;
}

struct Outcome {
  Plan plan;
  Balance sums, map;      // of a split plan the map has tiles of its own
  int64_t group_bytes;    // of the inputs of a group
  bool fits;              // this group and the next one, which is fetched meanwhile
  int64_t busiest_reads;  // bytes that the busiest core reads from beyond its L2
};

Outcome simulate(const Work &work, int threads) {
  const Machine machine{threads, kL2};
  Outcome out;
  out.plan = make_plan(work, machine, kernels::max_group(2));
  const auto unit = [&](int64_t i) { return unit_elements(out.plan, work, i); };
  out.sums = out.map = balance_of(shares(out.plan.units(), out.plan.workers, unit), work);
  const int64_t input_bytes = work.element_bytes * work.reads;
  out.group_bytes = out.plan.group * work.size.per_channel() * input_bytes;
  if (out.plan.split) {
    const int workers = useful_workers(work, machine);
    const Tiles tiles = make_tiles(work, workers);
    const auto tile = [&](int64_t i) {
      return tiles.at(i).group.channels * tiles.at(i).block.elements();
    };
    out.map = balance_of(shares(tiles.count, workers, tile), work);
  }
  out.fits = !out.plan.split && 2 * out.group_bytes <= kL2;
  // A core whose whole share fits reads it once, too: it has nothing else to keep.
  const bool once = out.fits || (!out.plan.split && out.sums.busiest * input_bytes <= kL2);
  out.busiest_reads = (out.sums.busiest + (once ? 0 : out.map.busiest)) * input_bytes;
  return out;
}

// A quarter of a megabyte of output for each thread: 25 microseconds at 10 GB/s.
bool enough_for_all(const Work &work, int threads) {
  return work.output_bytes() >= threads * (int64_t{1} << 18);
}

void print(const Work &work, const Operation &operation, int threads, const Outcome &o) {
  char shape[32];
  std::snprintf(shape, sizeof shape, "%dx%dx%d²", static_cast<int>(work.size.n),
                static_cast<int>(work.size.c), static_cast<int>(work.size.h));
  std::printf("%-13s %-8s %7d %7d %-5s %5d %6d %9.2f %9.2f %11.0f %9.0f %s\n", shape,
              operation.name, threads, o.plan.workers, o.plan.split ? "split" : "whole",
              static_cast<int>(o.plan.group), static_cast<int>(o.plan.units()), o.sums.over_mean,
              o.map.over_mean, static_cast<double>(o.busiest_reads) / 1024,
              static_cast<double>(o.group_bytes) / 1024,
              o.plan.split ? "-"
              : o.fits     ? "yes"
                           : "no");
}

}  // namespace

TEST_CASE(
    "ResNet-50 on 64 and 256 threads: a plan whose busiest thread has more than 1.1 times the mean",
    "[plan]") {
  std::printf("%-13s %-8s %7s %7s %-5s %5s %6s %9s %9s %11s %9s %s\n", "shape", "", "threads",
              "workers", "plan", "group", "units", "sums b/m", "map b/m", "core KiB", "group KiB",
              "in L2");
  for (const int64_t batch : {32, 1})
    for (const Operation &operation : kOperations)
      for (const Layer &layer : kResnet50)
        for (const int threads : kThreads) {
          const Work work = work_of(layer, batch, operation);
          const Outcome o = simulate(work, threads);
          print(work, operation, threads, o);
          INFO(batch << "x" << layer.c << "x" << layer.hw << "² " << operation.name << " threads "
                     << threads << " workers " << o.plan.workers << " group " << o.plan.group
                     << " split " << o.plan.split << " units " << o.plan.units());
          if (!enough_for_all(work, threads)) continue;
          CHECK(o.plan.workers == threads);
          CHECK(o.sums.over_mean <= 1.1);
          CHECK(o.map.over_mean <= 1.1);
        }
}
