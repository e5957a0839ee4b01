// pthread_cancel: no function of the library is a cancellation point. A request waits until the
// caller has its status.
#include <pthread.h>
#include <unistd.h>

#include <functional>

#include "support/contract_functions.h"
#include "support/contract_handles.h"
#include "support/contract_process.h"

using namespace bn2d_test;

namespace {

struct Outcome {
  bool returned = false;  // the call came back
  bool ended = false;     // and the thread was then cancelled, as it was asked to be
};

// Runs the call on a thread that has been asked to end before: it would at the first cancellation
// point.
Outcome call_when_cancelled(const std::function<void()> &call) {
  struct Job {
    const std::function<void()> *call;
    bool returned;
    static void *run(void *pointer) {
      Job &job = *static_cast<Job *>(pointer);
      pthread_cancel(pthread_self());
      (*job.call)();
      job.returned = true;
      pthread_testcancel();
      return nullptr;
    }
  } job = {&call, false};
  pthread_t thread;
  REQUIRE(pthread_create(&thread, nullptr, Job::run, &job) == 0);
  void *result = nullptr;
  REQUIRE(pthread_join(thread, &result) == 0);
  return {job.returned, result == PTHREAD_CANCELED};
}

}  // namespace

TEST_CASE("cancel alone: the first large call", "[.]") {
  // oneTBB starts: it reads files, loads libraries and makes threads, each of them a cancellation
  // point.
  const int64_t n = 8, c = 16, side = 64;
  std::vector<float> x(static_cast<size_t>(n * c * side * side), 1.0f), y(x.size());
  bn2d_module *module = nullptr;
  if (bn2d_module_create(c, nullptr, &module) != BN2D_OK) _exit(2);
  int32_t status = BN2D_ERROR_INTERNAL;
  const auto forward = [&] {
    status = bn2d_forward_f32(module, x.data(), n, side, side, y.data(), nullptr);
  };
  const Outcome outcome = call_when_cancelled(forward);
  if (!outcome.returned || status != BN2D_OK) _exit(3);
  if (!outcome.ended) _exit(4);
  status = BN2D_ERROR_INTERNAL;
  forward();
  _exit(status == BN2D_OK ? kWell : 5);
}

TEST_CASE("cancel: during the first large call", "[cancel]") {
  // Catches a cancellation that is swallowed half way, on which the C library aborts (-6), and one
  // that unwinds oneTBB.
  for (int round = 0; round < 5; ++round)
    CHECK(run_alone("cancel alone: the first large call", "") == kWell);
}

TEST_CASE("cancel: during every function", "[cancel]") {
  // Catches a function that is a cancellation point, and one that leaves cancellation switched off,
  // or on.
  for (const FunctionEntry &entry : all_functions()) {
    INFO("bn2d_" << entry.name);
    World world;
    const auto call = [&] { (void)entry.call_with(world, kNoPointer, nullptr); };
    const Outcome outcome = call_when_cancelled(call);
    CHECK(outcome.returned);
    CHECK(outcome.ended);
  }
  const int64_t n = 8, c = 16, side = 64;
  std::vector<float> x(static_cast<size_t>(n * c * side * side), 1.0f), y(x.size());
  const Module module = make_module(c);
  const Outcome outcome = call_when_cancelled(
      [&] { (void)bn2d_forward_f32(module.get(), x.data(), n, side, side, y.data(), nullptr); });
  CHECK(outcome.returned);
  CHECK(outcome.ended);
  int before = 0, after = 0;
  REQUIRE(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before) == 0);
  (void)bn2d_forward_f32(module.get(), x.data(), n, side, side, y.data(), nullptr);
  REQUIRE(pthread_setcancelstate(before, &after) == 0);
  CHECK(after == PTHREAD_CANCEL_DISABLE);
}
