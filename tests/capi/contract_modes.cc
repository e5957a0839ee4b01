// A module's mode that changes while a call begins: at each instruction of the call, one after the
// other. Not under the address sanitizer: its instructions are many, and take 150 s.
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#include <signal.h>
#include <ucontext.h>

#include "support/contract_handles.h"

using namespace bn2d_test;

namespace {

// What the trap after each instruction does: nothing, and after the last of so many steps
// bn2d_module_eval().
bn2d_module *volatile g_module;
const volatile int64_t *volatile g_counter;
volatile int g_steps;
volatile bool g_armed;
volatile int32_t g_status;
volatile int64_t g_count;

void on_trap(int, siginfo_t *, void *context) {
  greg_t &flags = static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_EFL];
  constexpr greg_t kTrapFlag = 0x100;
  flags &= ~kTrapFlag;
  if (!g_armed) return;
  if (g_steps-- > 0) {
    flags |= kTrapFlag;
    return;
  }
  g_armed = false;
  g_status = bn2d_module_eval(g_module);
  g_count = *g_counter;
}

}  // namespace

TEST_CASE("modes: eval while a training step begins", "[modes]") {
  // Catches a forward that goes by a mode that it read before it had the module: what follows is a
  // training step, and one more count, although eval mode has been confirmed.
  const Module module = make_module(2);
  const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float y[8];
  REQUIRE(bn2d_forward_f32(module.get(), x, 1, 2, 2, y, nullptr) ==
          BN2D_OK);  // what happens once has happened
  g_module = module.get();
  g_counter = data_of<int64_t>(module, "num_batches_tracked");
  struct sigaction action {
  }, previous{};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGTRAP, &action, &previous) == 0);
  int moved = 0, refused = 0, steps = 0;
  for (; steps < 20000; ++steps) {
    REQUIRE(bn2d_module_train(module.get(), 1) == BN2D_OK);
    g_steps = steps;
    g_status = BN2D_ERROR_INTERNAL;
    g_armed = true;
    __asm__ volatile("int3" ::: "memory");
    const int32_t status = bn2d_forward_f32(module.get(), x, 1, 2, 2, y, nullptr);
    g_armed = false;
    if (g_status != BN2D_OK) break;  // the call has the module
    moved += *g_counter != g_count;
    refused += status == BN2D_ERROR_BUSY;
  }
  REQUIRE(sigaction(SIGTRAP, &previous, nullptr) == 0);
  CHECK(g_status == BN2D_ERROR_BUSY);
  CHECK(moved == 0);
  CHECK(refused > 0);
}
#else
#include "support/catch.h"

TEST_CASE("modes: eval while a training step begins", "[modes]") {
  WARN("needs Linux on x86-64, and no address sanitizer");
}
#endif
