// Shared memory of strided views against brute force: the exact answer decides whether a user's
// slices are accepted.
#include "tensor/overlap.h"

#include <algorithm>
#include <iterator>
#include <random>
#include <set>
#include <vector>

#include "support/catch.h"

using namespace bn2d;

namespace {

std::vector<int64_t> byte_starts(const View &view) {
  std::vector<int64_t> out;
  for (int64_t n = 0; n < view.size.n; ++n)
    for (int64_t c = 0; c < view.size.c; ++c)
      for (int64_t h = 0; h < view.size.h; ++h)
        for (int64_t w = 0; w < view.size.w; ++w)
          out.push_back(reinterpret_cast<int64_t>(view.at(n, c, h, w)));
  return out;
}

std::set<int64_t> bytes_of(const View &view) {
  std::set<int64_t> out;
  for (int64_t start : byte_starts(view))
    for (int64_t b = 0; b < dtype_size(view.dtype); ++b) out.insert(start + b);
  return out;
}

// With `zeros` some strides are 0, as what is only read may have them.
View random_view(std::mt19937 &random, std::byte *memory, bool zeros = false) {
  auto upto = [&](int64_t most) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  };
  View view;
  view.dtype = random() % 2 ? DType::f32 : DType::f16;
  view.size = {1 + upto(3), 1 + upto(4), 1 + upto(3), 1 + upto(4)};
  view.stride = {1 + upto(30), 1 + upto(20), 1 + upto(12), 1 + upto(5)};
  view.data = memory + 2 * upto(120);
  for (int64_t *stride : {&view.stride.n, &view.stride.c, &view.stride.h, &view.stride.w})
    if (zeros && random() % 3 == 0) *stride = 0;
  if (view.size.c == 4) set_channel_blocks(view, 2, (zeros ? 0 : 1) + upto(40));
  return view;
}

// Strides of one size, which no order nests, and so large that elements seldom meet. Nobody's
// memory: nothing is read.
View hard_view(std::mt19937_64 &random, uintptr_t address, int64_t extent) {
  View view;
  view.size = {extent, extent, extent, extent};
  const auto stride = [&] {
    return static_cast<int64_t>((int64_t{1} << 33) + random() % (uint64_t{1} << 33));
  };
  view.stride = {stride(), stride(), stride(), stride()};
  view.data = reinterpret_cast<std::byte *>(address);
  return view;
}

}  // namespace

TEST_CASE("two views share memory exactly where some byte is in both", "[overlap]") {
  std::mt19937 random(7);
  std::vector<std::byte> memory(4096);
  int shared = 0;
  for (int i = 0; i < 4000; ++i) {
    const View a = random_view(random, memory.data(), i % 2 == 0),
               b = random_view(random, memory.data(), i % 3 == 0);
    const std::set<int64_t> bytes = bytes_of(a);
    bool expected = false;
    for (int64_t byte : bytes_of(b)) expected = expected || bytes.count(byte) != 0;
    CHECK(share_memory(a, b) == expected);
    shared += expected;
  }
  CHECK(shared > 400);
  CHECK(shared < 3600);
}

TEST_CASE("a view overlaps itself exactly where two indices lead to one byte", "[overlap]") {
  std::mt19937 random(8);
  std::vector<std::byte> memory(4096);
  int overlapping = 0;
  for (int i = 0; i < 4000; ++i) {
    const View a = random_view(random, memory.data());
    const bool expected = bytes_of(a).size() != static_cast<size_t>(a.size.numel()) *
                                                    static_cast<size_t>(dtype_size(a.dtype));
    CHECK(overlaps_itself(a) == expected);
    overlapping += expected;
  }
  CHECK(overlapping > 400);
  CHECK(overlapping < 3600);
}

TEST_CASE("interleaved halves of one tensor do not share memory, whatever their size",
          "[overlap]") {
  std::vector<float> memory(64 * 2 * 100);
  View a;
  a.size = {4, 8, 5, 10};
  a.stride = {16 * 50, 50, 10, 1};
  a.data = reinterpret_cast<std::byte *>(memory.data());
  View b = a;
  b.data += 8 * 50 * sizeof(float);
  CHECK_FALSE(share_memory(a, b));
  b.data -= sizeof(float);
  CHECK(share_memory(a, b));
}

// Catches a search that goes through the indices of both views where their strides are the same,
// and gives up.
TEST_CASE("real and imaginary parts do not share memory, whatever the padding", "[overlap]") {
  std::vector<float> memory(3 * 86336 + 8);
  View real;
  real.size = {3, 16, 38, 71};
  real.stride = {86336, 5396, 142, 2};
  real.data = reinterpret_cast<std::byte *>(memory.data());
  View imaginary = real;
  imaginary.data += 3 * sizeof(float);
  CHECK_FALSE(share_memory(real, imaginary));
  imaginary.data += sizeof(float);
  CHECK(share_memory(real, imaginary));
}

TEST_CASE("a view and a range share memory exactly where some byte is in both", "[overlap]") {
  std::mt19937 random(9);
  std::vector<std::byte> memory(4096);
  int shared = 0;
  for (int i = 0; i < 4000; ++i) {
    const View a = random_view(random, memory.data(), i % 2 == 0);
    const auto base = reinterpret_cast<uintptr_t>(memory.data());
    const uintptr_t begin = base + random() % 700, end = begin + random() % 16;
    const std::set<int64_t> bytes = bytes_of(a);
    const auto next = bytes.lower_bound(static_cast<int64_t>(begin));
    const bool expected = next != bytes.end() && *next < static_cast<int64_t>(end);
    CHECK(share_memory(a, begin, end) == expected);
    shared += expected;
  }
  CHECK(shared > 400);
  CHECK(shared < 3600);
}

TEST_CASE("a search that takes too long says that memory is shared", "[overlap]") {
  // Catches a search that gives up with the answer "apart", which nobody has shown. These views are
  // apart, which a comparison of all elements says, but finding it out takes more steps than a call
  // may spend.
  std::mt19937_64 random(10);
  const auto starts = [](const View &view) {
    std::vector<int64_t> out = byte_starts(view);
    std::sort(out.begin(), out.end());
    for (int64_t &start : out) start /= 4;  // in elements
    return out;
  };
  const View a = hard_view(random, uintptr_t{1} << 44, 12),
             b = hard_view(random, (uintptr_t{1} << 44) + 4096, 12);
  const std::vector<int64_t> ours = starts(a), theirs = starts(b);
  std::vector<int64_t> both;
  std::set_intersection(ours.begin(), ours.end(), theirs.begin(), theirs.end(),
                        std::back_inserter(both));
  REQUIRE(both.empty());
  CHECK(share_memory(a, b));

  const View alone = hard_view(random, uintptr_t{1} << 44, 40);
  const std::vector<int64_t> its = starts(alone);
  REQUIRE(std::adjacent_find(its.begin(), its.end()) == its.end());
  CHECK(overlaps_itself(alone));
}
