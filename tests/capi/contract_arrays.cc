// Per-channel arrays and masks: which memory they may share with one another and with the tensors,
// and how they are aligned.
#include <algorithm>
#include <cstring>
#include <map>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

constexpr Extents kShape{2, 8, 4, 4};
constexpr size_t kTensorBytes = 256 * sizeof(float), kArrayBytes = 8 * sizeof(float),
                 kSavedBytes = 8 * sizeof(double), kMaskBytes = 2 * 8 * 2;

struct Part {
  std::string name;
  size_t bytes;
  bool written;
};

// A call without a module whose tensors and arrays all lie in one arena, wherever a test puts them.
struct Scenery {
  std::string name;
  std::vector<Part> parts;
  int32_t (*call)(Scenery &);
  std::vector<std::pair<std::string, std::string>> exact;  // may be the same, element by element
  std::map<std::string, unsigned char *> at;
  std::vector<unsigned char> arena = std::vector<unsigned char>(1 << 16);

  View view(const char *part) { return View(at[part], BN2D_F32, kShape); }
  float *floats(const char *part) { return reinterpret_cast<float *>(at[part]); }
  double *doubles(const char *part) { return reinterpret_cast<double *>(at[part]); }
  unsigned char *begin() {
    const auto address = reinterpret_cast<uintptr_t>(arena.data());
    return arena.data() + (64 - address % 64);
  }

  void reset() {
    for (size_t i = 0; i + sizeof(float) <= arena.size(); i += sizeof(float)) {
      const float value = static_cast<float>(i / 4 % 13) * 0.25f + 0.5f;
      std::memcpy(arena.data() + i, &value, sizeof value);
    }
    unsigned char *next = begin() + 2048;
    for (const Part &part : parts) {
      at[part.name] = next;
      next += 2048;
    }
  }
  bool may_be_exact(const std::string &a, const std::string &b) const {
    return std::find(exact.begin(), exact.end(), std::pair(a, b)) != exact.end() ||
           std::find(exact.begin(), exact.end(), std::pair(b, a)) != exact.end();
  }
};

std::vector<Scenery> sceneries() {
  const auto in = [](const char *name, size_t bytes) { return Part{name, bytes, false}; };
  const auto out = [](const char *name, size_t bytes) { return Part{name, bytes, true}; };
  std::vector<Scenery> all(6);
  all[0].name = "forward on batch statistics";
  all[0].parts = {in("x", kTensorBytes),           in("z", kTensorBytes),
                  in("weight", kArrayBytes),       in("bias", kArrayBytes),
                  out("y", kTensorBytes),          out("running_mean", kArrayBytes),
                  out("running_var", kArrayBytes), out("mask", kMaskBytes),
                  out("saved_mean", kSavedBytes),  out("saved_invstd", kSavedBytes)};
  all[0].exact = {{"y", "x"}, {"y", "z"}};
  all[0].call = [](Scenery &s) {
    return bn2d_batch_norm_forward(s.view("x"), s.view("z"), s.view("y"), BN2D_F32, s.at["weight"],
                                   s.at["bias"], s.at["running_mean"], s.at["running_var"], 1, 0.1,
                                   1e-5, 0, BN2D_ACT_RELU, 0, s.at["mask"], s.doubles("saved_mean"),
                                   s.doubles("saved_invstd"));
  };
  all[1] = all[0];
  all[1].name = "forward on running statistics";
  all[1].parts[5].written = all[1].parts[6].written = false;
  all[1].call = [](Scenery &s) {
    return bn2d_batch_norm_forward(s.view("x"), s.view("z"), s.view("y"), BN2D_F32, s.at["weight"],
                                   s.at["bias"], s.at["running_mean"], s.at["running_var"], 0, 0.1,
                                   1e-5, 0, BN2D_ACT_RELU, 0, s.at["mask"], s.doubles("saved_mean"),
                                   s.doubles("saved_invstd"));
  };
  all[2].name = "backward with a mask";
  all[2].parts = {in("x", kTensorBytes),         in("dy", kTensorBytes),
                  in("mask", kMaskBytes),        in("weight", kArrayBytes),
                  in("saved_mean", kSavedBytes), in("saved_invstd", kSavedBytes),
                  out("dx", kTensorBytes),       out("dz", kTensorBytes),
                  out("dweight", kArrayBytes),   out("dbias", kArrayBytes)};
  all[2].exact = {{"dx", "dy"}, {"dz", "dy"}};
  all[2].call = [](Scenery &s) {
    return bn2d_batch_norm_backward(s.view("x"), s.view("dy"), nullptr, s.at["mask"], BN2D_F32,
                                    s.at["weight"], s.doubles("saved_mean"),
                                    s.doubles("saved_invstd"), 1, BN2D_ACT_RELU, 0, 1, s.view("dx"),
                                    s.view("dz"), s.at["dweight"], s.at["dbias"]);
  };
  all[3] = all[2];
  all[3].name = "backward with y";
  all[3].parts[2] = in("y", kTensorBytes);
  all[3].call = [](Scenery &s) {
    return bn2d_batch_norm_backward(s.view("x"), s.view("dy"), s.view("y"), nullptr, BN2D_F32,
                                    s.at["weight"], s.doubles("saved_mean"),
                                    s.doubles("saved_invstd"), 1, BN2D_ACT_RELU, 0, 1, s.view("dx"),
                                    s.view("dz"), s.at["dweight"], s.at["dbias"]);
  };
  all[4].name = "double backward";
  all[4].parts = {
      in("x", kTensorBytes),           in("dy", kTensorBytes),      in("ddx", kTensorBytes),
      in("mask", kMaskBytes),          in("weight", kArrayBytes),   in("saved_mean", kSavedBytes),
      in("saved_invstd", kSavedBytes), in("ddweight", kArrayBytes), in("ddbias", kArrayBytes),
      out("ddy", kTensorBytes),        out("dx", kTensorBytes),     out("dweight", kArrayBytes)};
  all[4].exact = {{"ddy", "dy"}};
  all[4].call = [](Scenery &s) {
    return bn2d_batch_norm_double_backward(
        s.view("x"), s.view("dy"), nullptr, s.at["mask"], BN2D_F32, s.at["weight"],
        s.doubles("saved_mean"), s.doubles("saved_invstd"), 1, BN2D_ACT_RELU, 0, s.view("ddx"),
        s.at["ddweight"], s.at["ddbias"], 1, s.view("ddy"), s.view("dx"), s.at["dweight"]);
  };
  all[5].name = "double backward through silu";
  all[5].parts = {
      in("x", kTensorBytes),       in("z", kTensorBytes),         in("dy", kTensorBytes),
      in("ddx", kTensorBytes),     in("ddz", kTensorBytes),       in("weight", kArrayBytes),
      in("bias", kArrayBytes),     in("saved_mean", kSavedBytes), in("saved_invstd", kSavedBytes),
      in("ddweight", kArrayBytes), in("ddbias", kArrayBytes),     out("ddy", kTensorBytes),
      out("dx", kTensorBytes),     out("dz", kTensorBytes),       out("dweight", kArrayBytes),
      out("dbias", kArrayBytes)};
  all[5].exact = {{"ddy", "dy"}};
  all[5].call = [](Scenery &s) {
    return bn2d_batch_norm_double_backward_act(
        s.view("x"), s.view("z"), s.view("dy"), nullptr, nullptr, BN2D_F32, s.at["weight"],
        s.at["bias"], s.doubles("saved_mean"), s.doubles("saved_invstd"), 1, BN2D_ACT_SILU, 0,
        s.view("ddx"), s.view("ddz"), s.at["ddweight"], s.at["ddbias"], 1, s.view("ddy"),
        s.view("dx"), s.view("dz"), s.at["dweight"], s.at["dbias"]);
  };
  for (Scenery &scenery : all) scenery.reset();
  return all;
}

}  // namespace

TEST_CASE("arrays: every two parts of a call that share memory", "[arrays]") {
  // Catches a pair that is not compared, one that is although both are only read, and ends that are
  // off by one.
  for (Scenery &s : sceneries()) {
    REQUIRE(s.call(s) == BN2D_OK);
    for (const Part &a : s.parts) {
      for (const Part &b : s.parts) {
        if (a.name == b.name) continue;
        const auto bytes_a = static_cast<int64_t>(a.bytes), bytes_b = static_cast<int64_t>(b.bytes);
        // b from where it ends 8 bytes inside a to where it begins 8 bytes inside; and right before
        // and behind a.
        for (const int64_t shift :
             {int64_t{0}, int64_t{8}, 8 - bytes_b, bytes_a - 8, -bytes_b, bytes_a}) {
          s.reset();
          s.at[b.name] = s.at[a.name] + shift;
          const bool apart = shift <= -bytes_b || shift >= bytes_a;
          const bool allowed =
              apart || (!a.written && !b.written) || (shift == 0 && s.may_be_exact(a.name, b.name));
          const std::string what =
              s.name + ": " + b.name + " at " + a.name + " + " + std::to_string(shift);
          Snapshot before;
          before.add("arena", s.arena);
          if (allowed) {
            INFO(what);
            const int32_t status = s.call(s);
            INFO(bn2d_last_error());
            CHECK(status == BN2D_OK);
          } else {
            check_fails(what, BN2D_ERROR_OVERLAP, before, {a.name, b.name},
                        [&] { return s.call(s); });
          }
        }
      }
    }
  }
}

TEST_CASE("arrays: between the elements of a tensor is not in it", "[arrays]") {
  // Catches a comparison of address ranges alone, and an exact one that is off by an element.
  std::vector<Scenery> all = sceneries();
  Scenery &s = all[0];
  const Extents strides{8 * 24, 24, 4, 1};  // 16 elements of each plane, 8 that are nobody's
  for (const int64_t shift : {0, -4, 4}) {
    s.reset();
    s.at["saved_mean"] = s.at["saved_invstd"] = s.at["mask"] = nullptr;
    const View y(s.at["y"], BN2D_F32, kShape, strides);
    float *gap = s.floats("y") + 3 * 24 + 16;
    Snapshot before;
    before.add("arena", s.arena);
    const auto call = [&] {
      return bn2d_batch_norm_forward(s.view("x"), nullptr, y, BN2D_F32, s.at["weight"],
                                     reinterpret_cast<char *>(gap) + shift, s.at["running_mean"],
                                     s.at["running_var"], 1, 0.1, 1e-5, 0, BN2D_ACT_NONE, 0,
                                     nullptr, nullptr, nullptr);
    };
    if (shift == 0) {
      CHECK(call() == BN2D_OK);
    } else {
      check_fails("bias " + std::to_string(shift) + " bytes off the gap", BN2D_ERROR_OVERLAP,
                  before, {"y", "bias"}, call);
    }
  }
}

TEST_CASE("arrays: an empty call looks at its arrays, too", "[arrays]") {
  // Catches a check of gradients that hangs on elements: an empty batch still scales them by blend.
  double saved[16] = {};
  float gradient[16] = {1, 1, 1, 1};
  const View dy(nullptr, BN2D_F32, {0, 4, 2, 2});
  Snapshot before;
  before.add("gradient", gradient, sizeof gradient);
  check_fails("dweight is dbias", BN2D_ERROR_OVERLAP, before, {"dweight", "dbias"}, [&] {
    return bn2d_batch_norm_backward(dy, dy, nullptr, nullptr, BN2D_F32, nullptr, saved, saved, 1,
                                    BN2D_ACT_NONE, 0, 0.5, dy, nullptr, gradient, gradient);
  });
  CHECK(bn2d_batch_norm_backward(dy, dy, nullptr, nullptr, BN2D_F32, nullptr, saved, saved, 1,
                                 BN2D_ACT_NONE, 0, 0.5, dy, nullptr, gradient,
                                 gradient + 4) == BN2D_OK);
  CHECK(gradient[0] == 0.5f);
}

TEST_CASE("arrays: not aligned to their elements", "[arrays]") {
  // Catches an array that is not checked as tensors are. A mask has bytes, which are always
  // aligned.
  for (Scenery &s : sceneries()) {
    for (const Part &part : s.parts) {
      const size_t element = part.bytes == kSavedBytes ? 8 : part.name == "mask" ? 1 : 4;
      for (size_t shift = 1; shift <= element; shift *= 2) {
        s.reset();
        s.at[part.name] += shift;
        Snapshot before;
        before.add("arena", s.arena);
        if (shift == element) {
          CHECK(s.call(s) == BN2D_OK);
        } else {
          check_fails(s.name + ": " + part.name + " at an odd address", BN2D_ERROR_LAYOUT, before,
                      {part.name, std::to_string(element)}, [&] { return s.call(s); });
        }
      }
    }
  }
}

TEST_CASE("arrays: data of contiguous calls and module calls that are not aligned", "[arrays]") {
  // Catches contiguous functions that skip the check of views, for each dtype, and ddweight, ddbias
  // of a module.
  alignas(16) unsigned char memory[1024] = {};
  const auto f32 = [&](size_t at) { return reinterpret_cast<float *>(memory + at); };
  const auto f64 = [&](size_t at) { return reinterpret_cast<double *>(memory + at); };
  Settings wide;
  wide.dtype = BN2D_F64;
  const Module module = make_module(2), module64 = make_module(2, wide);
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(module.get(), f32(0), 1, 2, 2, f32(64), &raw) == BN2D_OK);
  const Record record(raw);
  REQUIRE(bn2d_forward_f64(module64.get(), f64(0), 1, 2, 2, f64(64), &raw) == BN2D_OK);
  const Record record64(raw);
  Snapshot before;
  before.add("module", module.get());
  before.add("module64", module64.get());
  before.add("memory", memory, sizeof memory);
  const auto refuse = [&](const char *what, auto &&call) {
    check_fails(what, BN2D_ERROR_LAYOUT, before, {}, call);
  };
  for (const size_t odd : {1, 2, 3}) {
    refuse("forward_f32 x",
           [&] { return bn2d_forward_f32(module.get(), f32(odd), 1, 2, 2, f32(64), nullptr); });
    refuse("forward_f32 y",
           [&] { return bn2d_forward_f32(module.get(), f32(0), 1, 2, 2, f32(64 + odd), nullptr); });
    refuse("backward_f32 dy",
           [&] { return bn2d_backward_f32(module.get(), record.get(), f32(128 + odd), f32(256)); });
    refuse("backward_f32 dx",
           [&] { return bn2d_backward_f32(module.get(), record.get(), f32(128), f32(256 + odd)); });
    const View dy(memory + 128, BN2D_F32, {1, 2, 2, 2}), dx(memory + 256, BN2D_F32, {1, 2, 2, 2});
    refuse("ddweight", [&] {
      return bn2d_double_backward(module.get(), record.get(), dy, nullptr, memory + 512 + odd,
                                  nullptr, nullptr, dx);
    });
    refuse("ddbias", [&] {
      return bn2d_double_backward(module.get(), record.get(), dy, nullptr, nullptr,
                                  memory + 512 + odd, nullptr, dx);
    });
  }
  for (const size_t odd : {1, 2, 4}) {
    refuse("forward_f64 x",
           [&] { return bn2d_forward_f64(module64.get(), f64(odd), 1, 2, 2, f64(256), nullptr); });
    refuse("backward_f64 dx", [&] {
      return bn2d_backward_f64(module64.get(), record64.get(), f64(128), f64(256 + odd));
    });
  }
  for (const int32_t dtype : {BN2D_F16, BN2D_BF16}) {
    const View good(memory, dtype, {1, 2, 2, 2}), odd(memory + 65, dtype, {1, 2, 2, 2});
    refuse("half y", [&] { return bn2d_forward(module.get(), good, odd, nullptr); });
    refuse("half x", [&] { return bn2d_forward(module.get(), odd, good, nullptr); });
  }
  const Tensor weight = tensor_of(module, "weight");
  refuse("copy_from", [&] {
    return bn2d_tensor_copy_from(weight.get(), View::vector(memory + 2, BN2D_F32, 2));
  });
  refuse("copy_to",
         [&] { return bn2d_tensor_copy_to(weight.get(), View::vector(memory + 2, BN2D_F32, 2)); });
}

TEST_CASE("arrays: tensors in a module's own storage", "[arrays]") {
  // Catches a module that trusts its own arrays: a host reaches them with bn2d_tensor_data. With
  // half data a tensor of two values per channel fits exactly.
  constexpr int64_t kC = 8;
  const Extents shape{1, kC, 1, 2};
  std::vector<uint16_t> other(4 * kC, 0x3c00);
  const auto in = [&](const Module &m, const char *name) {
    return View(data_of<uint16_t>(m, name), BN2D_F16, shape);
  };
  const View outside(other.data(), BN2D_F16, shape),
      elsewhere(other.data() + 2 * kC, BN2D_F16, shape);
  for (const bool training : {true, false}) {
    for (const char *name :
         {"weight", "bias", "running_mean", "running_var", "weight.grad", "bias.grad"}) {
      const std::string text = std::string(name) + (training ? " in training" : " in eval");
      const bool is_gradient = std::string(name).find("grad") != std::string::npos;
      const bool moves = training && std::string(name).find("running") == 0;
      for (const bool as_y : {true, false}) {
        const Module module = make_module(kC);
        REQUIRE(bn2d_module_train(module.get(), training) == BN2D_OK);
        const View tensor = in(module, name);
        Snapshot before;
        before.add("module", module.get());
        before.add("other", other);
        const auto call = [&] {
          return as_y ? bn2d_forward(module.get(), outside, tensor, nullptr)
                      : bn2d_forward(module.get(), tensor, outside, nullptr);
        };
        if (as_y ? !is_gradient : moves) {
          check_fails(text + (as_y ? ", as y" : ", as x"), BN2D_ERROR_OVERLAP, before, {name},
                      call);
        } else {
          INFO(text << (as_y ? ", as y" : ", as x"));
          CHECK(call() == BN2D_OK);
        }
      }
    }
    for (const char *name : {"weight.grad", "bias.grad"}) {
      const Module module = make_module(kC);
      REQUIRE(bn2d_module_train(module.get(), training) == BN2D_OK);
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward(module.get(), outside, elsewhere, &raw) == BN2D_OK);
      const Record record(raw);
      const View tensor = in(module, name);
      Snapshot before;
      before.add("module", module.get());
      const std::string word = name == std::string("weight.grad") ? "dweight" : "dbias";
      const auto refuse = [&](const char *what, auto &&call) {
        check_fails(std::string(name) + " as " + what, BN2D_ERROR_OVERLAP, before, {word}, call);
      };
      refuse("dy", [&] { return bn2d_backward(module.get(), raw, tensor, nullptr, nullptr); });
      refuse("dx", [&] { return bn2d_backward(module.get(), raw, elsewhere, tensor, nullptr); });
      refuse("dz", [&] { return bn2d_backward(module.get(), raw, elsewhere, nullptr, tensor); });
      if (name != std::string("weight.grad")) continue;  // double backward leaves bias.grad alone
      refuse("ddx", [&] {
        return bn2d_double_backward(module.get(), raw, elsewhere, tensor, nullptr, nullptr, nullptr,
                                    nullptr);
      });
      refuse("ddy", [&] {
        return bn2d_double_backward(module.get(), raw, elsewhere, nullptr, nullptr, nullptr, tensor,
                                    nullptr);
      });
      refuse("ddweight", [&] {
        return bn2d_double_backward(module.get(), raw, elsewhere, nullptr,
                                    data_of<float>(module, name), nullptr, nullptr, nullptr);
      });
      refuse("ddbias", [&] {
        return bn2d_double_backward(module.get(), raw, elsewhere, nullptr, nullptr,
                                    data_of<float>(module, name), nullptr, nullptr);
      });
    }
  }
}
