// What many calls draw from the input: handles, modules, records, shapes, dtypes, activations, ...
#include <cmath>
#include <limits>

#include "fuzz/machine.h"

namespace bn2d_fuzz {
namespace {

bool mixes(int32_t data, int32_t parameters) {
  return data == parameters || (parameters == BN2D_F32 && (data == BN2D_F16 || data == BN2D_BF16));
}

// Halves the longest extent but the channels until the elements fit.
void shrink_to(int64_t elements, Extents &shape) {
  while (bn2d_test::count_of(shape) > elements) {
    int64_t &longest = std::max(std::max(shape[0], shape[2]), shape[3]) == shape[0] ? shape[0]
                       : shape[2] > shape[3]                                        ? shape[2]
                                                                                    : shape[3];
    longest = longest / 2;
  }
}

}  // namespace

// Sometimes NULL, a dead handle or one of another kind.
template <class H>
H *Machine::spoil(H *handle, Verdict &verdict) {
  if (!in_.one_in(64)) return handle;
  const auto dead = [&](const auto &all) -> void * {
    return all.empty() ? nullptr : in_.one_of(all);
  };
  void *other = nullptr;
  switch (in_.below(3)) {
    case 0:
      break;
    case 1:
      if constexpr (std::is_same_v<H, bn2d_options>) other = dead(dead_options_);
      if constexpr (std::is_same_v<H, bn2d_module>) other = dead(dead_modules_);
      if constexpr (std::is_same_v<H, bn2d_tensor>) other = dead(dead_tensors_);
      if constexpr (std::is_same_v<H, bn2d_record>) other = dead(dead_records_);
      if constexpr (std::is_same_v<H, bn2d_statistics>) other = dead(dead_statistics_);
      break;
    default:
      for (const auto &module : modules_) {
        if (!module->alive()) continue;
        other = std::is_same_v<H, bn2d_module> ? nullptr : static_cast<void *>(module->handle);
        if (std::is_same_v<H, bn2d_module> && !module->tensors.empty())
          other = module->tensors[0].handle;
      }
      break;
  }
  verdict.must.add(other == nullptr ? BN2D_ERROR_INVALID_ARGUMENT : BN2D_ERROR_INVALID_HANDLE);
  return static_cast<H *>(other);
}
template bn2d_module *Machine::spoil(bn2d_module *, Verdict &);
template bn2d_record *Machine::spoil(bn2d_record *, Verdict &);
template bn2d_tensor *Machine::spoil(bn2d_tensor *, Verdict &);
template bn2d_options *Machine::spoil(bn2d_options *, Verdict &);
template bn2d_statistics *Machine::spoil(bn2d_statistics *, Verdict &);

size_t Machine::pick_module() {
  std::vector<size_t> alive;
  for (size_t i = 0; i < modules_.size(); ++i)
    if (modules_[i]->alive()) alive.push_back(i);
  if (alive.empty()) {
    bn2d_module *handle = nullptr;
    if (bn2d_module_create(3, nullptr, &handle) != BN2D_OK)
      throw Finding("module_create of the defaults failed");
    adopt(handle, 3, {});
    return modules_.size() - 1;
  }
  return in_.one_of(alive);
}

int Machine::pick_record() {
  if (records_.empty()) return -1;
  return static_cast<int>(in_.below(static_cast<int64_t>(records_.size())));
}

Extents Machine::choose_shape(int64_t channels) {
  Extents shape{1, channels, 1, 1};
  switch (large_ ? 8 : in_.below(8)) {
    case 6:
      shape[3] = 1 + in_.below(80);
      break;
    case 7:
      shape[0] = 1 + in_.below(40);
      break;
    case 8:
      shape[0] = 1 + in_.below(in_.coin() ? 3 : 64);
      shape[2] = 1 + in_.below(128);
      shape[3] = 1 + in_.below(256);
      break;
    default:
      shape[0] = 1 + in_.below(4);
      shape[2] = 1 + in_.below(5);
      shape[3] = 1 + in_.below(9);
      break;
  }
  if (in_.one_in(32)) shape[in_.pick<size_t>({0, 2, 3})] = 0;
  if (in_.one_in(48)) shape = {1, channels, 1, 1};
  shrink_to(static_cast<int64_t>(memory_.bank_bytes()) / 8, shape);
  return shape;
}

int32_t Machine::choose_data_dtype(int32_t parameters, Verdict &verdict) {
  int32_t data = parameters;
  if (parameters == BN2D_F32 && in_.one_in(3)) data = in_.pick<int32_t>({BN2D_F16, BN2D_BF16});
  if (in_.one_in(60)) data = static_cast<int32_t>(1 + in_.below(4));
  if (!mixes(data, parameters)) verdict.must.add(BN2D_ERROR_DTYPE);
  return data;
}

oracle::Activation Machine::choose_activation(int32_t data, int32_t &number, double &slope,
                                              Verdict &verdict) {
  number = static_cast<int32_t>(in_.below_or_later(3, 171, 6));
  slope = in_.pick({0.25, 0.01, -0.5, 0.0, 1.5, 1.0, -0.0, 1e-40});
  if (number == BN2D_ACT_CLAMP) slope = slope > 0 ? slope : 6;
  if (in_.one_in(40)) slope = in_.pick({nan, infinity, -infinity, 1e39, -1e300});
  if (in_.one_in(80)) number = in_.pick<int32_t>({9, -1, 99, INT32_MAX, INT32_MIN});
  if (number < 0 || number > BN2D_ACT_SIGMOID) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (number == BN2D_ACT_LEAKY_RELU) {
    if (!std::isfinite(slope)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    // Infinite in the arithmetic of the data.
    if (std::isfinite(slope) && std::fabs(slope) > std::numeric_limits<float>::max())
      (data == BN2D_F64 ? verdict.may : verdict.must).add(BN2D_ERROR_INVALID_ARGUMENT);
  }
  const double most =
      data == BN2D_F64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  if (number == BN2D_ACT_CLAMP && !(slope > 0 && slope <= most))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (!verdict.must.empty()) return {};
  return {static_cast<oracle::Activation::Kind>(number), slope};
}

double Machine::choose_momentum(Verdict &verdict) {
  const double momentum =
      in_.pick({0.1, 0.0, 1.0, 0.5, 1e-300, -0.0, 1.0000001, -0.1, nan, infinity});
  verdict.fails_if(!(momentum >= 0 && momentum <= 1));
  return momentum;
}

int64_t Machine::choose_length(int64_t right, Verdict &verdict, int64_t times) {
  if (!in_.one_in(times)) return right;
  verdict.must.add(BN2D_ERROR_SHAPE);
  return right + in_.pick<int64_t>({-1, 1, -right, INT64_MAX - 400});
}

}  // namespace bn2d_fuzz
