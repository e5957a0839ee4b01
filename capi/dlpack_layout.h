// The structs of DLPack that we hand out, with its names and its frozen memory layout
// (dlpack.h 1.x). Written down here, so that the library needs no header of DLPack; a test compares
// them with it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "bn2d/bn2d.h"

struct DLManagedTensor {
  bn2d_view dl_tensor;
  void *manager_ctx;
  void (*deleter)(DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
  uint32_t version_major, version_minor;
  void *manager_ctx;
  void (*deleter)(DLManagedTensorVersioned *self);
  uint64_t flags;
  bn2d_view dl_tensor;
};

static_assert(sizeof(bn2d_view) == 48 && offsetof(bn2d_view, ndim) == 16 &&
              offsetof(bn2d_view, dtype_code) == 20 && offsetof(bn2d_view, shape) == 24 &&
              offsetof(bn2d_view, strides) == 32 && offsetof(bn2d_view, byte_offset) == 40);
static_assert(offsetof(DLManagedTensor, manager_ctx) == 48 &&
              offsetof(DLManagedTensor, deleter) == 56);
static_assert(offsetof(DLManagedTensorVersioned, manager_ctx) == 8 &&
              offsetof(DLManagedTensorVersioned, flags) == 24 &&
              offsetof(DLManagedTensorVersioned, dl_tensor) == 32);
