// Where the elements of a view begin.
#pragma once
#include <cinttypes>
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "bn2d/bn2d.h"

namespace bn2d::capi {

// Throws overflow where the offset leaves the address space.
inline std::byte *address_of(const char *what, const bn2d_view &view) {
  uintptr_t address = reinterpret_cast<uintptr_t>(view.data);
  if (address != 0 && __builtin_add_overflow(address, view.byte_offset, &address))
    fail(Status::overflow, "%s: data %p plus byte_offset %" PRIu64 " leaves the address space",
         what, view.data, view.byte_offset);
  return reinterpret_cast<std::byte *>(address);
}

}  // namespace bn2d::capi
