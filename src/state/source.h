// Where the bytes of a state lie: in memory of ours, or in a file.
//
// A file is read with pread, not through its mapping: a page that somebody has cut off the file
// meanwhile is an error there, and a SIGBUS here. The mapping is for hosts that ask for a pointer
// to the data.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace bn2d::state {

class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;
  // Copies bytes [offset, offset + count), which lie inside. Error io.
  virtual void read(uint64_t offset, uint64_t count, void *to) const = 0;
  // All bytes in memory. Error io where the file could not be mapped.
  virtual const std::byte *data() const = 0;
};

// `count` bytes, not initialised.
std::unique_ptr<std::byte[]> allocate_bytes(uint64_t count);

std::shared_ptr<const Source> memory_source(std::unique_ptr<std::byte[]> bytes, uint64_t size);
// Opens a regular file. Error io.
std::shared_ptr<const Source> file_source(const std::string &path);

}  // namespace bn2d::state
