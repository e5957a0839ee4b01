// The header of a safetensors file: 8 bytes with its length, then JSON, then the data of all
// tensors without a gap.
//
//   {"__metadata__": {"format": "pt"}, "bn1.weight": {"dtype": "F32", "shape": [64],
//   "data_offsets": [0, 256]}, ...}
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays/array.h"

namespace bn2d::state {

inline constexpr uint64_t kLengthBytes = 8;
inline constexpr uint64_t kMostHeaderBytes = 100'000'000;  // the limit of the format's own library

struct Entry {
  std::string name;
  const ElementType *type = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // of its data, from the first byte behind the header

  uint64_t nbytes() const { return end - begin; }
};

struct Header {
  std::vector<Entry> entries;                                 // as they stand in the file
  std::vector<std::pair<std::string, std::string>> metadata;  // of unique keys, too
};

// Length of the JSON. Error format where a file of `file_bytes` that begins so cannot hold it.
uint64_t checked_header_length(const uint8_t (&first)[kLengthBytes], uint64_t file_bytes);

// Error format where the text is not such a header, or does not fit `data_bytes` bytes of data
// exactly: nothing twice, no gap, no overlap, no product beyond 64 bits. Takes memory in proportion
// to the text, whatever the text claims.
Header parse_header(std::string_view text, uint64_t data_bytes);

// Length and JSON, padded with spaces to a multiple of 8 bytes.
std::string print_header(const Header &header);

// Error invalid_argument where a text cannot stand in a header: UTF-8 is all that JSON has. `what`
// is "name" or the like.
void check_text(const char *what, const std::string &text);
// The same where it names something: one name is taken by the format.
void check_name(const char *what, const std::string &name);

}  // namespace bn2d::state
