// Elements of a host somewhere in memory, of any rank and strides.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arrays/element_type.h"
#include "base/error.h"

namespace bn2d {

inline constexpr int32_t kMostRank = 64;  // PyTorch's

struct Array {
  std::byte *data = nullptr;
  const ElementType *type = nullptr;   // of whole bytes
  std::vector<int64_t> shape, stride;  // the stride in elements, of each dimension

  int64_t element() const { return type->bits / 8; }
};

// How many elements a shape has that checked_nbytes() took. An extent of 0 may stand beside any
// others, whose product 64 bits need not hold: {0, 2^40, 2^40}.
int64_t count_of(const std::vector<int64_t> &shape);

// Strides of contiguous elements, the last dimension fastest.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t> &shape);

// Bytes of a tensor. Error `wrong` beyond 64 bits and for a part of a byte; `name` is for the
// message.
uint64_t checked_nbytes(const std::string &name, const ElementType &type,
                        const std::vector<int64_t> &shape, Status wrong);

// Checks extents, strides (0 or more; where it is written, no two elements in one place), data (not
// NULL, aligned) and that nothing leaves the address space. The number of bytes.
uint64_t checked_nbytes(const std::string &name, const Array &array, bool is_written);

// Copies all elements to contiguous memory, and back. The array has been checked.
void gather(const Array &from, std::byte *to);
void scatter(const std::byte *from, const Array &to);

// A name as it can be told in one line of a message.
std::string quoted(const std::string &name);

// "(3, 4)"
std::string text_of(const std::vector<int64_t> &shape);

}  // namespace bn2d
