// Shared memory of strided views against brute force: the exact answer decides whether a user's slices are accepted.
#include "tensor/overlap.h"

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
        for (int64_t w = 0; w < view.size.w; ++w) out.push_back(reinterpret_cast<int64_t>(view.at(n, c, h, w)));
  return out;
}

std::set<int64_t> bytes_of(const View &view) {
  std::set<int64_t> out;
  for (int64_t start : byte_starts(view))
    for (int64_t b = 0; b < dtype_size(view.dtype); ++b) out.insert(start + b);
  return out;
}

View random_view(std::mt19937 &random, std::byte *memory) {
  auto upto = [&](int64_t most) { return static_cast<int64_t>(random() % static_cast<uint64_t>(most)); };
  View view;
  view.dtype = random() % 2 ? DType::f32 : DType::f16;
  view.size = {1 + upto(3), 1 + upto(4), 1 + upto(3), 1 + upto(4)};
  view.stride = {1 + upto(30), 1 + upto(20), 1 + upto(12), 1 + upto(5)};
  view.data = memory + 2 * upto(120);
  return view;
}

}  // namespace

TEST_CASE("two views share memory exactly where some byte is in both", "[overlap]") {
  std::mt19937 random(7);
  std::vector<std::byte> memory(4096);
  int shared = 0;
  for (int i = 0; i < 4000; ++i) {
    const View a = random_view(random, memory.data()), b = random_view(random, memory.data());
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
    const bool expected =
        bytes_of(a).size() != static_cast<size_t>(a.size.numel()) * static_cast<size_t>(dtype_size(a.dtype));
    CHECK(overlaps_itself(a) == expected);
    overlapping += expected;
  }
  CHECK(overlapping > 400);
  CHECK(overlapping < 3600);
}

TEST_CASE("interleaved halves of one tensor do not share memory, whatever their size", "[overlap]") {
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
