// SPDX-License-Identifier: MIT
// One thing to be timed: an operation on tensors of one shape, dtype and layout, and the memory it
// works on.
#ifndef BN2D_BENCH_PROBLEM_H
#define BN2D_BENCH_PROBLEM_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

/// kGradients: of weight and bias alone, i.e. sums without a map. kGiven: training forward with
/// statistics from outside.
enum class Op { kTrain, kBackward, kEval, kFrozenDx, kGradients, kGiven };
/// kClamp: to [0, kClampBound].
enum class Fuse { kNone, kRelu, kAddRelu, kRelu6, kClamp, kHardswish, kSilu, kGelu, kSigmoid };
enum class DType { kF32, kF64, kF16, kBF16 };
/// Dimensions in the order of memory, the slowest first, dense but for kBorder: NCHW with a gap
/// after each row and each plane, as a picture within a border has. kNchw8c, kNchw16c: oneDNN's
/// blocks of 8 and 16 channels.
enum class Layout { kNchw, kNhwc, kWhcn, kCnhw, kNcwh, kNwhc, kNchw8c, kNchw16c, kBorder };
constexpr int64_t kBorder = 2;  ///< elements and rows of a gap

/// Channels of a block, 0 where there are no blocks.
inline int64_t block_of(Layout layout) {
  if (layout == Layout::kNchw8c) return 8;
  return layout == Layout::kNchw16c ? 16 : 0;
}

/// The layout of each tensor of a call; dz lies as z.
struct Layouts {
  Layouts(Layout all = Layout::kNchw) : x(all), z(all), y(all), dy(all), dx(all) {}
  bool agree() const { return z == x && y == x && dy == x && dx == x; }
  bool are(Layout all) const { return x == all && agree(); }

  Layout x, z, y, dy, dx;
};

struct Shape {
  int64_t n, c, h, w;
  int64_t size() const { return n * c * h * w; }
};

/// Strides in elements, of N, C, H, W; not for blocks of channels. Inline, because the peers'
/// modules need it.
inline std::array<int64_t, 4> strides_of(Layout layout, const Shape &s) {
  switch (layout) {
    case Layout::kNchw:
      return {s.c * s.h * s.w, s.h * s.w, s.w, 1};
    case Layout::kNhwc:
      return {s.h * s.w * s.c, 1, s.w * s.c, s.c};
    case Layout::kWhcn:
      return {1, s.n, s.c * s.n, s.h * s.c * s.n};
    case Layout::kCnhw:
      return {s.h * s.w, s.n * s.h * s.w, s.w, 1};
    case Layout::kNcwh:
      return {s.c * s.h * s.w, s.h * s.w, 1, s.h};
    case Layout::kNwhc:
      return {s.c * s.h * s.w, 1, s.c, s.c * s.h};
    case Layout::kBorder: {
      const int64_t row = s.w + kBorder, plane = row * (s.h + kBorder);
      return {s.c * plane, plane, row, 1};
    }
    case Layout::kNchw8c:
    case Layout::kNchw16c:
      break;
  }
  return {};
}

const char *name_of(DType dtype);
const char *name_of(Layout layout);
/// "nchw", or "x=nchw,y=nhwc" of the tensors of a call that mixes layouts.
std::string name_of(const Layouts &layouts, Op op, Fuse fuse);
std::string name_of(Op op, Fuse fuse);
std::string name_of(const Shape &shape);
std::size_t element_size(DType dtype);

/// How many tensors of the problem's size must be read and written at least. The limit touches the
/// same number.
struct Traffic {
  int reads, writes;
};
Traffic traffic_of(Op op, Fuse fuse);

/// Backward of any kind writes dx (kGradients: dweight and dbias there), forward writes y.
inline bool is_backward(Op op) { return op != Op::kTrain && op != Op::kEval && op != Op::kGiven; }
inline bool has_batch_statistics(Op op) { return op != Op::kEval && op != Op::kFrozenDx; }

/// Start of every tensor of a row; what the operation does not need is null. Shared by all variants
/// of the row.
struct Tensors {
  void *x = nullptr, *z = nullptr, *y = nullptr, *dy = nullptr, *dx = nullptr, *dz = nullptr;
};

struct Problem {
  Op op;
  Fuse fuse;
  DType dtype;
  Layouts layouts;
  Shape shape;
  int threads;
  Tensors t;
  int64_t groups = 0;    ///< of a group norm; as many as channels: instance norm; 0: batch norm
  bool extreme = false;  ///< x near the end of the range of its type

  int64_t bytes() const { return shape.size() * static_cast<int64_t>(element_size(dtype)); }
  void *output() const { return is_backward(op) ? t.dx : t.y; }
  int64_t output_size() const { return op == Op::kGradients ? 2 * shape.c : shape.size(); }
  Layout output_layout() const { return is_backward(op) ? layouts.dx : layouts.y; }
};

constexpr double kEps = 1e-5;
constexpr double kMomentum = 0.1;
constexpr double kClampBound = 1.5;

/// Memory of the tensors of one row: page aligned, or that plus `misalign` bytes; inputs filled
/// with normal numbers.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  ~Memory();

  /// Allocates and fills what the problem needs and sets problem->t.
  void provide(Problem *problem, std::size_t misalign);

 private:
  void *block(const Problem &problem, std::size_t misalign, bool fill, unsigned seed,
              double scale = 1);
  std::vector<void *> blocks_;
};

/// A few thousand elements of `data`, evenly spread, as double; for comparing the results of two
/// variants.
std::vector<double> sample(const void *data, DType dtype, int64_t size);
/// Overwrites the elements that sample() reads, so that a variant that writes nothing is noticed.
void spoil_sample(void *data, DType dtype, int64_t size);
/// How far two correct results may be apart without a remark.
double tolerance_of(DType dtype);

}  // namespace bench

#endif  // BN2D_BENCH_PROBLEM_H
