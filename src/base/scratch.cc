#include "base/scratch.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"

namespace bn2d {
namespace {

constexpr size_t kAlignment = 64;
// A worker has 126 to 265 KiB, so calls of sixty threads find their block again. One that packs
// what it sums (ops/blockwise_staged.cc) has up to 128 more for each tensor: thirty threads do.
constexpr size_t kLargestKept = size_t{16} << 20;
constexpr size_t kSmallest = size_t{32} << 10;
constexpr size_t kLargePage = size_t{2} << 20;

// In front of the memory, in a cache line of its own.
struct alignas(kAlignment) Header {
  size_t bytes;  // with the header
};
static_assert(sizeof(Header) == kAlignment);

// A place of the pool. Its own cache line: threads that do not share a place do not meet.
struct alignas(64) Place {
  std::atomic<Header *> block{nullptr};
};
constexpr unsigned kPlaces = 16;
// More than one call holds at a time: seven at most, a stateless backward of group norm through an
// activation.
constexpr unsigned kTries = 8;
Place g_places[kPlaces];  // never destroyed: a thread may still be in a call while the process ends

// Where a thread looks first. Threads differ in the address of their stacks, and asking for that
// costs nothing.
unsigned first_place() {
  const auto address =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) >> 16);
  return static_cast<unsigned>((address * 0x9E37'79B9'7F4A'7C15u) >> 60);
}
static_assert(kPlaces == 1u << 4);

Header *take(unsigned first) {
  for (unsigned i = 0; i < kTries; ++i) {
    std::atomic<Header *> &block = g_places[(first + i) % kPlaces].block;
    if (block.load(std::memory_order_relaxed) == nullptr) continue;
    if (Header *const taken = block.exchange(nullptr, std::memory_order_acquire)) return taken;
  }
  return nullptr;
}

bool give_back(unsigned first, Header *header) {
  for (unsigned i = 0; i < kTries; ++i) {
    std::atomic<Header *> &block = g_places[(first + i) % kPlaces].block;
    Header *empty = block.load(std::memory_order_relaxed);
    if (empty != nullptr) continue;
    if (block.compare_exchange_strong(empty, header, std::memory_order_release,
                                      std::memory_order_relaxed))
      return true;
  }
  return false;
}

// Powers of two, so that a few calls of different sizes soon end up with blocks that serve them
// all.
size_t rounded(size_t bytes) {
  size_t size = kSmallest;
  while (size < bytes && size < kLargestKept) size *= 2;
  return size >= bytes ? size : (bytes + kLargePage - 1) / kLargePage * kLargePage;
}

// What is not kept comes from the system for each call, and its pages are new. Backward of
// (16384,256,1,1) in 32 groups, with 33 MB of them, takes 0.54 of the time with large pages.
void *allocate(size_t size) {
  const bool is_large = size > kLargestKept;
  void *const memory = std::aligned_alloc(is_large ? kLargePage : kAlignment, size);
#ifdef MADV_HUGEPAGE
  if (is_large && memory != nullptr) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace

Scratch::Scratch(size_t bytes) {
  if (bytes == 0) return;
  place_ = first_place();
  const auto fail_memory = [&] {
    fail(Status::out_of_memory, "out of memory: the call needs %zu bytes to work in", bytes);
  };
  if (bytes > SIZE_MAX - kLargePage - kAlignment) fail_memory();
  const size_t wanted = bytes + sizeof(Header);
  Header *header = wanted <= kLargestKept ? take(place_) : nullptr;
  if (header != nullptr && header->bytes < wanted) {
    std::free(header);
    header = nullptr;
  }
  if (header == nullptr) {
    const size_t size = rounded(wanted);
    header = static_cast<Header *>(allocate(size));
    if (header == nullptr) fail_memory();
    header->bytes = size;
  }
  data_ = header + 1;
}

Scratch::~Scratch() {
  if (data_ == nullptr) return;
  Header *const header = static_cast<Header *>(data_) - 1;
  if (header->bytes > kLargestKept || !give_back(place_, header)) std::free(header);
}

}  // namespace bn2d
