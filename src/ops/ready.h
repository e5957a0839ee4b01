// Calls that get their memory together, and the parts of forward and backward that others run.
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

struct ForwardCall;
struct BackwardCall;
// Not empty, and all sets have as many samples (ops/last_set.h).
void forward_parts(const ForwardCall *calls, int count, const Ready &before);
void backward_by_planes(const BackwardCall &call);
// Of a forward, for its backward: weight and bias as they are.
void save_parameters(const ForwardCall &call);

}  // namespace bn2d
