#include "guard.h"

#include <new>
#if __has_include(<cxxabi.h>)
#include <cxxabi.h>
#endif

#include "base/floating_point.h"

namespace bn2d::capi {

int32_t guarded(void (*body)(void *), void *object) {
  const QuietArithmetic quiet;
  try {
    body(object);
    return 0;
  } catch (...) {
    return report_exception();
  }
}

void fail_null(const char *name) { fail(Status::invalid_argument, "%s is NULL", name); }

// Here, and not in every function, for the size.
int32_t report_exception() {
  try {
    throw;
  } catch (const Error &error) {
    return report(error.status, error.text);
  } catch (const std::bad_alloc &) {
    return report(Status::out_of_memory, "out of memory");
  } catch (const std::exception &error) {
    return report(Status::internal, error.what());
#if defined(__GLIBCXX__)
  } catch (const abi::__forced_unwind &) {
    // The thread ends, by pthread_exit() in an allocator of the host, say. The C library aborts
    // where that is caught.
    throw;
#endif
  } catch (...) {
    return report(Status::internal, "unknown exception inside bn2d");
  }
}

}  // namespace bn2d::capi
