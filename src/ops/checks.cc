// What can be wrong with the tensors of a call. Everything is checked before anything is written.
#include <cinttypes>
#include <limits>

#include "base/error.h"
#include "ops/operations.h"
#include "tensor/overlap.h"

namespace bn2d {
namespace {

const char *name_of(const Fused &fused) {
  static constexpr const char *kNames[] = {"none",      "relu", "leaky relu", "relu6",  "clamp",
                                           "hardswish", "silu", "gelu",       "sigmoid"};
  static_assert(sizeof kNames / sizeof *kNames ==
                static_cast<size_t>(kernels::kLastActivation) + 1);
  return kNames[static_cast<size_t>(fused.activation)];
}

// Float data are computed in float, whose range the slope has to fit, too: a bound that float
// rounds to 0 would make everything 0.
void check_fused(const Fused &fused, DType dtype) {
  const int32_t activation = static_cast<int32_t>(fused.activation);
  constexpr auto kLast = static_cast<int32_t>(kernels::kLastActivation);
  if (activation < 0 || activation > kLast)
    fail(Status::invalid_argument,
         "activation is %" PRId32 ", known are 0 (none) to %" PRId32 " (sigmoid)", activation,
         kLast);
  using Double = std::numeric_limits<double>;
  using Float = std::numeric_limits<float>;
  const bool is_double = dtype == DType::f64;
  const double most = is_double ? Double::max() : Float::max(),
               least = is_double ? Double::denorm_min() : Float::denorm_min();
  const bool is_clamp = fused.activation == Activation::clamp;
  if (!is_clamp && fused.activation != Activation::leaky_relu) return;
  const double lowest = is_clamp ? least : -most;
  if (!(fused.slope >= lowest && fused.slope <= most))
    fail(Status::invalid_argument, "slope of %s is %.9g, must be from %.9g to %.9g for %s data",
         name_of(fused), fused.slope, lowest, most, dtype_name(dtype));
}

void check_read(const char *what, const View &view, const char *leading_name, const View &leading) {
  check_same_shape(what, view, leading_name, leading);
  check_same_dtype(what, view, leading_name, leading);
  check_layout(what, view);
}

void check_written(const char *what, const View &view, const char *leading_name,
                   const View &leading) {
  check_read(what, view, leading_name, leading);
  if (overlaps_itself(view))
    fail(Status::layout,
         "%s: strides (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
         ")%s make elements of the output share memory",
         what, view.stride.n, view.stride.c, view.stride.h, view.stride.w,
         view.channel_block == 0 ? "" : " and those of the blocks");
}

void check_leading(const char *what, const View &view) {
  check_extents(what, view.size);
  check_layout(what, view);
}

void check_no_mask(const Fused &fused, const uint8_t *mask) {
  if (fused.is_pointwise() && mask != nullptr)
    fail(Status::invalid_argument, "mask is given, but %s has no two sides", name_of(fused));
}

// The side of the activation comes from x, from y or from a mask.
void check_side(const Fused &fused, bool side_of_x, const View &y, const uint8_t *mask,
                const char *leading_name, const View &leading) {
  if (!fused.has_sides() || side_of_x) return;
  if (mask == nullptr && y.exists()) check_read("y", y, leading_name, leading);
  if (leading.size.numel() == 0) return;
  if (mask == nullptr && !y.exists())
    fail(Status::invalid_argument,
         "y and mask are both NULL, the activation's gradient needs one of them");
  if (mask == nullptr && fused.activation == Activation::leaky_relu && fused.slope < 0)
    fail(Status::invalid_argument,
         "mask is NULL, and y cannot tell the side of the activation with a slope of %g",
         fused.slope);
}

void check_values(const ForwardCall &call) {
  const Extents &size = call.x.size;
  const int64_t rest = call.sets.rest(size),
                samples = rest != 0 ? rest : call.sets.of(size).samples;
  if (size.c == 0 || samples * call.sets.channels * size.plane() != 1 || call.least_values <= 1)
    return;
  if (call.sets.is_all(size))
    fail(Status::too_few_values,
         "batch statistics need more than 1 value per channel, got shape (%" PRId64 ", %" PRId64
         ", %" PRId64 ", %" PRId64 ")",
         size.n, size.c, size.h, size.w);
  fail(Status::too_few_values,
       "statistics of %" PRId64 " sample(s) need more than 1 value per channel, got shape (%" PRId64
       ", %" PRId64 ", %" PRId64 ", %" PRId64 ")",
       samples, size.n, size.c, size.h, size.w);
}

// The argument of a pointwise activation is made again, of bias and z, too.
template <class Call>
void check_argument(const Call &call, const char *backward) {
  if (!call.fused.is_pointwise()) return;
  if (call.saved.bias == nullptr && !call.knows_bias)
    fail(Status::invalid_argument,
         "activation is %s, whose backward needs z and bias: bn2d_batch_norm_%s_act and "
         "bn2d_group_norm_%s_act take them",
         name_of(call.fused), backward, backward);
  check_no_mask(call.fused, call.mask);
  if (call.z.exists()) check_read("z", call.z, "dy", call.dy);
}

// The memory of the tensors and arrays of a call: first what it reads, then what it writes. What is
// only read may share memory; what is written shares none with anything else, or the result would
// depend on who comes first. Most tensors are far apart, which a comparison of addresses tells;
// only where the ranges meet is the exact question asked.
class Footprint {
 public:
  // Of sets that are samples, a tensor without elements has none.
  Footprint(const Extents &size, const SetShape &sets)
      : size_(size), sets_(size.numel() == 0 && sets.samples != 0 ? 0 : sets.count(size)) {}

  void reads(const char *name, const View &view) { add_view(name, view, false); }
  void reads(const char *name, const ChannelArray &array) { add_array(name, array, false); }
  // So many doubles for each channel.
  void reads(const char *name, const double *array, int64_t count) {
    add_elements(name, array, count * size_.c, 8, false);
  }
  void reads_of_sets(const char *name, const double *array) {
    add_elements(name, array, sets_, 8, false);
  }
  void reads_mask(const uint8_t *mask) { add_elements("mask", mask, mask_bytes(), 1, false); }

  // `exact`, `exact_too`: tensors that it may be, element by element.
  void writes(const char *name, const View &view, const View *exact = nullptr,
              const View *exact_too = nullptr) {
    exact_ = exact;
    exact_too_ = exact_too;
    add_view(name, view, true);
  }
  void writes(const char *name, const ChannelArray &array) { add_array(name, array, true); }
  void writes(const char *name, const double *array, int64_t count) {
    add_elements(name, array, count * size_.c, 8, true);
  }
  void writes_of_sets(const char *name, const double *array) {
    add_elements(name, array, sets_, 8, true);
  }
  void writes_counter(const int64_t *counter) {
    add_elements("num_batches_tracked", counter, 1, 8, true);
  }
  void writes_mask(const uint8_t *mask) { add_elements("mask", mask, mask_bytes(), 1, true); }

 private:
  struct Region {
    const char *name;
    const View *view;  // NULL: all bytes of the range
    uintptr_t begin, end;
  };

  int64_t mask_bytes() const { return size_.n * size_.c * mask_plane_bytes(size_.plane()); }

  void add_view(const char *name, const View &view, bool is_written) {
    if (view.data != nullptr) add(name, &view, view.data, span_bytes(view), is_written);
  }
  void add_array(const char *name, const ChannelArray &array, bool is_written) {
    add_elements(name, array.data, size_.c, dtype_size(array.dtype), is_written);
  }
  // These two are not inlined at each of their many calls.
  __attribute__((noinline)) void add_elements(const char *name, const void *data, int64_t count,
                                              int64_t element, bool is_written) {
    if (data == nullptr) return;
    int64_t bytes;  // an empty batch may have 2^60 channels: more bytes than there are addresses
    if (__builtin_mul_overflow(count, element, &bytes)) bytes = std::numeric_limits<int64_t>::max();
    check_array(name, data, bytes, element);
    add(name, nullptr, data, bytes, is_written);
  }
  __attribute__((noinline)) void add(const char *name, const View *view, const void *data,
                                     int64_t bytes, bool is_written) {
    const auto begin = reinterpret_cast<uintptr_t>(data),
               end = begin + static_cast<uintptr_t>(bytes);
    if (begin == end) return;
    Region &region = regions_[count_];
    region.name = name;
    region.view = view;
    region.begin = begin;
    region.end = end;
    for (int i = 0; is_written && i < count_; ++i)
      if (begin < regions_[i].end && regions_[i].begin < end) check_apart(region, regions_[i]);
    ++count_;
  }

  __attribute__((noinline, cold)) void check_apart(const Region &written,
                                                   const Region &other) const {
    const bool may_be_exact = written.view != nullptr && other.view != nullptr &&
                              (other.view == exact_ || other.view == exact_too_);
    if (may_be_exact && same_elements(*written.view, *other.view)) return;
    if (share(written, other))
      fail(Status::overlap, "%s at %p and %s at %p share memory%s", written.name,
           reinterpret_cast<void *>(written.begin), other.name,
           reinterpret_cast<void *>(other.begin),
           may_be_exact ? " without being exactly the same elements" : "");
  }
  static bool share(const Region &a, const Region &b) {
    if (a.view != nullptr && b.view != nullptr) return share_memory(*a.view, *b.view);
    if (a.view != nullptr) return share_memory(*a.view, b.begin, b.end);
    if (b.view != nullptr) return share_memory(*b.view, a.begin, a.end);
    return true;
  }

  const Extents &size_;
  const int64_t sets_;
  const View *exact_ = nullptr, *exact_too_ = nullptr;  // of the tensor that is written
  int count_ = 0;
  Region regions_[18];  // double backward has as many
};

void check_memory(const ForwardCall &call) {
  Footprint memory(call.x.size, call.sets);
  memory.reads("x", call.x);
  memory.reads("z", call.z);
  memory.reads("weight", call.weight);
  memory.reads("bias", call.bias);
  if (!call.batch_statistics) {
    memory.reads("running_mean", call.running_mean);
    memory.reads("running_var", call.running_var);
  }
  memory.writes("y", call.y, &call.x, &call.z);
  if (call.batch_statistics) {
    memory.writes("running_mean", call.running_mean);
    memory.writes("running_var", call.running_var);
  }
  memory.writes_counter(call.counter);
  memory.writes_mask(call.mask);
  memory.writes_of_sets("saved_mean", call.saved.mean);
  memory.writes_of_sets("saved_invstd", call.saved.invstd);
}

// What both backward passes read beside their tensors.
template <class Call>
void add_side_and_statistics(const Call &call, Footprint &memory) {
  if (call.reads_y()) memory.reads("y", call.y);
  memory.reads_mask(call.mask);
  memory.reads("weight", call.weight);
  memory.reads_of_sets("saved_mean", call.saved.mean);
  memory.reads_of_sets("saved_invstd", call.saved.invstd);
}

void check_memory(const BackwardCall &call) {
  Footprint memory(call.dy.size, call.sets);
  memory.reads("dy", call.dy);
  if (call.needs_x()) memory.reads("x", call.x);
  memory.reads("z", call.z);
  memory.reads("bias", call.bias);
  memory.reads("sums", call.given_sums, 2);
  add_side_and_statistics(call, memory);
  memory.writes("dx", call.dx, &call.dy);
  memory.writes("dz", call.dz, &call.dy);
  memory.writes("dweight", call.dweight);
  memory.writes("dbias", call.dbias);
  memory.writes("sums", call.sums, 2);
}

void check_memory(const DoubleBackwardCall &call) {
  Footprint memory(call.dy.size, call.sets);
  memory.reads("dy", call.dy);
  memory.reads("x", call.x);
  memory.reads("z", call.z);
  memory.reads("bias", call.bias);
  memory.reads("ddx", call.ddx);
  memory.reads("ddz", call.ddz);
  add_side_and_statistics(call, memory);
  memory.reads("ddweight", call.ddweight);
  memory.reads("ddbias", call.ddbias);
  memory.writes("ddy", call.ddy, &call.dy);
  memory.writes("dx", call.dx);
  memory.writes("dz", call.dz);
  memory.writes("dweight", call.dweight);
  memory.writes("dbias", call.dbias);
}

}  // namespace

void check_same_shape(const char *what, const View &view, const char *leading_name,
                      const View &leading) {
  if (view.size == leading.size) return;
  const Extents &a = view.size, &b = leading.size;
  fail(Status::shape,
       "%s has shape (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "), %s has (%" PRId64
       ", %" PRId64 ", %" PRId64 ", %" PRId64 ")",
       what, a.n, a.c, a.h, a.w, leading_name, b.n, b.c, b.h, b.w);
}

void check_same_dtype(const char *what, const View &view, const char *leading_name,
                      const View &leading) {
  if (view.dtype != leading.dtype)
    fail(Status::dtype, "%s is %s, %s is %s", what, dtype_name(view.dtype), leading_name,
         dtype_name(leading.dtype));
}

namespace {

// What backward reads again stays as it is.
void check_kept(const ForwardCall &call) {
  const bool is_pointwise = call.fused.is_pointwise();
  if (!call.keeps_x || call.x.size.numel() == 0) return;
  if ((call.batch_statistics || is_pointwise) && same_elements(call.y, call.x))
    fail(Status::overlap, "y and x are both at %p, but backward %s needs x unchanged",
         static_cast<void *>(call.x.data),
         is_pointwise ? "through this activation" : "on batch statistics");
  if (is_pointwise && call.z.exists() && same_elements(call.y, call.z))
    fail(Status::overlap,
         "y and z are both at %p, but backward through this activation needs z unchanged",
         static_cast<void *>(call.z.data));
}

}  // namespace

void check(const ForwardCall &call) {
  check_leading("x", call.x);
  check_fused(call.fused, call.x.dtype);
  if (call.z.exists()) check_read("z", call.z, "x", call.x);
  if (call.y.exists()) check_written("y", call.y, "x", call.x);
  check_no_mask(call.fused, call.mask);
  check_kept(call);
  check_memory(call);
  if (call.batch_statistics && !call.given.exists() && !call.moments) check_values(call);
}

void check(const BackwardCall &call) {
  check_leading("dy", call.dy);
  check_fused(call.fused, call.dy.dtype);
  if (call.x.exists()) check_read("x", call.x, "dy", call.dy);
  check_argument(call, "backward");
  check_side(call.fused, call.side_of_x(), call.y, call.mask, "dy", call.dy);
  if (call.dx.exists()) check_written("dx", call.dx, "dy", call.dy);
  if (call.dz.exists()) check_written("dz", call.dz, "dy", call.dy);
  check_memory(call);
}

void check(const DoubleBackwardCall &call) {
  check_leading("dy", call.dy);
  check_fused(call.fused, call.dy.dtype);
  check_read("x", call.x, "dy", call.dy);
  if (call.ddx.exists()) check_read("ddx", call.ddx, "dy", call.dy);
  if (call.ddz.exists()) check_read("ddz", call.ddz, "dy", call.dy);
  check_argument(call, "double_backward");
  check_side(call.fused, call.side_of_x(), call.y, call.mask, "dy", call.dy);
  if (call.ddy.exists()) check_written("ddy", call.ddy, "dy", call.dy);
  if (call.dx.exists()) check_written("dx", call.dx, "dy", call.dy);
  if (call.dz.exists()) check_written("dz", call.dz, "dy", call.dy);
  check_memory(call);
}

}  // namespace bn2d
