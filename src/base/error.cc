#include "base/error.h"

#include <cstdarg>
#include <cstdio>

namespace bn2d {

void fail(Status status, const char *format, ...) {
  Error error(status);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error.text, sizeof error.text, format, arguments);
  va_end(arguments);
  throw error;
}

}  // namespace bn2d
