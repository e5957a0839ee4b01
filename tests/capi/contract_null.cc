// The NULL and handle contract of every function, driven by the one list of functions.
#include <set>

#include "support/contract_functions.h"

using namespace bn2d_test;

namespace {

void *live_handle(World &world, Kind kind) {
  switch (kind) {
    case Kind::options:
      return world.options.get();
    case Kind::module:
      return world.module.get();
    case Kind::tensor:
      return world.tensor.get();
    case Kind::statistics:
      return world.statistics.get();
    default:
      return world.record.get();
  }
}

void *dead_handle(World &world, Kind kind) {
  switch (kind) {
    case Kind::options:
      return world.dead_options;
    case Kind::module:
      return world.dead_module;
    case Kind::tensor:
      return world.dead_tensor;
    case Kind::statistics:
      return world.dead_statistics;
    default:
      return world.dead_record;
  }
}

// Every handle still answers as its own kind.
void check_alive(World &world) {
  int32_t number = 0;
  CHECK(bn2d_options_set_eps(world.options.get(), 1e-5) == BN2D_OK);
  CHECK(bn2d_module_is_training(world.module.get(), &number) == BN2D_OK);
  CHECK(bn2d_tensor_kind(world.tensor.get(), &number) == BN2D_OK);
  CHECK(bn2d_record_retain(world.record.get()) == BN2D_OK);
  bn2d_record_release(world.record.get());
  CHECK(bn2d_statistics_retain(world.statistics.get()) == BN2D_OK);
  bn2d_statistics_release(world.statistics.get());
}

}  // namespace

TEST_CASE("null: the table of valid calls has every function of functions.inc", "[null]") {
  // Catches a function that was added to the list without its contract being tested.
  std::set<std::string> in_table;
  for (const FunctionEntry &entry : all_functions()) in_table.insert(entry.name);
  const std::vector<std::string> listed = listed_functions();
  for (const std::string &name : listed) {
    INFO("bn2d_" << name);
    CHECK(in_table.count(name) == 1);
  }
  CHECK(in_table.size() == std::set<std::string>(listed.begin(), listed.end()).size());
  CHECK(listed.size() == std::set<std::string>(listed.begin(), listed.end()).size());
}

TEST_CASE("null: the valid call of every function succeeds and leaves the message alone",
          "[null]") {
  // Catches a table whose calls fail for another reason than the spoilt argument, and successes
  // that write a message.
  for (const FunctionEntry &entry : all_functions()) {
    INFO("bn2d_" << entry.name);
    World world;
    mark_message();
    const int32_t status = entry.call_with(world, kNoPointer, nullptr);
    if (entry.returns_status) {
      INFO(bn2d_last_error());
      CHECK(status >= 0);
    }
    CHECK(message_is_marked());
    check_alive(world);
    world.release_retained(entry.name);
  }
}

TEST_CASE("null: NULL for each pointer in turn", "[null]") {
  // Catches a missing check (a crash), a wrong status, a half-written result, and a NULL that is
  // documented but refused.
  for (const FunctionEntry &entry : all_functions()) {
    for (size_t i = 0; i < entry.pointers.size(); ++i) {
      const PointerParameter &parameter = entry.pointers[i];
      const std::string what = "bn2d_" + entry.name + " with " + parameter.name + " = NULL";
      INFO(what);
      World world;
      if (parameter.optional) {
        mark_message();
        const int32_t status = entry.call_with(world, i, nullptr);
        INFO("returned " << bn2d_status_name(status) << ": " << bn2d_last_error());
        CHECK(status == BN2D_OK);
        CHECK(message_is_marked());
      } else {
        check_fails(what, BN2D_ERROR_INVALID_ARGUMENT, world.snapshot(), {"NULL"},
                    [&] { return entry.call_with(world, i, nullptr); });
      }
      check_alive(world);
    }
  }
}

TEST_CASE("handles: a handle of each other kind is INVALID_HANDLE and stays untouched",
          "[handles]") {
  // Catches a missing tag check, by which an options object would be used as a module.
  for (const FunctionEntry &entry : all_functions()) {
    for (size_t i = 0; i < entry.pointers.size(); ++i) {
      if (!is_handle(entry.pointers[i].kind)) continue;
      for (const Kind other :
           {Kind::options, Kind::module, Kind::tensor, Kind::record, Kind::statistics}) {
        if (other == entry.pointers[i].kind) continue;
        const std::string what = "bn2d_" + entry.name + ": " + entry.pointers[i].name +
                                 " of kind " + std::to_string(static_cast<int>(other));
        INFO(what);
        World world;
        const Snapshot before = world.snapshot();
        if (entry.returns_status) {
          check_fails(what, BN2D_ERROR_INVALID_HANDLE, before, {"another kind"},
                      [&] { return entry.call_with(world, i, live_handle(world, other)); });
        } else {
          (void)entry.call_with(world, i, live_handle(world, other));
          CHECK(before.difference() == "");
        }
        check_alive(world);
      }
    }
  }
}

TEST_CASE("handles: a released handle is INVALID_HANDLE, and releasing it again does nothing",
          "[handles]") {
  // Catches use after free (with the sanitiser even a read), and a second release that takes
  // somebody else's reference.
  for (const FunctionEntry &entry : all_functions()) {
    for (size_t i = 0; i < entry.pointers.size(); ++i) {
      if (!is_handle(entry.pointers[i].kind)) continue;
      const std::string what =
          "bn2d_" + entry.name + ": " + entry.pointers[i].name + " released before";
      INFO(what);
      World world;
      const Snapshot before = world.snapshot();
      if (entry.returns_status) {
        check_fails(what, BN2D_ERROR_INVALID_HANDLE, before, {"released"}, [&] {
          return entry.call_with(world, i, dead_handle(world, entry.pointers[i].kind));
        });
      } else {
        for (int again = 0; again < 3; ++again) {
          (void)entry.call_with(world, i, dead_handle(world, entry.pointers[i].kind));
        }
        CHECK(before.difference() == "");
      }
      check_alive(world);
    }
  }
}

TEST_CASE("null: elements may be NULL where there are none", "[null]") {
  // Catches a NULL check that does not ask whether the tensor has elements.
  World world;
  const int64_t before = batches_of(world.module);
  CHECK(bn2d_forward_f32(world.module.get(), nullptr, 0, 2, 3, nullptr, nullptr) == BN2D_OK);
  CHECK(bn2d_forward_f64(world.module64.get(), nullptr, 2, 0, 3, nullptr, nullptr) == BN2D_OK);
  View empty(nullptr, BN2D_F32, {2, World::kC, 3, 0});
  CHECK(bn2d_forward(world.module.get(), empty, empty, nullptr) == BN2D_OK);
  CHECK(batches_of(world.module) == before + 2);
}
