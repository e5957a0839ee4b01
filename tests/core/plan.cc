// The partition: a pure function, so its balance is tested for machines that we do not have.
#include "parallel/plan.h"

#include <algorithm>
#include <vector>

#include "support/catch.h"

using namespace bn2d;

namespace {

struct Named {
  const char *name;
  Extents size;
};

const Named kShapes[] = {
    {"resnet 64@112 b32", {32, 64, 112, 112}},
    {"resnet 256@56 b32", {32, 256, 56, 56}},
    {"resnet 64@56 b32", {32, 64, 56, 56}},
    {"resnet 512@28 b32", {32, 512, 28, 28}},
    {"resnet 128@28 b32", {32, 128, 28, 28}},
    {"resnet 1024@14 b32", {32, 1024, 14, 14}},
    {"resnet 256@14 b32", {32, 256, 14, 14}},
    {"resnet 2048@7 b32", {32, 2048, 7, 7}},
    {"resnet 512@7 b32", {32, 512, 7, 7}},
    {"few channels", {128, 3, 224, 224}},
    {"one channel", {1, 1, 4096, 4096}},
    {"odd channels", {16, 17, 97, 101}},
    {"batch 1", {1, 64, 112, 112}},
    {"many channels", {4, 5000, 9, 11}},
};

// Busiest share over the mean share, in elements.
double imbalance(const Plan &plan, const Work &work) {
  int64_t busiest = 0, total = 0;
  for (int w = 0; w < plan.workers; ++w) {
    int64_t mine = 0;
    for (int64_t unit = share_begin(plan.units(), plan.workers, w);
         unit < share_begin(plan.units(), plan.workers, w + 1); ++unit)
      mine += unit_elements(plan, work, unit);
    busiest = std::max(busiest, mine);
    total += mine;
  }
  return static_cast<double>(busiest) * plan.workers / static_cast<double>(total);
}

}  // namespace

TEST_CASE("every element belongs to exactly one unit: a plan that loses or doubles work would be caught", "[plan]") {
  for (const Named &shape : kShapes)
    for (int threads : {1, 2, 3, 7, 64, 256})
      for (bool channels_last : {false, true})
        for (bool needs_sums : {false, true}) {
          Work work;
          work.size = shape.size;
          work.channels_last = channels_last;
          work.needs_sums = needs_sums;
          const Plan plan = make_plan(work, {threads, 1 << 19}, 64);
          INFO(shape.name << " threads " << threads << " channels_last " << channels_last << " sums " << needs_sums);
          REQUIRE(plan.workers >= 1);
          REQUIRE(plan.workers <= threads);
          REQUIRE(plan.group >= 1);
          REQUIRE(plan.group <= 64);
          int64_t total = 0;
          for (int64_t unit = 0; unit < plan.units(); ++unit) total += unit_elements(plan, work, unit);
          CHECK(total == shape.size.numel());
        }
}

TEST_CASE("blocks tile a channel in order, start on a lane boundary, and depend on nothing but the shape", "[plan]") {
  for (const Extents &size :
       {Extents{1, 1, 1, 1}, Extents{3, 2, 7, 7}, Extents{32, 1, 14, 14}, Extents{5, 1, 67, 61}, Extents{2, 1, 1, 4097},
        Extents{1, 1, 4096, 4096}, Extents{100000, 1, 1, 1}, Extents{7, 1, 224, 224}}) {
    const Blocks blocks = make_blocks(size);
    INFO(size.n << "x" << size.h << "x" << size.w);
    REQUIRE(blocks.count <= 2 * kMaxBlocksPerChannel);
    int64_t next_sample = 0, next_position = 0;
    for (int64_t i = 0; i < blocks.count; ++i) {
      const Blocks::Block block = blocks.at(i);
      REQUIRE(block.first_sample == next_sample);
      REQUIRE(block.position == next_position);
      REQUIRE(block.position % 8 == 0);
      REQUIRE(block.elements() > 0);
      next_position += block.length;
      if (next_position == size.plane()) {
        next_position = 0;
        next_sample += block.samples;
      }
    }
    CHECK(next_sample == size.n);
    CHECK(next_position == 0);
  }
}

TEST_CASE("the busiest of 1 to 256 threads has at most 1.1 times the mean where there is enough work", "[plan]") {
  for (const Named &shape : kShapes)
    for (int threads = 1; threads <= 256; ++threads)
      for (bool channels_last : {false, true}) {
        Work work;
        work.size = shape.size;
        work.channels_last = channels_last;
        const Plan plan = make_plan(work, {threads, 1 << 20}, 64);
        // Enough: a quarter of a megabyte for each thread, 25 microseconds at 10 GB/s.
        if (shape.size.numel() * work.element_bytes < threads * (int64_t{1} << 18)) continue;
        // Rows of channels are not cut finer than half a cache line, so their units are larger.
        const bool power_of_two = (threads & (threads - 1)) == 0;
        if (channels_last && (!power_of_two || shape.size.numel() * work.element_bytes < threads * (int64_t{1} << 20)))
          continue;
        INFO(shape.name << " threads " << threads << " channels_last " << channels_last << " workers " << plan.workers
                        << " group " << plan.group << " split " << plan.split << " units " << plan.units());
        CHECK(imbalance(plan, work) <= 1.1);
      }
}

TEST_CASE("ResNet-50's shapes at batch 32 keep 64 and 256 threads busy", "[plan]") {
  for (const Named &shape : kShapes) {
    if (shape.size.n != 32 && shape.size.n != 128) continue;
    for (int threads : {64, 256}) {
      Work work;
      work.size = shape.size;
      const Plan plan = make_plan(work, {threads, 1 << 20}, 64);
      const int64_t bytes = shape.size.numel() * 4;
      INFO(shape.name << " threads " << threads << " workers " << plan.workers << " group " << plan.group << " split "
                      << plan.split << " units " << plan.units());
      if (bytes < threads * (int64_t{1} << 19)) continue;  // less than half a megabyte a thread
      CHECK(plan.workers == threads);
      CHECK(imbalance(plan, work) <= 1.1);
    }
  }
}
