// The boundary: what happens inside a C function becomes a status and a message, and nothing else gets out.
#pragma once
#include <cstdint>

#include "base/error.h"
#include "base/floating_point.h"

namespace bn2d::capi {

// Keeps the text for bn2d_last_error() of this thread.
int32_t report(Status status, const char *text) noexcept;
const char *last_error() noexcept;

// The status of the exception that is being handled.
int32_t report_exception();

// Runs the body of a C function. All of its checks and allocations throw before it changes anything.
template <class Body>
int32_t guarded(Body &&body) {
  const QuietArithmetic quiet;
  try {
    body();
    return 0;
  } catch (...) {
    return report_exception();
  }
}

// A pointer that must not be NULL.
template <class T>
T *required(T *pointer, const char *name) {
  if (pointer == nullptr) fail(Status::invalid_argument, "%s is NULL", name);
  return pointer;
}

}  // namespace bn2d::capi
