#include "guard.h"

#include <cstring>

namespace bn2d::capi {
namespace {

// Plain bytes: no constructor, no destructor, so that the thread-local variable does not pin the library or run code at
// thread exit.
thread_local char t_last_error[Error::kTextBytes];

}  // namespace

int32_t report(Status status, const char *text) noexcept {
  std::strncpy(t_last_error, text, sizeof t_last_error - 1);
  t_last_error[sizeof t_last_error - 1] = '\0';
  return static_cast<int32_t>(status);
}

const char *last_error() noexcept { return t_last_error; }

}  // namespace bn2d::capi
