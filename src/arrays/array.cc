#include "arrays/array.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <utility>

namespace bn2d {
namespace {

bool has_elements(const std::vector<int64_t> &shape) {
  return std::find(shape.begin(), shape.end(), 0) == shape.end();
}

// Calls row(contiguous, strided, elements) for pieces that lie one after another in the contiguous
// memory. `strided` is the address of the first element of a piece along the last dimension.
template <class Row>
void for_each_row(const Array &array, std::byte *contiguous, Row row) {
  if (!has_elements(array.shape)) return;
  const size_t rank = array.shape.size();
  const int64_t length = rank == 0 ? 1 : array.shape[rank - 1];
  int64_t index[kMostRank] = {};  // no memory: what has begun to write must not fail
  std::byte *strided = array.data;
  for (;;) {
    row(contiguous, strided, length);
    contiguous += length * array.element();
    size_t d = rank == 0 ? 0 : rank - 1;
    for (; d > 0; --d) {  // to the next row
      const size_t dimension = d - 1;
      strided += array.stride[dimension] * array.element();
      if (++index[dimension] < array.shape[dimension]) break;
      strided -= index[dimension] * array.stride[dimension] * array.element();
      index[dimension] = 0;
    }
    if (d == 0) return;
  }
}

// Sorted by stride, each dimension has to be longer than all of the smaller ones reach: enough for
// what tensors are (slices, transposed, padded); the few interleaved shapes beyond are refused as
// well.
bool may_overlap_itself(const Array &array) {
  std::vector<std::pair<int64_t, int64_t>> dimensions;
  for (size_t d = 0; d < array.shape.size(); ++d)
    if (array.shape[d] > 1) dimensions.emplace_back(array.stride[d], array.shape[d]);
  std::sort(dimensions.begin(), dimensions.end());
  int64_t reach = 0;
  for (const auto &[stride, extent] : dimensions) {
    if (stride <= reach) return true;
    reach += (extent - 1) * stride;
  }
  return false;
}

}  // namespace

std::string quoted(const std::string &name) {
  constexpr size_t kShown = 80;
  return "'" + (name.size() <= kShown ? name : name.substr(0, kShown) + "...") + "'";
}

uint64_t checked_nbytes(const std::string &name, const ElementType &type,
                        const std::vector<int64_t> &shape, Status wrong) {
  uint64_t elements = 1, bits = 0;
  for (const int64_t extent : shape)
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(extent), &elements))
      fail(wrong, "%s: its shape has more elements than 64 bits count", quoted(name).c_str());
  if (__builtin_mul_overflow(elements, static_cast<uint64_t>(type.bits), &bits))
    fail(wrong, "%s: %" PRIu64 " elements of %d bits are more bits than 64 bits count",
         quoted(name).c_str(), elements, type.bits);
  if (bits % 8 != 0)
    fail(wrong, "%s: %" PRIu64 " elements of %d bits end inside a byte", quoted(name).c_str(),
         elements, type.bits);
  return bits / 8;
}

int64_t count_of(const std::vector<int64_t> &shape) {
  if (!has_elements(shape)) return 0;
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t> &shape) {
  std::vector<int64_t> stride(shape.size(), 1);
  for (size_t d = shape.size(); d > 1; --d)
    if (__builtin_mul_overflow(stride[d - 1], std::max<int64_t>(shape[d - 1], 1), &stride[d - 2]))
      stride[d - 2] = 0;
  return stride;
}

uint64_t checked_nbytes(const std::string &name, const Array &array, bool is_written) {
  const std::string shown = quoted(name);
  for (const int64_t extent : array.shape)
    if (extent < 0)
      fail(Status::shape, "%s: an extent is %" PRId64 ", must be 0 or more", shown.c_str(), extent);
  const uint64_t nbytes = checked_nbytes(name, *array.type, array.shape, Status::overflow);
  if (!has_elements(array.shape)) return nbytes;
  if (array.data == nullptr)
    fail(Status::invalid_argument, "%s: data is NULL, but there are elements", shown.c_str());
  int64_t last = 0, bytes = 0;
  for (size_t d = 0; d < array.shape.size(); ++d) {
    int64_t reach = 0;
    if (array.shape[d] > 1 && array.stride[d] < 0)
      fail(Status::layout, "%s: stride %zu is %" PRId64 ", must be 0 or more", shown.c_str(), d,
           array.stride[d]);
    if (array.shape[d] > 1 &&
        (__builtin_mul_overflow(array.shape[d] - 1, array.stride[d], &reach) ||
         __builtin_add_overflow(last, reach, &last)))
      fail(Status::overflow, "%s: extent %" PRId64 " times stride %" PRId64 " leaves 64 bits",
           shown.c_str(), array.shape[d], array.stride[d]);
  }
  const auto address = reinterpret_cast<uintptr_t>(array.data);
  uintptr_t end = 0;
  if (__builtin_add_overflow(last, int64_t{1}, &last) ||
      __builtin_mul_overflow(last, array.element(), &bytes) ||
      __builtin_add_overflow(address, static_cast<uintptr_t>(bytes), &end))
    fail(Status::overflow, "%s: %" PRId64 " elements from %p on leave the address space",
         shown.c_str(), last, static_cast<void *>(array.data));
  const auto element = static_cast<uintptr_t>(array.element());
  if (address % element != 0)
    fail(Status::layout, "%s: data %p is not aligned to its elements of %zu bytes", shown.c_str(),
         static_cast<void *>(array.data), static_cast<size_t>(element));
  if (is_written && may_overlap_itself(array))
    fail(Status::layout, "%s: by its strides, elements of shape %s share memory", shown.c_str(),
         text_of(array.shape).c_str());
  return nbytes;
}

void gather(const Array &from, std::byte *to) {
  const int64_t element = from.element(), stride = from.shape.empty() ? 1 : from.stride.back();
  for_each_row(from, to, [&](std::byte *contiguous, const std::byte *strided, int64_t count) {
    if (stride == 1 || count == 1) {
      std::memcpy(contiguous, strided, static_cast<size_t>(count * element));
    } else {
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(contiguous + i * element, strided + i * stride * element,
                    static_cast<size_t>(element));
    }
  });
}

void scatter(const std::byte *from, const Array &to) {
  const int64_t element = to.element(), stride = to.shape.empty() ? 1 : to.stride.back();
  for_each_row(to, const_cast<std::byte *>(from),
               [&](const std::byte *contiguous, std::byte *strided, int64_t count) {
                 if (stride == 1 || count == 1) {
                   std::memcpy(strided, contiguous, static_cast<size_t>(count * element));
                 } else {
                   for (int64_t i = 0; i < count; ++i)
                     std::memcpy(strided + i * stride * element, contiguous + i * element,
                                 static_cast<size_t>(element));
                 }
               });
}

std::string text_of(const std::vector<int64_t> &shape) {
  std::string text = "(";
  for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + ")";
}

}  // namespace bn2d
