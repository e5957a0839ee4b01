// Named tensors: what a safetensors file holds, or is going to.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays/array.h"
#include "state/header.h"
#include "state/replace_file.h"
#include "state/source.h"

namespace bn2d::state {

// A tensor on its way into a state; `bytes` are its elements.
struct NewTensor {
  std::string name;
  const ElementType *type;
  std::vector<int64_t> shape;
  std::unique_ptr<std::byte[]> bytes;
};

class State {
 public:
  // No tensors. The metadata says "format": "pt", without which Python's transformers do not read a
  // file.
  State();
  // What a whole safetensors file holds. Error format where it is none, io.
  explicit State(std::shared_ptr<const Source> source);
  State(const State &) = delete;
  State &operator=(const State &) = delete;

  int64_t size() const { return static_cast<int64_t>(items_.size()); }
  const Entry &entry(int64_t index) const { return items_[static_cast<size_t>(index)].entry; }
  std::optional<int64_t> find(std::string_view name) const;

  // Copies all elements; error io.
  void read(int64_t index, void *to) const;
  const std::byte *data(int64_t index) const;

  // New tensors, or new values for those that have these names (no name twice). All of them or
  // none.
  void set(std::vector<NewTensor> tensors);

  // In the order in which they were read or set. An empty value takes a key away.
  const std::vector<std::pair<std::string, std::string>> &metadata() const { return metadata_; }
  void set_metadata(const std::string &key, const std::string &value);

  // The file: header and data, tensors of wide elements first, so that each is aligned, then by
  // name.
  uint64_t file_size() const;
  void write(const Put &put) const;

 private:
  struct Item {
    Entry entry;
    std::shared_ptr<const Source> source;
    uint64_t offset = 0;  // in the source
  };
  struct Plan {
    std::string header;
    std::vector<const Item *> order;
    uint64_t data_bytes = 0;
  };
  Plan plan() const;
  void append(Item item);
  void drop_from(int64_t index) noexcept;

  std::deque<Item> items_;  // never moved: names_ points into it
  std::map<std::string_view, int64_t>
      names_;  // a tree: names that were chosen to collide cost no more than others
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace bn2d::state
