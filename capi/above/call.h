// Calls of libbn2d from the libraries above it.
#pragma once
#include "base/error.h"
#include "bn2d/bn2d.h"

namespace bn2d::capi {

// A failure of theirs is ours, with its message. The text is copied: it is the thread's next one
// that we write.
inline void check(int32_t status) {
  if (status != BN2D_OK) fail(static_cast<Status>(status), "%s", bn2d_last_error());
}

// A module that is locked until the end of the block.
class ModuleLock {
 public:
  ModuleLock(bn2d_module *module, bool exclusive) : module_(module), exclusive_(exclusive) {
    check(bn2d_module_try_lock(module, exclusive ? 1 : 0));
  }
  ModuleLock(ModuleLock &&other) noexcept : module_(other.module_), exclusive_(other.exclusive_) {
    other.module_ = nullptr;
  }
  ~ModuleLock() {
    if (module_ != nullptr) (void)bn2d_module_unlock(module_, exclusive_ ? 1 : 0);
  }
  ModuleLock &operator=(ModuleLock &&) = delete;

 private:
  bn2d_module *module_;
  bool exclusive_;
};

// One reference to a tensor of a module.
class TensorHandle {
 public:
  TensorHandle(const bn2d_module *module, int32_t index) {
    check(bn2d_module_tensor_at(module, index, &handle_));
  }
  TensorHandle(TensorHandle &&other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  ~TensorHandle() { bn2d_tensor_release(handle_); }
  TensorHandle &operator=(TensorHandle &&) = delete;

  bn2d_tensor *get() const { return handle_; }
  bn2d_tensor *take() {
    bn2d_tensor *const taken = handle_;
    handle_ = nullptr;
    return taken;
  }

 private:
  bn2d_tensor *handle_ = nullptr;
};

}  // namespace bn2d::capi
