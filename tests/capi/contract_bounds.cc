// Not one byte beside a tensor is read or written: every tensor lies right at a forbidden page, at
// its end or at its start. A fault here ends the program with SIGSEGV.
#include <cstring>

#include "support/contract_failures.h"
#include "support/contract_guard.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"
#include "support/numerics_values.h"
#include "support/streaming.h"

using namespace bn2d_test;

namespace {

// Small values of a dtype, written element by element.
void fill(const Guarded &memory, int32_t dtype, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; ++i) {
    const double value = static_cast<double>((i * 7 + seed) % 13) * 0.5 - 3;
    numerics::write_element(dtype, memory.as<char>() + i * numerics::size_of(dtype), value);
  }
}

// All operations over one shape and layout, with a mask or with y, in training and in eval. The
// number of failed calls.
int use(int32_t dtype, const Extents &shape, bool nhwc, bool at_end) {
  Settings settings;
  settings.dtype = dtype;
  const Module module = make_module(shape[1], settings);
  const auto count = static_cast<size_t>(count_of(shape));
  const size_t bytes = count * bn2d_dtype_size(dtype);
  const Extents strides = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
  const Guarded x(bytes, at_end), z(bytes, at_end), y(bytes, at_end), dy(bytes, at_end),
      dx(bytes, at_end), dz(bytes, at_end), ddx(bytes, at_end), ddy(bytes, at_end);
  unsigned seed = 0;
  for (const Guarded *memory : {&x, &z, &dy, &ddx}) fill(*memory, dtype, count, seed += 3);
  const auto view = [&](const Guarded &memory) {
    return View(memory.data(), dtype, shape, strides);
  };
  int failed = 0;
  for (const bool training : {true, false}) {
    failed += bn2d_module_train(module.get(), training) != BN2D_OK;
    for (const double slope : {0.5, -0.5}) {
      bn2d_record *raw = nullptr;
      failed += bn2d_forward_act(module.get(), view(x), view(z), BN2D_ACT_LEAKY_RELU, slope,
                                 view(y), &raw) != BN2D_OK;
      const Record record(raw);
      failed += bn2d_backward(module.get(), raw, view(dy), view(dx), view(dz)) != BN2D_OK;
      failed += bn2d_double_backward(module.get(), raw, view(dy), view(ddx), nullptr, nullptr,
                                     view(ddy), view(dx)) != BN2D_OK;
    }
  }
  // Without a module, with every per-channel array at the edge, too.
  const auto channels = static_cast<size_t>(shape[1]);
  const size_t few = channels * bn2d_dtype_size(dtype), doubles = channels * sizeof(double);
  const Guarded weight(few, at_end), bias(few, at_end), mean(few, at_end), var(few, at_end),
      dweight(few, at_end), dbias(few, at_end), ddweight(few, at_end), ddbias(few, at_end),
      saved_mean(doubles, at_end), saved_invstd(doubles, at_end);
  for (const Guarded *memory : {&weight, &bias, &mean, &var, &ddweight, &ddbias})
    fill(*memory, dtype, channels, 9);
  uint64_t mask_bytes = 0;
  failed += bn2d_mask_nbytes(shape[0], shape[1], shape[2], shape[3], &mask_bytes) != BN2D_OK;
  const Guarded mask(mask_bytes, at_end);
  failed += bn2d_batch_norm_forward(view(x), view(z), view(y), dtype, weight.data(), bias.data(),
                                    mean.data(), var.data(), 1, 0.1, 1e-5, 0, BN2D_ACT_RELU, 0,
                                    mask.as<uint8_t>(), saved_mean.as<double>(),
                                    saved_invstd.as<double>()) != BN2D_OK;
  failed +=
      bn2d_batch_norm_backward(view(x), view(dy), nullptr, mask.as<uint8_t>(), dtype, weight.data(),
                               saved_mean.as<double>(), saved_invstd.as<double>(), 1, BN2D_ACT_RELU,
                               0, 0, view(dx), view(dz), dweight.data(), dbias.data()) != BN2D_OK;
  failed += bn2d_batch_norm_double_backward(
                view(x), view(dy), nullptr, mask.as<uint8_t>(), dtype, weight.data(),
                saved_mean.as<double>(), saved_invstd.as<double>(), 1, BN2D_ACT_RELU, 0, view(ddx),
                ddweight.data(), ddbias.data(), 0, view(ddy), view(dx), dweight.data()) != BN2D_OK;
  return failed;
}

}  // namespace

TEST_CASE("bounds: nothing beside a tensor is touched", "[bounds]") {
  // Catches a vector load or store over the end of a row, a plane or a mask, and an aligned one
  // before its start.
  int failed = 0;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const bool nhwc : {false, true}) {
      for (const bool at_end : {true, false}) {
        for (int64_t width = 1; width <= 67; width += width < 20 ? 1 : 5) {
          failed += use(dtype, {2, 3, 1, width}, nhwc, at_end);
          failed += use(dtype, {2, width, 1, 3}, nhwc, at_end);  // channels innermost in NHWC
          failed += use(dtype, {3, 2, 5, width}, nhwc, at_end);
        }
        failed += use(dtype, {2, 5, 33, 37}, nhwc, at_end);
        failed += use(dtype, {2, 1, 150, 151}, nhwc, at_end);
      }
    }
  }
  CHECK(failed == 0);
}

TEST_CASE("bounds: also with streaming stores", "[bounds]") {
  // Catches a streamed vector that is aligned down or rounded up.
  const numerics::Streaming streaming(0);
  int failed = 0;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const bool nhwc : {false, true}) {
      for (const bool at_end : {true, false}) {
        for (const int64_t width : {1, 7, 16, 31, 64, 100, 257})
          failed += use(dtype, {2, 3, 5, width}, nhwc, at_end);
      }
    }
  }
  CHECK(failed == 0);
}
