// Tensors handed out by DLPack: without a copy, owned by who consumes them.
#include "convert.h"
#include "dlpack_layout.h"
#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

constexpr uint32_t kMajor = 1, kMinor = 0;

// One allocation holds the struct, what it points to, and the tensor alive.
template <class Managed>
struct Export {
  Managed managed = {};
  int64_t shape = 0, stride = 1;
  std::shared_ptr<Tensor> tensor;

  explicit Export(const std::shared_ptr<Tensor> &t) : tensor(t) {
    bn2d_view &view = managed.dl_tensor;
    shape = t->length();
    view.data = t->data();
    set_type(t->dtype(), &view);
    view.ndim = t->rank();
    view.shape = t->rank() ? &shape : nullptr;
    view.strides = t->rank() ? &stride : nullptr;
    managed.manager_ctx = this;
    managed.deleter = [](Managed *self) { delete static_cast<Export *>(self->manager_ctx); };
  }
};

}  // namespace

int32_t bn2d_tensor_to_dlpack(const bn2d_tensor *tensor, DLManagedTensorVersioned **out) {
  return guarded([&] {
    required(out, "out");
    auto *made = new Export<DLManagedTensorVersioned>(checked(tensor, "tensor").value);
    made->managed.version_major = kMajor;
    made->managed.version_minor = kMinor;
    *out = &made->managed;
  });
}

int32_t bn2d_tensor_to_dlpack_legacy(const bn2d_tensor *tensor, DLManagedTensor **out) {
  return guarded([&] {
    required(out, "out");
    *out = &(new Export<DLManagedTensor>(checked(tensor, "tensor").value))->managed;
  });
}
