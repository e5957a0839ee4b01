// Runs units of work on the threads of a pool.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

#include "parallel/pool.h"

namespace bn2d {

// A reference to a callable: no allocation, no copy. Valid during the call it is passed to.
class UnitFunction {
 public:
  template <class F,
            class = std::enable_if_t<!std::is_same_v<std::remove_const_t<F>, UnitFunction>>>
  UnitFunction(F &f)  // NOLINT: implicit on purpose
      : object_(std::addressof(f)), call_([](void *object, int64_t unit, int worker) {
          if constexpr (std::is_invocable_v<F &, int64_t, int>) {
            (*static_cast<F *>(object))(unit, worker);
          } else {
            (*static_cast<F *>(object))(unit);
          }
        }) {}
  void operator()(int64_t unit, int worker) const { call_(object_, unit, worker); }

 private:
  void *object_;
  void (*call_)(void *, int64_t, int);
};

enum class Order { forward, reverse };

// Calls f(unit), or f(unit, worker), once for each unit in [0, units), on at most `workers`
// threads; returns when all are done. `worker`, in [0, workers), has one thread at a time: memory
// can be given to each. Each worker walks a contiguous range of its own, forward or in reverse, and
// then helps the others. f must not throw. The caller's thread takes part and runs nothing else
// meanwhile; the workers use its floating-point mode. `after`: called once for each worker, by the
// thread that it ran on.
void for_each_unit(const Pool &pool, int workers, int64_t units, Order order, UnitFunction f,
                   void (*after)() = nullptr) noexcept;

// Threads that a call from here may use: those of the pool. 1 where it cannot be used, or not now:
// where a pool was used before the last fork, inside a parallel region of OpenMP, where oneTBB has
// failed, and while another thread starts it.
int available_threads(const Pool &pool) noexcept;

// Notes that the threads of a pool are in use from now on, so that a child of fork() does not wait
// for them. The fork since which they are, plus one.
uint64_t note_pool_in_use() noexcept;

}  // namespace bn2d
