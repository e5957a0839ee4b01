#include "state/state.h"

#include <algorithm>
#include <cinttypes>

#include "base/error.h"

namespace bn2d::state {

State::State() : metadata_{{"format", "pt"}} {}

State::State(std::shared_ptr<const Source> source) {
  if (source->size() < kLengthBytes)
    fail(Status::format, "the file has %" PRIu64 " bytes, a safetensors file at least 10",
         source->size());
  uint8_t first[kLengthBytes];
  source->read(0, kLengthBytes, first);
  const uint64_t length = checked_header_length(first, source->size()),
                 start = kLengthBytes + length;
  std::string text(length, '\0');
  source->read(kLengthBytes, length, text.data());
  Header header = parse_header(text, source->size() - start);
  metadata_ = std::move(header.metadata);
  for (Entry &entry : header.entries) {
    const uint64_t offset = start + entry.begin;
    append({std::move(entry), source, offset});
  }
}

std::optional<int64_t> State::find(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? std::nullopt : std::optional<int64_t>(found->second);
}

void State::read(int64_t index, void *to) const {
  const Item &item = items_[static_cast<size_t>(index)];
  item.source->read(item.offset, item.entry.nbytes(), to);
}

const std::byte *State::data(int64_t index) const {
  const Item &item = items_[static_cast<size_t>(index)];
  return item.source->data() + item.offset;
}

void State::set(std::vector<NewTensor> tensors) {
  std::vector<std::pair<Item *, Item>> replaced;
  replaced.reserve(tensors.size());
  const int64_t before = size();
  try {
    for (NewTensor &tensor : tensors) {
      check_name("name", tensor.name);
      Item item;
      item.entry.end = checked_nbytes(tensor.name, *tensor.type, tensor.shape, Status::overflow);
      item.entry.name = std::move(tensor.name);
      item.entry.type = tensor.type;
      item.entry.shape = std::move(tensor.shape);
      item.source = memory_source(std::move(tensor.bytes), item.entry.nbytes());
      if (const auto found = find(item.entry.name)) {
        replaced.emplace_back(&items_[static_cast<size_t>(*found)], std::move(item));
      } else {
        append(std::move(item));
      }
    }
  } catch (...) {
    drop_from(before);
    throw;
  }
  for (auto &[old, item] : replaced) {
    // Not the name: the tree points to it.
    old->entry.type = item.entry.type;
    old->entry.shape.swap(item.entry.shape);
    old->entry.begin = 0;
    old->entry.end = item.entry.end;
    old->source.swap(item.source);
    old->offset = 0;
  }
}

void State::append(Item item) {
  items_.push_back(std::move(item));
  names_.emplace(items_.back().entry.name, size() - 1);
}

void State::drop_from(int64_t index) noexcept {
  while (size() > index) {
    names_.erase(items_.back().entry.name);
    items_.pop_back();
  }
}

void State::set_metadata(const std::string &key, const std::string &value) {
  check_name("key", key);
  check_text("value", value);
  const auto found = std::find_if(metadata_.begin(), metadata_.end(),
                                  [&](const auto &pair) { return pair.first == key; });
  if (value.empty()) {
    if (found != metadata_.end()) metadata_.erase(found);
  } else if (found != metadata_.end()) {
    found->second = value;
  } else {
    metadata_.emplace_back(key, value);
  }
}

State::Plan State::plan() const {
  Plan plan;
  for (const Item &item : items_) plan.order.push_back(&item);
  std::sort(plan.order.begin(), plan.order.end(), [](const Item *a, const Item *b) {
    const int a_bits = a->entry.type->bits, b_bits = b->entry.type->bits;
    return a_bits != b_bits ? a_bits > b_bits : a->entry.name < b->entry.name;
  });
  Header header;
  header.metadata = metadata_;
  for (const Item *item : plan.order) {
    Entry entry = item->entry;
    entry.begin = plan.data_bytes;
    if (__builtin_add_overflow(plan.data_bytes, item->entry.nbytes(), &entry.end))
      fail(Status::overflow, "all tensors together have more bytes than 64 bits count");
    plan.data_bytes = entry.end;
    header.entries.push_back(std::move(entry));
  }
  plan.header = print_header(header);
  return plan;
}

uint64_t State::file_size() const {
  const Plan made = plan();
  return made.header.size() + made.data_bytes;
}

void State::write(const Put &put) const {
  const Plan made = plan();
  constexpr uint64_t kChunk = 1 << 20;
  const auto buffer = allocate_bytes(std::min(kChunk, made.data_bytes));
  put(made.header.data(), made.header.size());
  for (const Item *item : made.order)
    for (uint64_t done = 0, count = 0; done < item->entry.nbytes(); done += count) {
      count = std::min(kChunk, item->entry.nbytes() - done);
      item->source->read(item->offset + done, count, buffer.get());
      put(buffer.get(), count);
    }
}

}  // namespace bn2d::state
