// What functions refuse in a view, tensor by tensor: the status, both values in the message, and
// nothing changed.
#include <algorithm>
#include <limits>
#include <map>

#include "support/contract_functions.h"
#include "support/contract_scene.h"

using namespace bn2d_test;

namespace {

// Where a fault is noticed that all tensors of a call have. Those of a record are compared with it.
enum class Noticed {
  always,
  in_outputs,   // what is only read may be so
  by_channels,  // where there is a number of channels: of a module, of statistics
  by_dtype,     // where there is a dtype: of a module, of arrays
  by_others     // nowhere: only beside tensors that do not have it
};

struct Fault {
  std::string name;
  std::function<void(View &)> spoil;
  int32_t status;
  std::vector<std::string> words;  // both values, as the message must have them
  Noticed noticed = Noticed::always;
  bool in_outputs_only() const { return noticed == Noticed::in_outputs; }
};

const std::vector<Fault> &faults() {
  static const std::vector<Fault> table = {
      // Rank and extents. The module has 6 channels, the tensors are (2, 6, 3, 5).
      {"rank 3", [](View &v) { v->ndim = 3; }, BN2D_ERROR_SHAPE, {"3", "4"}},
      {"rank 6", [](View &v) { v->ndim = 6; }, BN2D_ERROR_SHAPE, {"6", "4"}},
      {"rank 0", [](View &v) { v->ndim = 0; }, BN2D_ERROR_SHAPE, {"0", "4"}},
      {"rank -1", [](View &v) { v->ndim = -1; }, BN2D_ERROR_SHAPE, {"-1", "4"}},
      {"rank INT32_MAX",
       [](View &v) { v->ndim = INT32_MAX; },
       BN2D_ERROR_SHAPE,
       {"2147483647", "4"}},
      {"N",
       [](View &v) { v.set_extent(0, 11); },
       BN2D_ERROR_SHAPE,
       {"11", "2"},
       Noticed::by_others},
      {"C",
       [](View &v) { v.set_extent(1, 41); },
       BN2D_ERROR_SHAPE,
       {"41", "6"},
       Noticed::by_channels},
      {"H",
       [](View &v) { v.set_extent(2, 13); },
       BN2D_ERROR_SHAPE,
       {"13", "3"},
       Noticed::by_others},
      {"W",
       [](View &v) { v.set_extent(3, 17); },
       BN2D_ERROR_SHAPE,
       {"17", "5"},
       Noticed::by_others},
      {"C = 1, where a library that broadcasts would go on",
       [](View &v) { v.set_extent(1, 1); },
       BN2D_ERROR_SHAPE,
       {"1", "6"},
       Noticed::by_channels},
      {"N = 0 in one tensor only",
       [](View &v) { v.set_extent(0, 0); },
       BN2D_ERROR_SHAPE,
       {"0", "2"},
       Noticed::by_others},
      {"N = -3", [](View &v) { v.set_extent(0, -3); }, BN2D_ERROR_SHAPE, {"-3"}},
      {"W = INT64_MIN", [](View &v) { v.set_extent(3, INT64_MIN); }, BN2D_ERROR_SHAPE, {}},
      {"N and C exchanged",
       [](View &v) {
         v.set_extent(0, 6);
         v.set_extent(1, 2);
       },
       BN2D_ERROR_SHAPE,
       {"6", "2"},
       Noticed::by_channels},
      // dtype. Halves in all tensors are mixed precision.
      {"float64 among float32",
       [](View &v) { set_dtype(*v.operator->(), BN2D_F64); },
       BN2D_ERROR_DTYPE,
       {"float64", "float32"},
       Noticed::by_dtype},
      {"float16 among float32",
       [](View &v) { set_dtype(*v.operator->(), BN2D_F16); },
       BN2D_ERROR_DTYPE,
       {"float16", "float32"},
       Noticed::by_others},
      {"bfloat16 among float32",
       [](View &v) { set_dtype(*v.operator->(), BN2D_BF16); },
       BN2D_ERROR_DTYPE,
       {"bfloat16", "float32"},
       Noticed::by_others},
      {"int64", [](View &v) { set_dtype(*v.operator->(), BN2D_I64); }, BN2D_ERROR_DTYPE, {}},
      {"int32", [](View &v) { v->dtype_code = 0; }, BN2D_ERROR_DTYPE, {"32"}},
      {"code 99", [](View &v) { v->dtype_code = 99; }, BN2D_ERROR_DTYPE, {"99"}},
      {"float8", [](View &v) { v->dtype_bits = 8; }, BN2D_ERROR_DTYPE, {"8|float8"}},
      {"bfloat32", [](View &v) { v->dtype_code = 4; }, BN2D_ERROR_DTYPE, {"4|bfloat32"}},
      {"float0", [](View &v) { v->dtype_bits = 0; }, BN2D_ERROR_DTYPE, {"0|float0"}},
      {"2 lanes", [](View &v) { v->dtype_lanes = 2; }, BN2D_ERROR_DTYPE, {"2"}},
      {"0 lanes", [](View &v) { v->dtype_lanes = 0; }, BN2D_ERROR_DTYPE, {"0"}},
      // Device.
      {"CUDA", [](View &v) { v->device_type = BN2D_CUDA; }, BN2D_ERROR_DEVICE, {"2|cuda|CUDA"}},
      {"ROCm",
       [](View &v) { v->device_type = BN2D_ROCM; },
       BN2D_ERROR_DEVICE,
       {"10|rocm|ROCM|ROCm"}},
      {"device 0", [](View &v) { v->device_type = 0; }, BN2D_ERROR_DEVICE, {"0"}},
      {"device 12345", [](View &v) { v->device_type = 12345; }, BN2D_ERROR_DEVICE, {"12345"}},
      {"device -1", [](View &v) { v->device_type = -1; }, BN2D_ERROR_DEVICE, {"-1"}},
      {"the CPU with number 1", [](View &v) { v->device_id = 1; }, BN2D_ERROR_DEVICE, {"1|cpu:1"}},
      // Layout.
      {"stride 0 over N",
       [](View &v) { v.set_stride(0, 0); },
       BN2D_ERROR_LAYOUT,
       {"0"},
       Noticed::in_outputs},
      {"stride 0 over W",
       [](View &v) { v.set_stride(3, 0); },
       BN2D_ERROR_LAYOUT,
       {"0"},
       Noticed::in_outputs},
      {"stride -90", [](View &v) { v.set_stride(0, -90); }, BN2D_ERROR_LAYOUT, {"-90"}},
      {"stride -1", [](View &v) { v.set_stride(3, -1); }, BN2D_ERROR_LAYOUT, {"-1"}},
      {"stride INT64_MIN", [](View &v) { v.set_stride(1, INT64_MIN); }, BN2D_ERROR_LAYOUT, {}},
      {"rows that overlap",
       [](View &v) {
         v.set_strides({90, 15, 4, 1});
       },
       BN2D_ERROR_LAYOUT,
       {},
       Noticed::in_outputs},
      {"samples that overlap",
       [](View &v) {
         v.set_strides({1, 15, 5, 1});
       },
       BN2D_ERROR_LAYOUT,
       {},
       Noticed::in_outputs},
      {"channels that overlap",
       [](View &v) {
         v.set_strides({90, 14, 5, 1});
       },
       BN2D_ERROR_LAYOUT,
       {},
       Noticed::in_outputs},
      {"one element shared",
       [](View &v) {
         v.set_strides({89, 15, 5, 1});
       },
       BN2D_ERROR_LAYOUT,
       {},
       Noticed::in_outputs},
      // Overflow.
      {"stride INT64_MAX", [](View &v) { v.set_stride(0, INT64_MAX); }, BN2D_ERROR_OVERFLOW, {}},
      {"stride INT64_MAX / 2",
       [](View &v) { v.set_stride(1, INT64_MAX / 2); },
       BN2D_ERROR_OVERFLOW,
       {}},
      {"strides whose sum leaves 64 bits",
       [](View &v) {
         v.set_stride(0, INT64_MAX / 8);
         v.set_stride(1, INT64_MAX / 8 / 5);
         v.set_stride(2, INT64_MAX / 8 / 2);
       },
       BN2D_ERROR_OVERFLOW,
       {}},
      // Memory.
      {"no data", [](View &v) { v->data = nullptr; }, BN2D_ERROR_INVALID_ARGUMENT, {"NULL"}},
      {"no shape", [](View &v) { v->shape = nullptr; }, BN2D_ERROR_INVALID_ARGUMENT, {"NULL"}},
      {"data off by 1 byte", [](View &v) { v->byte_offset += 1; }, BN2D_ERROR_LAYOUT, {"4"}},
      {"data off by 2 bytes", [](View &v) { v->byte_offset += 2; }, BN2D_ERROR_LAYOUT, {"4"}},
      {"an offset around the address space",
       [](View &v) { v->byte_offset = UINT64_MAX - 63; },  // 64 bytes before data
       BN2D_ERROR_OVERFLOW,
       {"18446744073709551552"}},
      {"an address space that ends inside",
       [](View &v) { v->byte_offset = UINT64_MAX - reinterpret_cast<uintptr_t>(v->data) - 63; },
       BN2D_ERROR_OVERFLOW,
       {}},
  };
  return table;
}

// The views of a call that are of tensors: (N, C, H, W).
std::vector<size_t> tensors_of(const FunctionEntry &entry, World &world) {
  const std::vector<void *> arguments = entry.arguments(world);
  std::vector<size_t> tensors;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (entry.pointers[i].kind != Kind::view || arguments[i] == nullptr) continue;
    if (static_cast<const bn2d_view *>(arguments[i])->ndim == 4) tensors.push_back(i);
  }
  return tensors;
}

bool has(const std::string &text, const char *word) { return text.find(word) != std::string::npos; }

bool is_output(const FunctionEntry &entry, size_t pointer) {
  const std::string &name = entry.pointers[pointer].name;
  return name == "dx" || name == "dz" || name == "ddy" ||
         (name == "y" && has(entry.name, "forward"));
}

// Whether a call in which all tensors have a fault has anything to compare them with.
bool is_noticed_in_all(const FunctionEntry &entry, const Fault &fault) {
  const bool is_stateless = has(entry.name, "batch_norm") || has(entry.name, "group_norm");
  const bool has_record = !is_stateless && has(entry.name, "backward");
  switch (has_record ? Noticed::always : fault.noticed) {
    case Noticed::always:
    case Noticed::in_outputs:
      return true;
    case Noticed::by_channels:
      return !is_stateless;
    case Noticed::by_dtype:
      return entry.name != "statistics_accumulate";  // they take any
    case Noticed::by_others:
      return false;
  }
  return false;
}

// Views of the memory of an entry's tensors, or of no elements at all.
class Views {
 public:
  Views(const FunctionEntry &entry, World &world, const std::vector<size_t> &tensors,
        bool has_elements)
      : entry_(entry), views_(entry.pointers.size()), good_(views_) {
    const std::vector<void *> arguments = entry.arguments(world);
    for (const size_t i : tensors) {
      const auto *valid = static_cast<const bn2d_view *>(arguments[i]);
      good_[i] = views_[i] = has_elements
                                 ? View(valid->data, BN2D_F32, World::kShape)
                                 : View(nullptr, BN2D_F32, {0, World::kC, World::kH, World::kW});
      is_ours_[i] = true;
    }
  }
  int32_t call(World &world) {
    return entry_.call_changed(world, [this](size_t i, void *valid) -> void * {
      return is_ours_.count(i) != 0 ? views_[i].operator->() : valid;
    });
  }
  // The call with `fault` in the tensors at `spoilt` fails, and changes nothing.
  void check(World &world, const Snapshot &before, const std::vector<size_t> &spoilt,
             const Fault &fault) {
    for (const size_t i : spoilt) fault.spoil(views_[i]);
    const bool is_one = spoilt.size() == 1;
    const std::string where = is_one ? entry_.pointers[spoilt[0]].name : "everything";
    const auto words = is_one || fault.name != "float0" ? fault.words : std::vector<std::string>();
    check_fails("bn2d_" + entry_.name + ": " + where + " with " + fault.name, fault.status, before,
                words, [&] { return call(world); });
    views_ = good_;
  }

 private:
  const FunctionEntry &entry_;
  std::vector<View> views_, good_;
  std::map<size_t, bool> is_ours_;
};

}  // namespace

TEST_CASE("views: every fault in every tensor of every call", "[views]") {
  // Catches a tensor whose view is not checked, checked after something was written, or refused
  // with another status.
  int functions = 0;
  for (const FunctionEntry &entry : all_functions()) {
    World world;
    world.spoiling = true;
    const Snapshot before = world.snapshot();
    const std::vector<size_t> tensors = tensors_of(entry, world);
    functions += !tensors.empty();
    Views views(entry, world, tensors, true);
    for (const size_t one : tensors) {
      for (const Fault &fault : faults()) {
        if (fault.in_outputs_only() && !is_output(entry, one)) continue;
        if (tensors.size() == 1 && !is_noticed_in_all(entry, fault)) continue;
        views.check(world, before, {one}, fault);
      }
    }
  }
  CHECK(functions > 20);
}

TEST_CASE("views: every fault in all tensors at once", "[views]") {
  // Catches a check that only compares the tensors with each other. A forward without a module has
  // no C to compare with.
  for (const FunctionEntry &entry : all_functions()) {
    World world;
    world.spoiling = true;
    const Snapshot before = world.snapshot();
    const std::vector<size_t> tensors = tensors_of(entry, world);
    const bool has_output = std::any_of(tensors.begin(), tensors.end(),
                                        [&](size_t one) { return is_output(entry, one); });
    Views views(entry, world, tensors, true);
    for (const Fault &fault : faults()) {
      if (tensors.empty() || !is_noticed_in_all(entry, fault)) continue;
      if (fault.in_outputs_only() && !has_output) continue;
      views.check(world, before, tensors, fault);
    }
  }
}

TEST_CASE("views: a record's dtype and shape count for backward", "[views]") {
  // Catches a backward that believes dy instead of what was recorded.
  Scene scene;
  const Snapshot before = scene.snapshot();
  std::vector<double> doubles(400, 1.0);
  const View dy(doubles.data(), BN2D_F64, Scene::kShape);
  check_fails("dy and dx of float64", BN2D_ERROR_DTYPE, before, {"float64", "float32"}, [&] {
    return bn2d_backward(scene.module.get(), scene.record.get(), dy, dy, nullptr);
  });
  check_fails("bn2d_backward_f64 with a float32 record", BN2D_ERROR_DTYPE, before,
              {"float64", "float32"}, [&] {
                return bn2d_backward_f64(scene.module.get(), scene.record.get(), doubles.data(),
                                         doubles.data());
              });
  CHECK(doubles == std::vector<double>(400, 1.0));

  // Also where x is not needed, so that nothing else would notice: frozen, and no gradient of the
  // weight.
  REQUIRE(bn2d_module_eval(scene.module.get()) == BN2D_OK);
  REQUIRE(bn2d_tensor_set_requires_grad(tensor_of(scene.module, "weight").get(), 0) == BN2D_OK);
  std::vector<uint16_t> halves(400, 0x3c00);
  const View half(halves.data(), BN2D_F16, Scene::kShape),
      half_dx(halves.data() + 200, BN2D_F16, Scene::kShape);
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], &raw) == BN2D_OK);
  const Record frozen(raw);
  REQUIRE(bn2d_forward(scene.module.get(), half, half_dx, &raw) == BN2D_OK);
  const Record frozen_half(raw);
  const Snapshot now = scene.snapshot();
  check_fails(
      "float16 gradients of a float32 record", BN2D_ERROR_DTYPE, now, {"float16", "float32"},
      [&] { return bn2d_backward(scene.module.get(), frozen.get(), half, half_dx, nullptr); });
  check_fails("float32 gradients of a float16 record", BN2D_ERROR_DTYPE, now,
              {"float16", "float32"}, [&] {
                return bn2d_backward_f32(scene.module.get(), frozen_half.get(), scene.data("dy"),
                                         scene.data("dx"));
              });
}

TEST_CASE("views: contiguous calls name both dtypes", "[views]") {
  // Catches a cast without a check.
  for (const int32_t dtype : {BN2D_F64, BN2D_F16, BN2D_BF16}) {
    Settings settings;
    settings.dtype = dtype;
    const Module module = make_module(2, settings);
    Snapshot before;
    before.add("module", module.get());
    std::vector<float> x(8, 1.0f);
    bn2d_record *record = nullptr;
    before.add("record", &record, sizeof record);
    before.add("x", x);
    check_fails("forward_f32", BN2D_ERROR_DTYPE, before, {"float32", bn2d_dtype_name(dtype)}, [&] {
      return bn2d_forward_f32(module.get(), x.data(), 2, 2, 1, x.data(), &record);
    });
  }
  const Module module = make_module(2);
  Snapshot before;
  before.add("module", module.get());
  std::vector<double> x(8, 1.0);
  check_fails("forward_f64", BN2D_ERROR_DTYPE, before, {"float64", "float32"},
              [&] { return bn2d_forward_f64(module.get(), x.data(), 2, 2, 1, x.data(), nullptr); });
}

TEST_CASE("views: which data a module takes", "[views]") {
  // Catches a dtype pair that is refused although documented, or accepted although not.
  for (const int32_t module_dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    Settings settings;
    settings.dtype = module_dtype;
    for (const int32_t data_dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
      const bool half = data_dtype == BN2D_F16 || data_dtype == BN2D_BF16;
      const bool accepted = data_dtype == module_dtype || (half && module_dtype == BN2D_F32);
      INFO(bn2d_dtype_name(data_dtype) << " data, " << bn2d_dtype_name(module_dtype) << " module");
      const Module module = make_module(2, settings);
      std::vector<double> x(8), y(8), dx(8);
      for (size_t i = 0; i < 4; ++i) x[i] = static_cast<double>(i);
      const Extents shape{2, 2, 1, 2};
      const View in(x.data(), data_dtype, shape), out(y.data(), data_dtype, shape),
          back(dx.data(), data_dtype, shape);
      bn2d_record *raw = nullptr;
      if (accepted) {
        CHECK(bn2d_forward(module.get(), in, out, &raw) == BN2D_OK);
        const Record record(raw);
        CHECK(bn2d_backward(module.get(), raw, in, back, nullptr) == BN2D_OK);
      } else {
        Snapshot before;
        before.add("module", module.get());
        before.add("y", y);
        before.add("record", &raw, sizeof raw);
        check_fails("forward", BN2D_ERROR_DTYPE, before,
                    {bn2d_dtype_name(data_dtype), bn2d_dtype_name(module_dtype)},
                    [&] { return bn2d_forward(module.get(), in, out, &raw); });
      }
      std::vector<double> parameters(2, 1.0);
      const int32_t status = bn2d_batch_norm_forward(in, nullptr, out, module_dtype, nullptr,
                                                     nullptr, nullptr, nullptr, 1, 0.1, 1e-5, 0,
                                                     BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr);
      CHECK(status == (accepted ? BN2D_OK : BN2D_ERROR_DTYPE));
    }
  }
}

TEST_CASE("views: extents whose product leaves 64 bits", "[views]") {
  // Catches a product that wraps to something small, which would then be read and written.
  const Module module = make_module(3);
  std::vector<float> memory(64, 1.0f);
  bn2d_record *record = nullptr;
  Snapshot before;
  before.add("module", module.get());
  before.add("memory", memory);
  before.add("record", &record, sizeof record);
  const int64_t big = int64_t{1} << 40;
  const std::vector<Extents> shapes = {
      {big, 3, big, big},
      {INT64_MAX, 3, 1, 1},
      {1, 3, INT64_MAX, 2},
      {1, 3, INT64_MAX / 3 + 1, 1},
      {1, 3, int64_t{1} << 61, 1},                 // the elements fit, their bytes do not
      {int64_t{1} << 32, 3, int64_t{1} << 32, 1},  // wraps to 0
      {1, 3, 3074457345618258604, 2}};
  for (const Extents &s : shapes) {
    const std::string what =
        std::to_string(s[0]) + " " + std::to_string(s[2]) + " " + std::to_string(s[3]);
    check_fails("forward_f32 " + what, BN2D_ERROR_OVERFLOW, before, {}, [&] {
      return bn2d_forward_f32(module.get(), memory.data(), s[0], s[2], s[3], memory.data() + 32,
                              &record);
    });
    const View x(memory.data(), BN2D_F32, s), y(memory.data() + 32, BN2D_F32, s);
    check_fails("forward " + what, BN2D_ERROR_OVERFLOW, before, {},
                [&] { return bn2d_forward(module.get(), x, y, &record); });
    check_fails("batch_norm_forward " + what, BN2D_ERROR_OVERFLOW, before, {}, [&] {
      return bn2d_batch_norm_forward(x, nullptr, y, BN2D_F32, nullptr, nullptr, nullptr, nullptr, 1,
                                     0.1, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr);
    });
  }
  struct Negative {
    int64_t n, h, w;
  };
  for (const Negative &e : {Negative{-1, 2, 2}, Negative{1, -2, 2}, Negative{1, 2, -7},
                            Negative{-1, -1, 4}, Negative{INT64_MIN, 1, 1}, Negative{0, -1, 2}}) {
    check_fails("a negative extent", BN2D_ERROR_SHAPE, before,
                {std::to_string(e.n < 0   ? e.n
                                : e.h < 0 ? e.h
                                          : e.w)},
                [&] {
                  return bn2d_forward_f32(module.get(), memory.data(), e.n, e.h, e.w,
                                          memory.data() + 32, &record);
                });
  }
}

TEST_CASE("views: one value per channel", "[views]") {
  // Catches a division by M - 1 = 0, and an error in a mode that does not need statistics of the
  // batch.
  std::vector<float> x = {1, 2, 3}, y(3, 9.0f);
  for (const bool track : {true, false}) {
    for (const bool biased : {false, true}) {
      Settings settings;
      settings.track = track;
      settings.biased = biased;
      const Module module = make_module(3, settings);
      for (const bool eval : {false, true}) {
        INFO("track " << track << " eval " << eval << " biased " << biased);
        REQUIRE(bn2d_module_train(module.get(), !eval) == BN2D_OK);
        bn2d_record *record = nullptr;
        Snapshot before;
        before.add("module", module.get());
        before.add("y", y);
        before.add("record", &record, sizeof record);
        const View in(x.data(), BN2D_F32, {1, 3, 1, 1}), out(y.data(), BN2D_F32, {1, 3, 1, 1});
        if (eval && track) {
          CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 1, 1, y.data(), nullptr) == BN2D_OK);
          CHECK(bn2d_forward(module.get(), in, out, nullptr) == BN2D_OK);
          continue;
        }
        check_fails("forward_f32", BN2D_ERROR_TOO_FEW_VALUES, before, {"1"}, [&] {
          return bn2d_forward_f32(module.get(), x.data(), 1, 1, 1, y.data(), &record);
        });
        check_fails("forward", BN2D_ERROR_TOO_FEW_VALUES, before, {"1"},
                    [&] { return bn2d_forward(module.get(), in, out, nullptr); });
        check_fails("forward_act", BN2D_ERROR_TOO_FEW_VALUES, before, {"1"}, [&] {
          return bn2d_forward_act(module.get(), in, nullptr, BN2D_ACT_RELU, 0, out, nullptr);
        });
      }
    }
  }
  const View in(x.data(), BN2D_F32, {1, 3, 1, 1}), out(y.data(), BN2D_F32, {1, 3, 1, 1});
  std::vector<float> mean(3, 1.0f), var(3, 1.0f);
  Snapshot before;
  before.add("y", y);
  before.add("mean", mean);
  before.add("var", var);
  const auto stateless = [&](int32_t batch_stats) {
    return bn2d_batch_norm_forward(in, nullptr, out, BN2D_F32, nullptr, nullptr, mean.data(),
                                   var.data(), batch_stats, 0.1, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr,
                                   nullptr, nullptr);
  };
  check_fails("batch_norm_forward", BN2D_ERROR_TOO_FEW_VALUES, before, {"1"},
              [&] { return stateless(1); });
  CHECK(stateless(0) == BN2D_OK);
}

TEST_CASE("views: no elements", "[views]") {
  // Catches a division by M = 0, statistics that become NaN, a counter that stays, an output that
  // is written.
  for (const Extents &shape : {Extents{0, 3, 2, 2}, Extents{2, 3, 0, 2}, Extents{2, 3, 2, 0},
                               Extents{0, 3, 0, 0}, Extents{1, 3, 0, 1}}) {
    for (const bool eval : {false, true}) {
      for (const bool with_memory : {false, true}) {
        for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_LEAKY_RELU}) {
          const std::string what = std::to_string(shape[0]) + " " + std::to_string(shape[2]) + " " +
                                   std::to_string(shape[3]) + " eval " + std::to_string(eval);
          INFO(what);
          const Module module = make_module(3);
          give_character(module);
          for (const char *name : {"weight.grad", "bias.grad"})
            data_of<float>(module, name)[1] = 4.0f;
          REQUIRE(bn2d_module_train(module.get(), !eval) == BN2D_OK);
          std::vector<float> x(8, 1.0f), y(8, 2.0f), dx(8, 3.0f);
          Snapshot before;
          before.add("y", y);
          before.add("dx", dx);
          for (const char *name :
               {"weight", "bias", "running_mean", "running_var", "weight.grad", "bias.grad"}) {
            before.add(name, data_of<float>(module, name), 3 * sizeof(float));
          }
          const View in(with_memory ? x.data() : nullptr, BN2D_F32, shape);
          const View out(with_memory ? y.data() : nullptr, BN2D_F32, shape);
          const View back(with_memory ? dx.data() : nullptr, BN2D_F32, shape);
          bn2d_record *raw = nullptr;
          CHECK(bn2d_forward_act(module.get(), in, nullptr, activation, -0.5, out, &raw) ==
                BN2D_OK);
          const Record record(raw);
          REQUIRE(raw != nullptr);
          CHECK(batches_of(module) == (eval ? 0 : 1));
          CHECK(bn2d_backward(module.get(), raw, in, back, back) == BN2D_OK);
          CHECK(bn2d_double_backward(module.get(), raw, in, in, nullptr, nullptr, back, back) ==
                BN2D_OK);
          CHECK(bn2d_forward_f32(module.get(), nullptr, shape[0], shape[2], shape[3], nullptr,
                                 nullptr) == BN2D_OK);
          CHECK(batches_of(module) == (eval ? 0 : 2));
          CHECK(before.difference() == "");
        }
      }
    }
  }
}

TEST_CASE("views: no elements, but other faults", "[views]") {
  // Catches a tensor without memory that is taken for one that was not given: its view is still
  // checked.
  const std::vector<Fault> table = {
      {"rank 3", [](View &v) { v->ndim = 3; }, BN2D_ERROR_SHAPE, {}},
      {"W", [](View &v) { v.set_extent(3, 6); }, BN2D_ERROR_SHAPE, {}, Noticed::by_others},
      {"C", [](View &v) { v.set_extent(1, 7); }, BN2D_ERROR_SHAPE, {}, Noticed::by_channels},
      {"N = -3", [](View &v) { v.set_extent(0, -3); }, BN2D_ERROR_SHAPE, {"-3"}},
      {"H = -3", [](View &v) { v.set_extent(2, -3); }, BN2D_ERROR_SHAPE, {"-3"}},
      {"float64 among float32",
       [](View &v) { set_dtype(*v.operator->(), BN2D_F64); },
       BN2D_ERROR_DTYPE,
       {},
       Noticed::by_dtype},
      {"2 lanes", [](View &v) { v->dtype_lanes = 2; }, BN2D_ERROR_DTYPE, {}},
      {"CUDA", [](View &v) { v->device_type = BN2D_CUDA; }, BN2D_ERROR_DEVICE, {}},
  };
  for (const FunctionEntry &entry : all_functions()) {
    World world;
    world.spoiling = true;
    const std::vector<size_t> tensors = tensors_of(entry, world);
    if (tensors.empty()) continue;
    View empty(nullptr, BN2D_F32, {0, World::kC, World::kH, World::kW});
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_act(world.module.get(), empty, empty, BN2D_ACT_RELU, 0, empty, &raw) ==
            BN2D_OK);
    world.record.reset(raw);
    Views views(entry, world, tensors, false);
    INFO("bn2d_" << entry.name);
    CHECK(views.call(world) == BN2D_OK);
    world.release_outs();
    const Snapshot before = world.snapshot();
    for (const size_t one : tensors) {
      for (const Fault &fault : table) {
        if (tensors.size() == 1 && !is_noticed_in_all(entry, fault)) continue;
        views.check(world, before, {one}, fault);
        world.release_outs();  // of a call that should have failed
      }
    }
  }
}

TEST_CASE("views: no elements, without a module", "[views]") {
  // Catches the same in the stateless calls, and a mask of no bytes.
  const View empty(nullptr, BN2D_F32, {2, 3, 0, 5});
  std::vector<float> mean = {1, 2, 3}, var = {4, 5, 6}, dweight = {1, 2, 3}, dbias = {4, 5, 6};
  Snapshot before;
  before.add("mean", mean);
  before.add("var", var);
  before.add("dweight", dweight);
  before.add("dbias", dbias);
  std::vector<double> saved_mean(3, 0.0), saved_invstd(3, 1.0);
  CHECK(bn2d_batch_norm_forward(empty, empty, empty, BN2D_F32, nullptr, nullptr, mean.data(),
                                var.data(), 1, 0.1, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr, nullptr,
                                nullptr) == BN2D_OK);
  CHECK(bn2d_batch_norm_backward(empty, empty, nullptr, nullptr, BN2D_F32, nullptr,
                                 saved_mean.data(), saved_invstd.data(), 1, BN2D_ACT_NONE, 0, 1,
                                 empty, nullptr, dweight.data(), dbias.data()) == BN2D_OK);
  CHECK(before.difference() == "");
  CHECK(bn2d_batch_norm_backward(empty, empty, nullptr, nullptr, BN2D_F32, nullptr,
                                 saved_mean.data(), saved_invstd.data(), 1, BN2D_ACT_NONE, 0, 0,
                                 empty, nullptr, dweight.data(), dbias.data()) == BN2D_OK);
  CHECK(dweight == std::vector<float>(3, 0.0f));  // overwritten: the sum over nothing
  CHECK(dbias == std::vector<float>(3, 0.0f));
}

TEST_CASE("views: without elements there are no statistics to save", "[views]") {
  // Catches the mean of no values: a NaN, or the running one, where the caller has other numbers.
  const float values[3] = {1, 2, 3};
  float mean[3] = {4, 5, 6}, var[3] = {7, 8, 9};
  std::vector<double> saved_mean(3, 7), saved_invstd(3, 8);
  Snapshot before;
  before.add("saved_mean", saved_mean);
  before.add("saved_invstd", saved_invstd);
  before.add("running_mean", mean, sizeof mean);
  before.add("running_var", var, sizeof var);
  for (const Extents &shape : {Extents{0, 3, 2, 2}, Extents{2, 3, 0, 2}, Extents{2, 3, 2, 0}})
    for (const int32_t batch_stats : {0, 1})
      for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_SILU}) {
        INFO(shape[0] << "x" << shape[2] << "x" << shape[3] << ", batch statistics " << batch_stats
                      << ", activation " << activation);
        const View x(nullptr, BN2D_F32, shape);
        CHECK(bn2d_batch_norm_forward(x, nullptr, x, BN2D_F32, values, values, mean, var,
                                      batch_stats, 0.5, 1e-5, 0, activation, 0, nullptr,
                                      saved_mean.data(), saved_invstd.data()) == BN2D_OK);
        CHECK(bn2d_batch_norm_forward_flat(
                  BN2D_F32, BN2D_NHWC, shape[0], 3, shape[2], shape[3], nullptr, nullptr, nullptr,
                  BN2D_F32, 3, values, values, mean, var, batch_stats, 0.5, 1e-5, 0, activation, 0,
                  nullptr, saved_mean.data(), saved_invstd.data()) == BN2D_OK);
        CHECK(before.difference() == "");
      }
}

TEST_CASE("views: the stride of an extent of 0 or 1 does not matter", "[views]") {
  // Catches a positivity, overlap or overflow check of a stride that is never used.
  std::vector<float> x = {1, 2, 3, 5, 8, 13}, y(6), expected(6);
  for (const int64_t odd : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    INFO("stride " << odd);
    const Module module = make_module(2);
    const View plain_x(x.data(), BN2D_F32, {3, 2, 1, 1}),
        plain_y(expected.data(), BN2D_F32, {3, 2, 1, 1});
    REQUIRE(bn2d_forward(module.get(), plain_x, plain_y, nullptr) == BN2D_OK);
    const View odd_x(x.data(), BN2D_F32, {3, 2, 1, 1}, {2, 1, odd, odd});
    const View odd_y(y.data(), BN2D_F32, {3, 2, 1, 1}, {2, 1, odd, odd});
    bn2d_record *raw = nullptr;
    CHECK(bn2d_forward(module.get(), odd_x, odd_y, &raw) == BN2D_OK);
    const Record record(raw);
    CHECK(y == expected);
    std::vector<float> dx(6);
    const View odd_dx(dx.data(), BN2D_F32, {3, 2, 1, 1}, {2, 1, odd, odd});
    CHECK(bn2d_backward(module.get(), raw, odd_x, odd_dx, nullptr) == BN2D_OK);
    const View empty(x.data(), BN2D_F32, {0, 2, 3, 4}, {odd, odd, odd, odd});
    const View no_width(x.data(), BN2D_F32, {2, 2, 3, 0}, {odd, odd, odd, odd});
    CHECK(bn2d_forward(module.get(), empty, empty, nullptr) == BN2D_OK);
    CHECK(bn2d_forward(module.get(), no_width, no_width, nullptr) == BN2D_OK);
  }
}

TEST_CASE("views: byte_offset is added to data", "[views]") {
  // Catches an offset that is ignored or counted in elements, for one of the tensors.
  Scene scene;
  for (const char *name : {"x", "y"}) {
    View &view = scene.views[name];
    view->data = static_cast<float *>(view->data) - 7;
    view->byte_offset = 7 * sizeof(float);
  }
  Scene plain;
  REQUIRE(bn2d_forward(plain.module.get(), plain.views["x"], plain.views["y"], nullptr) == BN2D_OK);
  REQUIRE(bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], nullptr) == BN2D_OK);
  CHECK(scene.memories["y"] == plain.memories["y"]);
  for (const char *name : {"dy", "dx", "dz"}) {
    View &view = scene.views[name];
    view->data = static_cast<float *>(view->data) - 9;
    view->byte_offset = 9 * sizeof(float);
  }
  for (Scene *one : {&plain, &scene}) {
    REQUIRE(bn2d_backward(one->module.get(), one->record.get(), one->views["dy"], one->views["dx"],
                          one->views["dz"]) == BN2D_OK);
  }
  CHECK(scene.memories["dx"] == plain.memories["dx"]);
  CHECK(scene.memories["dz"] == plain.memories["dz"]);
}

TEST_CASE("views: an input may overlap itself", "[views]") {
  // Catches the output's check used for inputs: a sliding window over x is a valid input.
  Scene scene;
  scene.views["x"].set_strides({1, 15, 4, 1});
  std::vector<float> copy;
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < 6; ++c) {
      for (int64_t h = 0; h < 3; ++h) {
        for (int64_t w = 0; w < 5; ++w) copy.push_back(scene.data("x")[n + 15 * c + 4 * h + w]);
      }
    }
  }
  Scene plain;
  std::vector<float> expected(copy.size());
  REQUIRE(bn2d_forward_f32(plain.module.get(), copy.data(), 2, 3, 5, expected.data(), nullptr) ==
          BN2D_OK);
  REQUIRE(bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], nullptr) == BN2D_OK);
  CHECK(std::vector<float>(scene.data("y"), scene.data("y") + copy.size()) == expected);
}

TEST_CASE("views: strides that interleave but do not overlap are a valid output", "[views]") {
  // Catches an overlap check that wants strides nested: here the strides are positive and no two
  // elements meet.
  const Module module = make_module(3);
  std::vector<float> x = {1, 2, 4, 8, 16, 32}, y(16, 99.0f), expected(6);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, expected.data(), nullptr) == BN2D_OK);
  const View in(x.data(), BN2D_F32, {2, 3, 1, 1});
  const View out(y.data(), BN2D_F32, {2, 3, 1, 1}, {3, 2, 1, 1});  // offsets 0 2 4 and 3 5 7
  CHECK(bn2d_forward(module.get(), in, out, nullptr) == BN2D_OK);
  CHECK(std::vector<float>{y[0], y[2], y[4], y[3], y[5], y[7]} == expected);
  CHECK(y[1] == 99.0f);
  CHECK(y[6] == 99.0f);
}

TEST_CASE("views: views are read during the call only", "[views]") {
  // Catches a record that keeps a pointer to the caller's shape or strides.
  Scene scene, other;
  for (Scene *one : {&scene, &other}) {
    int64_t shape[4] = {2, 6, 3, 5}, strides[4] = {90, 15, 5, 1};
    bn2d_view x = *one->views["x"].get(), y = *one->views["y"].get(), z = *one->views["z"].get();
    x.shape = y.shape = z.shape = shape;
    x.strides = y.strides = z.strides = strides;
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_act(one->module.get(), &x, &z, BN2D_ACT_RELU, 0, &y, &raw) == BN2D_OK);
    one->record.reset(raw);
    if (one == &scene) {
      for (int i = 0; i < 4; ++i) shape[i] = strides[i] = -77;
      std::memset(&x, 0x5a, sizeof x);
      std::memset(&y, 0x5a, sizeof y);
    }
    REQUIRE(bn2d_backward(one->module.get(), one->record.get(), one->views["dy"], one->views["dx"],
                          one->views["dz"]) == BN2D_OK);
  }
  CHECK(scene.memories["dx"] == other.memories["dx"]);
  CHECK(scene.memories["dz"] == other.memories["dz"]);
}

TEST_CASE("views: the activation and its slope", "[views]") {
  // Catches an activation that is used as an index, and a slope that is checked where it does not
  // count.
  Scene scene;
  const double inf = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  const Snapshot before = scene.snapshot();
  const auto forward = [&](int32_t activation, double slope) {
    return bn2d_forward_act(scene.module.get(), scene.views["x"], nullptr, activation, slope,
                            scene.views["y"], nullptr);
  };
  for (const int32_t odd : {9, -1, INT32_MAX, INT32_MIN}) {
    check_fails("activation", BN2D_ERROR_INVALID_ARGUMENT, before, {std::to_string(odd)},
                [&] { return forward(odd, 0.1); });
  }
  for (const double slope : {inf, -inf, nan}) {
    check_fails("slope", BN2D_ERROR_INVALID_ARGUMENT, before, {},
                [&] { return forward(BN2D_ACT_LEAKY_RELU, slope); });
  }
  for (const double slope : {inf, nan}) {
    CHECK(forward(BN2D_ACT_NONE, slope) == BN2D_OK);
    CHECK(forward(BN2D_ACT_RELU, slope) == BN2D_OK);
  }
  for (const double slope : {0.0, -0.5, 1.0, 2.0, 1e30})
    CHECK(forward(BN2D_ACT_LEAKY_RELU, slope) == BN2D_OK);
}
