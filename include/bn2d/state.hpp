/* SPDX-License-Identifier: MIT */
/**
 * @file state.hpp
 * @brief State files in C++17: owners and exceptions over state.h. Header-only; link with
 * bn2d::state.
 *
 *     bn2d::State state;
 *     state.set("layer1.0.bn1.", bn1);                          // a module, under its prefix
 *     state.set("conv.weight", weights.data(), {64, 32, 3, 3}); // any tensor
 *     state.save("model.safetensors");                          // whole or not at all
 *
 *     const auto file = bn2d::State::open("model.safetensors");
 *     bn2d::Loader loader(file);
 *     loader.add("layer1.0.bn1.", bn1);
 *     loader.add("conv.weight", weights.data(), {64, 32, 3, 3});
 *     loader.load();                                            // all of it or nothing
 *
 * state.h is the manual, bn2d.hpp tells about errors (exceptions, or Results without them) and
 * ownership. A program that is not linked with the library gives a StateLibrary that it has loaded.
 */
#ifndef BN2D_STATE_HPP
#define BN2D_STATE_HPP

#include <bn2d/state.h>

#include <bn2d/bn2d.hpp>

namespace bn2d {
#if defined(BN2D_NO_EXCEPTIONS)
inline namespace with_results {
#else
inline namespace with_exceptions {
#endif

/* ----------------------------------------------------------------------------------- states */

/** libbn2d_state, beside the libbn2d that it uses. A plain value. */
class StateLibrary {
 public:
  StateLibrary(const Library &library, const bn2d_state_api &api) noexcept
      : library_(library), api_(&api) {}
  /** The library that this program is linked with. */
  static StateLibrary linked() noexcept { return {Library::linked(), *bn2d_state_get_api(1)}; }
#if __has_include(<dlfcn.h>)
  /** Loads it; Status::not_found with the loader's message. `library` is the libbn2d of the
   * modules. */
  static Returns<StateLibrary> open(const Library &library,
                                    const char *path = "libbn2d_state.so.1") {
    void *const loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *const symbol = loaded != nullptr ? dlsym(loaded, "bn2d_state_get_api") : nullptr;
    if (symbol == nullptr) {
      const char *const why = dlerror();
      return detail::failed<StateLibrary>(
          detail::fault(Status::not_found, "%s", why != nullptr ? why : path));
    }
    return StateLibrary(library, *reinterpret_cast<decltype(&bn2d_state_get_api)>(symbol)(1));
  }
#endif
  const Library &library() const { return library_; }
  const bn2d_state_api &api() const { return *api_; }

 private:
  Library library_;
  const bn2d_state_api *api_;
};

namespace detail {

template <class Handle, void (*bn2d_state_api::*kRelease)(Handle *)>
class StateOwner {
 public:
  StateOwner(const StateLibrary &library, Handle *handle) noexcept
      : library_(library), handle_(handle) {}
  StateOwner(StateOwner &&other) noexcept
      : library_(other.library_), handle_(std::exchange(other.handle_, nullptr)) {}
  StateOwner &operator=(StateOwner &&other) noexcept {
    std::swap(library_, other.library_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~StateOwner() {
    if (handle_ != nullptr) (library_.api().*kRelease)(handle_);
  }
  const StateLibrary &library() const { return library_; }
  const bn2d_state_api &api() const { return library_.api(); }
  Handle *get() const { return handle_; }
  Fault fault(int32_t status) const { return fault_of(library_.library().api(), status); }
  Returns<void> finish(int32_t status) const { return detail::finish(fault(status)); }

 private:
  StateLibrary library_;
  Handle *handle_;
};

/** A text goes to C as far as its first NUL: one that has any is refused. */
inline Fault check_text(const char *what, const std::string &text) {
  const size_t nul = text.find('\0');
  if (nul == std::string::npos) return {};
  return fault(Status::invalid_argument, "%s has %lld bytes, and a NUL at byte %lld", what,
               number(uint64_t{text.size()}), number(uint64_t{nul}));
}
}  // namespace detail

/** Named tensors, in memory or of a file. Status::invalid_argument for a text with a NUL in it. */
class State {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  /** Without tensors. */
  State() : State(create()) {}
#endif
  static Returns<State> create(const StateLibrary &library = StateLibrary::linked()) {
    return made(library, [&](bn2d_state **out) { return library.api().state_create(out); });
  }
  /** A safetensors file; Status::io, Status::format. */
  static Returns<State> open(const std::string &path,
                             const StateLibrary &library = StateLibrary::linked()) {
    if (const auto fault = detail::check_text("path", path)) return detail::failed<State>(fault);
    return made(library,
                [&](bn2d_state **out) { return library.api().state_open(path.c_str(), out); });
  }
  /** The same in memory, which is copied. */
  static Returns<State> parse(const void *data, size_t nbytes,
                              const StateLibrary &library = StateLibrary::linked()) {
    return made(library,
                [&](bn2d_state **out) { return library.api().state_parse(data, nbytes, out); });
  }

  /** A tensor, copied: new, or in the place of the one that has this name. */
  template <class T>
  Returns<void> set(const std::string &name, const T *data, const std::vector<int64_t> &shape) {
    if (const auto fault = detail::check_text("name", name)) return detail::failed<void>(fault);
    return owner_.finish(owner_.api().state_set_flat(
        owner_.get(), name.c_str(), static_cast<int32_t>(dtype_of<T>::value), shape.data(),
        static_cast<int32_t>(shape.size()), data));
  }
  /** A module's parameters and buffers; a shared call of the module. */
  Returns<void> set(const std::string &prefix, const Module &module) {
    if (const auto fault = detail::check_text("prefix", prefix)) return detail::failed<void>(fault);
    return owner_.finish(owner_.api().state_set_module(owner_.get(), prefix.c_str(), module.get()));
  }
  Returns<void> set_metadata(const std::string &key, const std::string &value) {
    if (const auto fault = detail::check_text("key", key)) return detail::failed<void>(fault);
    if (const auto fault = detail::check_text("value", value)) return detail::failed<void>(fault);
    return owner_.finish(owner_.api().state_set_metadata(owner_.get(), key.c_str(), value.c_str()));
  }
  /** The whole file or the old one. */
  Returns<void> save(const std::string &path) const {
    if (const auto fault = detail::check_text("path", path)) return detail::failed<void>(fault);
    return owner_.finish(owner_.api().state_save(owner_.get(), path.c_str()));
  }
  Returns<std::string> serialize() const {
    uint64_t length = 0;
    if (const auto fault =
            owner_.fault(owner_.api().state_write(owner_.get(), nullptr, 0, &length)))
      return detail::failed<std::string>(fault);
    std::string file(length, '\0');
    if (const auto fault =
            owner_.fault(owner_.api().state_write(owner_.get(), file.data(), length, nullptr)))
      return detail::failed<std::string>(fault);
    return file;
  }

  /** In the order of the file. */
  Returns<std::vector<std::string>> names() const {
    std::vector<std::string> found;
    int64_t count = 0;
    if (const auto fault = owner_.fault(owner_.api().state_count(owner_.get(), &count)))
      return detail::failed<std::vector<std::string>>(fault);
    for (int64_t i = 0; i < count; ++i) {
      const char *name = nullptr;
      if (const auto fault = owner_.fault(owner_.api().state_name(owner_.get(), i, &name)))
        return detail::failed<std::vector<std::string>>(fault);
      found.emplace_back(name);
    }
    return found;
  }
  /** Status::not_found where there is none of that name. */
  Returns<std::vector<int64_t>> shape(const std::string &name) const {
    int64_t index = 0;
    int32_t rank = 0;
    auto fault = detail::check_text("name", name);
    if (!fault) fault = owner_.fault(owner_.api().state_find(owner_.get(), name.c_str(), &index));
    if (!fault) fault = owner_.fault(owner_.api().state_rank(owner_.get(), index, &rank));
    std::vector<int64_t> extents(static_cast<size_t>(rank));
    for (int32_t d = 0; d < rank && !fault; ++d)
      fault = owner_.fault(
          owner_.api().state_dim(owner_.get(), index, d, &extents[static_cast<size_t>(d)]));
    if (fault) return detail::failed<std::vector<int64_t>>(fault);
    return extents;
  }

  const StateLibrary &library() const { return owner_.library(); }
  bn2d_state *get() const { return owner_.get(); }

 private:
  State(const StateLibrary &library, bn2d_state *handle) : owner_(library, handle) {}
  template <class Make>
  static Returns<State> made(const StateLibrary &library, Make make) {
    bn2d_state *handle = nullptr;
    if (const auto fault = detail::fault_of(library.library().api(), make(&handle)))
      return detail::failed<State>(fault);
    return State(library, handle);
  }
  detail::StateOwner<bn2d_state, &bn2d_state_api::state_release> owner_;
};

/** What is to be loaded from a State. */
class Loader {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  explicit Loader(const State &state) : Loader(create(state)) {}
#endif
  static Returns<Loader> create(const State &state) {
    bn2d_loader *made = nullptr;
    const StateLibrary &library = state.library();
    if (const auto fault = detail::fault_of(library.library().api(),
                                            library.api().loader_create(state.get(), &made)))
      return detail::failed<Loader>(fault);
    return Loader(library, made);
  }

  /** A module's parameters and buffers. It may end before the loader does. */
  Returns<void> add(const std::string &prefix, Module &module) {
    if (const auto fault = detail::check_text("prefix", prefix)) return detail::failed<void>(fault);
    return owner_.finish(
        owner_.api().loader_add_module(owner_.get(), prefix.c_str(), module.get()));
  }
  /** Memory of the caller, which stays in place until the load. */
  template <class T>
  Returns<void> add(const std::string &name, T *data, const std::vector<int64_t> &shape) {
    if (const auto fault = detail::check_text("name", name)) return detail::failed<void>(fault);
    return owner_.finish(owner_.api().loader_add_flat(
        owner_.get(), name.c_str(), static_cast<int32_t>(dtype_of<T>::value), shape.data(),
        static_cast<int32_t>(shape.size()), data));
  }
  /** Loads all of it or nothing. Without `strict`, missing and unexpected names are listed only. */
  Returns<void> load(bool strict = true) {
    return owner_.finish(owner_.api().loader_load(owner_.get(), strict));
  }

  /** Names of the last load; of the mismatched ones with the reason: "bn.weight has shape (3), must
   * have (4)". */
  Returns<std::vector<std::string>> missing() const { return problems(BN2D_PROBLEM_MISSING); }
  Returns<std::vector<std::string>> unexpected() const { return problems(BN2D_PROBLEM_UNEXPECTED); }
  Returns<std::vector<std::string>> mismatched() const { return problems(BN2D_PROBLEM_MISMATCHED); }

 private:
  Loader(const StateLibrary &library, bn2d_loader *handle) : owner_(library, handle) {}
  Returns<std::vector<std::string>> problems(int32_t kind) const {
    std::vector<std::string> found;
    int64_t count = 0;
    if (const auto fault =
            owner_.fault(owner_.api().loader_problem_count(owner_.get(), kind, &count)))
      return detail::failed<std::vector<std::string>>(fault);
    for (int64_t i = 0; i < count; ++i) {
      const char *name = nullptr, *text = nullptr;
      if (const auto fault =
              owner_.fault(owner_.api().loader_problem_at(owner_.get(), kind, i, &name, &text)))
        return detail::failed<std::vector<std::string>>(fault);
      found.push_back(kind == BN2D_PROBLEM_MISMATCHED ? std::string(name) + " " + text
                                                      : std::string(name));
    }
    return found;
  }
  detail::StateOwner<bn2d_loader, &bn2d_state_api::loader_release> owner_;
};

}  // inline namespace
}  // namespace bn2d

#endif  // BN2D_STATE_HPP
