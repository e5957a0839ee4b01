// Boxes of tensors to and from packed copies, against the definition element by element: any order
// of memory, rows of channels that are transposed, expanded and padded tensors, boxes that end
// anywhere, on all SIMD targets.
#include "ops/packed_copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "support/catch.h"

using namespace bn2d;

namespace {

// Memory that begins with a cache line.
template <class T>
struct LineAllocator {
  using value_type = T;
  T *allocate(size_t count) {
    return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T *memory, size_t) { ::operator delete(memory, std::align_val_t(64)); }
  bool operator==(const LineAllocator &) const { return true; }
  bool operator!=(const LineAllocator &) const { return false; }
};
using Lines = std::vector<std::byte, LineAllocator<std::byte>>;

struct Scene {
  View view;
  Box box;
  PackedStrides packed;
  Lines memory, copy;
};

// The kernels of one SIMD target, where the CPU has it, else of the best one.
class Target {
 public:
  explicit Target(const char *name) {
    setenv("BN2D_SIMD", name, 1);
    kernels::set_active_for_test(nullptr);
  }
  ~Target() {
    if (before_ == nullptr) {
      unsetenv("BN2D_SIMD");
    } else {
      setenv("BN2D_SIMD", before_, 1);
    }
    kernels::set_active_for_test(nullptr);
  }
  Target(const Target &) = delete;
  Target &operator=(const Target &) = delete;

 private:
  const char *before_ = std::getenv("BN2D_SIMD");
};

// order: of the dimensions in memory. is_padded: with gaps between them. is_tight: the copy is of
// whole planes of one sample, one after another; else it has gaps of a few elements.
Scene scene_of(std::mt19937 &random, DType dtype, const std::vector<int> &order, bool is_padded,
               bool is_tight) {
  const auto up_to = [&](int64_t most) { return static_cast<int64_t>(random() % most) + 1; };
  Scene s;
  s.view.dtype = dtype;
  s.view.given = true;
  s.view.size = {up_to(4), up_to(7) == 1 ? 64 : up_to(70), up_to(9), up_to(40)};
  const int64_t extents[4] = {s.view.size.n, s.view.size.c, s.view.size.h, s.view.size.w};
  int64_t strides[4], next = 1;
  for (const int axis : order) {
    strides[axis] = next;
    next *= extents[axis] + (is_padded ? up_to(3) - 1 : 0);
  }
  s.view.stride = {strides[0], strides[1], strides[2], strides[3]};
  if (s.view.size.c % 5 == 0) set_channel_blocks(s.view, 5, next), next *= s.view.size.c / 5;
  const int64_t bytes = dtype_size(dtype);
  s.memory.resize(static_cast<size_t>(next * bytes));
  for (std::byte &byte : s.memory) byte = static_cast<std::byte>(random());
  s.view.data = s.memory.data();
  const auto part = [&](int64_t extent, int64_t *first) {
    *first = up_to(extent) - 1;
    return up_to(extent - *first);
  };
  Box &box = s.box;
  box.samples = part(extents[0], &box.n);
  box.channels = part(extents[1], &box.channel);
  box.length = part(s.view.size.plane(), &box.position);
  s.packed.sample = box.length + up_to(3) - 1;
  s.packed.channel = s.packed.sample * box.samples + up_to(3) - 1;
  if (is_tight) {
    box.samples = 1;
    box.position = 0;
    box.length = s.packed.sample = s.packed.channel = s.view.size.plane();
  }
  s.copy.resize(static_cast<size_t>(s.packed.channel * box.channels * bytes), std::byte{0x5A});
  return s;
}

// Calls f(element of the tensor, element of the copy) for all of the box.
template <class F>
void for_each_element(Scene &s, const F &f) {
  const int64_t bytes = dtype_size(s.view.dtype), w = s.view.size.w;
  for (int64_t n = 0; n < s.box.samples; ++n)
    for (int64_t c = 0; c < s.box.channels; ++c)
      for (int64_t p = 0; p < s.box.length; ++p) {
        const int64_t position = s.box.position + p;
        f(s.view.at(s.box.n + n, s.box.channel + c, position / w, position % w),
          s.copy.data() + (c * s.packed.channel + n * s.packed.sample + p) * bytes);
      }
}

}  // namespace

TEST_CASE("packed copies have the elements of any tensor, and nothing else changes",
          "[packed_copy]") {
  // Catches: rows and columns exchanged at a remainder of a line, channels of one sample in the
  // next one, a write beyond the box, a plane that does not collapse taken for one that does, a
  // line that is streamed to a place that is not its own, planes taken for one that have gaps
  // between them.
  const Target target_of_simd(GENERATE("AVX3", "AVX2", "SSE4", "NEON", "SCALAR"));
  INFO(kernels::active().name);
  std::mt19937 random(7);
  std::vector<int> order = {3, 2, 1, 0};
  for (int round = 0; round < 600; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    if (round % 3 == 0) order = {1, 3, 2, 0};  // channels_last
    if (round % 5 == 0) order = {2, 1, 3, 0};  // the same, where sets of channels are planes
    const DType dtype =
        std::vector<DType>{DType::f32, DType::f64, DType::f16, DType::bf16}[random() % 4];
    Scene s = scene_of(random, dtype, order, round % 2 != 0, round % 4 < 2);
    const CopyHints hints = {round % 8 < 4, round % 4 < 2};
    if (round % 7 == 0) s.view.stride.w = 0;
    const bool overlaps = round % 11 == 0;  // rows and channels; only read
    if (overlaps) s.view.stride.h = s.view.stride.c = std::min(s.view.stride.h, s.view.stride.c);
    INFO("round " << round);
    const auto bytes = static_cast<size_t>(dtype_size(dtype));

    Lines expected = s.copy;
    for_each_element(s, [&](const std::byte *element, const std::byte *packed) {
      std::memcpy(expected.data() + (packed - s.copy.data()), element, bytes);
    });
    gather(s.view, s.box, s.packed, s.copy.data(), hints);
    REQUIRE(s.copy == expected);

    if (round % 7 == 0 || overlaps) continue;  // written tensors do not overlap themselves
    for (std::byte &byte : s.copy) byte = static_cast<std::byte>(random());
    Lines target = s.memory;
    for_each_element(s, [&](const std::byte *element, const std::byte *packed) {
      std::memcpy(target.data() + (element - s.memory.data()), packed, bytes);
    });
    scatter(s.copy.data(), s.packed, s.view, s.box, hints);
    REQUIRE(s.memory == target);
  }
}
