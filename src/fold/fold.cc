#include "fold/fold.h"

#include <cblas.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace bn2d::fold {
namespace {

// The weight as (rows, columns, taps): the dimensions behind the second one are the taps.
struct Geometry {
  int64_t rows, columns, taps;
  int64_t outputs;
  // The channel of an element is that of its row, or of its column.
  bool by_row;
  // So many rows (or taps) in turn belong to one channel: more than one for a linear layer only.
  int64_t run;

  int64_t row_length() const { return columns * taps; }
};

int64_t channels_of(const std::vector<double> &scale) { return static_cast<int64_t>(scale.size()); }

[[noreturn]] void fail_channels(const char *what, int64_t found, int64_t channels) {
  fail(Status::shape, "the layer has %" PRId64 " %s, the module %" PRId64 " channels", found, what,
       channels);
}

Geometry geometry_of(const Layer &layer, int64_t channels) {
  const std::vector<int64_t> &shape = layer.weight.shape;
  if (shape.size() < 2 || shape.size() > 8)
    fail(Status::shape, "weight has rank %zu, must be from 2 to 8", shape.size());
  if (layer.kind == LayerKind::linear && (shape.size() != 2 || layer.groups != 1))
    fail(Status::shape,
         "a linear layer has a weight of rank 2 and 1 group, this one rank %zu and %" PRId64
         " groups",
         shape.size(), layer.groups);
  Geometry g{};
  g.rows = shape[0];
  g.columns = shape[1];
  g.taps = 1;
  g.run = 1;
  // Beside an extent of 0 the others may be anything.
  int64_t length = g.columns;
  for (size_t d = 2; d < shape.size(); ++d)
    if (__builtin_mul_overflow(g.taps, shape[d], &g.taps) ||
        __builtin_mul_overflow(length, shape[d], &length))
      fail(Status::overflow, "weight has shape %s, of which a row has more than 64 bits count",
           text_of(shape).c_str());
  if (layer.groups < 1 || g.rows % layer.groups != 0)
    fail(Status::shape, "weight has %" PRId64 " rows, which are no multiple of %" PRId64 " groups",
         g.rows, layer.groups);
  // Inputs or outputs that lie along the columns, one group beside the other.
  int64_t across = 0;
  if (__builtin_mul_overflow(g.columns, layer.groups, &across))
    fail(Status::overflow, "%" PRId64 " columns in %" PRId64 " groups are more than 64 bits count",
         g.columns, layer.groups);
  const bool is_previous = layer.side == Side::previous;
  g.by_row = is_previous != (layer.kind == LayerKind::transposed);
  g.outputs = layer.kind == LayerKind::transposed ? across : g.rows;
  const int64_t own = g.by_row ? g.rows : across;
  const char *const what = is_previous ? "outputs" : "inputs";
  if (layer.kind != LayerKind::linear) {
    if (own != channels) fail_channels(what, own, channels);
    return g;
  }
  if (own == 0 || own % channels != 0) fail_channels(what, own, channels);
  g.run = own / channels;
  if (!g.by_row) {  // those of one channel stand together, as the taps of a convolution do
    g.taps = g.run;
    g.columns = channels;
    g.run = 1;
  }
  return g;
}

// -------------------------------------------------------------------------------------------------
// checks

uintptr_t begin_of(const Array &array) { return reinterpret_cast<uintptr_t>(array.data); }
uintptr_t end_of(const Array &array) {
  if (count_of(array.shape) == 0) return begin_of(array);  // whose strides may be anything
  int64_t last = 0;
  for (size_t d = 0; d < array.shape.size(); ++d) last += (array.shape[d] - 1) * array.stride[d];
  return begin_of(array) + static_cast<uintptr_t>((last + 1) * array.element());
}

bool is_exactly(const Array &a, const Array &b) {
  return a.data == b.data && a.type == b.type && a.shape == b.shape && a.stride == b.stride;
}

void check_floating(const char *name, const Array &array) {
  if (array.data != nullptr && !array.type->is_floating())
    fail(Status::dtype, "%s is %s, must be F64, F32, F16 or BF16", name, array.type->name);
}

void check_vector(const char *name, const Array &array, int64_t length) {
  if (array.data == nullptr) return;
  if (array.shape.size() != 1 || array.shape[0] != length)
    fail(Status::shape, "%s has shape %s, must have (%" PRId64 ")", name,
         text_of(array.shape).c_str(), length);
}

void check(const Layer &layer, const Geometry &g) {
  check_floating("weight", layer.weight);
  check_floating("bias", layer.bias);
  check_floating("out_weight", layer.out_weight);
  check_floating("out_bias", layer.out_bias);
  if (layer.out_weight.shape != layer.weight.shape)
    fail(Status::shape, "out_weight has shape %s, weight %s",
         text_of(layer.out_weight.shape).c_str(), text_of(layer.weight.shape).c_str());
  check_vector("bias", layer.bias, g.outputs);
  check_vector("out_bias", layer.out_bias, g.outputs);
  check_apart("out_weight", layer.out_weight, "out_bias", layer.out_bias);
  check_apart("out_weight", layer.out_weight, "bias", layer.bias);
  check_apart("out_bias", layer.out_bias, "weight", layer.weight);
  if (!is_exactly(layer.out_weight, layer.weight))
    check_apart("out_weight", layer.out_weight, "weight", layer.weight);
  if (!is_exactly(layer.out_bias, layer.bias))
    check_apart("out_bias", layer.out_bias, "bias", layer.bias);
  if (g.row_length() > std::numeric_limits<blasint>::max())
    fail(Status::overflow, "a row has %" PRId64 " weights, OpenBLAS takes at most %" PRId64,
         g.row_length(), int64_t{std::numeric_limits<blasint>::max()});
}

void check_shift(const Layer &layer, const Geometry &g) {
  if (layer.padded)
    fail(Status::state,
         "the shift is not 0 in every channel, and a layer with padding reads 0 beside it");
  if (layer.kind == LayerKind::transposed && g.taps > 1)
    fail(Status::state,
         "the shift is not 0 in every channel, and a transposed convolution of %" PRId64
         " taps gives each output another part of it",
         g.taps);
}

// -------------------------------------------------------------------------------------------------
// elements

// Rows of a weight, as doubles.
class Rows {
 public:
  Rows(const Array &weight, const Geometry &g) : weight_(weight), length_(g.row_length()) {
    row_ = weight;
    row_.shape.erase(row_.shape.begin());
    row_.stride.erase(row_.stride.begin());
    bytes_.resize(static_cast<size_t>(length_ * weight.element()));
  }
  void load(int64_t row, double *to) {
    row_.data = weight_.data + row * weight_.stride[0] * weight_.element();
    gather(row_, bytes_.data());
    load_elements(*weight_.type->dtype, bytes_.data(), 0, length_, to);
  }

 private:
  const Array &weight_;
  Array row_;
  int64_t length_;
  std::vector<std::byte> bytes_;
};

std::vector<double> load_vector(const Array &array, int64_t length) {
  std::vector<double> values(static_cast<size_t>(length), 0.0);
  if (array.data == nullptr || length == 0) return values;
  std::vector<std::byte> bytes(static_cast<size_t>(length * array.element()));
  gather(array, bytes.data());
  load_elements(*array.type->dtype, bytes.data(), 0, length, values.data());
  return values;
}

// The elements of an output, rounded, until all of them are known.
class Staged {
 public:
  explicit Staged(const Array &array) : array_(array) {
    bytes_.resize(static_cast<size_t>(count_of(array.shape) * array.element()));
  }
  void store(int64_t index, int64_t count, const double *from) {
    store_elements(dtype(), bytes_.data(), index, count, from);
  }
  void load(int64_t index, int64_t count, double *to) const {
    load_elements(dtype(), bytes_.data(), index, count, to);
  }
  void write() const { scatter(bytes_.data(), array_); }
  const char *dtype_name() const { return bn2d::dtype_name(dtype()); }

 private:
  DType dtype() const { return *array_.type->dtype; }
  const Array &array_;
  std::vector<std::byte> bytes_;
};

// -------------------------------------------------------------------------------------------------
// folding

class Folding {
 public:
  Folding(const Layer &layer, const Geometry &g, const std::vector<double> &scale,
          const std::vector<double> &shift)
      : layer_(layer),
        g_(g),
        scale_(scale),
        shift_(shift),
        weight_(layer.out_weight),
        bias_(layer.out_bias) {}

  Outcome run() {
    new_bias_ = load_vector(layer_.bias, g_.outputs);
    const bool adds_shift =
        layer_.side == Side::next &&
        std::any_of(shift_.begin(), shift_.end(), [](double s) { return s != 0; });
    if (adds_shift) check_shift(layer_, g_);
    scale_weight(adds_shift);
    if (layer_.side == Side::previous) scale_bias();
    stage_bias();
    // From here on nothing fails.
    weight_.write();
    bias_.write();
    return outcome_;
  }

 private:
  // Elements in double: 1 MiB, which fits the caches of a core.
  static constexpr int64_t kBlock = 1 << 17;

  int64_t group_of(int64_t row) const { return row / (g_.rows / layer_.groups); }
  // Channel of the first column of a row, where channels go by columns; else that of the whole row.
  int64_t first_channel(int64_t row) const {
    return g_.by_row ? row / g_.run : group_of(row) * g_.columns;
  }

  // Blocks of rows of one group: added up with the shift, scaled, rounded.
  void scale_weight(bool adds_shift) {
    const int64_t length = g_.row_length();
    if (length == 0 || g_.rows == 0) return;
    const int64_t in_group = g_.rows / layer_.groups,
                  most = std::clamp<int64_t>(kBlock / length, 1, in_group);
    std::vector<double> block(static_cast<size_t>(most * length)),
        stored(static_cast<size_t>(length));
    Rows rows(layer_.weight, g_);
    for (int64_t row = 0, count = 0; row < g_.rows; row += count) {
      count = std::min(most, (group_of(row) + 1) * in_group - row);
      for (int64_t i = 0; i < count; ++i) rows.load(row + i, block.data() + i * length);
      if (adds_shift) add_shift(row, count, block.data());
      for (int64_t i = 0; i < count; ++i)
        scale_row(row + i, block.data() + i * length, stored.data());
    }
  }

  // bias += weight * shift: of all inputs that an output reads. Row by row, because the routines of
  // OpenBLAS for matrices share buffers, which have no locks where OpenBLAS is built without
  // threads (Debian's libopenblas-serial): two threads in dgemv got wrong sums now and then. Those
  // for vectors have no buffers.
  //
  // In pieces: from 10,000 elements on, OpenBLAS adds on threads of its own. The bits would depend
  // on how many it has, a child of fork() would wait for threads that it does not have, and they
  // trap where the host has asked for traps.
  static constexpr int64_t kOnOneThread = 8192;
  template <class F>
  static void for_each_piece(int64_t length, const F &f) {
    for (int64_t j = 0; j < length; j += kOnOneThread)
      f(j, static_cast<blasint>(std::min(kOnOneThread, length - j)));
  }
  void add_shift(int64_t row, int64_t count, const double *block) {
    const int64_t length = g_.row_length();
    if (g_.by_row) {  // a transposed convolution of one tap: rows are inputs
      double *const outputs = new_bias_.data() + group_of(row) * g_.columns;
      for (int64_t i = 0; i < count; ++i)
        for_each_piece(length, [&](int64_t j, blasint count_of_piece) {
          cblas_daxpy(count_of_piece, shift_[static_cast<size_t>(row + i)], block + i * length + j,
                      1, outputs + j, 1);
        });
      return;
    }
    std::vector<double> shifts(static_cast<size_t>(length));
    for (int64_t j = 0; j < length; ++j)
      shifts[static_cast<size_t>(j)] =
          shift_[static_cast<size_t>(first_channel(row) + j / g_.taps)];
    for (int64_t i = 0; i < count; ++i)
      for_each_piece(length, [&](int64_t j, blasint count_of_piece) {
        new_bias_[static_cast<size_t>(row + i)] +=
            cblas_ddot(count_of_piece, block + i * length + j, 1, shifts.data() + j, 1);
      });
  }

  void scale_row(int64_t row, double *values, double *stored) {
    const int64_t length = g_.row_length();
    bool was_infinite = false;
    for (int64_t c = 0; c < g_.columns; ++c) {
      const double factor = scale_[static_cast<size_t>(first_channel(row) + (g_.by_row ? 0 : c))];
      was_infinite = was_infinite || std::isinf(factor);
      for (int64_t k = 0; k < g_.taps; ++k) {
        double &value = values[c * g_.taps + k];
        was_infinite = was_infinite || std::isinf(value);
        if (value != 0) outcome_.change = std::max(outcome_.change, std::fabs(factor - 1));
        value *= factor;
      }
    }
    weight_.store(row * length, length, values);
    weight_.load(row * length, length, stored);
    for (int64_t j = 0; j < length; ++j) {
      if (std::isinf(stored[j]) && !was_infinite) fail_range("weight", values[j], weight_);
      if (values[j] == 0 || !std::isfinite(stored[j])) continue;
      outcome_.rounding =
          std::max(outcome_.rounding, std::fabs(stored[j] - values[j]) / std::fabs(values[j]));
    }
  }

  void scale_bias() {
    const int64_t run = g_.by_row ? g_.run : 1;
    for (int64_t o = 0; o < g_.outputs; ++o) {
      const auto channel = static_cast<size_t>(o / run);
      double &value = new_bias_[static_cast<size_t>(o)];
      value = std::fma(value, scale_[channel], shift_[channel]);
    }
  }

  void stage_bias() {
    if (g_.outputs == 0) return;
    bias_.store(0, g_.outputs, new_bias_.data());
    std::vector<double> stored(static_cast<size_t>(g_.outputs));
    bias_.load(0, g_.outputs, stored.data());
    for (size_t o = 0; o < stored.size(); ++o)
      if (std::isinf(stored[o]) && std::isfinite(new_bias_[o]))
        fail_range("bias", new_bias_[o], bias_);
  }

  [[noreturn]] static void fail_range(const char *what, double value, const Staged &staged) {
    fail(Status::overflow, "a folded %s is %.9g, beyond the range of %s", what, value,
         staged.dtype_name());
  }

  const Layer &layer_;
  const Geometry &g_;
  const std::vector<double> &scale_, &shift_;
  Staged weight_, bias_;
  std::vector<double> new_bias_;
  Outcome outcome_;
};

}  // namespace

void check_apart(const char *name, const Array &written, const char *other_name,
                 const Array &other) {
  if (other.data == nullptr) return;
  if (begin_of(written) < end_of(other) && begin_of(other) < end_of(written))
    fail(Status::overlap, "%s at %p and %s at %p share memory", name,
         static_cast<void *>(written.data), other_name, static_cast<void *>(other.data));
}

Outcome fold(const Layer &layer, const std::vector<double> &scale,
             const std::vector<double> &shift) {
  const Geometry g = geometry_of(layer, channels_of(scale));
  check(layer, g);
  return Folding(layer, g, scale, shift).run();
}

}  // namespace bn2d::fold
