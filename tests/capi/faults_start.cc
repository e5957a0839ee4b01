// When oneTBB cannot start: what it asks of the system while the first large call runs fails, one
// request at a time, each in a new process. The program's own malloc and pthread_create come before
// those of the C library, also for oneTBB; the sanitizers have theirs, so not with them. oneTBB's
// allocator maps its memory behind our back: a limit of the address space stops that.
//
// One malloc fails, not all from then on: then glibc itself aborts, which needs memory to pass an
// exception on through pthread_once.
#include <unistd.h>  // says whether it is glibc's
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <thread>

#include "support/contract_handles.h"
#include "support/contract_process.h"

namespace {

enum What { kMalloc, kThread, kAddressSpace, kKinds };

constexpr int kStep = 512 << 10;  // bytes of address space

// Requests until one fails, of any thread; negative: none does.
std::atomic<int> g_until_failure[kKinds] = {{-1}, {-1}, {-1}};
std::atomic<bool> g_all{false};  // kThread: not one, but none any more
std::atomic<bool> g_failed{false};

bool request_fails(What what) {
  std::atomic<int> &until = g_until_failure[what];
  int now = until.load(std::memory_order_relaxed);
  do {
    if (now < 0) return false;
  } while (!until.compare_exchange_weak(now, now == 0 && g_all ? 0 : now - 1));
  if (now > 0) return false;
  g_failed = true;
  return true;
}

}  // namespace

#define EXPORTED __attribute__((visibility("default")))
extern "C" {
void *__libc_malloc(size_t);          // NOLINT: names of the C library
void *__libc_calloc(size_t, size_t);  // NOLINT

EXPORTED void *malloc(size_t bytes) {
  return request_fails(kMalloc) ? (errno = ENOMEM, nullptr) : __libc_malloc(bytes);
}
EXPORTED void *calloc(size_t count, size_t bytes) {
  return request_fails(kMalloc) ? (errno = ENOMEM, nullptr) : __libc_calloc(count, bytes);
}
EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*run)(void *), void *argument) {
  using Function = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_create"));
  return request_fails(kThread) ? EAGAIN : next(thread, attributes, run, argument);
}
}

using namespace bn2d_test;

TEST_CASE("faults alone: the start of oneTBB", "[.]") {
  int what = 0, until = 0, all = 0;
  if (std::sscanf(argument_of_alone().c_str(), "%d %d %d", &what, &until, &all) != 3) _exit(2);
  const int64_t n = 8, c = 16, side = 64;
  const auto count = static_cast<size_t>(n * c * side * side);
  std::vector<float> x(count), y(count), expected(count);
  for (size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i * 2654435761u % 1000) * 0.001f;
  bn2d_module *module = nullptr;
  if (bn2d_module_create(c, nullptr, &module) != BN2D_OK) _exit(2);
  const auto forward = [&](std::vector<float> &to) {
    return bn2d_forward_f32(module, x.data(), n, side, side, to.data(), nullptr);
  };
  if (bn2d_set_num_threads(1) != BN2D_OK || forward(expected) != BN2D_OK)
    _exit(2);  // without oneTBB
  if (bn2d_set_num_threads(0) != BN2D_OK) _exit(2);
  g_all = all != 0;
  rlimit before{}, limit{};
  if (what == kAddressSpace) {
    long pages = 0;
    std::FILE *const statm = std::fopen("/proc/self/statm", "r");
    if (statm == nullptr || std::fscanf(statm, "%ld", &pages) != 1 || std::fclose(statm) != 0)
      _exit(2);
    getrlimit(RLIMIT_AS, &before);
    limit = before;
    limit.rlim_cur =
        static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + static_cast<rlim_t>(until) * kStep;
    setrlimit(RLIMIT_AS, &limit);
  }
  g_until_failure[what] = until;
  const int32_t status = forward(y);
  g_until_failure[what] = -1;
  if (what == kAddressSpace) {
    setrlimit(RLIMIT_AS, &before);
    g_failed = true;
  }
  if (status != BN2D_OK && status != BN2D_ERROR_OUT_OF_MEMORY) _exit(3);
  if (status == BN2D_OK && y != expected) _exit(4);
  for (int again = 0; again < 3; ++again) {
    std::fill(y.begin(), y.end(), 0.0f);
    if (forward(y) != BN2D_OK) _exit(5);
    if (y != expected) _exit(6);
  }
  // Where there was no room at all, nothing has failed for good: several threads are at work now.
  namespace fs = std::filesystem;
  const auto threads = std::distance(fs::directory_iterator("/proc/self/task"), {});
  if (what == kAddressSpace && until == 0 && processors() > 1 && threads < 2) _exit(7);
  _exit(g_failed ? kWell : 1);
}

TEST_CASE("faults: oneTBB cannot start", "[faults]") {
  // Catches a second call that waits for ever for what the first one did not finish (-14), and an
  // exception or a signal that gets out.
  const auto outcome = [](What what, int until, bool all) {
    return run_alone("faults alone: the start of oneTBB",
                     std::to_string(what) + " " + std::to_string(until) + " " + (all ? "1" : "0"),
                     10);
  };
  // On one processor oneTBB starts no thread.
  const bool is_started = processors() > 1;
  int until = 0;
  for (; until < 200; ++until) {
    const int with = outcome(kMalloc, until, false);
    if (with == 1) break;  // there were not so many
    INFO("malloc " << until);
    CHECK(with == kWell);
  }
  CHECK(until > 10);  // the requests were found
  for (const bool all : {false, true}) {
    INFO("threads, all " << all);
    CHECK(outcome(kThread, 0, all) == (is_started ? kWell : 1));
  }
  for (until = 0; until < 10 * (1 << 20) / kStep; ++until) {
    INFO(until * kStep << " bytes of address space more");
    CHECK(outcome(kAddressSpace, until, false) == kWell);
  }
}
#endif
