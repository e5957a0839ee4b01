// DLPack: the layout of bn2d_view, and the exports with their lives of their own.
#include "support/contract_dlpack.h"

#include <algorithm>
#include <cstddef>
#include <thread>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

#if defined(__has_include)
#if __has_include(<dlpack/dlpack.h>)
namespace real {  // the real header declares the same names as the mirror
#include <dlpack/dlpack.h>
}
#define BN2D_TEST_REAL_DLPACK 1
#endif
#endif

using namespace bn2d_test;

// Catches a view that is not a DLTensor after a cast.
#define SAME_FIELD(ours, theirs)                                               \
  static_assert(offsetof(bn2d_view, ours) == offsetof(DLTensorMirror, theirs), \
                "the offset of " #theirs);                                     \
  static_assert(sizeof(bn2d_view::ours) == sizeof(DLTensorMirror::theirs), "the size of " #theirs)
SAME_FIELD(data, data);
SAME_FIELD(device_type, device_type);
SAME_FIELD(device_id, device_id);
SAME_FIELD(ndim, ndim);
SAME_FIELD(dtype_code, code);
SAME_FIELD(dtype_bits, bits);
SAME_FIELD(dtype_lanes, lanes);
SAME_FIELD(shape, shape);
SAME_FIELD(strides, strides);
SAME_FIELD(byte_offset, byte_offset);
static_assert(sizeof(bn2d_view) == sizeof(DLTensorMirror), "the size of DLTensor");

#ifdef BN2D_TEST_REAL_DLPACK
#define REAL_FIELD(ours, theirs)                                               \
  static_assert(offsetof(bn2d_view, ours) == offsetof(real::DLTensor, theirs), \
                "the offset of " #theirs)
REAL_FIELD(data, data);
REAL_FIELD(device_type, device.device_type);
REAL_FIELD(device_id, device.device_id);
REAL_FIELD(ndim, ndim);
REAL_FIELD(dtype_code, dtype.code);
REAL_FIELD(dtype_bits, dtype.bits);
REAL_FIELD(dtype_lanes, dtype.lanes);
REAL_FIELD(shape, shape);
REAL_FIELD(strides, strides);
REAL_FIELD(byte_offset, byte_offset);
static_assert(sizeof(bn2d_view) == sizeof(real::DLTensor), "the size of DLTensor");
static_assert(sizeof(DLManagedTensor) == sizeof(real::DLManagedTensor),
              "the size of DLManagedTensor");
static_assert(int{real::kDLCPU} == BN2D_CPU && int{real::kDLCUDA} == BN2D_CUDA &&
                  int{real::kDLROCM} == BN2D_ROCM,
              "the numbers of the devices");
static_assert(int{real::kDLInt} == 0 && int{real::kDLFloat} == 2 && int{real::kDLBfloat} == 4,
              "the dtype codes");
#ifdef DLPACK_MAJOR_VERSION
static_assert(sizeof(DLManagedTensorVersioned) == sizeof(real::DLManagedTensorVersioned),
              "the versioned struct");
static_assert(offsetof(DLManagedTensorVersioned, dl_tensor) ==
                  offsetof(real::DLManagedTensorVersioned, dl_tensor),
              "the offset of dl_tensor");
static_assert(offsetof(DLManagedTensorVersioned, flags) ==
                  offsetof(real::DLManagedTensorVersioned, flags),
              "the offset of flags");
#endif
#endif

namespace {

struct Half {
  int32_t dtype;
  uint8_t code, bits;
};
const std::vector<Half> kDtypes = {
    {BN2D_F32, 2, 32}, {BN2D_F64, 2, 64}, {BN2D_F16, 2, 16}, {BN2D_BF16, 4, 16}};

template <class Managed>
Managed *export_of(const bn2d_tensor *tensor) {
  Managed *out = nullptr;
  if constexpr (std::is_same_v<Managed, DLManagedTensor>) {
    REQUIRE(bn2d_tensor_to_dlpack_legacy(tensor, &out) == BN2D_OK);
  } else {
    REQUIRE(bn2d_tensor_to_dlpack(tensor, &out) == BN2D_OK);
    CHECK(out->major == 1);
    CHECK((out->flags & kDLPackReadOnly) == 0);
    CHECK((out->flags & kDLPackCopied) == 0);
  }
  REQUIRE(out != nullptr);
  REQUIRE(out->deleter != nullptr);
  return out;
}

template <class Managed>
void check_export() {
  for (const Half &half : kDtypes) {
    INFO(bn2d_dtype_name(half.dtype));
    Settings settings;
    settings.dtype = half.dtype;
    Module module = make_module(7, settings);
    give_character(module);
    for (const char *name :
         {"weight", "bias", "running_mean", "running_var", "weight.grad", "bias.grad"}) {
      INFO(name);
      const Tensor tensor = tensor_of(module, name);
      Managed *managed = export_of<Managed>(tensor.get());
      const DLTensorMirror &t = managed->dl_tensor;
      CHECK(static_cast<char *>(t.data) + t.byte_offset == data_of<char>(tensor));
      CHECK(t.device_type == BN2D_CPU);
      CHECK(t.device_id == 0);
      REQUIRE(t.ndim == 1);
      CHECK(t.code == half.code);
      CHECK(t.bits == half.bits);
      CHECK(t.lanes == 1);
      CHECK(t.shape[0] == 7);
      CHECK((t.strides == nullptr || t.strides[0] == 1));
      managed->deleter(managed);
    }
    const Tensor counter = tensor_of(module, "num_batches_tracked");
    Managed *managed = export_of<Managed>(counter.get());
    CHECK(managed->dl_tensor.ndim == 0);
    CHECK(managed->dl_tensor.code == 0);
    CHECK(managed->dl_tensor.bits == 64);
    CHECK(managed->dl_tensor.lanes == 1);
    CHECK(managed->dl_tensor.data == data_of<void>(counter));
    managed->deleter(managed);
  }
}

template <class Managed>
void check_lives_on() {
  Module module = make_module(5);
  Tensor weight = tensor_of(module, "weight");
  Managed *managed = export_of<Managed>(weight.get());
  auto *values = static_cast<float *>(managed->dl_tensor.data);
  values[2] = 6.5f;  // writes change the tensor
  CHECK(data_of<float>(weight)[2] == 6.5f);
  data_of<float>(weight)[3] = -1.5f;
  CHECK(values[3] == -1.5f);
  Managed *second = export_of<Managed>(weight.get());  // each export is its own
  CHECK(second != managed);
  second->deleter(second);
  const std::vector<float> before(values, values + 5);
  weight.reset();
  module.reset();
  std::vector<Module> later;  // one of them would get the memory, had it been given back
  for (int i = 0; i < 8; ++i) later.push_back(make_module(5));
  CHECK(std::vector<float>(values, values + 5) == before);
  CHECK(managed->dl_tensor.shape[0] == 5);
  std::fill(values, values + 5, 9.0f);
  for (const Module &other : later) CHECK(data_of<float>(other, "bias")[4] == 0.0f);
  std::thread([managed] { managed->deleter(managed); }).join();
}

}  // namespace

TEST_CASE("dlpack: fields of an export", "[dlpack]") {
  // Catches a wrong dtype code, a shape that is not the tensor's, a copy, a version 0.
  check_export<DLManagedTensorVersioned>();
  check_export<DLManagedTensor>();
}

TEST_CASE("dlpack: an export outlives module and tensor, and is deleted on any thread",
          "[dlpack]") {
  // Catches an export that borrows; with the sanitiser a use after free or a leak.
  check_lives_on<DLManagedTensorVersioned>();
  check_lives_on<DLManagedTensor>();
}

TEST_CASE("dlpack: an export is a view, by a cast", "[dlpack]") {
  // Catches a view that is compared by more than its DLTensor part: the export of one tensor copied
  // into another.
  const Module from = make_module(5), to = make_module(5);
  give_character(from);
  DLManagedTensorVersioned *managed =
      export_of<DLManagedTensorVersioned>(tensor_of(from, "bias").get());
  CHECK(bn2d_tensor_copy_from(tensor_of(to, "weight").get(),
                              reinterpret_cast<const bn2d_view *>(&managed->dl_tensor)) == BN2D_OK);
  CHECK(std::memcmp(data_of<float>(from, "bias"), data_of<float>(to, "weight"),
                    5 * sizeof(float)) == 0);
  managed->deleter(managed);
}
