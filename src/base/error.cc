#include "base/error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace bn2d {

void fail(Status status, const char *format, ...) {
  Error error(status);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error.text, sizeof error.text, format, arguments);
  va_end(arguments);
  throw error;
}

Quoted::Quoted(const char *given) {
  constexpr int kShown = sizeof text - 6;  // quotes, dots and NUL
  const bool is_long = strnlen(given, kShown + 1) > kShown;
  std::snprintf(text, sizeof text, "'%.*s%s'", kShown, given, is_long ? "..." : "");
}

}  // namespace bn2d
