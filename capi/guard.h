// The boundary: what happens inside a C function becomes a status and a message, and nothing else
// gets out.
#pragma once
#include <cstdint>
#include <type_traits>

#include "base/error.h"

namespace bn2d::capi {

// Keeps the text for bn2d_last_error() of this thread.
int32_t report(Status status, const char *text) noexcept;
const char *last_error() noexcept;

// The status of the exception that is being handled.
int32_t report_exception();

// Runs the body of a C function. All of its checks and allocations throw before it changes
// anything. The floating-point state and the handler are not inlined: a hundred copies are 12 KB.
int32_t guarded(void (*body)(void *), void *object);
template <class Body>
int32_t guarded(Body &&body) {
  return guarded([](void *object) { (*static_cast<std::remove_reference_t<Body> *>(object))(); },
                 &body);
}

// A pointer that must not be NULL.
[[noreturn]] void fail_null(const char *name);
template <class T>
T *required(T *pointer, const char *name) {
  if (pointer == nullptr) fail_null(name);
  return pointer;
}

}  // namespace bn2d::capi
