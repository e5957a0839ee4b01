// Calls that get their memory together.
#pragma once

namespace bn2d {

// A call that has all the memory it needs, and what was ready before it. Several calls get theirs
// before the first one writes anything.
struct Ready {
  const void *object = nullptr;
  void (*call)(const void *) = nullptr;
  const Ready *before = nullptr;
  // As often as one likes, where tensors are contiguous and no doubles: it reads them anew. Of
  // others, what prepares it has copied elements, or taken means.
  void run() const { call(object); }
  void run_all() const {
    if (before != nullptr) before->run_all();
    run();
  }
  template <class F>
  static Ready of(const F &f, const Ready *before) {
    return {&f, [](const void *object) { (*static_cast<const F *>(object))(); }, before};
  }
};

// Who runs calls when all are ready: it gets the last of them, which knows the others. Without one
// they run one after another.
struct Driver {
  const void *object = nullptr;
  void (*drive)(const void *, const Ready &last) = nullptr;
  void run(const Ready &last) const {
    if (drive == nullptr) return last.run_all();
    drive(object, last);
  }
  template <class F>
  static Driver of(const F &f) {
    return {&f,
            [](const void *object, const Ready &last) { (*static_cast<const F *>(object))(last); }};
  }
};

}  // namespace bn2d
