// What a fork means for us. Only the thread that forks lives on in the child: a lock that another
// thread held stays locked for ever, and what another thread was doing stays half done. So this
// library has no locks, and no static whose initialisation takes one; what says "in use" also says
// since which fork.
#pragma once
#include <cstdint>

namespace bn2d {

// Counts the forks between the first call of this function and now: no two processes that hold the
// same memory have the same number. The handler that counts is registered at the first call, not
// when the library is loaded.
uint32_t fork_generation() noexcept;

}  // namespace bn2d
