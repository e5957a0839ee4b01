// The mode of a module while several threads use it.
#include <atomic>
#include <thread>

#include "support/contract_handles.h"

using namespace bn2d_test;

TEST_CASE("modes: a mode that changes while a call begins", "[modes][threads]") {
  // Catches a forward that goes by a mode that it read before it had the module: what follows is a training step, and
  // one more count, although eval mode has been confirmed to somebody.
  const Module module = make_module(2);
  const int64_t *counter = data_of<int64_t>(module, "num_batches_tracked");
  std::atomic<bool> stop{false};
  std::thread caller([&] {
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float y[8];
    while (!stop) (void)bn2d_forward_f32(module.get(), x, 1, 2, 2, y, nullptr);
  });
  int moved = 0;
  for (int round = 0, confirmed = 0; round < 10000000 && confirmed < 100000; ++round) {
    if (bn2d_module_eval(module.get()) != BN2D_OK) continue;  // busy
    ++confirmed;
    // From here to train() no training step may run.
    const int64_t before = *counter;
    for (volatile int spin = 0; spin < 200; ++spin) {
    }
    moved += *counter != before;
    while (bn2d_module_train(module.get(), 1) != BN2D_OK) {
    }
  }
  stop = true;
  caller.join();
  CHECK(moved == 0);
}
