// A call once more, with other threads and other stores.
#pragma once
#include <cmath>

#include "fuzz/machine.h"

namespace bn2d_fuzz {

// Whether two elements have the same bits, or are both NaN, whose sign says nothing.
inline bool same_element(int32_t dtype, uint64_t a, uint64_t b) {
  return a == b || (dtype != 0 && dtype != BN2D_I64 && std::isnan(numerics::decode(dtype, a)) &&
                    std::isnan(numerics::decode(dtype, b)));
}

// Once more from the same state, with other threads and other stores: the same bits.
template <class Again>
void Machine::repeat(const std::string &what, const std::vector<const Operand *> &outputs,
                     Again call) {
  if (!in_.one_in(6)) return;
  Memory::Image after;
  memory_.save(after);
  std::vector<std::vector<uint64_t>> results;
  std::vector<const Footprint *> footprints;
  for (const Operand *output : outputs) {
    results.push_back(place_.bits(*output));
    footprints.push_back(&output->footprint);
  }
  std::vector<std::vector<unsigned char>> tensors;
  for (const Before::Blob &blob : before_.blobs) {
    TensorModel &tensor = modules_[blob.module]->tensors[blob.tensor];
    tensors.emplace_back(tensor.data, tensor.data + tensor.bytes);
    std::memcpy(tensor.data, blob.bytes.data(), tensor.bytes);
  }
  memory_.restore(before_.memory);
  const int32_t threads = bn2d_get_num_threads();
  const int64_t threshold = bn2d_get_streaming_threshold();
  bn2d_set_num_threads(in_.pick({1, 2, 3, 8}));
  bn2d_set_streaming_threshold(in_.pick<int64_t>({0, INT64_MAX, -1}));
  const int32_t status = call();
  bn2d_set_num_threads(threads);
  bn2d_set_streaming_threshold(threshold);
  if (status != BN2D_OK) found(what, std::string("once more gives ") + bn2d_status_name(status));
  if (memory_.stray(after, footprints) >= 0) found(what, "once more writes somewhere else");
  for (size_t k = 0; k < outputs.size(); ++k) {
    const std::vector<uint64_t> now = place_.bits(*outputs[k]);
    for (size_t i = 0; i < now.size(); ++i)
      if (!same_element(outputs[k]->dtype, now[i], results[k][i]))
        found(what, "once more gives other bits of " + outputs[k]->name);
  }
  for (size_t k = 0; k < tensors.size(); ++k) {
    const TensorModel &tensor = modules_[before_.blobs[k].module]->tensors[before_.blobs[k].tensor];
    const auto size = static_cast<size_t>(bn2d_dtype_size(tensor.dtype));
    for (size_t i = 0; i < tensor.bytes; i += size) {
      if (!same_element(tensor.dtype, numerics::read_bits(tensor.dtype, tensor.data + i),
                        numerics::read_bits(tensor.dtype, &tensors[k][i])))
        found(what, "once more gives other bits of " + tensor.name);
    }
  }
}

}  // namespace bn2d_fuzz
