// Every function of state.h: NULL, wrong and dead handles, table and list.
#include <set>

#include "state_world.h"
#include "support/contract_functions.h"

using namespace bn2d_test;

namespace {

struct StateScene : World {
  StateScene() {
    state = make_state();
    set_floats(state, "weight", std::vector<float>(kC, 2));
    REQUIRE(bn2d_state_set_module(state.get(), "bn.", module.get()) == BN2D_OK);
    loader = make_loader(state);
    REQUIRE(bn2d_loader_add_module(loader.get(), "bn.", module.get()) == BN2D_OK);
    const int64_t missing = 1;
    REQUIRE(bn2d_loader_add_flat(loader.get(), "none", BN2D_F32, &missing, 1, &value) == BN2D_OK);
    REQUIRE(bn2d_loader_load(loader.get(), 0) == BN2D_OK);
    file = written(state);
    dead_state = make_state().get();
    dead_loader = make_loader(state).get();
  }
  ~StateScene() { drop(); }
  void drop() {
    if (out_state != sentinel<bn2d_state *>()) bn2d_state_release(out_state);
    if (out_loader != sentinel<bn2d_loader *>()) bn2d_loader_release(out_loader);
    out_state = sentinel<bn2d_state *>();
    out_loader = sentinel<bn2d_loader *>();
  }

  Folder folder;
  std::string path = folder / "file";
  State state;
  Loader loader;
  std::string file;
  bn2d_state *dead_state = nullptr, *out_state = sentinel<bn2d_state *>();
  bn2d_loader *dead_loader = nullptr, *out_loader = sentinel<bn2d_loader *>();
  float value = 0;
  int64_t length = kC;
  char buffer[4096];
};

// As BN2D_ENTRY, with a StateScene.
#define STATE_ENTRY(name, pointers, ...)                          \
  function_entry(#name, &bn2d_##name, pointers, [](World &base) { \
    auto &w = static_cast<StateScene &>(base);                    \
    (void)w;                                                      \
    return std::make_tuple(__VA_ARGS__);                          \
  })

std::vector<FunctionEntry> state_functions() {
  return {
      STATE_ENTRY(state_create, "out", &w.out_state),
      STATE_ENTRY(state_open, "path out",
                  (bn2d_state_save(w.state.get(), w.path.c_str()), w.path.c_str()), &w.out_state),
      STATE_ENTRY(state_parse, "data out", w.file.data(), uint64_t{w.file.size()}, &w.out_state),
      STATE_ENTRY(state_retain, "state", w.state.get()),
      STATE_ENTRY(state_release, "state?", w.spare(w.state.get(), &bn2d_state_retain)),
      STATE_ENTRY(state_count, "state out", w.state.get(), &w.outs.i64),
      STATE_ENTRY(state_find, "state name out", w.state.get(), "weight", &w.outs.i64),
      STATE_ENTRY(state_name, "state out", w.state.get(), int64_t{0}, &w.outs.text),
      STATE_ENTRY(state_dtype, "state out", w.state.get(), int64_t{0}, &w.outs.i32),
      STATE_ENTRY(state_dtype_name, "state out", w.state.get(), int64_t{0}, &w.outs.text),
      STATE_ENTRY(state_rank, "state out", w.state.get(), int64_t{0}, &w.outs.i32),
      STATE_ENTRY(state_dim, "state out", w.state.get(), int64_t{0}, 0, &w.outs.i64),
      STATE_ENTRY(state_nbytes, "state out", w.state.get(), int64_t{0}, &w.outs.u64),
      STATE_ENTRY(state_data, "state out", w.state.get(), int64_t{0},
                  const_cast<const void **>(&w.outs.data)),
      STATE_ENTRY(state_copy_to, "state target", w.state.get(), int64_t{0}, w.view_copy.get()),
      STATE_ENTRY(state_set, "state name source", w.state.get(), "more", w.view_copy.get()),
      STATE_ENTRY(state_set_flat, "state name shape data", w.state.get(), "more", int32_t{BN2D_F32},
                  static_cast<const int64_t *>(&w.length), 1,
                  static_cast<const void *>(w.copy.data())),
      STATE_ENTRY(state_set_flat, "state name shape? data", w.state.get(), "more",
                  int32_t{BN2D_F32}, nullptr, 0, static_cast<const void *>(w.copy.data())),
      STATE_ENTRY(state_set_module, "state prefix module", w.state.get(), "bn.", w.module.get()),
      STATE_ENTRY(state_metadata_count, "state out", w.state.get(), &w.outs.i64),
      STATE_ENTRY(state_metadata_at, "state out_key out_value", w.state.get(), int64_t{0},
                  &w.outs.text, &w.outs.text),
      STATE_ENTRY(state_set_metadata, "state key value", w.state.get(), "key", "value"),
      STATE_ENTRY(state_save, "state path", w.state.get(), w.path.c_str()),
      STATE_ENTRY(state_write, "state buffer length?", w.state.get(), w.buffer,
                  uint64_t{sizeof w.buffer}, &w.outs.u64),
      STATE_ENTRY(state_write, "state buffer? length?", w.state.get(), nullptr, uint64_t{0},
                  &w.outs.u64),
      STATE_ENTRY(loader_create, "state out", w.state.get(), &w.out_loader),
      STATE_ENTRY(loader_retain, "loader", w.loader.get()),
      STATE_ENTRY(loader_release, "loader?", w.spare(w.loader.get(), &bn2d_loader_retain)),
      STATE_ENTRY(loader_add_module, "loader prefix module", w.loader.get(), "bn.", w.module.get()),
      STATE_ENTRY(loader_add, "loader name target", w.loader.get(), "weight", w.view_copy.get()),
      STATE_ENTRY(loader_add_flat, "loader name shape data", w.loader.get(), "weight",
                  int32_t{BN2D_F32}, static_cast<const int64_t *>(&w.length), 1,
                  static_cast<void *>(w.copy.data())),
      STATE_ENTRY(loader_load, "loader", w.loader.get(), 0),
      STATE_ENTRY(loader_problem_count, "loader out", w.loader.get(), int32_t{BN2D_PROBLEM_MISSING},
                  &w.outs.i64),
      STATE_ENTRY(loader_problem_at, "loader out_name out_text", w.loader.get(),
                  int32_t{BN2D_PROBLEM_MISSING}, int64_t{0}, &w.outs.text, &w.outs.text),
  };
}

std::vector<std::string> listed() {
  return {
#define BN2D_FUNCTION(since, name) #name,
#include "state/functions.inc"
#undef BN2D_FUNCTION
  };
}

}  // namespace

TEST_CASE("state contract: the table of calls has every function", "[null]") {
  // Catches a function that is in the list alone.
  std::set<std::string> called;
  for (const FunctionEntry &entry : state_functions()) called.insert(entry.name);
  const auto names = listed();
  CHECK(called == std::set<std::string>(names.begin(), names.end()));
}

TEST_CASE("state contract: NULL, foreign and dead handles", "[null]") {
  // Catches a pointer that is not checked, and a change before the check.
  for (const FunctionEntry &entry : state_functions()) {
    INFO(entry.name);
    StateScene scene;
    mark_message();
    REQUIRE(entry.call_with(scene, SIZE_MAX, nullptr) == BN2D_OK);
    CHECK(message_is_marked());
    scene.drop();
    scene.release_outs();
    const Snapshot before = scene.snapshot();
    const std::string file = written(scene.state);
    for (size_t i = 0; i < entry.pointers.size(); ++i) {
      const PointerParameter &parameter = entry.pointers[i];
      const auto fails = [&](const char *what, int32_t status, void *replacement) {
        check_fails(entry.name + ": " + what + " " + parameter.name, status, before, {},
                    [&] { return entry.call_with(scene, i, replacement); });
        CHECK(written(scene.state) == file);
        CHECK(scene.out_state == sentinel<bn2d_state *>());
        CHECK(scene.out_loader == sentinel<bn2d_loader *>());
      };
      if (entry.returns_status && !parameter.optional)
        fails("NULL", BN2D_ERROR_INVALID_ARGUMENT, nullptr);
      if (!entry.returns_status) (void)entry.call_with(scene, i, nullptr);
      if (parameter.name != "state" && parameter.name != "loader" && parameter.name != "module")
        continue;
      void *const dead = parameter.name == "state"    ? static_cast<void *>(scene.dead_state)
                         : parameter.name == "loader" ? static_cast<void *>(scene.dead_loader)
                                                      : static_cast<void *>(scene.dead_module);
      void *const foreign = parameter.name == "loader" ? static_cast<void *>(scene.state.get())
                                                       : static_cast<void *>(scene.loader.get());
      for (void *handle : {dead, foreign, static_cast<void *>(scene.tensor.get())}) {
        if (entry.returns_status) {
          fails("not a", BN2D_ERROR_INVALID_HANDLE, handle);
        } else {
          (void)entry.call_with(scene, i, handle);
        }
      }
    }
    CHECK(written(scene.state) == file);
  }
}

TEST_CASE("state contract: what is out of range", "[null]") {
  // Catches an index, a rank, a dtype or a number that is not looked at.
  StateScene w;
  const Snapshot before = w.snapshot();
  const auto fails = [&](const char *what, int32_t status, const std::vector<std::string> &words,
                         const std::function<int32_t()> &call) {
    check_fails(what, status, before, words, call);
  };
  for (const int64_t index : {int64_t{-1}, count_of(w.state), INT64_MAX, INT64_MIN}) {
    const std::vector<std::string> words = {std::to_string(index)};
    fails("name", BN2D_ERROR_NOT_FOUND, words,
          [&] { return bn2d_state_name(w.state.get(), index, &w.outs.text); });
    fails("data", BN2D_ERROR_NOT_FOUND, words, [&] {
      return bn2d_state_data(w.state.get(), index, const_cast<const void **>(&w.outs.data));
    });
    fails("copy", BN2D_ERROR_NOT_FOUND, words,
          [&] { return bn2d_state_copy_to(w.state.get(), index, w.view_copy); });
    fails("metadata", BN2D_ERROR_NOT_FOUND, words,
          [&] { return bn2d_state_metadata_at(w.state.get(), index, &w.outs.text, &w.outs.text); });
    fails("problem", BN2D_ERROR_NOT_FOUND, words, [&] {
      return bn2d_loader_problem_at(w.loader.get(), 1, index, &w.outs.text, &w.outs.text);
    });
  }
  for (const int32_t number : {-1, 0, 4, INT32_MAX})
    fails("kind", BN2D_ERROR_INVALID_ARGUMENT, {std::to_string(number)},
          [&] { return bn2d_loader_problem_count(w.loader.get(), number, &w.outs.i64); });
  for (const int32_t strict : {-1, 2})
    fails("strict", BN2D_ERROR_INVALID_ARGUMENT, {std::to_string(strict)},
          [&] { return bn2d_loader_load(w.loader.get(), strict); });
  for (const int32_t dimension : {-1, 1})
    fails("dimension", BN2D_ERROR_NOT_FOUND, {std::to_string(dimension)},
          [&] { return bn2d_state_dim(w.state.get(), 0, dimension, &w.outs.i64); });
  fails("name", BN2D_ERROR_NOT_FOUND, {"nothing"},
        [&] { return bn2d_state_find(w.state.get(), "nothing", &w.outs.i64); });
  fails("buffer", BN2D_ERROR_BUFFER_TOO_SMALL, {std::to_string(w.file.size())},
        [&] { return bn2d_state_write(w.state.get(), w.buffer, w.file.size() - 1, &w.outs.u64); });
  const auto set = [&](int32_t dtype, const int64_t *shape, int32_t rank, const void *data) {
    return bn2d_state_set_flat(w.state.get(), "x", dtype, shape, rank, data);
  };
  const int64_t negative[] = {2, -1}, huge[] = {INT64_MAX, 2}, large[] = {INT64_MAX / 4};
  const int64_t many[65] = {};
  fails("dtype", BN2D_ERROR_DTYPE, {"6"}, [&] { return set(6, &w.length, 1, w.copy.data()); });
  fails("dtype", BN2D_ERROR_DTYPE, {"0"}, [&] { return set(0, &w.length, 1, w.copy.data()); });
  fails("rank", BN2D_ERROR_SHAPE, {"65"}, [&] { return set(BN2D_F32, many, 65, w.copy.data()); });
  fails("rank", BN2D_ERROR_SHAPE, {}, [&] { return set(BN2D_F32, many, -1, w.copy.data()); });
  fails("extent", BN2D_ERROR_SHAPE, {}, [&] { return set(BN2D_F32, negative, 2, w.copy.data()); });
  fails("product", BN2D_ERROR_OVERFLOW, {}, [&] { return set(BN2D_F32, huge, 2, w.copy.data()); });
  fails("product", BN2D_ERROR_OVERFLOW, {}, [&] { return set(BN2D_F64, large, 1, w.copy.data()); });
  fails("aligned", BN2D_ERROR_LAYOUT, {},
        [&] { return set(BN2D_F32, &w.length, 1, reinterpret_cast<char *>(w.copy.data()) + 1); });
  CHECK(set(BN2D_F32, many, 3, nullptr) == BN2D_OK);  // no elements, no memory
  // A target whose elements share memory, and one on a device.
  View view = View::vector(w.copy.data(), BN2D_F32, w.length, 0);
  fails("stride", BN2D_ERROR_LAYOUT, {},
        [&] { return bn2d_state_copy_to(w.state.get(), 0, view); });
  fails("stride", BN2D_ERROR_LAYOUT, {},
        [&] { return bn2d_loader_add(w.loader.get(), "x", view); });
  view.set_stride(0, -1);
  fails("stride", BN2D_ERROR_LAYOUT, {}, [&] { return bn2d_state_set(w.state.get(), "x", view); });
  view.set_stride(0, INT64_MAX);
  fails("stride", BN2D_ERROR_OVERFLOW, {},
        [&] { return bn2d_state_set(w.state.get(), "x", view); });
  view.set_stride(0, 1);
  view->device_type = BN2D_CUDA;
  fails("device", BN2D_ERROR_DEVICE, {}, [&] { return bn2d_state_set(w.state.get(), "x", view); });
  view->device_type = BN2D_CPU;
  view->device_id = 1;  // as bn2d.h has it
  fails("device (1, 1)", BN2D_ERROR_DEVICE, {},
        [&] { return bn2d_state_set(w.state.get(), "x", view); });
  view->device_id = 0;
  view->dtype_bits = 31;
  fails("dtype", BN2D_ERROR_DTYPE, {"31"},
        [&] { return bn2d_state_set(w.state.get(), "x", view); });
  view->dtype_code = 0;
  view->dtype_bits = 32;
  fails("dtype", BN2D_ERROR_DTYPE, {}, [&] { return bn2d_state_copy_to(w.state.get(), 0, view); });
}

TEST_CASE("state contract: the table", "[null]") {
  // Catches a slot that leads elsewhere.
  const bn2d_state_api *api = bn2d_state_get_api(BN2D_STATE_API_VERSION);
  REQUIRE(api != nullptr);
  CHECK(api->size == sizeof(bn2d_state_api));
  CHECK(bn2d_state_get_api(0) == nullptr);
  CHECK(bn2d_state_get_api(BN2D_STATE_API_VERSION + 1) == nullptr);
  bn2d_state *raw = nullptr;
  REQUIRE(api->state_create(&raw) == BN2D_OK);
  int64_t count = -1;
  CHECK(api->state_count(raw, &count) == BN2D_OK);
  CHECK(count == 0);
  api->state_release(raw);
  CHECK(api->state_count(raw, &count) == BN2D_ERROR_INVALID_HANDLE);
}
