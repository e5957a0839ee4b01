// Elements of a host somewhere in memory, of any rank and strides.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "state/stored_type.h"

namespace bn2d::state {

struct Array {
  std::byte *data = nullptr;
  const StoredType *type = nullptr;    // of whole bytes
  std::vector<int64_t> shape, stride;  // the stride in elements, of each dimension

  int64_t element() const { return type->bits / 8; }
};

// Strides of contiguous elements, the last dimension fastest.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t> &shape);

// Checks extents, strides (0 or more; where it is written, no two elements in one place), data (not NULL, aligned) and
// that nothing leaves the address space. The number of bytes.
uint64_t checked_nbytes(const std::string &name, const Array &array, bool is_written);

// Copies all elements to contiguous memory, and back. The array has been checked.
void gather(const Array &from, std::byte *to);
void scatter(const std::byte *from, const Array &to);

// "(3, 4)"
std::string text_of(const std::vector<int64_t> &shape);

}  // namespace bn2d::state
