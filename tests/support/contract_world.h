// One valid object of every kind and one valid argument for every parameter, so that a test can
// spoil exactly one of them.
#pragma once
#include <bn2d/bn2d.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "support/contract_dlpack.h"
#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

namespace bn2d_test {

// What out parameters hold before a call: a value that no function writes.
template <class T>
T sentinel() {
  T value;
  std::memset(&value, 0x5a, sizeof value);
  return value;
}

class World {
 public:
  static constexpr int64_t kN = 2, kC = 6, kH = 3, kW = 5;
  static constexpr Extents kShape{kN, kC, kH, kW};
  static constexpr size_t kCount = static_cast<size_t>(kN * kC * kH * kW);

  // Out parameters, in one block of memory for the snapshot.
  struct Outs {
    bn2d_options *options = sentinel<bn2d_options *>();
    bn2d_module *module = sentinel<bn2d_module *>();
    bn2d_tensor *tensor = sentinel<bn2d_tensor *>();
    bn2d_record *record = sentinel<bn2d_record *>();
    bn2d_statistics *statistics = sentinel<bn2d_statistics *>();
    DLManagedTensorVersioned *dlpack = sentinel<DLManagedTensorVersioned *>();
    DLManagedTensor *legacy = sentinel<DLManagedTensor *>();
    const char *text = sentinel<const char *>();
    void *data = sentinel<void *>();
    uint64_t u64 = sentinel<uint64_t>();
    int64_t i64 = sentinel<int64_t>();
    double f64 = sentinel<double>();
    int32_t i32 = sentinel<int32_t>();
    int32_t other_i32 = sentinel<int32_t>();
    char buffer[256];
  };

  World() {
    std::memset(outs.buffer, 0x5a, sizeof outs.buffer);
    options = make_options();
    bn2d_options *raw_options = nullptr;
    REQUIRE(bn2d_options_create(&raw_options) == BN2D_OK);
    bare_options.reset(raw_options);
    module = make_module(kC, options.get());
    Settings doubles;
    doubles.dtype = BN2D_F64;
    module64 = make_module(kC, doubles);
    give_character(module);
    give_character(module64);
    tensor = tensor_of(module, "weight");
    for (auto *values : {&x, &z, &dy, &ddx}) {
      values->resize(kCount);
      for (size_t i = 0; i < kCount; ++i) {
        (*values)[i] =
            static_cast<float>((i * 7 + values->size() * (values == &x ? 1 : 3)) % 11) * 0.25f -
            1.0f;
      }
    }
    for (auto *values : {&y, &dx, &dz, &ddy}) values->assign(kCount, 77.0f);
    x64.assign(x.begin(), x.end());
    dy64.assign(dy.begin(), dy.end());
    y64.assign(kCount, 77.0);
    dx64.assign(kCount, 77.0);
    weight.assign(kC, 1.5f);
    bias.assign(kC, 0.5f);
    running_mean.assign(kC, 0.25f);
    running_var.assign(kC, 2.0f);
    dweight.assign(kC, 3.0f);
    dbias.assign(kC, 4.0f);
    ddweight.assign(kC, 0.5f);
    ddbias.assign(kC, 0.25f);
    saved_mean.assign(kC, 0.5);
    saved_invstd.assign(kC, 0.75);
    set_mean.assign(kN * kC, 0.5);
    set_invstd.assign(kN * kC, 0.75);
    mask.assign(static_cast<size_t>(kN * kC * ((kH * kW + 7) / 8)), 0xa5);
    copy.assign(kC, 2.5f);

    bn2d_record *raw = nullptr;
    std::vector<float> recorded(kCount);
    REQUIRE(bn2d_forward_f32(module.get(), x.data(), kN, kH, kW, recorded.data(), &raw) == BN2D_OK);
    record.reset(raw);
    REQUIRE(bn2d_forward_f64(module64.get(), x64.data(), kN, kH, kW, y64.data(), &raw) == BN2D_OK);
    record64.reset(raw);

    view_x = View(x.data(), BN2D_F32, kShape);
    view_y = View(y.data(), BN2D_F32, kShape);
    view_z = View(z.data(), BN2D_F32, kShape);
    view_dy = View(dy.data(), BN2D_F32, kShape);
    view_dx = View(dx.data(), BN2D_F32, kShape);
    view_dz = View(dz.data(), BN2D_F32, kShape);
    view_ddx = View(ddx.data(), BN2D_F32, kShape);
    view_ddy = View(ddy.data(), BN2D_F32, kShape);
    view_copy = View::vector(copy.data(), BN2D_F32, kC);

    statistics = make_statistics(kC);
    other_statistics = make_statistics(kC);
    REQUIRE(bn2d_statistics_accumulate(statistics.get(), view_x) == BN2D_OK);
    REQUIRE(bn2d_statistics_accumulate(other_statistics.get(), view_z) == BN2D_OK);
    exported_values = exported(other_statistics.get());
    sums.assign(2 * kC, 0.5);

    // Dead handles come last: nothing of their kind is made after them.
    dead_record = make_dead_record();
    dead_tensor = make_dead_tensor();
    dead_module = make_dead_module();
    dead_options = make_options().get();
    dead_statistics = given_back(make_statistics(2));
  }

  ~World() {
    release_outs();
    bn2d_set_thread_pool(BN2D_POOL_DEFAULT);
  }
  World(const World &) = delete;
  World &operator=(const World &) = delete;

  // Gives back what a successful call has handed out.
  void release_outs() {
    if (outs.options != sentinel<bn2d_options *>()) bn2d_options_release(outs.options);
    if (outs.module != sentinel<bn2d_module *>()) bn2d_module_release(outs.module);
    if (outs.tensor != sentinel<bn2d_tensor *>()) bn2d_tensor_release(outs.tensor);
    if (outs.record != sentinel<bn2d_record *>()) bn2d_record_release(outs.record);
    if (outs.statistics != sentinel<bn2d_statistics *>()) bn2d_statistics_release(outs.statistics);
    if (outs.dlpack != sentinel<DLManagedTensorVersioned *>()) outs.dlpack->deleter(outs.dlpack);
    if (outs.legacy != sentinel<DLManagedTensor *>()) outs.legacy->deleter(outs.legacy);
    outs = Outs();
    std::memset(outs.buffer, 0x5a, sizeof outs.buffer);
  }

  Snapshot snapshot() const {
    Snapshot all;
    all.add("the out parameters", &outs, sizeof outs);
    all.add("module", module.get());
    all.add("module64", module64.get());
    all.add("x", x);
    all.add("y", y);
    all.add("z", z);
    all.add("dy", dy);
    all.add("dx", dx);
    all.add("dz", dz);
    all.add("ddx", ddx);
    all.add("ddy", ddy);
    all.add("x64", x64);
    all.add("y64", y64);
    all.add("dy64", dy64);
    all.add("dx64", dx64);
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
    all.add("set_mean", set_mean);
    all.add("set_invstd", set_invstd);
    all.add("mask", mask);
    all.add("copy", copy);
    all.add("exported_values", exported_values);
    all.add("sums", sums);
    all.add("statistics", statistics.get());
    all.add("other_statistics", other_statistics.get());
    return all;
  }

  // The reference that a call of this function has taken.
  void release_retained(const std::string &function) const {
    if (function == "options_retain") bn2d_options_release(options.get());
    if (function == "module_retain") bn2d_module_release(module.get());
    if (function == "tensor_retain") bn2d_tensor_release(tensor.get());
    if (function == "record_retain") bn2d_record_release(record.get());
    if (function == "statistics_retain") bn2d_statistics_release(statistics.get());
  }

  // One more reference, for the release function of a call that will really release it.
  template <class T>
  T *spare(T *handle, int32_t (*retain)(T *)) const {
    if (!spoiling) (void)retain(handle);
    return handle;
  }

  // The module with a shared lock, which the call ends.
  bn2d_module *locked(bn2d_module *handle) const {
    if (!spoiling) (void)bn2d_module_try_lock(handle, 0);
    return handle;
  }
  // The module without the lock that the call before has taken.
  bn2d_module *freed(bn2d_module *handle) const {
    if (bn2d_module_unlock(handle, 0) != BN2D_OK) mark_message();  // as it was before the call
    return handle;
  }

  bool spoiling = false;  // the call under way has an argument replaced
  Outs outs;
  Options options;
  Options bare_options;  // of which none is set
  Module module, module64;
  Tensor tensor;
  Record record, record64;
  Statistics statistics, other_statistics;
  bn2d_options *dead_options = nullptr;
  bn2d_module *dead_module = nullptr;
  bn2d_tensor *dead_tensor = nullptr;
  bn2d_record *dead_record = nullptr;
  bn2d_statistics *dead_statistics = nullptr;

  std::vector<float> x, y, z, dy, dx, dz, ddx, ddy;
  std::vector<double> x64, y64, dy64, dx64;
  std::vector<float> weight, bias, running_mean, running_var, dweight, dbias, ddweight, ddbias,
      copy;
  std::vector<double> saved_mean, saved_invstd, set_mean, set_invstd, exported_values, sums;
  std::vector<uint8_t> mask;
  View view_x, view_y, view_z, view_dy, view_dx, view_dz, view_ddx, view_ddy, view_copy;

 private:
  static bn2d_module *make_dead_module() { return given_back(make_module(2)); }
  static bn2d_tensor *make_dead_tensor() {
    const Module owner = make_module(2);
    return given_back(tensor_of(owner, "bias"));
  }
  bn2d_record *make_dead_record() {
    bn2d_record *raw = nullptr;
    std::vector<double> unused(kCount);
    REQUIRE(bn2d_forward_f64(module64.get(), x64.data(), kN, kH, kW, unused.data(), &raw) ==
            BN2D_OK);
    bn2d_record_release(raw);
    return raw;
  }
};

}  // namespace bn2d_test
