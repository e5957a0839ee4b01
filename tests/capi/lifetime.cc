// Reference counts, identity, and releasing in every order, as a garbage collector would.
#include <algorithm>
#include <array>
#include <atomic>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "support/contract_dlpack.h"
#include "support/contract_failures.h"
#include "support/contract_handles.h"

using namespace bn2d_test;

namespace {

bool is_dead(bn2d_options *handle) {
  return bn2d_options_set_eps(handle, 1e-5) == BN2D_ERROR_INVALID_HANDLE;
}
bool is_dead(bn2d_module *handle) {
  int32_t out = 0;
  return bn2d_module_is_training(handle, &out) == BN2D_ERROR_INVALID_HANDLE;
}
bool is_dead(bn2d_tensor *handle) {
  int32_t out = 0;
  return bn2d_tensor_kind(handle, &out) == BN2D_ERROR_INVALID_HANDLE;
}
bool is_dead(bn2d_record *handle) {
  if (bn2d_record_retain(handle) != BN2D_OK) return true;
  bn2d_record_release(handle);
  return false;
}

bool is_dead(bn2d_statistics *handle) {
  int64_t out = 0;
  return bn2d_statistics_count(handle, &out) == BN2D_ERROR_INVALID_HANDLE;
}

// A module with all that can be had from it, each in a slot that is released by its number.
class Family {
 public:
  // module, five tensors, two gradients, a record, two exports.
  static constexpr int kModule = 0, kTensors = 1, kGradients = 6, kRecord = 8, kExport = 9,
                       kLegacy = 10, kSize = 11;

  Family() {
    bn2d_module_create(4, nullptr, &module_);
    const char *names[] = {
        "weight",      "bias",     "running_mean", "running_var", "num_batches_tracked",
        "weight.grad", "bias.grad"};
    for (int i = 0; i < 7; ++i)
      bn2d_module_tensor_by_name(module_, names[i], &tensors_[static_cast<size_t>(i)]);
    bn2d_forward_f32(module_, x_.data(), 2, 1, 1, y_.data(), &record_);
    bn2d_tensor_to_dlpack(tensors_[0], &export_);
    bn2d_tensor_to_dlpack_legacy(tensors_[2], &legacy_);
  }
  void release(int slot) {
    if (slot == kModule) {
      bn2d_module_release(module_);
    } else if (slot < kRecord) {
      bn2d_tensor_release(tensors_[static_cast<size_t>(slot - kTensors)]);
    } else if (slot == kRecord) {
      bn2d_record_release(record_);
    } else if (slot == kExport) {
      export_->deleter(export_);
    } else {
      legacy_->deleter(legacy_);
    }
    released_[static_cast<size_t>(slot)] = true;
  }
  // Uses everything that is still held: reads and writes its memory. True where all of it answers
  // as it should.
  bool works() {
    bool good = true;
    if (!released_[kModule]) {
      good = good && bn2d_forward_f32(module_, x_.data(), 2, 1, 1, y_.data(), nullptr) == BN2D_OK;
      if (!released_[kRecord]) {
        good = good && bn2d_backward_f32(module_, record_, x_.data(), y_.data()) == BN2D_OK;
      }
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (released_[i + 1]) continue;
      void *data = nullptr;
      uint64_t bytes = 0;
      good = good && bn2d_tensor_data(tensors_[i], &data) == BN2D_OK;
      good =
          good && bn2d_tensor_nbytes(tensors_[i], &bytes) == BN2D_OK && bytes == (i == 4 ? 8 : 16);
      if (good) std::memset(data, 0, bytes);
    }
    if (!released_[1]) {  // a parameter knows its gradient, also without the module
      bn2d_tensor *gradient = nullptr;
      good = good && bn2d_tensor_grad(tensors_[0], &gradient) == BN2D_OK && gradient != nullptr;
      good = good && (released_[kGradients] || gradient == tensors_[5]);
      bn2d_tensor_release(gradient);
    }
    if (!released_[kRecord]) {
      good = good && bn2d_record_retain(record_) == BN2D_OK;
      bn2d_record_release(record_);
    }
    if (!released_[kExport]) static_cast<float *>(export_->dl_tensor.data)[3] = 1;
    if (!released_[kLegacy]) static_cast<float *>(legacy_->dl_tensor.data)[3] = 1;
    return good;
  }

 private:
  std::array<float, 8> x_{1, 2, 3, 4, 5, 6, 7, 9}, y_{};
  bn2d_module *module_ = nullptr;
  std::array<bn2d_tensor *, 7> tensors_{};
  bn2d_record *record_ = nullptr;
  DLManagedTensorVersioned *export_ = nullptr;
  DLManagedTensor *legacy_ = nullptr;
  std::array<bool, kSize> released_{};
};

}  // namespace

TEST_CASE("lifetime: references are counted", "[lifetime]") {
  // Catches a retain or release that does not count, and a handle that lives on after its last
  // reference.
  const auto count = [](auto *handle, auto retain, auto release) {
    for (int i = 0; i < 5; ++i) REQUIRE(retain(handle) == BN2D_OK);
    for (int i = 0; i < 5; ++i) {
      release(handle);
      REQUIRE_FALSE(is_dead(handle));
    }
    release(handle);
    CHECK(is_dead(handle));
    release(handle);  // of a dead one: nothing
    CHECK(is_dead(handle));
    CHECK(retain(handle) == BN2D_ERROR_INVALID_HANDLE);
  };
  count(make_options().release(), bn2d_options_retain, bn2d_options_release);
  count(make_module(3).release(), bn2d_module_retain, bn2d_module_release);
  count(make_statistics(3).release(), bn2d_statistics_retain, bn2d_statistics_release);
  bn2d_tensor *tensor = nullptr;
  bn2d_record *record = nullptr;
  {
    const Module module = make_module(1);
    tensor = tensor_of(module, "weight").release();
    const float x[2] = {1, 2};
    float y[2];
    REQUIRE(bn2d_forward_f32(module.get(), x, 2, 1, 1, y, &record) == BN2D_OK);
  }
  count(tensor, bn2d_tensor_retain,
        bn2d_tensor_release);  // the module is gone: the last reference is ours
  count(record, bn2d_record_retain, bn2d_record_release);
}

TEST_CASE("lifetime: a retained module survives the release of its creator", "[lifetime]") {
  // Catches a release that frees whatever the count.
  Module module = make_module(3);
  REQUIRE(bn2d_module_retain(module.get()) == BN2D_OK);
  bn2d_module *other = module.get();
  module.reset();
  int64_t features = 0;
  CHECK(bn2d_module_num_features(other, &features) == BN2D_OK);
  CHECK(features == 3);
  bn2d_module_release(other);
}

TEST_CASE("lifetime: each look-up is one reference of the caller", "[lifetime]") {
  // Catches a look-up that hands out the module's own reference: the second release would come too
  // early, or leak.
  Module module = make_module(3);
  bn2d_tensor *first = tensor_of(module, "bias").release();
  bn2d_tensor *second = nullptr;
  REQUIRE(bn2d_module_tensor_at(module.get(), 1, &second) == BN2D_OK);
  REQUIRE(first == second);
  module.reset();
  CHECK_FALSE(is_dead(first));
  bn2d_tensor_release(first);
  CHECK_FALSE(is_dead(second));
  bn2d_tensor_release(second);
  CHECK(is_dead(second));
}

TEST_CASE("lifetime: looking a tensor up gives the same pointer each time", "[lifetime]") {
  // Catches a new handle (and a new identity) per look-up, by index, by name, and through the
  // parameter.
  const Module module = make_module(3);
  int32_t count = 0;
  REQUIRE(bn2d_module_tensor_count(module.get(), &count) == BN2D_OK);
  std::set<bn2d_tensor *> all;
  for (int32_t i = 0; i < count; ++i) {
    bn2d_tensor *by_index = nullptr;
    REQUIRE(bn2d_module_tensor_at(module.get(), i, &by_index) == BN2D_OK);
    const Tensor held(by_index);
    const char *name = nullptr;
    REQUIRE(bn2d_tensor_name(by_index, &name) == BN2D_OK);
    INFO(name);
    CHECK(tensor_of(module, name).get() == by_index);
    CHECK(tensor_of(module, name).get() ==
          by_index);  // also when the last one was given back in between
    all.insert(by_index);
  }
  for (const char *parameter : {"weight", "bias"}) {
    const Tensor held = tensor_of(module, parameter);
    bn2d_tensor *gradient = nullptr;
    REQUIRE(bn2d_tensor_grad(held.get(), &gradient) == BN2D_OK);
    const Tensor held_gradient(gradient);
    CHECK(tensor_of(module, (std::string(parameter) + ".grad").c_str()).get() == gradient);
    all.insert(gradient);
  }
  CHECK(all.size() == 7);  // and no two are the same
}

TEST_CASE("lifetime: storage never moves", "[lifetime]") {
  // Catches a reset, a load or a training step that replaces the memory that a caller points to.
  const Module module = make_module(5);
  std::vector<const void *> before;
  const std::vector<const char *> names = {
      "weight",      "bias",     "running_mean", "running_var", "num_batches_tracked",
      "weight.grad", "bias.grad"};
  for (const char *name : names) {
    before.push_back(data_of<void>(module, name));
    CHECK(reinterpret_cast<uintptr_t>(before.back()) % 64 == 0);  // aligned to 64 bytes
  }
  std::vector<float> x(5 * 4, 1.0f), y(5 * 4);
  x[3] = 2;
  bn2d_record *record = nullptr;
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, y.data(), &record) == BN2D_OK);
  const Record held(record);
  REQUIRE(bn2d_backward_f32(module.get(), record, x.data(), y.data()) == BN2D_OK);
  give_character(module);
  REQUIRE(bn2d_module_reset_parameters(module.get()) == BN2D_OK);
  REQUIRE(bn2d_module_zero_grad(module.get()) == BN2D_OK);
  for (size_t i = 0; i < names.size(); ++i) CHECK(data_of<void>(module, names[i]) == before[i]);
}

TEST_CASE("lifetime: a tensor keeps working after its module", "[lifetime]") {
  // Catches a tensor whose storage, gradient or flags lie in the module.
  Module module = make_module(3);
  give_character(module);
  const Tensor weight = tensor_of(module, "weight");
  const Tensor mean = tensor_of(module, "running_mean");
  bn2d_module *dead = module.get();
  module.reset();
  CHECK(is_dead(dead));
  CHECK(data_of<float>(weight)[1] == 1.0f);
  CHECK(data_of<float>(mean)[1] == 0.125f);
  bn2d_tensor *raw = nullptr;
  REQUIRE(bn2d_tensor_grad(weight.get(), &raw) == BN2D_OK);
  Tensor gradient(raw);
  CHECK(data_of<float>(gradient)[2] == 0.0f);
  CHECK(bn2d_tensor_set_requires_grad(weight.get(), 0) == BN2D_OK);
  int32_t flag = 1;
  CHECK(bn2d_tensor_requires_grad(weight.get(), &flag) == BN2D_OK);
  CHECK(flag == 0);
  const char *name = nullptr;
  CHECK(bn2d_tensor_name(gradient.get(), &name) == BN2D_OK);
  CHECK(name == std::string("weight.grad"));
}

TEST_CASE("lifetime: a gradient keeps working after its parameter", "[lifetime]") {
  // Catches a gradient that is a part of the parameter's memory.
  Module module = make_module(3);
  const Tensor gradient = tensor_of(module, "bias.grad");
  module.reset();
  float *data = data_of<float>(gradient);
  std::fill(data, data + 3, 2.0f);
  CHECK(data[2] == 2.0f);
}

TEST_CASE("lifetime: handing a tensor back once too often does not harm the module", "[lifetime]") {
  // Catches the reference that a confused finaliser takes away from the module leading to a use
  // after free.
  Module module = make_module(3);
  bn2d_tensor *weight = given_back(tensor_of(module, "weight"));  // the module has its own
  for (int i = 0; i < 4; ++i) bn2d_tensor_release(weight);
  std::vector<float> x = {1, 2, 3, 4, 5, 7}, y(6);
  CHECK(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, y.data(), nullptr) == BN2D_OK);
  CHECK(data_of<float>(module, "weight")[0] == 1.0f);
  module.reset();
  CHECK(is_dead(weight));  // and not one that nobody can end any more
}

TEST_CASE("lifetime: no order of release hurts {module, 5 tensors}", "[lifetime]") {
  // Catches an order in which something is freed twice, too early (sanitiser) or never (leak
  // checker).
  std::array<int, 6> order{};
  std::iota(order.begin(), order.end(), 0);
  int bad = 0;
  do {
    Family family;
    for (int slot : {6, 7, 8, 9, 10}) family.release(slot);
    for (const int slot : order) {
      family.release(slot);
      if (!family.works()) ++bad;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  CHECK(bad == 0);
}

TEST_CASE(
    "lifetime: no order of release hurts {module, parameter, gradient, buffer, record, 2 exports}",
    "[lifetime]") {
  // As before, with the kinds that hold each other: a parameter its gradient, an export its tensor.
  std::array<int, 7> order = {Family::kModule,    Family::kTensors, Family::kTensors + 2,
                              Family::kGradients, Family::kRecord,  Family::kExport,
                              Family::kLegacy};
  std::sort(order.begin(), order.end());
  int bad = 0;
  do {
    Family family;
    for (const int slot : order) {
      family.release(slot);
      if (!family.works()) ++bad;
    }
    for (int slot : {2, 4, 5, 7}) family.release(slot);
  } while (std::next_permutation(order.begin(), order.end()));
  CHECK(bad == 0);
}

TEST_CASE("lifetime: random orders of all eleven, on several threads", "[lifetime][threads]") {
  // Catches a release that only works on the thread that made the handle.
  std::mt19937 random(1);
  std::array<int, Family::kSize> order{};
  std::iota(order.begin(), order.end(), 0);
  int bad = 0;
  for (int round = 0; round < 4000; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    Family family;
    const bool away = round % 20 == 0;
    const auto release_all = [&] {
      for (const int slot : order) {
        family.release(slot);
        if (!family.works()) ++bad;
      }
    };
    if (away) {
      std::thread(release_all).join();
    } else {
      release_all();
    }
  }
  CHECK(bad == 0);
}

TEST_CASE("lifetime: all released at the same time from many threads", "[lifetime][threads]") {
  // Catches a count that is not atomic. Under the thread sanitiser: a race between two releases.
  for (int round = 0; round < 50; ++round) {
    Family family;
    std::vector<std::thread> threads;
    for (int slot = 0; slot < Family::kSize; ++slot)
      threads.emplace_back([&family, slot] { family.release(slot); });
    for (std::thread &thread : threads) thread.join();
  }
  Module module = make_module(2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([raw = module.get()] {
      for (int k = 0; k < 20000; ++k) {
        (void)bn2d_module_retain(raw);
        (void)bn2d_module_retain(raw);
        bn2d_module_release(raw);
        bn2d_tensor *tensor = nullptr;
        (void)bn2d_module_tensor_by_name(raw, "weight", &tensor);
        bn2d_module_release(raw);
        bn2d_tensor_release(tensor);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  bn2d_module *raw = module.get();
  CHECK_FALSE(is_dead(raw));
  module.reset();
  CHECK(is_dead(raw));
}

TEST_CASE("lifetime: a dead handle stays dead while 65,535 others come and go", "[lifetime]") {
  // Catches a slot that is given to the next object too soon, so that a stale handle works on a
  // stranger, and a finaliser that runs twice ends it. For ever this cannot hold, memory being
  // finite; what bn2d.h promises must.
  constexpr int kOthers = 65535;
  const auto check = [](auto make, auto release, int die_at_once = 1) {
    auto *dead = make();
    release(dead);
    auto *held = make();  // lives through it all
    int revived = 0, killed = 0;
    for (int i = 1; i < kOthers / die_at_once; ++i) {  // with the one held, so many
      auto *other = make();
      if (is_dead(other)) ++killed;
      if (is_dead(dead) == false) ++revived;
      release(dead);
      if (is_dead(other)) ++killed;
      release(other);
    }
    CHECK_FALSE(is_dead(held));
    release(held);  // the last of them
    CHECK(is_dead(dead));
    CHECK(revived == 0);
    CHECK(killed == 0);
  };
  check(
      [] {
        bn2d_options *options = nullptr;
        (void)bn2d_options_create(&options);
        return options;
      },
      bn2d_options_release);
  const Module module = make_module(1);
  const float x[2] = {1, 2};
  float y[2];
  check(
      [&] {
        bn2d_record *record = nullptr;
        (void)bn2d_forward_f32(module.get(), x, 2, 1, 1, y, &record);
        return record;
      },
      bn2d_record_release);
  check(
      [] {
        bn2d_module *other = nullptr;
        (void)bn2d_module_create(1, nullptr, &other);
        return other;
      },
      bn2d_module_release);
  check(
      [] {
        bn2d_statistics *statistics = nullptr;
        (void)bn2d_statistics_create(1, &statistics);
        return statistics;
      },
      bn2d_statistics_release);
  Settings one_tensor;
  one_tensor.bias = one_tensor.track = false;
  const Options options = make_options(one_tensor);
  check(
      [&] {
        bn2d_module *owner = nullptr;
        bn2d_tensor *weight = nullptr;
        (void)bn2d_module_create(1, options.get(), &owner);
        (void)bn2d_module_tensor_at(owner, 0, &weight);
        bn2d_module_release(owner);
        return weight;
      },
      bn2d_tensor_release, 2);  // with its gradient
}

TEST_CASE("lifetime: a dead handle stays dead while many live ones die", "[lifetime]") {
  // Catches a queue of free slots that counts those made, not those that ended, or hands them out
  // in another order.
  std::vector<Options> many;
  for (int i = 0; i < 5000; ++i) many.push_back(make_options());
  bn2d_options *dead = many.front().get();
  many.clear();
  std::set<bn2d_options *> fresh;
  int revived = 0;
  for (int i = 0; i < 5000; ++i) {
    many.push_back(make_options());
    if (!fresh.insert(many.back().get()).second) ++revived;
    if (!is_dead(dead)) ++revived;
  }
  CHECK(revived == 0);
  CHECK(fresh.size() == 5000);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // 33 million calls
TEST_CASE("lifetime: references have a limit that is an error", "[lifetime]") {
  // Catches a count that runs over into the parent's hold: the object would never die, or die while
  // it is in use.
  constexpr int64_t kMost = (int64_t{1} << 24) - 1;
  Module module = make_module(1);
  bn2d_tensor *weight = tensor_of(module, "weight").release();
  int64_t bad = 0;
  for (int64_t i = 1; i < kMost; ++i)
    if (bn2d_tensor_retain(weight) != BN2D_OK) ++bad;
  CHECK(bad == 0);
  check_fails("retain", BN2D_ERROR_OVERFLOW, [&] { return bn2d_tensor_retain(weight); });
  bn2d_tensor *another = nullptr;
  check_fails("look-up", BN2D_ERROR_OVERFLOW,
              [&] { return bn2d_module_tensor_at(module.get(), 0, &another); });
  CHECK(another == nullptr);
  for (int64_t i = 1; i < kMost; ++i) bn2d_tensor_release(weight);
  CHECK_FALSE(is_dead(weight));
  CHECK(bn2d_tensor_retain(weight) == BN2D_OK);  // below the limit again
  bn2d_tensor_release(weight);
  bn2d_tensor_release(weight);
  CHECK_FALSE(is_dead(weight));  // the module has it
  module.reset();
  CHECK(is_dead(weight));
}
#endif

TEST_CASE("lifetime: handles made and ended on many threads are all different",
          "[lifetime][threads]") {
  // Catches a slot that two threads get at the same time, or that gets lost: each object is still
  // what its thread made.
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&bad, t] {
      bn2d_module *held[16] = {};
      for (int i = 0; i < 4000; ++i) {
        bn2d_module *&slot = held[i % 16];
        int64_t features = 0;
        const int64_t before = 100 * t + i % 16 + 1;
        if (slot && (bn2d_module_num_features(slot, &features) != BN2D_OK || features != before))
          ++bad;
        bn2d_module_release(slot);
        if (slot && !is_dead(slot)) ++bad;
        if (bn2d_module_create(before, nullptr, &slot) != BN2D_OK) ++bad;
      }
      for (bn2d_module *slot : held) bn2d_module_release(slot);
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(bad == 0);
}
