#include "state/header.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <limits>

#include "base/error.h"

// A library does not end the process. What these assert is about calls, which do not depend on the
// file.
#define JSON_ASSERT(condition) static_cast<void>(condition)
#include <nlohmann/json.hpp>

namespace bn2d::state {
namespace {

using Json = nlohmann::json;

constexpr char kMetadata[] = "__metadata__";

// Takes the JSON apart as it is read, without a tree in memory: the format has four levels, the
// fifth is refused.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  Header take() { return std::move(header_); }

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a truth value"); }
  bool number_integer(number_integer_t value) override {
    if (place_ == Place::shape || place_ == Place::offsets)
      fail(Status::format, "header: %s has the number %" PRId64 " in its %s, must be 0 or more",
           name().c_str(), value, field_.c_str());
    return refuse("a number");
  }
  bool number_float(number_float_t, const string_t &text) override {
    if (place_ == Place::shape || place_ == Place::offsets)
      fail(Status::format,
           "header: %s has the number %.30s in its %s, must be an integer below 2^63",
           name().c_str(), text.c_str(), field_.c_str());
    return refuse("a number");
  }
  bool binary(binary_t &) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail(Status::format, "header: %s has an extent of %" PRIu64 ", must be below 2^63",
             name().c_str(), value);
      if (entry_.shape.size() == static_cast<size_t>(kMostRank))
        fail(Status::format, "header: %s has more than %" PRId32 " dimensions", name().c_str(),
             kMostRank);
      entry_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ != Place::offsets) return refuse("a number");
    if (offsets_ == 2)
      fail(Status::format, "header: %s has more than 2 data_offsets", name().c_str());
    (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    return true;
  }

  bool string(string_t &text) override {
    if (place_ == Place::metadata) {
      header_.metadata.emplace_back(key_, std::move(text));
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") return refuse("a text");
    entry_.type = element_type(text);
    if (entry_.type == nullptr)  // bn2d::, or std::quoted is meant
      fail(Status::format, "header: %s has the dtype %s, which safetensors does not have",
           name().c_str(), bn2d::quoted(text).c_str());
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::root;
    } else if (place_ == Place::root && key_ == kMetadata) {
      if (has_metadata_) fail(Status::format, "header: '%s' stands there twice", kMetadata);
      has_metadata_ = true;
      place_ = Place::metadata;
    } else if (place_ == Place::root) {
      place_ = Place::tensor;
      entry_ = Entry();
      entry_.name = key_;
      has_ = 0;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t &text) override {
    if (text.find('\0') != std::string::npos)
      fail(Status::format, "header: a name has the character NUL in it");
    if (place_ != Place::tensor) {
      key_ = std::move(text);
      return true;
    }
    const int field = text == "dtype" ? 1 : text == "shape" ? 2 : text == "data_offsets" ? 4 : 0;
    if (field == 0)
      fail(Status::format, "header: %s has a field %s, known are dtype, shape and data_offsets",
           name().c_str(), bn2d::quoted(text).c_str());
    if ((has_ & field) != 0)
      fail(Status::format, "header: %s has two fields %s", name().c_str(), text.c_str());
    has_ |= field;
    field_ = std::move(text);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::root) {
      place_ = Place::outside;
    } else {
      if (place_ == Place::tensor) finish_tensor();
      place_ = Place::root;
    }
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::tensor && field_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && field_ == "data_offsets") {
      place_ = Place::offsets;
      offsets_ = 0;
    } else {
      return refuse("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2)
      fail(Status::format, "header: %s has %d data_offsets, must have 2", name().c_str(), offsets_);
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string &,
                   const nlohmann::detail::exception &) override {
    fail(Status::format, "header: byte %zu is not JSON", position);
  }

 private:
  enum class Place { outside, root, metadata, tensor, shape, offsets };

  std::string name() const { return quoted(entry_.name); }

  [[noreturn]] bool refuse(const char *what) const {
    switch (place_) {
      case Place::outside:
        fail(Status::format, "header: it is %s, must be an object", what);
      case Place::root:
        fail(Status::format, "header: %s is %s, must be an object", quoted(key_).c_str(), what);
      case Place::metadata:
        fail(Status::format, "header: the metadata %s is %s, must be a text", quoted(key_).c_str(),
             what);
      default:
        fail(Status::format, "header: %s has %s in its %s", name().c_str(), what, field_.c_str());
    }
  }

  void finish_tensor() {
    if (has_ != 7)
      fail(Status::format, "header: %s has no %s", name().c_str(),
           (has_ & 1) == 0   ? "dtype"
           : (has_ & 2) == 0 ? "shape"
                             : "data_offsets");
    header_.entries.push_back(std::move(entry_));
  }

  Header header_;
  Place place_ = Place::outside;
  std::string key_, field_;
  Entry entry_;
  int has_ = 0, offsets_ = 0;
  bool has_metadata_ = false;
};

// Pointers, ordered: the entries themselves stay as they stand in the file.
template <class Before>
std::vector<const Entry *> ordered(const std::vector<Entry> &entries, Before before) {
  std::vector<const Entry *> order;
  order.reserve(entries.size());
  for (const Entry &entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(),
            [&](const Entry *a, const Entry *b) { return before(*a, *b); });
  return order;
}

void check_names(const Header &header) {
  const auto by_name =
      ordered(header.entries, [](const Entry &a, const Entry &b) { return a.name < b.name; });
  for (size_t i = 1; i < by_name.size(); ++i)
    if (by_name[i]->name == by_name[i - 1]->name)
      fail(Status::format, "header: %s stands there twice", quoted(by_name[i]->name).c_str());
  std::vector<std::string_view> keys;
  for (const auto &[key, value] : header.metadata) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end())
    fail(Status::format, "header: the metadata %s stands there twice",
         quoted(std::string(*twice)).c_str());
}

void check_data(const Header &header, uint64_t data_bytes) {
  const auto by_offset = ordered(header.entries, [](const Entry &a, const Entry &b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t end = 0;
  for (const Entry *entry : by_offset) {
    const std::string name = quoted(entry->name);
    if (entry->end < entry->begin)
      fail(Status::format, "header: %s ends at byte %" PRIu64 ", before its begin %" PRIu64,
           name.c_str(), entry->end, entry->begin);
    if (entry->end > data_bytes)
      fail(Status::format,
           "header: %s ends at byte %" PRIu64 ", the file has %" PRIu64 " bytes of data",
           name.c_str(), entry->end, data_bytes);
    if (entry->begin != end)
      fail(Status::format,
           "header: %s begins at byte %" PRIu64 ", the data before it ends at %" PRIu64 " (%s)",
           name.c_str(), entry->begin, end, entry->begin < end ? "an overlap" : "a gap");
    const uint64_t nbytes = checked_nbytes(entry->name, *entry->type, entry->shape, Status::format);
    if (nbytes != entry->nbytes())
      fail(Status::format,
           "header: %s has %" PRIu64 " bytes by its shape and dtype, %" PRIu64 " by its offsets",
           name.c_str(), nbytes, entry->nbytes());
    end = entry->end;
  }
  if (end != data_bytes)
    fail(Status::format,
         "the tensors end at byte %" PRIu64 ", the file has %" PRIu64 " bytes of data", end,
         data_bytes);
}

}  // namespace

void check_text(const char *what, const std::string &text) {
  try {
    (void)Json(text).dump();
  } catch (const Json::exception &) {
    fail(Status::invalid_argument, "the %s %s is not UTF-8", what, quoted(text).c_str());
  }
}
void check_name(const char *what, const std::string &name) {
  check_text(what, name);
  if (name == kMetadata)
    fail(Status::invalid_argument, "the %s '%s' is taken by the format", what, kMetadata);
}

uint64_t checked_header_length(const uint8_t (&first)[kLengthBytes], uint64_t file_bytes) {
  if (std::memcmp(first, "PK\3\4", 4) == 0)
    fail(Status::format,
         "this is a zip archive, as torch.save() writes it, not a safetensors file: write it with "
         "safetensors.torch.save_file()");
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) length |= uint64_t{first[i]} << (8 * i);
  if (length > kMostHeaderBytes)
    fail(Status::format,
         "the header has %" PRIu64 " bytes, at most %" PRIu64 " are allowed: no safetensors file?",
         length, kMostHeaderBytes);
  if (length > file_bytes - kLengthBytes)
    fail(Status::format,
         "the header has %" PRIu64 " bytes, the file %" PRIu64 " behind its first 8", length,
         file_bytes - kLengthBytes);
  return length;
}

Header parse_header(std::string_view text, uint64_t data_bytes) {
  if (text.empty() || text[0] != '{') fail(Status::format, "the header does not begin with '{'");
  HeaderReader reader;
  Json::sax_parse(text.begin(), text.end(), &reader);
  Header header = reader.take();
  check_names(header);
  check_data(header, data_bytes);
  return header;
}

std::string print_header(const Header &header) {
  const auto text = [](const std::string &raw) { return Json(raw).dump(); };
  std::string json = "{";
  const auto separate = [&] {
    if (json.back() != '{') json += ',';
  };
  if (!header.metadata.empty()) {
    json += text(kMetadata) + ":{";
    for (const auto &[key, value] : header.metadata) {
      separate();
      json += text(key) + ":" + text(value);
    }
    json += '}';
  }
  for (const Entry &entry : header.entries) {
    separate();
    json += text(entry.name) + ":{\"dtype\":\"" + entry.type->name + "\",\"shape\":[";
    for (size_t d = 0; d < entry.shape.size(); ++d)
      json += (d ? "," : "") + std::to_string(entry.shape[d]);
    json += "],\"data_offsets\":[" + std::to_string(entry.begin) + "," + std::to_string(entry.end) +
            "]}";
  }
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMostHeaderBytes)
    fail(Status::overflow, "the header has %zu bytes, at most %" PRIu64 " are allowed", json.size(),
         kMostHeaderBytes);
  std::string length(kLengthBytes, '\0');
  for (int i = 0; i < 8; ++i)
    length[static_cast<size_t>(i)] = static_cast<char>(uint64_t{json.size()} >> (8 * i));
  return length + json;
}

}  // namespace bn2d::state
