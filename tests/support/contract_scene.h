// A module, tensors and their views by name, in memory with room around each of them.
#pragma once
#include <bn2d/bn2d.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

namespace bn2d_test {

class Scene {
 public:
  static constexpr Extents kShape{2, 6, 3, 5};
  static constexpr int64_t kC = 6;
  static constexpr size_t
      kRoom = 8192,
      kMargin = 2048;  // elements around each tensor, so that no spoilt view hits another

  explicit Scene(const Settings &settings = {}) : module(make_module(kC, settings)) {
    give_character(module);
    unsigned seed = 1;
    for (const char *name : {"x", "z", "y", "dy", "dx", "dz", "ddx", "ddy", "ddz"}) {
      std::vector<float> &memory = memories[name];
      memory.resize(kRoom);
      for (float &value : memory)
        value = static_cast<float>((seed = seed * 1664525u + 1013904223u) >> 24) * 0.0625f - 8;
      views[name] = View(memory.data() + kMargin, BN2D_F32, kShape);
    }
    for (auto *values :
         {&weight, &bias, &running_mean, &running_var, &dweight, &dbias, &ddweight, &ddbias}) {
      values->reserve(
          kRoom);  // a call that wrongly takes more channels must not take the test program with it
      values->resize(kC);
      for (size_t i = 0; i < kC; ++i) (*values)[i] = 0.5f + 0.25f * static_cast<float>(i);
    }
    saved_mean.reserve(kRoom);
    saved_invstd.reserve(kRoom);
    mask.reserve(kRoom);
    saved_mean.assign(kC, 0.5);
    saved_invstd.assign(kC, 0.75);
    mask.assign(static_cast<size_t>(kShape[0] * kShape[1]) * 2, 0x6b);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_act(module.get(), views["x"], views["z"], BN2D_ACT_RELU, 0, views["y"],
                             &raw) == BN2D_OK);
    record.reset(raw);
  }
  Scene(const Scene &) = delete;
  Scene &operator=(const Scene &) = delete;

  float *data(const std::string &slot) { return memories[slot].data() + kMargin; }

  Snapshot snapshot() {
    Snapshot all;
    all.add("module", module.get());
    for (const auto &[name, memory] : memories) all.add(name, memory);
    all.add("weight", weight);
    all.add("bias", bias);
    all.add("running_mean", running_mean);
    all.add("running_var", running_var);
    all.add("dweight", dweight);
    all.add("dbias", dbias);
    all.add("ddweight", ddweight);
    all.add("ddbias", ddbias);
    all.add("saved_mean", saved_mean);
    all.add("saved_invstd", saved_invstd);
    all.add("mask", mask);
    all.add("record", &out_record, sizeof out_record);
    return all;
  }

  Module module;
  Record record;
  bn2d_record *out_record = nullptr;
  std::map<std::string, std::vector<float>> memories;
  std::map<std::string, View> views;
  std::vector<float> weight, bias, running_mean, running_var, dweight, dbias, ddweight, ddbias;
  std::vector<double> saved_mean, saved_invstd;
  std::vector<uint8_t> mask;
};

}  // namespace bn2d_test
