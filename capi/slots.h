// Opaque handles of any kind. A handle is the address of a slot plus a generation; a slot knows its
// present one, checked at every entry and cleared at the end of the object. Slots are never given
// back to the system and reused as late as possible, so that a dead handle is recognised and never
// leads into freed memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "guard.h"

namespace bn2d::capi {

// A slot is a cell of kCell bytes, and each of the kGenerations addresses in it, 8 bytes apart as
// those of any object, is a handle in turn: that costs no memory, no bits of an address that a
// language may keep for itself, and works with 32 bits, too.
inline constexpr uintptr_t kCell = 128;
inline constexpr uint32_t kGenerations = 16;
static_assert(kGenerations * 8 == kCell);

struct Slot {
  std::atomic<uint64_t> state{
      0};  // the tag of the live handle, 0 where there is none, above the references
  std::atomic<uint64_t> next{0};  // of the queue of free slots
  uint32_t index = 0;             // of this slot among all of its kind
  uint32_t generation = 0;
};

// References: of callers, plus kOwner while a parent holds it. A caller who takes the last but one
// of so many has lost count; what it has must not become the parent's.
inline constexpr uint32_t kOwner = 1u << 31;
inline constexpr uint32_t kMostReferences = (1u << 24) - 1;  // bn2d.h tells it

// All slots of one type. Without a lock, which a fork beside it would leave locked in the child;
// never destroyed: a finaliser of the host may release handles while the process ends.
//
// Free slots wait in a queue (Michael and Scott, PODC 1996, whose nodes are never freed, either:
// what a slow thread still reads is a slot). Links carry a count, so that a link which has been
// replaced meanwhile is noticed. A thread that does not live on in a child leaves the queue whole
// at every step; only the slot in its hands is lost.
template <class Handle>
class Slots {
 public:
  static Slots &instance() { return g_instance; }

  // A slot of a new generation.
  Handle *take() {
    if (const uint32_t index = dequeue()) {
      Handle &handle = at(index);
      handle.index = index;
      handle.generation = (handle.generation + 1) % kGenerations;
      return &handle;
    }
    return fresh();
  }
  void give_back(Handle *handle) noexcept { enqueue(handle->index); }

 private:
  static constexpr uint32_t kQuarantine = 4096;  // so many always wait
  static constexpr uint32_t kFirstChunk =
      128;  // slots of the first chunk; each next one is twice as large
  static constexpr int kChunks = 24;

  struct alignas(kCell) Cell {
    Handle handle;
  };
  static_assert(sizeof(Cell) == kCell);

  // A link: the index of a slot (0: of none), below the count of the links that it came after.
  static constexpr uint32_t index_of(uint64_t link) { return static_cast<uint32_t>(link); }
  static constexpr uint32_t count_of(uint64_t link) { return static_cast<uint32_t>(link >> 32); }
  static constexpr uint64_t link_to(uint32_t index, uint64_t replaced) {
    return (uint64_t{count_of(replaced) + 1} << 32) | index;
  }

  static int chunk_of(uint32_t index) { return 31 - __builtin_clz(index / kFirstChunk + 1); }
  static uint32_t first_of(int chunk) { return kFirstChunk * ((1u << chunk) - 1); }
  Handle &at(uint32_t index) {
    const int chunk = chunk_of(index);
    return chunks_[chunk].load(std::memory_order_acquire)[index - first_of(chunk)].handle;
  }

  // The next slot that was never used.
  Handle *fresh() {
    uint32_t index = used_.load(std::memory_order_relaxed);
    do {
      make_chunk(chunk_of(index));
    } while (!used_.compare_exchange_weak(index, index + 1, std::memory_order_relaxed));
    Handle &handle = at(index);
    handle.index = index;
    return &handle;
  }
  void make_chunk(int chunk) {
    if (chunk >= kChunks) throw std::bad_alloc();
    if (chunks_[chunk].load(std::memory_order_acquire) != nullptr) return;
    std::unique_ptr<Cell[]> made(new Cell[size_t{kFirstChunk} << chunk]);
    Cell *none = nullptr;
    if (chunks_[chunk].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel))
      (void)made.release();
  }

  // The queue: from first_, the slot that was taken last or is about to be, along `next` to last_
  // or one behind it.
  void enqueue(uint32_t index) noexcept {
    std::atomic<uint64_t> &end = at(index).next;
    end.store(link_to(0, end.load(std::memory_order_relaxed)), std::memory_order_relaxed);
    for (;;) {
      uint64_t last = last_.load(), next = at(index_of(last)).next.load();
      if (last != last_.load()) continue;
      if (index_of(next) != 0) {
        last_.compare_exchange_strong(
            last, link_to(index_of(next), last));  // of another thread, which is not there yet
      } else if (at(index_of(last)).next.compare_exchange_strong(next, link_to(index, next))) {
        last_.compare_exchange_strong(last, link_to(index, last));
        return;
      }
    }
  }
  // 0 where no more wait than have to: the counts tell how often first_ and last_ have moved.
  uint32_t dequeue() noexcept {
    for (;;) {
      uint64_t first = first_.load();
      const uint64_t last = last_.load();
      if (count_of(last) - count_of(first) <= kQuarantine) return 0;
      const uint64_t next = at(index_of(first)).next.load();  // not the last one, so there is one
      if (first_.compare_exchange_strong(first, link_to(index_of(next), first)))
        return index_of(first);
    }
  }

  static constexpr uint32_t kFirst = 1;  // begins as the only one in the queue

  std::atomic<uint64_t> first_{kFirst}, last_{kFirst};
  std::atomic<uint32_t> used_{kFirst + 1};
  std::atomic<Cell *> chunks_[kChunks] = {};

  static Slots g_instance;
};
template <class Handle>
Slots<Handle> Slots<Handle>::g_instance;

template <class Handle>
std::remove_const_t<Handle> *slot_of(Handle *handle) noexcept {
  return reinterpret_cast<std::remove_const_t<Handle> *>(reinterpret_cast<uintptr_t>(handle) &
                                                         ~(kCell - 1));
}
// What the caller sees of a live slot.
template <class Handle>
Handle *handle_of(Handle *slot) noexcept {
  return reinterpret_cast<Handle *>(reinterpret_cast<uintptr_t>(slot) +
                                    8 * uintptr_t{slot->generation});
}
// What the slot of a live handle has in the upper half of its state.
template <class Handle>
uint32_t tag_of(Handle *handle) noexcept {
  return std::remove_const_t<Handle>::kTag +
         static_cast<uint32_t>(reinterpret_cast<uintptr_t>(handle) % kCell);
}
inline uint32_t tag_in(uint64_t state) noexcept { return static_cast<uint32_t>(state >> 32); }

template <class Handle>
[[noreturn, gnu::noinline]] void fail_dead(Handle *handle, const char *name, uint64_t state) {
  const uint32_t tag = tag_in(state), of_kind = tag - std::remove_const_t<Handle>::kTag;
  const bool was_one = tag == 0 || of_kind < kCell;  // now free, or the slot of another handle
  fail(Status::invalid_handle, "%s at %p is no live %s handle: %s", name,
       static_cast<const void *>(handle), std::remove_const_t<Handle>::kName,
       was_one ? "it has been released" : "it is of another kind");
}

// The slot of a live handle. Not inlined at each of its many calls.
template <class Handle>
[[gnu::noinline]] Handle &checked(Handle *handle, const char *name) {
  if (handle == nullptr) fail_null(name);
  Handle *const slot = slot_of(handle);
  const uint64_t state = slot->state.load(std::memory_order_acquire);
  if (tag_in(state) != tag_of(handle)) fail_dead(handle, name, state);
  return *slot;
}

// A slot while it is filled in: given back if that throws.
template <class Handle>
class NewHandle {
 public:
  NewHandle() : slot_(Slots<Handle>::instance().take()) {}
  ~NewHandle() {
    if (slot_ == nullptr) return;
    slot_->clear();
    Slots<Handle>::instance().give_back(slot_);
  }
  NewHandle(const NewHandle &) = delete;
  NewHandle &operator=(const NewHandle &) = delete;
  Handle *operator->() const { return slot_; }
  // The handle, for the caller.
  Handle *publish() { return handle_of(go_live(1)); }
  // The slot, for the parent.
  Handle *publish_owned() { return go_live(kOwner); }

 private:
  Handle *go_live(uint32_t references) {
    slot_->state.store((uint64_t{tag_of(handle_of(slot_))} << 32) | references,
                       std::memory_order_release);
    return std::exchange(slot_, nullptr);
  }
  Handle *slot_;
};

template <class Handle>
void end(Handle *slot) noexcept {
  slot->clear();
  Slots<Handle>::instance().give_back(slot);
}

// One reference more for the caller. Tag and count change together: a handle that dies meanwhile
// stays dead.
template <class Handle>
Handle *retain(Handle *handle, const char *name) {
  std::atomic<uint64_t> &state = checked(handle, name).state;
  uint64_t now = state.load(std::memory_order_acquire);
  do {
    if (tag_in(now) != tag_of(handle)) fail_dead(handle, name, now);
    const uint32_t references = static_cast<uint32_t>(now) & ~kOwner;
    if (references == kMostReferences)
      fail(Status::overflow, "%s has %u references already, at most %u are counted", name,
           references, kMostReferences);
  } while (!state.compare_exchange_weak(now, now + 1, std::memory_order_relaxed));
  return handle;
}

// Gives back one of the callers' references; what they do not have is not taken.
template <class Handle>
void release(Handle *handle) noexcept {
  if (handle == nullptr) return;
  Handle *const slot = slot_of(handle);
  uint64_t now = slot->state.load(std::memory_order_acquire), then = 0;
  do {
    if (tag_in(now) != tag_of(handle) || (static_cast<uint32_t>(now) & ~kOwner) == 0) return;
    then = static_cast<uint32_t>(now) == 1 ? 0 : now - 1;
  } while (!slot->state.compare_exchange_weak(now, then, std::memory_order_acq_rel,
                                              std::memory_order_acquire));
  if (then == 0) end(slot);
}

// Gives back the parent's hold.
template <class Handle>
void disown(Handle *slot) noexcept {
  if (slot == nullptr) return;
  uint64_t now = slot->state.load(std::memory_order_acquire), then = 0;
  do {
    then = static_cast<uint32_t>(now) == kOwner ? 0 : now - kOwner;
  } while (!slot->state.compare_exchange_weak(now, then, std::memory_order_acq_rel,
                                              std::memory_order_acquire));
  if (then == 0) end(slot);
}

}  // namespace bn2d::capi
