// What the numerical tests share: tensors of any dtype and layout, owners of handles, the table of
// what was measured.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bn2d/bn2d.h"
#include "support/catch.h"
#include "support/numerics_values.h"

#define NUMERICS_OK(call)                                                                 \
  do {                                                                                    \
    const int32_t numerics_status = (call);                                               \
    INFO(#call << " " << bn2d_status_name(numerics_status) << ": " << bn2d_last_error()); \
    REQUIRE(numerics_status == BN2D_OK);                                                  \
  } while (false)

namespace numerics {

// -------------------------------------------------------------------------------------------------
// tensors

enum class Layout {
  nchw,
  nhwc,
  padded_rows,
  padded_planes,
  channel_slice,
  nhwc_slice,
  permuted,
  samples_fastest,
  turned_planes,
  blocked
};
constexpr Layout all_layouts[] = {
    Layout::nchw,          Layout::nhwc,       Layout::padded_rows, Layout::padded_planes,
    Layout::channel_slice, Layout::nhwc_slice, Layout::permuted,    Layout::samples_fastest,
    Layout::turned_planes, Layout::blocked};
constexpr uint64_t layouts_of_rank_4 = 9;  // the first ones
inline const char *name_of(Layout layout) {
  static const char *const names[] = {
      "nchw",       "nhwc",     "padded_rows",     "padded_planes", "channel_slice",
      "nhwc_slice", "permuted", "samples_fastest", "turned_planes", "blocked"};
  return names[static_cast<int>(layout)];
}

struct Placement {
  int64_t front = 0;              // elements before the first one: alignment
  bool byte_offset = false;       // say so in byte_offset instead of data
  bool null_strides = false;      // where the layout is nchw
  bool wild_unit_stride = false;  // a nonsense stride where the extent is 1: it must not matter
};

// A tensor in memory of its own, surrounded by and interleaved with elements that nobody may touch.
class Tensor {
 public:
  Tensor(int32_t dtype, const Extents &e, Layout layout = Layout::nchw,
         const Placement &placement = {})
      : dtype_(dtype), e_(e), shape_{e.n, e.c, e.h, e.w, 1}, front_(placement.front) {
    int64_t s[5] = {};
    int64_t slice = 0;
    switch (layout) {
      case Layout::nchw:
        set_strides(s, e.c * e.plane(), e.plane(), e.w, 1);
        break;
      case Layout::nhwc:
        set_strides(s, e.plane() * e.c, 1, e.w * e.c, e.c);
        break;
      case Layout::padded_rows: {
        const int64_t row = e.w + 3;
        set_strides(s, e.c * e.h * row, e.h * row, row, 1);
        break;
      }
      case Layout::padded_planes: {
        const int64_t plane = e.plane() + 5;
        set_strides(s, e.c * plane, plane, e.w, 1);
        break;
      }
      case Layout::channel_slice:  // channels 2 .. C+2 of C+5
        set_strides(s, (e.c + 5) * e.plane(), e.plane(), e.w, 1);
        slice = 2 * e.plane();
        break;
      case Layout::nhwc_slice:
        set_strides(s, e.plane() * (e.c + 5), 1, e.w * (e.c + 5), e.c + 5);
        slice = 2;
        break;
      case Layout::permuted: {  // (w, c, n, h) with gaps, no stride is 1
        const int64_t n = 2 * e.h + 1, c = e.n * n + 1;
        set_strides(s, n, c, 2, e.c * c + 3);
        break;
      }
      case Layout::samples_fastest:  // (w, h, c, n)
        set_strides(s, 1, e.n, e.n * e.c, e.n * e.c * e.h);
        break;
      case Layout::turned_planes:  // (n, c, w, h)
        set_strides(s, e.c * e.plane(), e.plane(), 1, e.h);
        break;
      case Layout::blocked: {  // (n, c/block, h, w, block), with gaps
        for (const int64_t block : {16, 8, 5, 3, 2, 1})
          if (e.c % block == 0 && (e.c > block || block == 1)) {
            shape_[1] = e.c / block;
            shape_[4] = block;
            break;
          }
        const int64_t plane = e.plane() * shape_[4] + 3;
        set_strides(s, shape_[1] * plane, plane, e.w * shape_[4], shape_[4]);
        s[4] = 1;
        view_.ndim = 5;
        break;
      }
    }
    std::copy(s, s + 5, strides_);
    front_ += slice;
    int64_t last = 0;
    for (int d = 0; d < 5; ++d) last += (shape_[d] > 0 ? shape_[d] - 1 : 0) * strides_[d];
    const int64_t count = front_ + last + 1 + after;
    storage_.assign(static_cast<size_t>(count) * size_of(dtype), filler);
    std::copy(strides_, strides_ + 5, told_strides_);
    if (placement.wild_unit_stride) {
      for (int d = 0; d < 5; ++d) {
        if (shape_[d] == 1) told_strides_[d] = d % 2 == 0 ? -12345 : 0;
      }
    }
    view_.device_type = BN2D_CPU;
    view_.device_id = 0;
    view_.dtype_code = dtype == BN2D_BF16 ? 4 : 2;
    view_.dtype_bits = static_cast<uint8_t>(8 * size_of(dtype));
    view_.dtype_lanes = 1;
    view_.shape = shape_;
    view_.strides = layout == Layout::nchw && placement.null_strides ? nullptr : told_strides_;
    const uint64_t start = static_cast<uint64_t>(front_) * size_of(dtype);
    view_.data = storage_.data() + (placement.byte_offset ? 0 : start);
    view_.byte_offset = placement.byte_offset ? start : 0;
  }
  Tensor(int32_t dtype, const Extents &e, const Values &values, Layout layout = Layout::nchw,
         const Placement &placement = {})
      : Tensor(dtype, e, layout, placement) {
    set(values);
  }
  Tensor(const Tensor &) = delete;
  Tensor &operator=(const Tensor &) = delete;

  const bn2d_view *view() const { return &view_; }
  void *data() { return element(0); }
  template <class T>
  T *as() {
    return reinterpret_cast<T *>(element(0));
  }
  int32_t dtype() const { return dtype_; }
  const Extents &extents() const { return e_; }

  void set(const Values &values) {  // values that the dtype holds exactly
    size_t i = 0;
    switch (size_of(dtype_)) {
      case 8:
        for_each([&](uint8_t *at) { std::memcpy(at, &values[i++], 8); });
        break;
      case 4:
        for_each([&](uint8_t *at) {
          const auto narrow = static_cast<float>(values[i++]);
          std::memcpy(at, &narrow, 4);
        });
        break;
      default:
        for_each([&](uint8_t *at) { write_element(dtype_, at, values[i++]); });
    }
  }
  Bits bits() {  // in logical order
    Bits bits(static_cast<size_t>(e_.size()));
    size_t i = 0;
    switch (size_of(dtype_)) {
      case 8:
        for_each([&](uint8_t *at) { std::memcpy(&bits[i++], at, 8); });
        break;
      case 4:
        for_each([&](uint8_t *at) {
          uint32_t b = 0;
          std::memcpy(&b, at, 4);
          bits[i++] = b;
        });
        break;
      default:
        for_each([&](uint8_t *at) {
          uint16_t b = 0;
          std::memcpy(&b, at, 2);
          bits[i++] = b;
        });
    }
    return bits;
  }
  Values get() {
    Values values;
    values.reserve(static_cast<size_t>(e_.size()));
    for (uint64_t b : bits()) values.push_back(decode(dtype_, b));
    return values;
  }
  // All bytes, to see later whether somebody has written.
  const std::vector<uint8_t> &memory() const { return storage_; }
  // Whether everything between and around the elements is as it was made.
  bool gaps_intact() {
    const auto first = static_cast<size_t>(front_) * size_of(dtype_);
    const auto behind = first + static_cast<size_t>(e_.size()) * size_of(dtype_);
    const bool dense = storage_.size() == behind + after * size_of(dtype_);
    std::vector<bool> ours(dense ? 0 : storage_.size() / size_of(dtype_));
    if (!dense) {
      for_each([&](uint8_t *at) {
        ours[static_cast<size_t>(at - storage_.data()) / size_of(dtype_)] = true;
      });
    }
    for (size_t i = 0; i < storage_.size(); ++i) {
      if (dense && i == first) i = behind;
      if ((dense || !ours[i / size_of(dtype_)]) && storage_[i] != filler) return false;
    }
    return true;
  }

 private:
  static bn2d_view rank_4() {
    bn2d_view view{};
    view.ndim = 4;
    return view;
  }
  static constexpr uint8_t filler = 0xA7;
  static constexpr int64_t after = 7;  // elements behind the last one

  static void set_strides(int64_t *s, int64_t n, int64_t c, int64_t h, int64_t w) {
    s[0] = n, s[1] = c, s[2] = h, s[3] = w;
  }
  uint8_t *element(int64_t offset) {
    return storage_.data() + static_cast<size_t>(front_ + offset) * size_of(dtype_);
  }
  template <class Body>
  void for_each(Body body) {
    for (int64_t n = 0; n < e_.n; ++n) {
      for (int64_t c = 0; c < e_.c; ++c) {
        for (int64_t h = 0; h < e_.h; ++h) {
          uint8_t *at = element(n * strides_[0] + c / shape_[4] * strides_[1] +
                                c % shape_[4] * strides_[4] + h * strides_[2]);
          const int64_t step = strides_[3] * static_cast<int64_t>(size_of(dtype_));
          for (int64_t w = 0; w < e_.w; ++w) body(at + w * step);
        }
      }
    }
  }

  int32_t dtype_;
  Extents e_;
  int64_t shape_[5], strides_[5], told_strides_[5];  // a last one: channels of a block
  int64_t front_;
  std::vector<uint8_t> storage_;
  bn2d_view view_ = rank_4();
};

// An array of C parameters for the stateless functions.
class Array {
 public:
  Array() = default;  // NULL
  Array(int32_t dtype, const Values &values)
      : dtype_(dtype), count_(values.size()), storage_(values.size() * size_of(dtype)) {
    for (size_t i = 0; i < count_; ++i)
      write_element(dtype, storage_.data() + i * size_of(dtype), values[i]);
  }
  void *data() { return storage_.empty() ? nullptr : storage_.data(); }
  Values get() const {
    Values values;
    for (uint64_t b : bits()) values.push_back(decode(dtype_, b));
    return values;
  }
  Bits bits() const {
    Bits bits;
    for (size_t i = 0; i < count_; ++i)
      bits.push_back(read_bits(dtype_, storage_.data() + i * size_of(dtype_)));
    return bits;
  }

 private:
  int32_t dtype_ = BN2D_F32;
  size_t count_ = 0;
  std::vector<uint8_t> storage_;
};

// -------------------------------------------------------------------------------------------------
// handles

struct ModuleOptions {
  int32_t dtype = BN2D_F32;
  double eps = 1e-5, momentum = 0.1;
  bool cumulative = false, affine = true, bias = true, track = true, biased = false,
       protect = false;
};

class Module {
 public:
  explicit Module(int64_t channels, const ModuleOptions &o = {}) : dtype_(o.dtype) {
    bn2d_options *options = nullptr;
    NUMERICS_OK(bn2d_options_create(&options));
    int32_t status = bn2d_options_set_eps(options, o.eps);
    const auto also = [&](int32_t next) { status = status != BN2D_OK ? status : next; };
    also(o.cumulative ? bn2d_options_set_momentum_none(options)
                      : bn2d_options_set_momentum(options, o.momentum));
    also(bn2d_options_set_affine(options, o.affine));
    also(bn2d_options_set_bias(options, o.bias));
    also(bn2d_options_set_track_running_stats(options, o.track));
    also(bn2d_options_set_dtype(options, o.dtype));
    also(bn2d_options_set_biased_running_var(options, o.biased));
    also(bn2d_options_set_protect_running_stats(options, o.protect));
    also(bn2d_module_create(channels, options, &module_));
    bn2d_options_release(options);
    NUMERICS_OK(status);
  }
  ~Module() { bn2d_module_release(module_); }
  Module(const Module &) = delete;
  Module &operator=(const Module &) = delete;
  operator bn2d_module *() const { return module_; }

  void eval() { NUMERICS_OK(bn2d_module_eval(module_)); }
  void zero_grad() { NUMERICS_OK(bn2d_module_zero_grad(module_)); }
  void require_grad(const char *name, bool on) {
    with(name, [&](bn2d_tensor *t) { return bn2d_tensor_set_requires_grad(t, on); });
  }
  void set(const char *name, const Values &values) {
    for (size_t i = 0; i < values.size(); ++i)
      write_element(dtype_, data(name) + i * size_of(dtype_), values[i]);
  }
  Values get(const char *name) {
    Values values;
    for (uint64_t b : bits(name)) values.push_back(decode(dtype_, b));
    return values;
  }
  Bits bits(const char *name) {
    Bits bits;
    int64_t channels = 0;
    NUMERICS_OK(bn2d_module_num_features(module_, &channels));
    const uint8_t *at = data(name);
    for (int64_t i = 0; i < channels; ++i)
      bits.push_back(read_bits(dtype_, at + i * size_of(dtype_)));
    return bits;
  }
  int64_t batches() {
    int64_t count = 0;
    std::memcpy(&count, data("num_batches_tracked"), 8);
    return count;
  }

 private:
  template <class Body>
  void with(const char *name, Body body) {
    bn2d_tensor *tensor = nullptr;
    NUMERICS_OK(bn2d_module_tensor_by_name(module_, name, &tensor));
    const int32_t status = body(tensor);
    bn2d_tensor_release(tensor);
    NUMERICS_OK(status);
  }
  uint8_t *data(const char *name) {  // the module holds its tensors, so the memory stays
    void *at = nullptr;
    with(name, [&](bn2d_tensor *t) { return bn2d_tensor_data(t, &at); });
    return static_cast<uint8_t *>(at);
  }

  int32_t dtype_;
  bn2d_module *module_ = nullptr;
};

class Record {
 public:
  Record() = default;
  ~Record() { bn2d_record_release(record_); }
  Record(const Record &) = delete;
  Record &operator=(const Record &) = delete;
  bn2d_record **out() { return &record_; }
  operator const bn2d_record *() const { return record_; }

 private:
  bn2d_record *record_ = nullptr;
};

// Sets a process-wide number back when the test ends.
class Threads {
 public:
  explicit Threads(int32_t count) : before_(bn2d_get_num_threads()) { bn2d_set_num_threads(count); }
  ~Threads() { bn2d_set_num_threads(before_); }
  Threads(const Threads &) = delete;
  Threads &operator=(const Threads &) = delete;

 private:
  int32_t before_;
};

// -------------------------------------------------------------------------------------------------
// comparison

// The largest errors seen, by dtype and operation: the table at the end of the run.
struct Measured {
  Real ulps = 0, bound = 0;
  int64_t elements = 0, misrounded = 0;
};
inline std::map<std::pair<std::string, std::string>, Measured> &measured() {
  static std::map<std::pair<std::string, std::string>, Measured> table;
  return table;
}

// Checks, and notes what was measured under (dtype, operation). True where all is well.
inline bool check_close(const std::string &dtypes, const std::string &operation, int32_t dtype,
                        const Comparison &worst, Real bound) {
  Measured &m = measured()[{dtypes, operation}];
  m.ulps = std::max(m.ulps, worst.ulps);
  m.bound = std::max(m.bound, bound);
  m.elements += worst.elements;
  m.misrounded += is_half(dtype) ? worst.misrounded : 0;
  const bool close = worst.ulps <= bound;
  // Rare halfway cases: fewer than one in a hundred, where there are enough of them to count.
  const bool rare =
      !is_half(dtype) || worst.misrounded <= std::max<int64_t>(2, worst.elements / 100);
  if (close && rare) return true;
  char text[320];
  std::snprintf(text, sizeof text,
                "%s of %s: %.3Lf ulp (bound %.1Lf) at element %lld of %lld: got %.21Lg, want "
                "%.21Lg; %lld rounded wrongly",
                operation.c_str(), dtypes.c_str(), worst.ulps, bound,
                static_cast<long long>(worst.at), static_cast<long long>(worst.elements), worst.got,
                worst.want, static_cast<long long>(worst.misrounded));
  INFO(text);
  CHECK(close);
  CHECK(rare);
  return false;
}

}  // namespace numerics
