#include "state/file_error.h"

#include <cstring>

#include "base/error.h"

namespace bn2d::state {
namespace {

// strerror_r is one of two functions, by the C library and its macros.
[[maybe_unused]] const char *text_of(int result, const char *buffer) {
  return result == 0 ? buffer : "unknown error";
}
[[maybe_unused]] const char *text_of(const char *result, const char *) { return result; }

}  // namespace

void fail_file(const char *what, const std::string &path, int error) {
  // The end of a long path tells more than its begin.
  constexpr size_t kShown = 120;
  const std::string shown =
      path.size() <= kShown ? path : "..." + path.substr(path.size() - kShown);
  if (error == 0) fail(Status::io, "%s '%s'", what, shown.c_str());
  char buffer[80];
  fail(Status::io, "%s '%s': %s", what, shown.c_str(),
       text_of(::strerror_r(error, buffer, sizeof buffer), buffer));
}

}  // namespace bn2d::state
