// Tensors and arrays of a program: what the library is told, where the elements really are, and
// what is wrong with it.
#pragma once
#include <array>
#include <string>

#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "fuzz/statuses.h"
#include "support/contract_views.h"
#include "support/numerics_values.h"

namespace bn2d_fuzz {

using bn2d_test::Extents;
using bn2d_test::View;
using numerics::Values;

struct Operand {
  std::string name;
  bool given = true;  // else NULL is passed
  bool written = false;
  bool is_array = false;  // per channel, or a mask
  int32_t dtype = BN2D_F32;
  Footprint footprint;   // empty where there are no elements
  View view;             // of a tensor
  void *data = nullptr;  // of an array, and of a tensor that travels as a plain pointer
  Statuses faults;       // of it by itself

  bool whole() const { return given && faults.empty(); }
  const bn2d_view *pointer() const { return given ? view.get() : nullptr; }
  template <class T>
  T *as() const {
    return given ? static_cast<T *>(data) : nullptr;
  }
  bool exactly(const Operand &other) const {
    return dtype == other.dtype && footprint.offsets == other.footprint.offsets &&
           !footprint.offsets.empty();
  }
  std::string text() const;
};

// Where the elements of a tensor lie: (N, C, H, W, 1), or blocks of channels, (N, C/b, H, W, b).
struct Layout {
  size_t rank = 4;
  std::array<int64_t, 5> shape, strides;
  bool told = true;  // else the strides are those of a contiguous tensor, and NULL

  explicit Layout(const Extents &e) : shape{e[0], e[1], e[2], e[3], 1} { contiguous(); }
  void split_channels(int64_t block) {
    rank = 5;
    shape[1] /= block;
    shape[4] = block;
    contiguous();
  }
  void contiguous() {
    int64_t next = 1;
    for (size_t i = 5; i-- > 0; next *= shape[i]) strides[i] = next;
  }
  void set_strides(const Extents &four) { std::copy(four.begin(), four.end(), strides.begin()); }
  // Elements from the first to the last one, both included.
  int64_t span() const;
  int64_t index(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return n * strides[0] + c / shape[4] * strides[1] + h * strides[2] + w * strides[3] +
           c % shape[4] * strides[4];
  }
};

// How the elements of a tensor or array are made up.
enum class Style { plain, normal, offset, constant, tiny, huge, subnormal, all_sizes, zeros, ends };
constexpr int kStyles = 10;

class Placer {
 public:
  Placer(Input &in, Memory &memory) : in_(in), memory_(memory) {}

  // A tensor: apart from all others as a rule, exactly where `like` is, or on top of anything.
  Operand tensor(const char *name, size_t room, int32_t dtype, const Extents &shape, bool written,
                 bool optional, const Operand *like);
  // A contiguous tensor for a plain pointer, NCHW or NHWC.
  Operand plain(const char *name, size_t room, int32_t dtype, const Extents &shape, bool nhwc,
                bool written, bool optional, const Operand *like);
  // C elements, or the bytes of a mask.
  Operand array(const char *name, size_t room, int32_t dtype, int64_t count, bool written,
                bool given, const Operand *like);

  void fill(const Operand &operand, const Extents &shape, bool hostile);
  Values values(const Operand &operand) const;
  std::vector<uint64_t> bits(const Operand &operand) const;

  // What is wrong with the tensors of a call: each by itself, and two outputs that share memory.
  void judge(const std::vector<const Operand *> &operands, Verdict &verdict);
  // An output and something that is read. `exact`: being the very same elements is allowed.
  void judge_overlap(const Operand &output, const Operand &input, bool exact, Verdict &verdict);
  // The same for per-channel arrays. Without elements nothing is written, and the header leaves it
  // open.
  void judge_arrays(const std::vector<const Operand *> &operands, bool empty, Verdict &verdict);

 private:
  int64_t first_byte(size_t room, int64_t span_bytes, int64_t element, const Operand *like);
  Layout choose_layout(const Extents &shape, bool written);
  void spoil(Operand &operand);
  double element(Style style, int32_t dtype, double channel, numerics::Random &random) const;

  Input &in_;
  Memory &memory_;
};

}  // namespace bn2d_fuzz
