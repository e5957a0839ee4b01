// Calls that get their memory together.
#pragma once

namespace bn2d {

// Several calls get their memory before the first one writes anything: an operation that is ready
// runs those that came before it.
struct Ready {
  const void *object = nullptr;
  void (*call)(const void *) = nullptr;
  void run() const {
    if (call != nullptr) call(object);
  }
  template <class F>
  static Ready of(const F &f) {
    return {&f, [](const void *object) { (*static_cast<const F *>(object))(); }};
  }
};

}  // namespace bn2d
