// Owners of states and loaders, a folder of a test's own, and files made by hand.
#pragma once
#include <bn2d/state.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

namespace bn2d_test {

struct StateRelease {
  void operator()(bn2d_state *handle) const noexcept { bn2d_state_release(handle); }
  void operator()(bn2d_loader *handle) const noexcept { bn2d_loader_release(handle); }
};
using State = std::unique_ptr<bn2d_state, StateRelease>;
using Loader = std::unique_ptr<bn2d_loader, StateRelease>;

inline State make_state() {
  bn2d_state *raw = nullptr;
  REQUIRE(bn2d_state_create(&raw) == BN2D_OK);
  return State(raw);
}
inline State open_state(const std::string &path) {
  bn2d_state *raw = nullptr;
  INFO(path);
  const int32_t status = bn2d_state_open(path.c_str(), &raw);
  INFO((status == BN2D_OK ? "" : bn2d_last_error()));
  REQUIRE(status == BN2D_OK);
  return State(raw);
}
inline State parse_state(const std::string &file) {
  bn2d_state *raw = nullptr;
  const int32_t status = bn2d_state_parse(file.data(), file.size(), &raw);
  INFO((status == BN2D_OK ? "" : bn2d_last_error()));
  REQUIRE(status == BN2D_OK);
  return State(raw);
}
inline Loader make_loader(const State &state) {
  bn2d_loader *raw = nullptr;
  REQUIRE(bn2d_loader_create(state.get(), &raw) == BN2D_OK);
  return Loader(raw);
}

inline std::string written(const State &state) {
  uint64_t length = 0;
  REQUIRE(bn2d_state_write(state.get(), nullptr, 0, &length) == BN2D_OK);
  std::string file(length, '\0');
  REQUIRE(bn2d_state_write(state.get(), file.data(), length, nullptr) == BN2D_OK);
  return file;
}

inline int64_t count_of(const State &state) {
  int64_t count = -1;
  REQUIRE(bn2d_state_count(state.get(), &count) == BN2D_OK);
  return count;
}
inline int64_t index_of(const State &state, const std::string &name) {
  int64_t index = -1;
  INFO(name);
  REQUIRE(bn2d_state_find(state.get(), name.c_str(), &index) == BN2D_OK);
  return index;
}
inline std::vector<std::string> names_of(const State &state) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count_of(state); ++i) {
    const char *name = nullptr;
    REQUIRE(bn2d_state_name(state.get(), i, &name) == BN2D_OK);
    names.push_back(name);
  }
  return names;
}
// "a is missing; b is missing; c is unexpected; d has shape (3), must have (4); "
inline std::string problems_of(const Loader &loader) {
  std::string all;
  for (const int32_t kind :
       {BN2D_PROBLEM_MISSING, BN2D_PROBLEM_UNEXPECTED, BN2D_PROBLEM_MISMATCHED}) {
    int64_t count = -1;
    REQUIRE(bn2d_loader_problem_count(loader.get(), kind, &count) == BN2D_OK);
    for (int64_t i = 0; i < count; ++i) {
      const char *name = nullptr, *text = nullptr;
      REQUIRE(bn2d_loader_problem_at(loader.get(), kind, i, &name, &text) == BN2D_OK);
      all += std::string(name) + " " + text + "; ";
    }
  }
  return all;
}

// A file by hand: length, JSON, data.
inline std::string file_of(const std::string &json, const std::string &data, uint64_t length) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
  return file + json + data;
}
inline std::string file_of(const std::string &json, const std::string &data) {
  return file_of(json, data, json.size());
}

class Folder {
 public:
  Folder() {
    path_ = std::filesystem::temp_directory_path() / "bn2d_state_XXXXXX";  // mkdtemp sets the X
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;

  std::string operator/(const std::string &name) const { return path_ + "/" + name; }
  // Names of all files, sorted: "a b ".
  std::string list() const {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string &name : names) all += name + " ";
    return all;
  }
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}
inline void write_file(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline void set_floats(const State &state, const char *name, const std::vector<float> &values) {
  const auto length = static_cast<int64_t>(values.size());
  REQUIRE(bn2d_state_set_flat(state.get(), name, BN2D_F32, &length, 1, values.data()) == BN2D_OK);
}

}  // namespace bn2d_test
