#include "handle.h"

void bn2d_tensor::clear() {
  value.reset();
  bn2d::capi::disown(std::exchange(gradient, nullptr));
}

void bn2d_module::clear() {
  for (bn2d_tensor *&tensor : tensors) bn2d::capi::disown(std::exchange(tensor, nullptr));
  value.reset();
}

void bn2d_record::clear() {
  if (pool && value) pool->give_back(std::move(value));
  value.reset();
  pool.reset();
}
