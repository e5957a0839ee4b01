// Keeps pthread_cancel out. A cancelled thread is unwound as by an exception, at any call that
// may wait; oneTBB and the loader's code below it are not made for that. 8 ns a pair, so only
// around what may wait.
#pragma once
#include <pthread.h>

namespace bn2d {

class NotCancellable {
 public:
  NotCancellable() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NotCancellable() { pthread_setcancelstate(before_, nullptr); }
  NotCancellable(const NotCancellable &) = delete;
  NotCancellable &operator=(const NotCancellable &) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace bn2d
