// bn2d_module_try_lock(): whom it keeps out, and that only what was locked can be unlocked.

#include <thread>

#include "support/contract_failures.h"
#include "support/contract_gate.h"
#include "support/contract_handles.h"
#include "support/contract_process.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

int32_t eval_forward(const Module &module) {
  const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float y[8];
  return bn2d_forward_f32(module.get(), x, 1, 2, 2, y, nullptr);
}

}  // namespace

TEST_CASE("locks: an exclusive one keeps out all, a shared one the writers", "[locks]") {
  // Catches a lock that is none, one that lets its own thread through, and one that does not end.
  const Module module = make_module(2);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  CHECK(bn2d_module_try_lock(module.get(), 1) == BN2D_ERROR_BUSY);
  CHECK(bn2d_module_try_lock(module.get(), 0) == BN2D_ERROR_BUSY);
  CHECK(eval_forward(module) == BN2D_ERROR_BUSY);
  CHECK(bn2d_module_eval(module.get()) == BN2D_ERROR_BUSY);
  REQUIRE(bn2d_module_unlock(module.get(), 1) == BN2D_OK);

  for (int i = 0; i < 3; ++i) REQUIRE(bn2d_module_try_lock(module.get(), 0) == BN2D_OK);
  for (int i = 0; i < 3; ++i) {
    CHECK(eval_forward(module) == BN2D_OK);
    CHECK(bn2d_module_eval(module.get()) == BN2D_ERROR_BUSY);
    CHECK(bn2d_module_try_lock(module.get(), 1) == BN2D_ERROR_BUSY);
    int32_t status = BN2D_ERROR_INTERNAL;  // locked here, unlocked there
    std::thread([&] { status = bn2d_module_unlock(module.get(), 0); }).join();
    CHECK(status == BN2D_OK);
  }
  CHECK(bn2d_module_eval(module.get()) == BN2D_OK);
}

TEST_CASE("locks: who has locked a module reaches its tensors", "[locks]") {
  // Catches a function of a tensor that asks whether its module is in use: what a host locks it for
  // would fail.
  const Module module = make_module(2);
  const Tensor weight = tensor_of(module, "weight");
  for (const int32_t exclusive : {1, 0}) {
    INFO("exclusive " << exclusive);
    REQUIRE(bn2d_module_try_lock(module.get(), exclusive) == BN2D_OK);
    const float by_view[2] = {3, 5}, flat[2] = {7, 11};
    float got[2] = {};
    CHECK(bn2d_tensor_copy_from(
              weight.get(), View::vector(const_cast<float *>(by_view), BN2D_F32, 2)) == BN2D_OK);
    CHECK(bn2d_tensor_copy_to(weight.get(), View::vector(got, BN2D_F32, 2)) == BN2D_OK);
    CHECK((got[0] == 3 && got[1] == 5));
    CHECK(bn2d_tensor_copy_from_flat(weight.get(), BN2D_F32, flat, 2) == BN2D_OK);
    CHECK(bn2d_tensor_copy_to_flat(weight.get(), BN2D_F32, got, 2) == BN2D_OK);
    CHECK((got[0] == 7 && got[1] == 11));
    CHECK(data_of<float>(weight)[1] == 11);
    CHECK(data_of<float>(module, "running_var")[0] == 1);  // looked up under the lock
    CHECK(bn2d_tensor_set_requires_grad(weight.get(), 0) == BN2D_OK);
    bn2d_tensor *gradient = nullptr;
    CHECK(bn2d_tensor_grad(weight.get(), &gradient) == BN2D_OK);
    bn2d_tensor_release(gradient);
    REQUIRE(bn2d_module_unlock(module.get(), exclusive) == BN2D_OK);
  }
}

TEST_CASE("locks: which forward is shared and which needs the module alone", "[locks]") {
  // Catches a forward that moves something beside others, and the header's list of those that may
  // run at once. A shared lock keeps out exactly the exclusive ones.
  enum class Norm { batch, untracked, group, instance, tracked_instance };
  struct Case {
    Norm norm;
    bool training, frozen, shared;
  };
  for (const Case &one :
       {Case{Norm::batch, true, false, false}, Case{Norm::batch, true, true, true},
        Case{Norm::batch, false, false, true}, Case{Norm::batch, false, true, true},
        Case{Norm::untracked, true, false, false}, Case{Norm::untracked, false, false, false},
        Case{Norm::group, true, false, false}, Case{Norm::group, false, false, true},
        Case{Norm::instance, true, false, false}, Case{Norm::instance, false, false, true},
        Case{Norm::tracked_instance, true, false, false},
        Case{Norm::tracked_instance, true, true, true},
        Case{Norm::tracked_instance, false, false, true}}) {
    INFO("norm " << static_cast<int>(one.norm) << ", training " << one.training << ", frozen "
                 << one.frozen);
    bn2d_options *made = nullptr;  // with nothing set: a group norm has no running statistics
    REQUIRE(bn2d_options_create(&made) == BN2D_OK);
    const Options options(made);
    if (one.norm == Norm::untracked || one.norm == Norm::tracked_instance)
      REQUIRE(bn2d_options_set_track_running_stats(made, one.norm == Norm::tracked_instance) ==
              BN2D_OK);
    bn2d_module *raw = nullptr;
    REQUIRE((one.norm == Norm::group ? bn2d_group_norm_create(1, 2, made, &raw)
             : one.norm == Norm::instance || one.norm == Norm::tracked_instance
                 ? bn2d_instance_norm_create(2, made, &raw)
                 : bn2d_module_create(2, made, &raw)) == BN2D_OK);
    const Module module(raw);
    REQUIRE(bn2d_module_train(raw, one.training) == BN2D_OK);
    if (one.frozen) REQUIRE(bn2d_module_set_frozen(raw, 1) == BN2D_OK);
    REQUIRE(bn2d_module_try_lock(raw, 0) == BN2D_OK);
    CHECK(eval_forward(module) == (one.shared ? BN2D_OK : BN2D_ERROR_BUSY));
    REQUIRE(bn2d_module_unlock(raw, 0) == BN2D_OK);
    CHECK(eval_forward(module) == BN2D_OK);
  }
}

TEST_CASE("locks: what was not locked cannot be unlocked", "[locks]") {
  // Catches an unlock that ends a call of another thread, or a lock of the other kind.
  const Module module = make_module(2);
  Snapshot before;
  before.add("module", module.get());
  const auto fails = [&](const char *what, int32_t exclusive) {
    check_fails(what, BN2D_ERROR_STATE, before, {exclusive ? "exclusive" : "shared"},
                [&] { return bn2d_module_unlock(module.get(), exclusive); });
  };
  fails("never locked", 1);
  fails("never locked", 0);
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  fails("the other kind", 0);
  REQUIRE(bn2d_module_unlock(module.get(), 1) == BN2D_OK);
  fails("twice", 1);
  REQUIRE(bn2d_module_try_lock(module.get(), 0) == BN2D_OK);
  fails("the other kind", 1);
  REQUIRE(bn2d_module_unlock(module.get(), 0) == BN2D_OK);
  for (const int32_t flag : {2, -1})
    check_fails("flag", BN2D_ERROR_INVALID_ARGUMENT, before, {std::to_string(flag)},
                [&] { return bn2d_module_try_lock(module.get(), flag); });

  // While a training forward of another thread is under way, too.
  class Gate gate(4096);
  gate.close();
  std::vector<float> y(8);
  int32_t status = BN2D_ERROR_INTERNAL;
  std::thread thread([&] {
    status = bn2d_forward_f32(module.get(), static_cast<const float *>(gate.data()), 1, 2, 2,
                              y.data(), nullptr);
  });
  const bool inside = gate.wait_until_touched();
  const int32_t unlocked = bn2d_module_unlock(module.get(), 1),
                locked = bn2d_module_try_lock(module.get(), 0);
  gate.open();
  thread.join();
  CHECK(inside);
  CHECK(unlocked == BN2D_ERROR_STATE);
  CHECK(locked == BN2D_ERROR_BUSY);
  CHECK(status == BN2D_OK);
}

TEST_CASE("locks: a child finds the module unlocked", "[locks]") {
  // Catches a lock that nobody in a child can end, and a child that ends one of its parent's.
  const Module module = make_module(2);
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  CHECK(in_child([&] {
          const bool refused = bn2d_module_unlock(module.get(), 1) == BN2D_ERROR_STATE;
          const bool free = bn2d_module_try_lock(module.get(), 1) == BN2D_OK &&
                            bn2d_module_unlock(module.get(), 1) == BN2D_OK;
          return refused && free ? 0 : 1;
        }) == 0);
  CHECK(bn2d_module_unlock(module.get(), 1) == BN2D_OK);
}
