// States: life, listing, what is set and taken out, files.
#include <cinttypes>
#include <cstring>
#include <functional>

#include "above/arrays.h"
#include "above/call.h"
#include "base/cancel.h"
#include "handles.h"

using namespace bn2d;
using namespace bn2d::capi;
using state::State;

namespace {

const State &state_of(const bn2d_state *state) { return *checked(state, "state").value; }

void check_index(const State &state, int64_t index) {
  if (index < 0 || index >= state.size())
    fail(Status::not_found, "tensor %" PRId64 " does not exist, the state has %" PRId64, index,
         state.size());
}

// Calls f(entry) and hands its value out.
template <class T, class F>
int32_t get(const bn2d_state *state, int64_t index, T *out, F f) {
  return guarded([&] {
    required(out, "out");
    const State &s = state_of(state);
    check_index(s, index);
    *out = f(s.entry(index));
  });
}

// What waits for files is no place to be cancelled.
template <class Body>
int32_t guarded_with_files(Body &&body) {
  const NotCancellable here;
  return guarded(body);
}

int32_t make(bn2d_state **out, const std::function<std::shared_ptr<State>()> &made) {
  return guarded_with_files([&] {
    required(out, "out");
    NewHandle<bn2d_state> handle;
    handle->value = made();
    *out = handle.publish();
  });
}

void set(bn2d_state *state, const char *name, const Array &array) {
  const uint64_t nbytes = checked_nbytes(name, array, false);
  auto bytes = state::allocate_bytes(nbytes);
  gather(array, bytes.get());
  std::vector<state::NewTensor> tensors;
  tensors.push_back({name, array.type, array.shape, std::move(bytes)});
  checked(state, "state").value->set(std::move(tensors));
}

}  // namespace

int32_t bn2d_state_create(bn2d_state **out) {
  return make(out, [] { return std::make_shared<State>(); });
}
int32_t bn2d_state_open(const char *path, bn2d_state **out) {
  return make(out,
              [&] { return std::make_shared<State>(state::file_source(required(path, "path"))); });
}
int32_t bn2d_state_parse(const void *data, uint64_t nbytes, bn2d_state **out) {
  return make(out, [&] {
    required(data, "data");
    auto bytes = state::allocate_bytes(nbytes);
    if (nbytes > 0) std::memcpy(bytes.get(), data, nbytes);
    return std::make_shared<State>(state::memory_source(std::move(bytes), nbytes));
  });
}
int32_t bn2d_state_retain(bn2d_state *state) {
  return guarded([&] { retain(state, "state"); });
}
void bn2d_state_release(bn2d_state *state) {
  const NotCancellable here;  // the last one closes the file
  release(state);
}

int32_t bn2d_state_count(const bn2d_state *state, int64_t *out) {
  return guarded([&] { *required(out, "out") = state_of(state).size(); });
}
int32_t bn2d_state_find(const bn2d_state *state, const char *name, int64_t *out) {
  return guarded([&] {
    required(name, "name");
    required(out, "out");
    const State &s = state_of(state);
    const auto found = s.find(name);
    if (!found)
      fail(Status::not_found, "no tensor is named %s, the state has %" PRId64, quoted(name).c_str(),
           s.size());
    *out = *found;
  });
}
int32_t bn2d_state_name(const bn2d_state *state, int64_t index, const char **out) {
  return get(state, index, out, [](const state::Entry &entry) { return entry.name.c_str(); });
}
int32_t bn2d_state_dtype(const bn2d_state *state, int64_t index, int32_t *out) {
  return get(state, index, out, [](const state::Entry &entry) {
    return entry.type->dtype ? static_cast<int32_t>(*entry.type->dtype) : 0;
  });
}
int32_t bn2d_state_dtype_name(const bn2d_state *state, int64_t index, const char **out) {
  return get(state, index, out, [](const state::Entry &entry) { return entry.type->name; });
}
int32_t bn2d_state_rank(const bn2d_state *state, int64_t index, int32_t *out) {
  return get(state, index, out,
             [](const state::Entry &entry) { return static_cast<int32_t>(entry.shape.size()); });
}
int32_t bn2d_state_dim(const bn2d_state *state, int64_t index, int32_t dimension, int64_t *out) {
  return get(state, index, out, [dimension](const state::Entry &entry) {
    if (dimension < 0 || static_cast<size_t>(dimension) >= entry.shape.size())
      fail(Status::not_found, "dimension %" PRId32 " does not exist, %s has rank %zu", dimension,
           quoted(entry.name).c_str(), entry.shape.size());
    return entry.shape[static_cast<size_t>(dimension)];
  });
}
int32_t bn2d_state_nbytes(const bn2d_state *state, int64_t index, uint64_t *out) {
  return get(state, index, out, [](const state::Entry &entry) { return entry.nbytes(); });
}
int32_t bn2d_state_data(const bn2d_state *state, int64_t index, const void **out) {
  return guarded([&] {
    required(out, "out");
    const State &s = state_of(state);
    check_index(s, index);
    *out = s.data(index);
  });
}

int32_t bn2d_state_copy_to(const bn2d_state *state, int64_t index, const bn2d_view *target) {
  return guarded_with_files([&] {
    const auto &value = checked(state, "state").value;
    check_index(*value, index);
    const std::string &name = value->entry(index).name;
    state::Loader loader(value);
    loader.add({name, array_of("target", target, true)});
    loader.load(true);
  });
}

int32_t bn2d_state_set(bn2d_state *state, const char *name, const bn2d_view *source) {
  return guarded([&] { set(state, required(name, "name"), array_of("source", source, false)); });
}
int32_t bn2d_state_set_flat(bn2d_state *state, const char *name, int32_t dtype,
                            const int64_t *shape, int32_t rank, const void *data) {
  return guarded([&] {
    set(state, required(name, "name"), array_of("data", dtype, shape, rank, data, false));
  });
}

int32_t bn2d_state_set_module(bn2d_state *state, const char *prefix, bn2d_module *module) {
  return guarded([&] {
    State &s = *checked(state, "state").value;
    const std::string before = required(prefix, "prefix");
    std::vector<state::NewTensor> copies;
    required(module, "module");
    const ModuleLock lock(module, false);
    for_each_tensor(module, [&](TensorHandle &&, const char *name, const Array &array) {
      auto bytes = state::allocate_bytes(checked_nbytes(name, array, false));
      gather(array, bytes.get());
      copies.push_back({before + name, array.type, array.shape, std::move(bytes)});
    });
    s.set(std::move(copies));
  });
}

int32_t bn2d_state_metadata_count(const bn2d_state *state, int64_t *out) {
  return guarded(
      [&] { *required(out, "out") = static_cast<int64_t>(state_of(state).metadata().size()); });
}
int32_t bn2d_state_metadata_at(const bn2d_state *state, int64_t index, const char **out_key,
                               const char **out_value) {
  return guarded([&] {
    required(out_key, "out_key");
    required(out_value, "out_value");
    const auto &metadata = state_of(state).metadata();
    if (index < 0 || static_cast<size_t>(index) >= metadata.size())
      fail(Status::not_found, "metadata %" PRId64 " do not exist, the state has %zu", index,
           metadata.size());
    *out_key = metadata[static_cast<size_t>(index)].first.c_str();
    *out_value = metadata[static_cast<size_t>(index)].second.c_str();
  });
}
int32_t bn2d_state_set_metadata(bn2d_state *state, const char *key, const char *value) {
  return guarded([&] {
    required(key, "key");
    checked(state, "state").value->set_metadata(key, required(value, "value"));
  });
}

int32_t bn2d_state_save(const bn2d_state *state, const char *path) {
  return guarded_with_files([&] {
    const State &s = state_of(state);
    state::replace_file(required(path, "path"), [&](const state::Put &put) { s.write(put); });
  });
}

int32_t bn2d_state_write(const bn2d_state *state, void *buffer, uint64_t capacity,
                         uint64_t *length) {
  return guarded_with_files([&] {
    const State &s = state_of(state);
    const uint64_t size = s.file_size();
    if (capacity > 0) {
      required(buffer, "buffer");
      if (size > capacity)
        fail(Status::buffer_too_small, "the file needs %" PRIu64 " bytes, the buffer has %" PRIu64,
             size, capacity);
      auto *at = static_cast<char *>(buffer);
      s.write([&](const void *data, size_t count) {
        std::memcpy(at, data, count);
        at += count;
      });
    }
    if (length != nullptr) *length = size;
  });
}
