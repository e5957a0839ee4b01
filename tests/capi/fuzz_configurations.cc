// 20,000 random configurations, valid and not, from a fixed seed: shapes, dtypes, layouts, modes, options, tensors that
// share memory, NULLs. A naive reference that looks at every element's address decides which statuses are right. A call
// that fails must leave every byte alone; one that succeeds must write its outputs and nothing else, with the values of
// the formulas.
#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include "support/contract_failures.h"
#include "support/contract_half.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

constexpr size_t kArena = 8192;  // bytes that all tensors of a configuration lie in

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t limit) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit)); }
  bool one_in(int64_t times) { return below(times) == 0; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }

 private:
  std::mt19937_64 engine_;
};

// A set of statuses; empty means BN2D_OK.
class Statuses {
 public:
  void add(int32_t status) { bits_ |= 1u << -status; }
  void add(const Statuses &other) { bits_ |= other.bits_; }
  bool empty() const { return bits_ == 0; }
  bool has(int32_t status) const { return status < 0 && status > -32 && (bits_ >> -status & 1u) != 0; }
  std::string text() const {
    std::string all;
    for (int32_t status = -1; status >= BN2D_ERROR_INTERNAL; --status) {
      if (has(status)) all += std::string(all.empty() ? "" : " or ") + bn2d_status_name(status);
    }
    return all.empty() ? "BN2D_OK" : all;
  }

 private:
  uint32_t bits_ = 0;
};

size_t size_of(int32_t dtype) { return static_cast<size_t>(bn2d_dtype_size(dtype)); }

double load(const unsigned char *at, int32_t dtype) {
  if (dtype == BN2D_F32) {
    float value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype == BN2D_F64) {
    double value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return half_value(half_format(dtype), bits);
}

void store(unsigned char *at, int32_t dtype, double value) {
  if (dtype == BN2D_F32) {
    const auto narrow = static_cast<float>(value);
    std::memcpy(at, &narrow, sizeof narrow);
  } else if (dtype == BN2D_F64) {
    std::memcpy(at, &value, sizeof value);
  } else {
    const uint16_t bits = half_bits(half_format(dtype), value);
    std::memcpy(at, &bits, sizeof bits);
  }
}

double tolerance_of(int32_t dtype) {
  return dtype == BN2D_F64 ? 1e-9 : dtype == BN2D_F32 ? 1e-4 : dtype == BN2D_F16 ? 4e-3 : 3e-2;
}

// A tensor of a configuration: what the library is told, and where its elements really are.
struct Slot {
  bool given = true;  // else NULL is passed
  View view;
  int32_t dtype = BN2D_F32;     // 0 where the view says something that is no dtype
  std::vector<size_t> offsets;  // of every element, in the arena, in the order of (n, c, h, w); valid views only
  Statuses faults;              // of this view by itself
  bool exact_as(const Slot &other) const { return dtype == other.dtype && offsets == other.offsets; }
};

bool share(const Slot &a, const Slot &b) {
  std::array<bool, kArena> taken{};
  for (const size_t at : a.offsets)
    std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(at), size_of(a.dtype), true);
  for (const size_t at : b.offsets) {
    for (size_t i = 0; i < size_of(b.dtype); ++i) {
      if (taken[at + i]) return true;
    }
  }
  return false;
}

// One configuration: the arena, its tensors, and the faults that were put in.
class Configuration {
 public:
  explicit Configuration(Random &random) : random_(random) {}

  void choose() {
    settings.affine = !random_.one_in(4);
    settings.bias = !random_.one_in(4);
    settings.track = !random_.one_in(4);
    settings.has_momentum = !random_.one_in(4);
    settings.momentum = random_.pick({0.0, 0.1, 0.5, 1.0});
    settings.eps = random_.pick({1e-5, 1e-3, 0.0, 1.0});
    settings.biased = random_.one_in(4);
    settings.protect = random_.one_in(4);
    settings.dtype = random_.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
    data_dtype = settings.dtype;
    if (settings.dtype == BN2D_F32) data_dtype = random_.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F16, BN2D_BF16});
    if (random_.one_in(40)) data_dtype = random_.pick<int32_t>({BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
    training = random_.one_in(2);
    channels = 1 + random_.below(5);
    shape = {random_.below(4), channels, random_.below(4), random_.below(6)};
    for (size_t i = 0; i < 4; ++i) {
      if (shape[i] == 0 && !random_.one_in(4)) shape[i] = 1;
    }
    if (random_.one_in(12)) shape = {1, channels, 1, 1};
    activation = random_.pick<int32_t>({BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU});
    slope = random_.pick({0.25, -0.5, 0.0, 1.5});
    arena.resize(kArena);
    for (size_t at = 0; at + size_of(data_dtype) <= kArena; at += size_of(data_dtype)) {
      store(&arena[at], data_dtype, static_cast<double>(random_.below(17) - 8) * 0.5);
    }
  }

  // A tensor: apart from all others, exactly where `like` is, or somewhere.
  Slot place(int64_t room, const Slot *like, bool may_be_null) {
    Slot slot;
    slot.dtype = data_dtype;
    slot.given = !(may_be_null && random_.one_in(3));
    if (!may_be_null && random_.one_in(150)) slot.given = false;
    if (!slot.given && !may_be_null) slot.faults.add(BN2D_ERROR_INVALID_ARGUMENT);
    if (like != nullptr && like->given && like->faults.empty() && random_.one_in(6)) {
      const bool given = slot.given;
      const Statuses faults = slot.faults;
      slot = *like;
      slot.given = given;
      slot.faults = faults;
      return slot;
    }
    const auto size = static_cast<int64_t>(size_of(data_dtype));
    const int64_t region = static_cast<int64_t>(kArena) / 8 / size;  // elements of one of eight regions
    Extents strides = nchw_strides(shape);
    bool explicit_strides = true;
    switch (random_.below(7)) {
      case 0:
        explicit_strides = false;
        break;
      case 1:
        break;
      case 2:
        strides = nhwc_strides(shape);
        break;
      case 3: {  // nested in any order, with gaps
        std::array<size_t, 4> order{0, 1, 2, 3};
        for (size_t i = 3; i > 0; --i)
          std::swap(order[i], order[static_cast<size_t>(random_.below(static_cast<int64_t>(i) + 1))]);
        int64_t next = 1 + random_.below(2);
        for (const size_t dimension : order) {
          strides[dimension] = next;
          next = next * std::max<int64_t>(shape[dimension], 1) + random_.below(2);
        }
        break;
      }
      case 4:  // anything positive: may overlap itself
        for (int64_t &stride : strides) stride = 1 + random_.below(12);
        break;
      case 5: {  // expanded: fine for what is read
        if (random_.one_in(2)) strides = nhwc_strides(shape);
        const bool all = random_.one_in(3);
        for (int64_t &stride : strides)
          if (all || random_.one_in(2)) stride = 0;
        break;
      }
      default:  // every other element of a contiguous tensor
        for (int64_t &stride : strides) stride *= 2;
        break;
    }
    int64_t span = 1;
    for (size_t i = 0; i < 4; ++i) span += std::max<int64_t>(shape[i] - 1, 0) * strides[i];
    int64_t first = room * region + random_.below(3);
    if (random_.one_in(5)) first = random_.below(4) * region + random_.below(40);  // on top of another one
    if (like != nullptr && like->given && !like->offsets.empty() &&
        random_.one_in(5)) {  // next to it, maybe interleaved
      first = static_cast<int64_t>(like->offsets[0]) / size + random_.below(12);
    }
    first = std::max<int64_t>(0, std::min(first, static_cast<int64_t>(kArena) / size - span));
    if (first + span > static_cast<int64_t>(kArena) / size) {  // does not fit at all
      strides = nchw_strides(shape);
      first = 0;
    }
    const int64_t before = random_.below(first + 1);
    slot.view = explicit_strides ? View(arena.data() + before * size, data_dtype, shape, strides)
                                 : View(arena.data() + before * size, data_dtype, shape);
    slot.view->byte_offset = static_cast<uint64_t>((first - before) * size);
    for (int64_t n = 0; n < shape[0]; ++n) {
      for (int64_t c = 0; c < shape[1]; ++c) {
        for (int64_t h = 0; h < shape[2]; ++h) {
          for (int64_t w = 0; w < shape[3]; ++w) {
            slot.offsets.push_back(static_cast<size_t>(
                size * (first + n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3])));
          }
        }
      }
    }
    for (size_t i = 0; i < 4; ++i) {  // strides that do not matter
      if (explicit_strides && shape[i] <= 1 && random_.one_in(3)) {
        slot.view.set_stride(i, random_.pick<int64_t>({0, -1, INT64_MAX, INT64_MIN, 7}));
      }
    }
    if (slot.offsets.empty() && random_.one_in(3)) {
      slot.view->data = nullptr;
      slot.view->byte_offset = 0;
    }
    if (slot.given && random_.one_in(60)) spoil(slot);
    return slot;
  }

  void spoil(Slot &slot) {
    View &view = slot.view;
    const auto i = static_cast<size_t>(random_.below(4));
    switch (random_.below(9)) {
      case 0:
        view->ndim = random_.pick<int32_t>({0, 3, 5, -1, INT32_MAX});
        slot.faults.add(BN2D_ERROR_SHAPE);
        break;
      case 1:
        view.set_extent(i, view.extent(i) + 1 + random_.below(3));
        if (view.get()->strides != nullptr)
          view.set_stride(i, 1 + random_.below(5));                               // it may not have mattered before
        if (view->data == nullptr) slot.faults.add(BN2D_ERROR_INVALID_ARGUMENT);  // now it may have elements
        slot.faults.add(BN2D_ERROR_SHAPE);
        break;
      case 2:
        view.set_extent(i, -1 - random_.below(3));
        slot.faults.add(BN2D_ERROR_SHAPE);
        break;
      case 3:
        set_dtype(*view.operator->(), data_dtype == BN2D_F64 ? BN2D_F32 : BN2D_F64);
        slot.faults.add(BN2D_ERROR_DTYPE);
        break;
      case 4:
        view->dtype_lanes = static_cast<uint16_t>(random_.pick({0, 2, 65535}));
        slot.faults.add(BN2D_ERROR_DTYPE);
        break;
      case 5:
        view->dtype_code = static_cast<uint8_t>(random_.pick({0, 1, 3, 5, 255}));
        slot.faults.add(BN2D_ERROR_DTYPE);
        break;
      case 6:
        view->device_type = random_.pick<int32_t>({BN2D_CUDA, BN2D_ROCM, 0, -1, 99});
        slot.faults.add(BN2D_ERROR_DEVICE);
        break;
      case 7:
        if (slot.offsets.size() < 2) return;
        for (size_t k = 0; k < 4; ++k) {
          if (shape[k] < 2) continue;
          view.set_stride(k, random_.pick<int64_t>({-1, -7, INT64_MIN}));
          slot.faults.add(BN2D_ERROR_LAYOUT);
          slot.faults.add(BN2D_ERROR_OVERLAP);  // the other tensors may still be compared with it
          break;
        }
        break;
      default:
        if (slot.offsets.empty()) return;
        if (random_.one_in(2)) {
          view->data = nullptr;
          slot.faults.add(BN2D_ERROR_INVALID_ARGUMENT);
        } else {
          view->shape = nullptr;
          slot.faults.add(BN2D_ERROR_INVALID_ARGUMENT);
        }
        break;
    }
  }

  // What is wrong with a set of tensors: each by itself, and the outputs against everything.
  Statuses faults_of(const std::vector<const Slot *> &inputs, const std::vector<const Slot *> &outputs) const {
    Statuses all;
    const auto whole = [](const Slot *slot) { return slot->given && slot->faults.empty(); };
    for (const Slot *slot : inputs) all.add(slot->faults);
    for (const Slot *slot : outputs) all.add(slot->faults);
    for (size_t o = 0; o < outputs.size(); ++o) {
      if (!whole(outputs[o])) continue;
      std::vector<size_t> sorted = outputs[o]->offsets;
      std::sort(sorted.begin(), sorted.end());
      if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) all.add(BN2D_ERROR_LAYOUT);
      for (size_t other = o + 1; other < outputs.size(); ++other) {
        if (whole(outputs[other]) && share(*outputs[o], *outputs[other])) all.add(BN2D_ERROR_OVERLAP);
      }
    }
    return all;
  }

  std::string describe() const {
    std::string text =
        "module " + std::string(bn2d_dtype_name(settings.dtype)) + " data " + bn2d_dtype_name(data_dtype) + " shape";
    for (const int64_t extent : shape) text += " " + std::to_string(extent);
    text += std::string(training ? " training" : " eval") + (settings.track ? " track" : "") +
            (settings.affine ? " affine" : "") + (settings.bias ? " bias" : "") + " activation " +
            std::to_string(activation) + " slope " + std::to_string(slope) + " eps " + std::to_string(settings.eps);
    return text;
  }
  static std::string describe(const char *name, const Slot &slot) {
    if (!slot.given) return std::string(" ") + name + " NULL";
    std::string text =
        std::string(" ") + name + " at " + (slot.offsets.empty() ? "-" : std::to_string(slot.offsets[0])) + " strides";
    for (size_t i = 0; i < 4; ++i) {
      text += " " + (slot.view.get()->strides == nullptr ? "-" : std::to_string(slot.view.get()->strides[i]));
    }
    return text + (slot.faults.empty() ? "" : " spoilt (" + slot.faults.text() + ")");
  }

  Random &random_;
  Settings settings;
  int32_t data_dtype = BN2D_F32, activation = BN2D_ACT_NONE;
  double slope = 0;
  bool training = true;
  int64_t channels = 1;
  Extents shape{};
  std::vector<unsigned char> arena;
};

const bn2d_view *pointer(const Slot &slot) { return slot.given ? slot.view.get() : nullptr; }

std::vector<double> values_of(const std::vector<unsigned char> &arena, const Slot &slot) {
  std::vector<double> values;
  for (const size_t at : slot.offsets) values.push_back(load(&arena[at], slot.dtype));
  return values;
}

// The channel of element i.
size_t channel_of(const Extents &shape, size_t i) {
  return i / static_cast<size_t>(shape[2] * shape[3]) % static_cast<size_t>(shape[1]);
}

// What one channel-wise problem gives, by the formulas, in double.
struct Reference {
  std::vector<double> mean, var, invstd, v, y;
};

double activate(int32_t activation, double slope, double v) {
  return v > 0 || activation == BN2D_ACT_NONE ? v : activation == BN2D_ACT_RELU ? 0 : slope * v;
}

Reference forward_reference(const Extents &shape, const std::vector<double> &x, const std::vector<double> &z,
                            const std::vector<double> &weight, const std::vector<double> &bias, bool batch, double eps,
                            const std::vector<double> &running_mean, const std::vector<double> &running_var,
                            int32_t activation, double slope) {
  Reference r;
  const auto channels = static_cast<size_t>(shape[1]);
  const double m = static_cast<double>(shape[0] * shape[2] * shape[3]);
  r.mean.assign(channels, 0);
  r.var.assign(channels, 0);
  r.invstd.assign(channels, 0);
  if (batch) {
    for (size_t i = 0; i < x.size(); ++i) r.mean[channel_of(shape, i)] += x[i] / m;
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t c = channel_of(shape, i);
      r.var[c] += (x[i] - r.mean[c]) * (x[i] - r.mean[c]) / m;
    }
  } else {
    r.mean = running_mean;
    r.var = running_var;
  }
  for (size_t c = 0; c < channels; ++c) {
    if (r.var[c] < 1e-20) r.var[c] = 0;  // the reference's own rounding; the data are multiples of 1/2
    r.invstd[c] = r.var[c] + eps > 0 ? 1 / std::sqrt(r.var[c] + eps) : 0;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = channel_of(shape, i);
    r.v.push_back(weight[c] * (x[i] - r.mean[c]) * r.invstd[c] + bias[c] + (z.empty() ? 0 : z[i]));
    r.y.push_back(activate(activation, slope, r.v.back()));
  }
  return r;
}

// Whether all values agree within what the dtype can hold, per channel.
std::string disagreement(const char *what, const Extents &shape, const std::vector<double> &got,
                         const std::vector<double> &expected, double tolerance,
                         const std::vector<bool> &skip = std::vector<bool>()) {
  std::vector<double> scale(static_cast<size_t>(shape[1]), 1);
  for (size_t i = 0; i < got.size(); ++i) {
    double &largest = scale[channel_of(shape, i)];
    largest = std::max(largest, std::fabs(expected[i]));
  }
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t c = channel_of(shape, i);
    if (!std::isfinite(got[i])) return std::string(what) + " is not finite";
    if (!skip.empty() && skip[c]) continue;
    if (!(std::fabs(got[i] - expected[i]) <= tolerance * scale[c])) {
      return std::string(what) + " of element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
             std::to_string(expected[i]);
    }
  }
  return "";
}

// "" where nothing but the outputs has changed.
std::string stray_writes(const std::vector<unsigned char> &before, const std::vector<unsigned char> &after,
                         const std::vector<const Slot *> &outputs) {
  std::vector<unsigned char> patched = before;
  for (const Slot *slot : outputs) {
    if (!slot->given) continue;
    for (const size_t at : slot->offsets) std::copy_n(&after[at], size_of(slot->dtype), &patched[at]);
  }
  for (size_t i = 0; i < before.size(); ++i) {
    if (patched[i] != after[i]) return "byte " + std::to_string(i) + " of the arena was written";
  }
  return "";
}

std::vector<double> state_of(bn2d_module *module, const char *name, int64_t channels, double missing) {
  std::vector<double> values(static_cast<size_t>(channels), missing);
  bn2d_tensor *tensor = nullptr;
  if (bn2d_module_tensor_by_name(module, name, &tensor) != BN2D_OK) return values;
  (void)bn2d_tensor_copy_to(tensor, View::vector(values.data(), BN2D_F64, channels));
  bn2d_tensor_release(tensor);
  return values;
}

int64_t counter_of(bn2d_module *module) {
  int64_t count = -1;
  bn2d_tensor *tensor = nullptr;
  if (bn2d_module_tensor_by_name(module, "num_batches_tracked", &tensor) != BN2D_OK) return -1;
  (void)bn2d_tensor_copy_to(tensor, View::scalar(&count, BN2D_I64));
  bn2d_tensor_release(tensor);
  return count;
}

struct Tally {
  int succeeded = 0, failed = 0;
  std::array<int, 16> by_status{};
  std::string problem;  // the first one
};

// Compares a status with the right ones; a failure must have left everything alone and a message behind.
bool right_status(Tally &tally, const std::string &what, int32_t status, const Statuses &right,
                  const Snapshot &before) {
  const std::string message = bn2d_last_error();
  if (status == BN2D_OK) {
    ++tally.succeeded;
  } else {
    ++tally.failed;
    if (status >= -15 && status < 0) ++tally.by_status[static_cast<size_t>(-status)];
  }
  std::string problem;
  if (status == BN2D_OK ? !right.empty() : !right.has(status)) {
    problem = std::string("returned ") + bn2d_status_name(status) + " (" + message + "), not " + right.text();
  } else if (status != BN2D_OK) {
    const std::string difference = before.difference();
    if (!difference.empty()) problem = "failed, but " + difference;
    if (message.find(kMarker) != std::string::npos || !message_fault(message.c_str()).empty()) {
      problem = "message: " + message;
    }
  }
  if (!problem.empty()) tally.problem = what + ": " + problem;
  return problem.empty();
}

void one_module(Random &random, Tally &tally) {
  Configuration cfg(random);
  cfg.choose();
  const Module module = make_module(cfg.channels, cfg.settings);
  give_character(module);
  bn2d_module *raw = module.get();
  if (!cfg.training) (void)bn2d_module_eval(raw);
  const bool bias_exists = cfg.settings.affine && cfg.settings.bias;
  bool weight_wants = cfg.settings.affine, bias_wants = bias_exists;
  for (bool *wants : {&weight_wants, &bias_wants}) {
    if (!*wants || !random.one_in(3)) continue;
    *wants = false;
    (void)bn2d_tensor_set_requires_grad(tensor_of(module, wants == &weight_wants ? "weight" : "bias").get(), 0);
  }
  const bool batch = cfg.training || !cfg.settings.track;
  const bool recording = !random.one_in(3);
  const int64_t m = cfg.shape[0] * cfg.shape[2] * cfg.shape[3];

  Slot x = cfg.place(0, nullptr, false);
  Slot z = cfg.place(1, &x, true);
  Slot y = cfg.place(2, random.one_in(2) ? &x : &z, false);
  if (cfg.data_dtype != cfg.settings.dtype &&
      !(cfg.settings.dtype == BN2D_F32 && (cfg.data_dtype == BN2D_F16 || cfg.data_dtype == BN2D_BF16))) {
    x.faults.add(BN2D_ERROR_DTYPE);
  }
  const auto whole = [](const Slot &slot) { return slot.given && slot.faults.empty(); };
  Statuses right = cfg.faults_of({&x, &z}, {&y});
  const bool in_place_of_x = x.given && y.given && !x.offsets.empty() && x.exact_as(y);
  if (whole(x) && whole(y) && share(x, y) && (!x.exact_as(y) || (recording && batch))) right.add(BN2D_ERROR_OVERLAP);
  if (whole(z) && whole(y) && share(z, y) && !z.exact_as(y)) right.add(BN2D_ERROR_OVERLAP);
  if (batch && m == 1) right.add(BN2D_ERROR_TOO_FEW_VALUES);

  const std::string what = cfg.describe() + Configuration::describe("x", x) + Configuration::describe("z", z) +
                           Configuration::describe("y", y) + (recording ? " recording" : "");
  std::vector<double> weight = state_of(raw, "weight", cfg.channels, 1), bias = state_of(raw, "bias", cfg.channels, 0);
  const std::vector<double> mean = state_of(raw, "running_mean", cfg.channels, 0);
  const std::vector<double> var = state_of(raw, "running_var", cfg.channels, 1);
  std::vector<unsigned char> arena_before = cfg.arena;
  Snapshot before;
  before.add("module", raw);
  before.add("arena", cfg.arena);
  bn2d_record *record_raw = nullptr;
  mark_message();
  int32_t status = bn2d_forward_act(raw, pointer(x), pointer(z), cfg.activation, cfg.slope, pointer(y),
                                    recording ? &record_raw : nullptr);
  const Record record(record_raw);
  if (!right_status(tally, "forward " + what, status, right, before)) {
    return;
  }
  if (status != BN2D_OK) {
    if (record_raw != nullptr) tally.problem = what + ": failed, but gave a record";
    return;
  }
  std::string problem = stray_writes(arena_before, cfg.arena, {&y});
  if (counter_of(raw) != (cfg.settings.track ? (cfg.training ? 1 : 0) : -1)) problem = "the counter";
  const std::vector<double> xs = values_of(arena_before, x);
  const std::vector<double> zs = z.given ? values_of(arena_before, z) : std::vector<double>();
  const Reference r =
      forward_reference(cfg.shape, xs, zs, weight, bias, batch, cfg.settings.eps, mean, var, cfg.activation, cfg.slope);
  if (problem.empty()) {
    problem = disagreement("y", cfg.shape, values_of(cfg.arena, y), r.y, tolerance_of(cfg.data_dtype));
  }
  if (problem.empty() && cfg.settings.track) {  // running statistics
    const bool moves = cfg.training && m > 0;
    const double factor = !moves ? 0 : cfg.settings.has_momentum ? cfg.settings.momentum : 1;
    const double unbias = cfg.settings.biased || m < 2 ? 1 : static_cast<double>(m) / static_cast<double>(m - 1);
    std::vector<double> new_mean, new_var;
    for (size_t c = 0; c < mean.size(); ++c) {
      new_mean.push_back((1 - factor) * mean[c] + factor * r.mean[c]);
      new_var.push_back((1 - factor) * var[c] + factor * r.var[c] * unbias);
    }
    const Extents one{1, cfg.channels, 1, 1};
    problem = disagreement("running_mean", one, state_of(raw, "running_mean", cfg.channels, 0), new_mean,
                           tolerance_of(cfg.settings.dtype));
    if (problem.empty()) {
      problem = disagreement("running_var", one, state_of(raw, "running_var", cfg.channels, 0), new_var,
                             tolerance_of(cfg.settings.dtype));
    }
  }
  if (!problem.empty()) {
    tally.problem = "forward " + what + ": " + problem;
    return;
  }
  if (!recording) return;

  // Backward of what was recorded, twice with different tensors.
  Slot borrowed_y = y;
  const bool side_of_x = cfg.activation != BN2D_ACT_NONE && batch && !z.given;
  const bool side_of_y = cfg.activation == BN2D_ACT_RELU || (cfg.activation == BN2D_ACT_LEAKY_RELU && cfg.slope >= 0);
  borrowed_y.given = side_of_y && !side_of_x;
  for (int round = 0; round < 2; ++round) {
    const Slot dy = cfg.place(3, nullptr, false);
    const Slot dx = cfg.place(4, &dy, true), dz = cfg.place(5, &dy, true);
    right = cfg.faults_of({&dy}, {&dx, &dz});
    const bool reads_x = weight_wants || (batch && dx.given) || side_of_x;
    for (const Slot *output : {&dx, &dz}) {
      if (!whole(*output)) continue;
      if (whole(dy) && share(dy, *output) && !dy.exact_as(*output)) right.add(BN2D_ERROR_OVERLAP);
      const bool over_x = reads_x && share(x, *output), over_y = borrowed_y.given && share(y, *output);
      if (over_x || over_y) right.add(BN2D_ERROR_OVERLAP);
    }
    if (in_place_of_x && weight_wants) right.add(BN2D_ERROR_STATE);
    const std::string back = "backward " + what + Configuration::describe("dy", dy) +
                             Configuration::describe("dx", dx) + Configuration::describe("dz", dz) +
                             (weight_wants ? " dweight" : "") + (bias_wants ? " dbias" : "");
    arena_before = cfg.arena;
    const std::vector<double> old_dweight = state_of(raw, "weight.grad", cfg.channels, 0);
    const std::vector<double> old_dbias = state_of(raw, "bias.grad", cfg.channels, 0);
    Snapshot now;
    now.add("module", raw);
    now.add("arena", cfg.arena);
    mark_message();
    status = bn2d_backward(raw, record.get(), pointer(dy), pointer(dx), pointer(dz));
    if (!right_status(tally, back, status, right, now)) return;
    if (status != BN2D_OK) continue;
    problem = stray_writes(arena_before, cfg.arena, {&dx, &dz});

    // A channel with a v that is 0 within rounding has an undecided side: only finiteness is asked of it.
    std::vector<bool> undecided(static_cast<size_t>(cfg.channels), false);
    for (size_t i = 0; i < r.v.size(); ++i) {
      if (cfg.activation != BN2D_ACT_NONE && std::fabs(r.v[i]) < 1e-3) undecided[channel_of(cfg.shape, i)] = true;
    }
    const std::vector<double> dys = values_of(arena_before, dy);
    const std::vector<double> xs_now = in_place_of_x ? xs : values_of(arena_before, x);
    if (xs_now != xs) return;  // an output of the round before was allowed to lie there
    std::vector<double> g(dys), sum_g(static_cast<size_t>(cfg.channels), 0), sum_gx(sum_g), expected_dx(dys.size());
    const auto xhat = [&](size_t i) {
      const size_t c = channel_of(cfg.shape, i);
      return (xs[i] - r.mean[c]) * r.invstd[c];
    };
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t c = channel_of(cfg.shape, i);
      if (r.v[i] <= 0 && cfg.activation == BN2D_ACT_RELU) g[i] = 0;
      if (r.v[i] <= 0 && cfg.activation == BN2D_ACT_LEAKY_RELU) g[i] *= cfg.slope;
      sum_g[c] += g[i];
      sum_gx[c] += g[i] * xhat(i);
    }
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t c = channel_of(cfg.shape, i);
      const double centred = batch ? g[i] - (sum_g[c] + xhat(i) * sum_gx[c]) / static_cast<double>(m) : g[i];
      expected_dx[i] = weight[c] * r.invstd[c] * centred;
    }
    const double tolerance = tolerance_of(cfg.data_dtype);
    if (problem.empty() && dx.given) {
      std::vector<bool> skip = undecided;
      for (size_t c = 0; c < skip.size(); ++c) skip[c] = skip[c] || r.invstd[c] > 100;  // amplified rounding of dy
      problem = disagreement("dx", cfg.shape, values_of(cfg.arena, dx), expected_dx, 10 * tolerance, skip);
    }
    if (problem.empty() && dz.given) {
      problem = disagreement("dz", cfg.shape, values_of(cfg.arena, dz), g, tolerance, undecided);
    }
    const Extents one{1, cfg.channels, 1, 1};
    std::vector<double> new_dweight = old_dweight, new_dbias = old_dbias;
    for (size_t c = 0; c < sum_g.size(); ++c) {
      if (weight_wants) new_dweight[c] += sum_gx[c];
      if (bias_wants) new_dbias[c] += sum_g[c];
    }
    const double state_tolerance = 4 * std::max(tolerance_of(cfg.settings.dtype), 1e-4);
    if (problem.empty()) {
      problem = disagreement("weight.grad", one, state_of(raw, "weight.grad", cfg.channels, 0), new_dweight,
                             state_tolerance, undecided);
    }
    if (problem.empty()) {
      problem = disagreement("bias.grad", one, state_of(raw, "bias.grad", cfg.channels, 0), new_dbias, state_tolerance,
                             undecided);
    }
    if (!problem.empty()) {
      tally.problem = back + ": " + problem;
      return;
    }
  }

  // Double backward: statuses, stray writes, finite outputs.
  const Slot dy = cfg.place(3, nullptr, false), ddx = cfg.place(4, &dy, true);
  const Slot ddy = cfg.place(5, random.one_in(2) ? &dy : &ddx, true), dx = cfg.place(6, &ddx, true);
  right = cfg.faults_of({&dy, &ddx}, {&ddy, &dx});
  Statuses maybe;
  for (const Slot *output : {&ddy, &dx}) {
    if (!whole(*output)) continue;
    const bool over_dy = whole(dy) && share(dy, *output), exactly_dy = over_dy && dy.exact_as(*output);
    if (over_dy && !exactly_dy) right.add(BN2D_ERROR_OVERLAP);
    if (exactly_dy && output == &dx) maybe.add(BN2D_ERROR_OVERLAP);  // documented for ddy only
    if (whole(ddx) && share(ddx, *output)) right.add(BN2D_ERROR_OVERLAP);
    if (share(x, *output) || (borrowed_y.given && share(y, *output))) right.add(BN2D_ERROR_OVERLAP);
  }
  if (in_place_of_x) right.add(BN2D_ERROR_STATE);
  const std::string twice = "double_backward " + what + Configuration::describe("dy", dy) +
                            Configuration::describe("ddx", ddx) + Configuration::describe("ddy", ddy) +
                            Configuration::describe("dx", dx);
  std::vector<unsigned char> ddweight(static_cast<size_t>(cfg.channels) * 8), ddbias(ddweight.size());
  for (size_t c = 0; c < static_cast<size_t>(cfg.channels); ++c) {
    store(&ddweight[c * size_of(cfg.settings.dtype)], cfg.settings.dtype, 0.5);
    store(&ddbias[c * size_of(cfg.settings.dtype)], cfg.settings.dtype, -0.25);
  }
  arena_before = cfg.arena;
  Snapshot now;
  now.add("module", raw);
  now.add("arena", cfg.arena);
  mark_message();
  status =
      bn2d_double_backward(raw, record.get(), pointer(dy), pointer(ddx), random.one_in(2) ? ddweight.data() : nullptr,
                           random.one_in(2) ? ddbias.data() : nullptr, pointer(ddy), pointer(dx));
  if (right.empty() && maybe.has(status)) right = maybe;
  if (!right_status(tally, twice, status, right, now) || status != BN2D_OK) return;
  problem = stray_writes(arena_before, cfg.arena, {&ddy, &dx});
  if (xs != values_of(arena_before, x)) return;
  for (const Slot *output : {&ddy, &dx}) {
    if (!output->given || cfg.data_dtype == BN2D_F16) continue;  // binary16 may overflow
    for (const double value : values_of(cfg.arena, *output)) {
      if (!std::isfinite(value)) problem = "an output is not finite";
    }
  }
  if (!problem.empty()) tally.problem = twice + ": " + problem;
}

// The stateless forward, with scalar arguments out of range, too.
void one_stateless(Random &random, Tally &tally) {
  Configuration cfg(random);
  cfg.choose();
  const int64_t m = cfg.shape[0] * cfg.shape[2] * cfg.shape[3];
  const auto channels = static_cast<size_t>(cfg.channels);
  Slot x = cfg.place(0, nullptr, false), z = cfg.place(1, &x, true),
       y = cfg.place(2, random.one_in(2) ? &x : &z, false);
  const bool foreign = cfg.data_dtype != cfg.settings.dtype &&
                       !(cfg.settings.dtype == BN2D_F32 && (cfg.data_dtype == BN2D_F16 || cfg.data_dtype == BN2D_BF16));
  if (foreign) x.faults.add(BN2D_ERROR_DTYPE);
  const auto whole = [](const Slot &slot) { return slot.given && slot.faults.empty(); };
  Statuses right = cfg.faults_of({&x, &z}, {&y});
  if (whole(x) && whole(y) && share(x, y) && !x.exact_as(y)) right.add(BN2D_ERROR_OVERLAP);
  if (whole(z) && whole(y) && share(z, y) && !z.exact_as(y)) right.add(BN2D_ERROR_OVERLAP);
  const bool batch = cfg.training;
  if (batch && m == 1) right.add(BN2D_ERROR_TOO_FEW_VALUES);

  int32_t dtype = cfg.settings.dtype, batch_stats = batch ? 1 : 0, flags = static_cast<int32_t>(random.below(4));
  int32_t activation = cfg.activation;
  double factor = random.pick({0.0, 0.25, 1.0}), eps = cfg.settings.eps, slope = cfg.slope;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  bool has_mean = !random.one_in(4), has_var = !random.one_in(4);
  bool has_mask = activation != BN2D_ACT_NONE && random.one_in(2);
  if (random.one_in(12)) {
    switch (random.below(8)) {
      case 0:
        dtype = random.pick<int32_t>({0, BN2D_I64, 6, -1});
        right.add(BN2D_ERROR_DTYPE);
        break;
      case 1:
        batch_stats = random.pick<int32_t>({2, -1});
        right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 2:
        factor = random.pick({-0.1, 1.5, nan, inf});
        right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 3:
        eps = random.pick({-1e-5, nan, inf});
        right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 4:
        flags = random.pick<int32_t>({4, -1, 8});
        right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 5:
        activation = random.pick<int32_t>({9, -1, 99});
        right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 6:
        slope = random.pick({nan, inf});
        if (activation == BN2D_ACT_LEAKY_RELU) right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      default:
        has_mask = true;
        if (activation == BN2D_ACT_NONE) right.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
    }
  }
  if (batch_stats == 0 && (!has_mean || !has_var)) right.add(BN2D_ERROR_INVALID_ARGUMENT);

  const size_t size = size_of(cfg.settings.dtype);
  const auto parameters = [&](double first, double step) {
    std::vector<unsigned char> bytes(channels * size);
    for (size_t c = 0; c < channels; ++c)
      store(&bytes[c * size], cfg.settings.dtype, first + step * static_cast<double>(c));
    return bytes;
  };
  const auto read = [&](const std::vector<unsigned char> &bytes) {
    std::vector<double> values;
    for (size_t c = 0; c < channels; ++c) values.push_back(load(&bytes[c * size], cfg.settings.dtype));
    return values;
  };
  const bool has_weight = !random.one_in(3), has_bias = !random.one_in(3);
  const std::vector<unsigned char> weight = parameters(0.75, 0.25), bias = parameters(-0.5, 0.25);
  std::vector<unsigned char> running_mean = parameters(0.5, -0.25), running_var = parameters(1.5, 0.5);
  const std::vector<double> old_mean = read(running_mean), old_var = read(running_var);
  std::vector<double> saved_mean(channels, -7), saved_invstd(channels, -7);
  std::vector<uint8_t> mask(512, 0x5a);
  uint64_t mask_bytes = 0;
  (void)bn2d_mask_nbytes(cfg.shape[0], cfg.shape[1], cfg.shape[2], cfg.shape[3], &mask_bytes);

  const std::string what = "stateless " + cfg.describe() + Configuration::describe("x", x) +
                           Configuration::describe("z", z) + Configuration::describe("y", y);
  const std::vector<unsigned char> arena_before = cfg.arena;
  Snapshot before;
  before.add("arena", cfg.arena);
  before.add("running_mean", running_mean);
  before.add("running_var", running_var);
  before.add("saved_mean", saved_mean);
  before.add("saved_invstd", saved_invstd);
  before.add("mask", mask);
  mark_message();
  const int32_t status = bn2d_batch_norm_forward(
      pointer(x), pointer(z), pointer(y), dtype, has_weight ? weight.data() : nullptr, has_bias ? bias.data() : nullptr,
      has_mean ? running_mean.data() : nullptr, has_var ? running_var.data() : nullptr, batch_stats, factor, eps, flags,
      activation, slope, has_mask ? mask.data() : nullptr, saved_mean.data(), saved_invstd.data());
  if (!right_status(tally, what, status, right, before)) return;
  if (status != BN2D_OK) return;
  std::string problem = stray_writes(arena_before, cfg.arena, {&y});
  const std::vector<double> zs = z.given ? values_of(arena_before, z) : std::vector<double>();
  const Reference r = forward_reference(
      cfg.shape, values_of(arena_before, x), zs, has_weight ? read(weight) : std::vector<double>(channels, 1),
      has_bias ? read(bias) : std::vector<double>(channels, 0), batch, eps, old_mean, old_var, activation, slope);
  if (problem.empty()) {
    problem = disagreement("y", cfg.shape, values_of(cfg.arena, y), r.y, tolerance_of(cfg.data_dtype));
  }
  const Extents one{1, cfg.channels, 1, 1};
  if (problem.empty() && m > 0) problem = disagreement("saved_mean", one, saved_mean, r.mean, 1e-9);
  if (problem.empty() && m > 0) problem = disagreement("saved_invstd", one, saved_invstd, r.invstd, 1e-9);
  const double moved = batch && m > 0 ? factor : 0;
  const double unbias =
      (flags & BN2D_FLAG_BIASED_RUNNING_VAR) != 0 || m < 2 ? 1 : static_cast<double>(m) / static_cast<double>(m - 1);
  std::vector<double> new_mean, new_var;
  for (size_t c = 0; c < channels; ++c) {
    new_mean.push_back(has_mean ? (1 - moved) * old_mean[c] + moved * r.mean[c] : old_mean[c]);
    new_var.push_back(has_var ? (1 - moved) * old_var[c] + moved * r.var[c] * unbias : old_var[c]);
  }
  const double tolerance = tolerance_of(cfg.settings.dtype);
  if (problem.empty()) problem = disagreement("running_mean", one, read(running_mean), new_mean, tolerance);
  if (problem.empty()) problem = disagreement("running_var", one, read(running_var), new_var, tolerance);
  const auto unused = static_cast<std::ptrdiff_t>(has_mask ? mask_bytes : 0);
  if (std::count(mask.begin() + unused, mask.end(), 0x5a) != static_cast<std::ptrdiff_t>(mask.size()) - unused) {
    problem = "the mask was written beyond its bytes";
  }
  if (!problem.empty()) tally.problem = what + ": " + problem;
}

}  // namespace

TEST_CASE("fuzz: 20,000 random configurations", "[fuzz]") {
  // Catches what nobody thought of: a combination that crashes, is refused or accepted wrongly, or writes where it
  // should not.
  Tally tally;
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    Random random(seed * 7919 + 1);
    if (seed % 3 == 0) {
      one_stateless(random, tally);
    } else {
      one_module(random, tally);
    }
    if (tally.problem.empty()) continue;
    INFO("configuration " << seed);
    CHECK(tally.problem == "");
    tally.problem.clear();
  }
  // The generator reaches both outcomes and every status that a view can give.
  CHECK(tally.succeeded > 15000);
  CHECK(tally.failed > 3000);
  for (const int32_t status : {BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE,
                               BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERLAP, BN2D_ERROR_TOO_FEW_VALUES, BN2D_ERROR_STATE}) {
    INFO(bn2d_status_name(status));
    CHECK(tally.by_status[static_cast<size_t>(-status)] > 10);
  }
}
