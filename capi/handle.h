// The kinds of handles of bn2d.h. Their tags are letters, lowest byte first: "bn2o" of options.
#pragma once
#include <memory>

#include "bn2d/bn2d.h"
#include "module/batch_norm_base.h"
#include "slots.h"

struct bn2d_options : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x6F32'6E62;
  static constexpr const char *kName = "options";
  bn2d::Options value;
  void clear() { value = bn2d::Options(); }
};
struct bn2d_tensor : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x7432'6E62;
  static constexpr const char *kName = "tensor";
  std::shared_ptr<bn2d::Tensor> value;
  bn2d_tensor *gradient = nullptr;  // owned
  void clear();
};
struct bn2d_module : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x6D32'6E62;
  static constexpr const char *kName = "module";
  std::shared_ptr<bn2d::BatchNormBase> value;
  bn2d_tensor *tensors[5] = {};  // owned; in the order of value->tensors()
  void clear();
};
struct bn2d_statistics : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x5332'6E62;
  static constexpr const char *kName = "statistics";
  std::unique_ptr<bn2d::Statistics> value;
  void clear() { value.reset(); }
};
struct bn2d_record : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x7232'6E62;
  static constexpr const char *kName = "record";
  std::unique_ptr<bn2d::Record> value;
  std::shared_ptr<bn2d::RecordPool> pool;
  void clear();
};

namespace bn2d::capi {

// Hands out f(what the handle has).
template <class Handle, class T, class F>
int32_t get(const Handle *handle, T *out, F f) {
  return guarded([&] {
    required(out, "out");
    *out = f(*checked(handle, Handle::kName).value);
  });
}

}  // namespace bn2d::capi
