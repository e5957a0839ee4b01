// The one error path: everything that a caller can get wrong leaves the core as an Error with a
// status and one line of text.
#pragma once
#include <cstdint>
#include <exception>

namespace bn2d {

// Numbers as in bn2d.h (capi asserts that they agree).
enum class Status : int32_t {
  ok = 0,
  invalid_argument = -1,
  invalid_handle = -2,
  not_found = -3,
  shape = -4,
  dtype = -5,
  device = -6,
  layout = -7,
  overlap = -8,
  overflow = -9,
  too_few_values = -10,
  state = -11,
  busy = -12,
  buffer_too_small = -13,
  out_of_memory = -14,
  internal = -15,
  io = -16,
  format = -17,
};

// Carries its text in place: reporting an error never allocates.
class Error : public std::exception {
 public:
  static constexpr int kTextBytes = 256;
  Status status;
  char text[kTextBytes];
  explicit Error(Status s) : status(s), text{} {}
  const char *what() const noexcept override { return text; }
};

// Throws an Error; the text states the fact and both values, in one line.
[[noreturn]] void fail(Status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// A text of the caller's as it is told in a message: in quotes, its end left out where it is long.
struct Quoted {
  explicit Quoted(const char *given);
  char text[64];
};

}  // namespace bn2d
