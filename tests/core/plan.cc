// The partition: a pure function, so its balance is tested for machines that we do not have.
#include "parallel/plan.h"

#include <algorithm>
#include <vector>

#include "base/cache_line.h"
#include "kernels/kernels.h"
#include "plan_units.h"
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

const MemoryOrder kOrders[] = {MemoryOrder::planes, MemoryOrder::channels, MemoryOrder::mixed,
                               MemoryOrder::samples, MemoryOrder::other};

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

TEST_CASE(
    "every element belongs to exactly one unit: a plan that loses or doubles work would be caught",
    "[plan]") {
  for (const Named &shape : kShapes)
    for (int threads : {1, 2, 3, 7, 64, 256})
      for (MemoryOrder order : kOrders) {
        Work work;
        work.size = shape.size;
        work.order = order;
        if (order == MemoryOrder::samples) work.at_once = threads % 5 + 1;
        const Plan plan = make_plan(work, {threads, 1 << 19}, 64);
        INFO(shape.name << " threads " << threads << " order " << static_cast<int>(order));
        REQUIRE(plan.workers >= 1);
        REQUIRE(plan.workers <= threads);
        REQUIRE(plan.group >= 1);
        REQUIRE(plan.group <=
                (plan.split && order == MemoryOrder::channels ? 64 * kWideGroup : 64));
        int64_t total = 0;
        for (int64_t unit = 0; unit < plan.units(); ++unit)
          total += unit_elements(plan, work, unit);
        CHECK(total == shape.size.numel());
      }
}

// Catches: a block that is in no bundle, or in two; one whose samples do not follow those before
// it, which would be summed from where others are packed.
TEST_CASE("bundles have each block once, and samples one after another", "[plan]") {
  for (const Extents &size : {Extents{1, 2, 9, 9}, Extents{50, 2, 7, 7}, Extents{9, 1, 100, 100},
                              Extents{11, 3, 200, 200}, Extents{70, 2, 50, 50}})
    for (const int64_t at_once : {1, 3, 16}) {
      const Blocks blocks = make_blocks(size);
      INFO(size.n << "x" << size.plane() << ", " << blocks.count << " blocks");
      std::vector<int> seen(static_cast<size_t>(blocks.count));
      for (int64_t i = 0; i < blocks.bundles(at_once); ++i) {
        const Blocks::Bundle bundle = blocks.bundle(i, at_once);
        REQUIRE(bundle.count >= 1);
        REQUIRE(bundle.count <= at_once);
        for (int64_t k = 0; k < bundle.count; ++k) {
          const Blocks::Block block = blocks.at(bundle.block(k));
          ++seen[static_cast<size_t>(bundle.block(k))];
          if (k == 0) continue;
          const Blocks::Block before = blocks.at(bundle.block(k - 1));
          CHECK(block.first_sample == before.first_sample + before.samples);
          CHECK(block.position == before.position);
          CHECK(block.length == before.length);
        }
      }
      CHECK(seen == std::vector<int>(seen.size(), 1));
    }
}

// Catches: a block that no series has, or two; one that is not where a step leads to; a last one
// that is smaller.
TEST_CASE("series have the blocks of a channel in order, a constant step apart", "[plan]") {
  for (const Extents &size :
       {Extents{32, 2, 56, 56}, Extents{300, 2, 17, 20}, Extents{5, 1, 112, 112},
        Extents{3, 1, 224, 224}, Extents{2, 1, 320, 320}, Extents{2, 1, 512, 1024},
        Extents{3, 2, 150, 150}}) {
    const Blocks blocks = make_blocks(size);
    INFO(size.n << "x" << size.h << "x" << size.w << ", " << blocks.count << " blocks");
    REQUIRE(blocks.has_series());
    int64_t longest = 0;
    for (int64_t first = 0; first < blocks.count;) {
      const Blocks::Series series = blocks.series(first);
      REQUIRE(series.count() >= 1);
      REQUIRE(series.count() <= kMaxSeries);
      REQUIRE(first + series.count() <= blocks.count);
      longest = std::max(longest, series.count());
      const Blocks::Block start = blocks.at(first);
      for (int64_t i = 0; i < series.count(); ++i, ++first) {
        const Blocks::Block block = blocks.at(first);
        const int64_t band = i / series.in_band, step = i % series.in_band;
        const bool has_parts = blocks.parts_per_plane > 1;
        CHECK(block.first_sample == start.first_sample + (has_parts ? band : i * start.samples));
        CHECK(block.position == start.position + (has_parts ? step * blocks.part : 0));
        CHECK(block.samples == start.samples);
        CHECK(block.length == start.length);
      }
    }
    CHECK(longest > 1);
  }
  CHECK_FALSE(make_blocks({131, 2, 20, 20}).has_series());  // of 14 and 15 samples
  CHECK_FALSE(make_blocks({7, 1, 100, 96}).has_series());   // a plane is a larger and a smaller one
  CHECK_FALSE(make_blocks({1, 2, 80, 80}).has_series());    // one block
}

// Catches: a block that begins inside of a run, whose sums would be others, or of a byte of a mask.
TEST_CASE("blocks of a plane begin where a run does", "[plan]") {
  for (const int64_t plane : {200 * 200, 300 * 301, 511 * 513, 1024 * 1024, 1999 * 2003}) {
    const Blocks blocks = make_blocks({2, 3, 1, plane});
    INFO("plane " << plane << ", " << blocks.count << " blocks");
    REQUIRE(blocks.parts_per_plane > 1);
    for (int64_t block = 0; block < blocks.count; ++block)
      CHECK(blocks.at(block).position % kernels::kRunElements == 0);
  }
}

TEST_CASE(
    "tiles cover each element once, in the order of memory: a map that misses or repeats one would "
    "be caught",
    "[plan]") {
  for (const Extents &size :
       {Extents{1, 1, 1, 1}, Extents{5, 7, 3, 3}, Extents{3, 70, 7, 7}, Extents{2, 3, 150, 151},
        Extents{300, 2, 1, 1}, Extents{2, 20000, 1, 2}, Extents{3, 33, 14, 14},
        Extents{70, 20, 7, 7}})
    for (int workers : {1, 2, 64})
      for (MemoryOrder order : kOrders) {
        Work work;
        work.size = size;
        work.order = order;
        const Tiles tiles = make_tiles(work, workers);
        INFO(size.n << "x" << size.c << "x" << size.h << "x" << size.w << " workers " << workers
                    << " order " << static_cast<int>(order));
        std::vector<int> seen(static_cast<size_t>(size.numel()));
        for (int64_t i = 0; i < tiles.count; ++i) {
          const Tiles::Tile tile = tiles.at(i);
          if (order == MemoryOrder::other || order == MemoryOrder::mixed)
            REQUIRE(tile.block.position % 8 == 0);  // masks are bytes of 8
          for (int64_t n = 0; n < tile.block.samples; ++n)
            for (int64_t c = 0; c < tile.group.channels; ++c)
              for (int64_t p = 0; p < tile.block.length; ++p)
                ++seen.at(static_cast<size_t>(
                    ((tile.block.first_sample + n) * size.c + tile.group.channel + c) *
                        size.plane() +
                    tile.block.position + p));
        }
        CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
      }
}

TEST_CASE("tiles balance over 1 to 256 threads where there is enough work", "[plan]") {
  for (const Named &shape : kShapes)
    for (int threads = 1; threads <= 256; ++threads)
      for (MemoryOrder order : kOrders) {
        Work work;
        work.size = shape.size;
        work.order = order;
        const int workers = useful_workers(work, {threads, 1 << 20});
        if (shape.size.numel() * work.element_bytes < threads * (int64_t{1} << 18)) continue;
        const Tiles tiles = make_tiles(work, workers);
        int64_t busiest = 0;
        for (int w = 0; w < workers; ++w) {
          int64_t mine = 0;
          for (int64_t i = share_begin(tiles.count, workers, w);
               i < share_begin(tiles.count, workers, w + 1); ++i) {
            const Tiles::Tile tile = tiles.at(i);
            mine += tile.group.channels * tile.block.elements();
          }
          busiest = std::max(busiest, mine);
        }
        INFO(shape.name << " threads " << threads << " order " << static_cast<int>(order)
                        << " tiles " << tiles.count);
        CHECK(static_cast<double>(busiest) * workers / static_cast<double>(shape.size.numel()) <=
              (order == MemoryOrder::planes || order == MemoryOrder::channels ? 1.1 : 1.25));
      }
}

// Catches: one thread for small calls with transposed tensors, which cost three times as much.
TEST_CASE("plan: what is transposed has more threads", "[plan]") {
  Work work;
  work.size = {1, 256, 14, 14};
  work.passes = 2;
  const Machine machine{2, 1 << 20};
  CHECK(useful_workers(work, machine) == 1);
  work.order = MemoryOrder::mixed;
  CHECK(useful_workers(work, machine) == 2);
}

// Catches: tiles that jump to and fro in memory.
TEST_CASE("plan: tiles of rows of channels change channels first", "[plan]") {
  Work work;
  work.size = {1, 256, 64, 64};
  work.order = MemoryOrder::mixed;
  const Tiles rows = make_tiles(work, 2);
  CHECK(rows.at(1).group.channel != rows.at(0).group.channel);
  CHECK(rows.at(1).block.position == rows.at(0).block.position);
  work.size = {1, 4, 256, 256};
  work.order = MemoryOrder::planes;
  const Tiles planes = make_tiles(work, 2);
  CHECK(planes.at(1).group.channel == planes.at(0).group.channel);
  CHECK(planes.at(1).block.position != planes.at(0).block.position);
}

// Catches: tiles that begin within a cache line, which is then written in parts and cannot stream.
TEST_CASE("plan: tiles of mixed layouts begin with a cache line", "[plan]") {
  for (const Extents &size : {Extents{32, 64, 56, 56}, Extents{2, 256, 28, 28}})
    for (const int64_t bytes : {2, 4, 8}) {
      Work work;
      work.size = size;
      work.order = MemoryOrder::mixed;
      work.element_bytes = bytes;
      const Tiles tiles = make_tiles(work, 2);
      INFO("plane " << size.plane() << ", " << bytes << " bytes");
      REQUIRE(tiles.positions < size.plane());
      CHECK(tiles.positions * bytes % kLineBytes == 0);
    }
}

TEST_CASE("blocks tile a channel in order, and start on a lane boundary", "[plan]") {
  for (const Extents &size :
       {Extents{1, 1, 1, 1}, Extents{3, 2, 7, 7}, Extents{32, 1, 14, 14}, Extents{5, 1, 67, 61},
        Extents{2, 1, 1, 4097}, Extents{1, 1, 4096, 4096}, Extents{100000, 1, 1, 1},
        Extents{7, 1, 224, 224}}) {
    const Blocks blocks = make_blocks(size);
    INFO(size.n << "x" << size.h << "x" << size.w);
    REQUIRE(blocks.count <= 2 * kMaxBlocksPerChannel);
    int64_t next_sample = 0, next_position = 0;
    for (int64_t i = 0; i < blocks.count; ++i) {
      const Blocks::Block block = blocks.at(i);
      REQUIRE(block.first_sample == next_sample);
      REQUIRE(block.position == next_position);
      REQUIRE(block.position % 16 == 0);
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

TEST_CASE(
    "the busiest of 1 to 256 threads has at most 1.1 times the mean where there is enough work",
    "[plan]") {
  for (const Named &shape : kShapes)
    for (int threads = 1; threads <= 256; ++threads)
      for (bool channels_last : {false, true}) {
        Work work;
        work.size = shape.size;
        work.order = channels_last ? MemoryOrder::channels : MemoryOrder::planes;
        const Plan plan = make_plan(work, {threads, 1 << 20}, 64);
        // Enough: a quarter of a megabyte for each thread, 25 microseconds at 10 GB/s.
        if (shape.size.numel() * work.element_bytes < threads * (int64_t{1} << 18)) continue;
        // Rows of channels are not cut finer than half a cache line, so their units are larger.
        const bool power_of_two = (threads & (threads - 1)) == 0;
        if (channels_last && (!power_of_two || shape.size.numel() * work.element_bytes <
                                                   threads * (int64_t{1} << 20)))
          continue;
        INFO(shape.name << " threads " << threads << " channels_last " << channels_last
                        << " workers " << plan.workers << " group " << plan.group << " split "
                        << plan.split << " units " << plan.units());
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
      INFO(shape.name << " threads " << threads << " workers " << plan.workers << " group "
                      << plan.group << " split " << plan.split << " units " << plan.units());
      if (bytes < threads * (int64_t{1} << 19)) continue;  // less than half a megabyte a thread
      CHECK(plan.workers == threads);
      CHECK(imbalance(plan, work) <= 1.1);
    }
  }
}

// Catches: small tensors whose threads read what the others wrote (a training step of PyTorch was a
// tenth slower), and large ones that are read twice from memory.
TEST_CASE("plan: threads share out the samples of small tensors alone", "[plan]") {
  Machine machine;
  machine.threads = 2;
  const auto plan_of = [&](const Extents &size, MemoryOrder order) {
    Work work;
    work.size = size;
    work.order = order;
    work.passes = 2;
    return make_plan(work, machine, 128);
  };
  const Extents small{64, 16, 32, 32}, large{32, 64, 56, 56}, one_sample{1, 64, 112, 112};
  CHECK(plan_of(small, MemoryOrder::planes).split);
  CHECK_FALSE(plan_of(large, MemoryOrder::planes).split);
  CHECK_FALSE(plan_of(one_sample, MemoryOrder::planes).split);
  CHECK(plan_of(small, MemoryOrder::channels).split);
  CHECK(plan_of({32, 512, 7, 7}, MemoryOrder::planes).blocks == 2);
  machine.threads = 1;
  CHECK_FALSE(plan_of(small, MemoryOrder::planes).split);
}

// Catches: groups of few channels where a tensor has many samples of small planes. Runs of some
// hundred bytes, a jump away from each other, made training of (256,2048,7,7) twice as slow, and
// those of two threads between each other (32768,8,3,3) six times.
TEST_CASE("plan: small planes of many samples are read in long runs", "[plan]") {
  constexpr int64_t kRunBytes = 2 * 1024;
  for (const Extents &size :
       {Extents{256, 2048, 7, 7}, Extents{256, 1024, 14, 14}, Extents{1024, 512, 7, 7},
        Extents{2048, 128, 4, 4}, Extents{128, 1024, 3, 3}, Extents{4096, 64, 7, 7},
        Extents{32768, 8, 3, 3}, Extents{65536, 2, 7, 7}, Extents{8192, 4, 14, 14}})
    for (const int threads : {1, 2})
      for (const int64_t element_bytes : {2, 4, 8})
        for (const int reads : {1, 2}) {
          Work work;
          work.size = size;
          work.element_bytes = element_bytes;
          work.reads = reads;
          work.passes = 2;
          const Plan plan = make_plan(work, {threads, 1 << 20}, 128);
          INFO(size.n << "x" << size.c << "x" << size.h << " threads " << threads << " bytes "
                      << element_bytes << " reads " << reads << " group " << plan.group);
          CHECK((plan.group == size.c || plan.group == 128 || plan.split ||
                 plan.group * size.plane() * element_bytes >= kRunBytes));
          if (size.plane() == 49 && plan.group >= 32) CHECK(plan.group % 16 == 0);
        }
  // Those of batch 32 fit L2 as well.
  Work work;
  work.size = {32, 2048, 7, 7};
  work.passes = 2;
  CHECK(make_plan(work, {2, 1 << 20}, 128).group == 32);
}
