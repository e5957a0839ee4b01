// What can be wrong with the tensors of a call. Everything is checked before anything is written.
#include <cinttypes>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "base/error.h"
#include "ops/operations.h"
#include "tensor/overlap.h"

namespace bn2d {
namespace {

void check_fused(const Fused &fused) {
  const int32_t activation = static_cast<int32_t>(fused.activation);
  if (activation < 0 || activation > static_cast<int32_t>(Activation::leaky_relu))
    fail(Status::invalid_argument, "activation is %" PRId32 ", known are 0 to 2", activation);
  if (fused.activation == Activation::leaky_relu && !std::isfinite(fused.slope))
    fail(Status::invalid_argument, "slope of leaky relu is %g, must be finite", fused.slope);
}

void check_read(const char *what, const View &view, const char *leading_name, const View &leading) {
  check_same_shape(what, view, leading_name, leading);
  check_same_dtype(what, view, leading_name, leading);
  check_layout(what, view);
}

void check_written(const char *what, const View &view, const char *leading_name, const View &leading) {
  check_read(what, view, leading_name, leading);
  if (overlaps_itself(view))
    fail(Status::layout,
         "%s: strides (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 ") make elements of the output share memory",
         what, view.stride.n, view.stride.c, view.stride.h, view.stride.w);
}

void check_leading(const char *what, const View &view) {
  check_extents(what, view.size);
  if (!is_floating(view.dtype))
    fail(Status::dtype, "%s: dtype is %s, must be float32, float64, float16 or bfloat16", what, dtype_name(view.dtype));
  check_layout(what, view);
}

// The side of the activation comes from x, from y or from a mask.
void check_side(const Fused &fused, bool side_of_x, const View &y, const uint8_t *mask, const char *leading_name,
                const View &leading) {
  check_fused(fused);
  if (fused.activation == Activation::none || side_of_x) return;
  if (mask == nullptr && y.exists()) check_read("y", y, leading_name, leading);
  if (leading.size.numel() == 0) return;
  if (mask == nullptr && !y.exists())
    fail(Status::invalid_argument, "y and mask are both NULL, the activation's gradient needs one of them");
  if (mask == nullptr && fused.activation == Activation::leaky_relu && fused.slope < 0)
    fail(Status::invalid_argument, "mask is NULL, and y cannot tell the side of the activation with a slope of %g",
         fused.slope);
}

}  // namespace

void check_same_shape(const char *what, const View &view, const char *leading_name, const View &leading) {
  if (view.size == leading.size) return;
  const Extents &a = view.size, &b = leading.size;
  fail(Status::shape,
       "%s has shape (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "), %s has (%" PRId64 ", %" PRId64 ", %" PRId64
       ", %" PRId64 ")",
       what, a.n, a.c, a.h, a.w, leading_name, b.n, b.c, b.h, b.w);
}

void check_same_dtype(const char *what, const View &view, const char *leading_name, const View &leading) {
  if (view.dtype != leading.dtype)
    fail(Status::dtype, "%s is %s, %s is %s", what, dtype_name(view.dtype), leading_name, dtype_name(leading.dtype));
}

void check_no_overlap(const char *what, const View &output, const char *other_name, const View &other,
                      bool exact_allowed) {
  if (!output.exists() || !other.exists()) return;
  if (exact_allowed && same_elements(output, other)) return;
  if (share_memory(output, other))
    fail(Status::overlap, "%s at %p and %s at %p share memory%s", what, static_cast<void *>(output.data), other_name,
         static_cast<void *>(other.data), exact_allowed ? " without being exactly the same elements" : "");
}

void check(const ForwardCall &call) {
  check_leading("x", call.x);
  check_fused(call.fused);
  if (call.z.exists()) check_read("z", call.z, "x", call.x);
  check_written("y", call.y, "x", call.x);
  const bool keeps_x = call.keeps_x && call.batch_statistics;
  if (keeps_x && same_elements(call.y, call.x) && call.x.size.numel() > 0)
    fail(Status::overlap, "y and x are both at %p, but backward on batch statistics needs x unchanged",
         static_cast<void *>(call.x.data));
  check_no_overlap("y", call.y, "x", call.x, true);
  check_no_overlap("y", call.y, "z", call.z, true);
  if (call.batch_statistics && call.x.size.c > 0 && call.x.size.per_channel() == 1)
    fail(Status::too_few_values,
         "batch statistics need more than 1 value per channel, got shape (%" PRId64 ", %" PRId64 ", %" PRId64
         ", %" PRId64 ")",
         call.x.size.n, call.x.size.c, call.x.size.h, call.x.size.w);
}

void check(const BackwardCall &call) {
  check_leading("dy", call.dy);
  if (call.x.exists()) check_read("x", call.x, "dy", call.dy);
  check_side(call.fused, call.side_of_x(), call.y, call.mask, "dy", call.dy);
  for (const auto &[name, view] : {std::pair<const char *, const View &>{"dx", call.dx}, {"dz", call.dz}}) {
    if (!view.exists()) continue;
    check_written(name, view, "dy", call.dy);
    check_no_overlap(name, view, "dy", call.dy, true);
    if (call.needs_x()) check_no_overlap(name, view, "x", call.x, false);
    if (call.fused.activation != Activation::none && call.mask == nullptr && !call.side_of_x())
      check_no_overlap(name, view, "y", call.y, false);
  }
  check_no_overlap("dx", call.dx, "dz", call.dz, false);
}

void check(const DoubleBackwardCall &call) {
  check_leading("dy", call.dy);
  check_read("x", call.x, "dy", call.dy);
  if (call.ddx.exists()) check_read("ddx", call.ddx, "dy", call.dy);
  check_side(call.fused, call.side_of_x(), call.y, call.mask, "dy", call.dy);
  for (const auto &[name, view] : {std::pair<const char *, const View &>{"ddy", call.ddy}, {"dx", call.dx}}) {
    if (!view.exists()) continue;
    check_written(name, view, "dy", call.dy);
    check_no_overlap(name, view, "dy", call.dy, &view == &call.ddy);
    check_no_overlap(name, view, "x", call.x, false);
    check_no_overlap(name, view, "ddx", call.ddx, false);
    if (call.fused.activation != Activation::none && call.mask == nullptr && !call.side_of_x())
      check_no_overlap(name, view, "y", call.y, false);
  }
  check_no_overlap("ddy", call.ddy, "dx", call.dx, false);
}

}  // namespace bn2d
