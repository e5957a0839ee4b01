// The plan of norms whose channels lie in several rows of memory or in blocks, and whose sets have
// several channels.
#include <numeric>
#include <vector>

#include "parallel/plan.h"
#include "plan_units.h"
#include "support/catch.h"

namespace {

using namespace bn2d;

struct Case {
  Work work;
  Machine machine;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Extents size : {Extents{1, 96, 7, 7}, Extents{1, 2048, 56, 56}, Extents{4, 24, 1, 1},
                             Extents{1, 640, 3, 200}, Extents{2, 12, 150, 140}})
    for (const int64_t rows : {1, 2, 12})
      for (const int64_t together : {1, 2, 4})
        for (const MemoryOrder order :
             {MemoryOrder::planes, MemoryOrder::channels, MemoryOrder::mixed, MemoryOrder::other})
          for (const int64_t block : {1, 2, 8, 12})
            for (const int threads : {1, 2, 5, 64}) {
              if (size.c % (rows * together) != 0 || size.c % (rows * block) != 0) continue;
              if (block != 1 && order != MemoryOrder::channels) continue;
              Case c;
              c.work.channel_block = block;
              c.work.size = size;
              c.work.channel_row = rows == 1 ? 0 : size.c / rows;
              c.work.together = together;
              c.work.order = order;
              c.work.passes = 2;
              c.machine.threads = threads;
              all.push_back(c);
            }
  return all;
}

}  // namespace

// Catches: a group that reaches from one row into the next, a set that is cut, elements that no
// unit or two units have.
TEST_CASE("plan: rows, sets and blocks of several channels", "[plan]") {
  for (const Case &c : cases())
    for (const int64_t max_group : {int64_t{16}, int64_t{128}}) {
      const Plan plan = make_plan(c.work, c.machine, max_group);
      INFO("C " << c.work.size.c << " row " << c.work.channel_row << " together " << c.work.together
                << " block " << c.work.channel_block << " threads " << c.machine.threads
                << " order " << static_cast<int>(c.work.order) << " group " << plan.group);
      const int64_t row = c.work.row_channels();
      CHECK(plan.group >= 1);
      CHECK(plan.group <= row);
      CHECK(plan.groups == c.work.rows() * ((row + plan.group - 1) / plan.group));
      CHECK(plan.blocks == make_blocks(c.work.size).count);
      if (!plan.split) CHECK(plan.group % std::lcm(c.work.together, c.work.channel_block) == 0);
      if (!plan.split) CHECK(plan.group <= max_group);
      int64_t elements = 0;
      for (int64_t unit = 0; unit < plan.units(); ++unit)
        elements += unit_elements(plan, c.work, unit);
      CHECK(elements == c.work.size.numel());
    }
}

// Catches: a tile that crosses the end of a row or cuts blocks, and elements that are mapped twice
// or never.
TEST_CASE("plan: tiles of several rows and blocks", "[plan]") {
  for (const Case &c : cases()) {
    const Tiles tiles = make_tiles(c.work, c.machine.threads);
    INFO("C " << c.work.size.c << " row " << c.work.channel_row << " block " << c.work.channel_block
              << " order " << static_cast<int>(c.work.order));
    if (c.work.channel_block != 1) CHECK(tiles.channels % c.work.channel_block == 0);
    const int64_t row = c.work.row_channels();
    std::vector<int64_t> seen(static_cast<size_t>(c.work.size.c));
    for (int64_t i = 0; i < tiles.count; ++i) {
      const Tiles::Tile tile = tiles.at(i);
      const Group &g = tile.group;
      REQUIRE(g.channels >= 1);
      CHECK(g.channel / row == (g.channel + g.channels - 1) / row);
      for (int64_t k = g.channel; k < g.channel + g.channels; ++k)
        seen[static_cast<size_t>(k)] += tile.block.samples * tile.block.length;
    }
    for (const int64_t elements : seen) CHECK(elements == c.work.size.per_channel());
  }
}

// Catches: sets that are taken for single channels when the work is weighed. Group norm of
// (1,2048,7,7) ran on one thread, twice as long as batch norm.
TEST_CASE("plan: sets get the threads of their channels", "[plan]") {
  Machine machine;
  machine.threads = 2;
  for (const int64_t plane : {4, 7, 14}) {
    Work work;
    work.size = {1, 2048, plane, plane};
    work.passes = 2;
    const int workers = make_plan(work, machine, 128).workers;
    CHECK(workers == 2);
    work.together = 64;
    CHECK(make_plan(work, machine, 128).workers == workers);
  }
}

// Catches: tiles of small planes that are as narrow as if they had many samples. Eval of
// (1,2048,2,2) took 256 of them.
TEST_CASE("plan: a tile of small planes has enough elements", "[plan]") {
  for (const int64_t samples : {1, 2, 7, 32, 100}) {
    Work work;
    work.size = {samples, 2048, 2, 2};
    const Tiles::Tile tile = make_tiles(work, 2).at(0);
    INFO(samples << " samples");
    CHECK(tile.group.channels * tile.block.elements() >= 1024);
  }
}

// Catches: three phases through the whole tensor, with the sums of each plane in memory, where any
// group of channels is a run of it. Training of (4096,256,1,1) in 32 groups took 1.6 times as long.
TEST_CASE("plan: sets of planes of one element are summed and mapped at once", "[plan]") {
  for (const int64_t together : {1, 8, 64})
    for (const int threads : {1, 2, 64}) {
      Work work;
      work.size = {1, 4096 * 256, 1, 1};
      work.order = MemoryOrder::channels;
      work.together = together;
      work.passes = 2;
      const Plan plan = make_plan(work, {threads, 1 << 20}, 128);
      INFO(together << " channels of a set, threads " << threads);
      CHECK_FALSE(plan.split);
      CHECK(plan.group % together == 0);
    }
}
