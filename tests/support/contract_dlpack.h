// The structs of DLPack 1.x, as the consumer of an export sees them. Written down here, because the
// tests must build where no dlpack.h is installed; contract_dlpack.cc compares them with the real
// header where there is one.
#pragma once
#include <cstdint>

namespace bn2d_test {

struct DLTensorMirror {
  void *data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
};

inline constexpr uint64_t kDLPackReadOnly = 1;
inline constexpr uint64_t kDLPackCopied = 2;

}  // namespace bn2d_test

struct DLManagedTensor {
  bn2d_test::DLTensorMirror dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *self);
  uint64_t flags;
  bn2d_test::DLTensorMirror dl_tensor;
};
