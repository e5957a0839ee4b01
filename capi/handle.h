// Opaque handles. A handle is a slot that starts with a type tag, checked at every entry and cleared at the end of the
// object. Slots are never given back to the system and reused as late as possible, so that a dead handle is recognised
// and never leads into freed memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "bn2d/bn2d.h"
#include "guard.h"
#include "module/batch_norm_2d.h"

namespace bn2d::capi {

struct Slot {
  std::atomic<uint32_t> tag{0};
  std::atomic<uint32_t> references{0};  // of callers, plus kOwner while a parent holds it
  Slot *next_free = nullptr;
};
inline constexpr uint32_t kOwner = 1u << 30;

}  // namespace bn2d::capi

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
  std::shared_ptr<bn2d::BatchNorm2d> value;
  bn2d_tensor *tensors[5] = {};  // owned; in the order of value->tensors()
  void clear();
};
struct bn2d_record : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x7232'6E62;
  static constexpr const char *kName = "record";
  std::shared_ptr<bn2d::Record> value;
  std::shared_ptr<bn2d::RecordPool> pool;
  void clear();
};

namespace bn2d::capi {

// All slots of one type. Never destroyed: a finaliser of the host may release handles while the process ends.
template <class Handle>
class Slots {
 public:
  static Slots &instance() {
    static Slots *const slots = new Slots;
    return *slots;
  }
  Handle *take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_ < kQuarantine) add_chunk();
    Slot *slot = first_;
    first_ = slot->next_free;
    --free_;
    return static_cast<Handle *>(slot);
  }
  void give_back(Handle *handle) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    append(handle);
  }

 private:
  static constexpr int kQuarantine = 64;  // at least so many others are reused before a slot that became free
  struct Chunk {
    Handle handles[128];
    Chunk *next;
  };
  void add_chunk() {
    Chunk *chunk = new Chunk;
    chunk->next = chunks_;
    chunks_ = chunk;
    for (Handle &handle : chunk->handles) append(&handle);
  }
  void append(Slot *slot) noexcept {
    slot->next_free = nullptr;
    (free_ == 0 ? first_ : last_->next_free) = slot;
    last_ = slot;
    ++free_;
  }
  std::mutex mutex_;
  Slot *first_ = nullptr, *last_ = nullptr;
  int free_ = 0;
  Chunk *chunks_ = nullptr;
};

template <class Handle>
Handle &checked(Handle *handle, const char *name) {
  if (handle == nullptr) fail(Status::invalid_argument, "%s is NULL", name);
  const uint32_t tag = handle->tag.load(std::memory_order_acquire);
  if (tag != std::remove_const_t<Handle>::kTag)
    fail(Status::invalid_handle, "%s at %p is no live %s handle (tag %08x, expected %08x)", name,
         static_cast<const void *>(handle), std::remove_const_t<Handle>::kName, tag, std::remove_const_t<Handle>::kTag);
  return *handle;
}

// A slot while it is filled in: given back if that throws.
template <class Handle>
class NewHandle {
 public:
  NewHandle() : handle_(Slots<Handle>::instance().take()) {}
  ~NewHandle() {
    if (handle_ == nullptr) return;
    handle_->clear();
    Slots<Handle>::instance().give_back(handle_);
  }
  Handle *operator->() const { return handle_; }
  Handle *publish(uint32_t references) {
    handle_->references.store(references, std::memory_order_relaxed);
    handle_->tag.store(Handle::kTag, std::memory_order_release);
    return std::exchange(handle_, nullptr);
  }

 private:
  Handle *handle_;
};

template <class Handle>
void end(Handle *handle) noexcept {
  handle->tag.store(0, std::memory_order_release);
  handle->clear();
  Slots<Handle>::instance().give_back(handle);
}

template <class Handle>
Handle *retain(Handle &handle) noexcept {
  handle.references.fetch_add(1, std::memory_order_relaxed);
  return &handle;
}

// Gives back one of the callers' references; what they do not have is not taken.
template <class Handle>
void release(Handle *handle) noexcept {
  if (handle == nullptr || handle->tag.load(std::memory_order_acquire) != Handle::kTag) return;
  uint32_t references = handle->references.load(std::memory_order_relaxed);
  do {
    if ((references & ~kOwner) == 0) return;
  } while (!handle->references.compare_exchange_weak(references, references - 1, std::memory_order_acq_rel));
  if (references - 1 == 0) end(handle);
}

// Gives back the parent's hold.
template <class Handle>
void disown(Handle *handle) noexcept {
  if (handle != nullptr && handle->references.fetch_sub(kOwner, std::memory_order_acq_rel) == kOwner) end(handle);
}

}  // namespace bn2d::capi
