// What the numerical tests share: tensors of any dtype and layout, owners of handles, random numbers that are the same
// everywhere, and the comparison with the oracle in ulp.
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
#include "support/oracle.h"

#define NUMERICS_OK(call)                                                                 \
  do {                                                                                    \
    const int32_t numerics_status = (call);                                               \
    INFO(#call << " " << bn2d_status_name(numerics_status) << ": " << bn2d_last_error()); \
    REQUIRE(numerics_status == BN2D_OK);                                                  \
  } while (false)

namespace numerics {

using oracle::Activation;
using oracle::Extents;
using oracle::Format;
using oracle::Real;
using oracle::Reals;
using oracle::Values;
using Bits = std::vector<uint64_t>;

constexpr Activation no_activation{};
constexpr Activation relu{Activation::relu, 0};

// ---------------------------------------------------------------------------------------------------------- dtypes

inline const Format &format_of(int32_t dtype) {
  switch (dtype) {
    case BN2D_F32:
      return oracle::binary32;
    case BN2D_F16:
      return oracle::binary16;
    case BN2D_BF16:
      return oracle::bfloat16;
    default:
      return oracle::binary64;
  }
}
inline bool is_half(int32_t dtype) { return dtype == BN2D_F16 || dtype == BN2D_BF16; }
// The format that the arithmetic has at least.
inline const Format &arithmetic_of(int32_t dtype) { return dtype == BN2D_F64 ? oracle::binary64 : oracle::binary32; }
inline size_t size_of(int32_t dtype) { return dtype == BN2D_F64 ? 8 : dtype == BN2D_F32 ? 4 : 2; }

// The bits of a half number for a value that it holds exactly.
inline uint16_t encode_half(const Format &format, double v) {
  const int mantissa = format.digits - 1;
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  const uint16_t infinity = static_cast<uint16_t>((2 * format.max_exponent + 1) << mantissa);
  if (std::isnan(v)) return static_cast<uint16_t>(sign | infinity | (1u << (mantissa - 1)));
  if (std::isinf(v)) return static_cast<uint16_t>(sign | infinity);
  if (v == 0) return sign;
  const int exponent = std::ilogb(v) < format.min_exponent ? format.min_exponent : std::ilogb(v);
  const auto significand =
      static_cast<uint32_t>(std::fabs(v) * static_cast<double>(oracle::power_of_two(mantissa - exponent)));
  const auto field = static_cast<uint32_t>(exponent - format.min_exponent) << mantissa;
  return static_cast<uint16_t>(sign | (field + significand));  // a normal significand's hidden bit adds 1 to the field
}

inline double decode_half(const Format &format, uint16_t bits) {
  const int mantissa = format.digits - 1;
  const int field = (bits & 0x7fff) >> mantissa, fraction = bits & ((1 << mantissa) - 1);
  double v = 0;
  if (field == 2 * format.max_exponent + 1) {
    v = fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else {
    const int hidden = field == 0 ? 0 : 1 << mantissa;
    v = std::ldexp(fraction + hidden, (field == 0 ? 1 : field) - 1 + format.min_exponent - mantissa);
  }
  return (bits & 0x8000) != 0 ? -v : v;
}

inline double rounded(int32_t dtype, Real v) {
  if (dtype == BN2D_F32) return static_cast<float>(v);
  if (dtype == BN2D_F64) return static_cast<double>(v);
  return static_cast<double>(oracle::round_to(format_of(dtype), v));
}

inline void write_element(int32_t dtype, void *at, double v) {
  if (dtype == BN2D_F64) {
    std::memcpy(at, &v, 8);
  } else if (dtype == BN2D_F32) {
    const auto narrow = static_cast<float>(v);
    std::memcpy(at, &narrow, 4);
  } else {
    const uint16_t bits = encode_half(format_of(dtype), v);
    std::memcpy(at, &bits, 2);
  }
}

inline uint64_t read_bits(int32_t dtype, const void *at) {
  uint64_t wide = 0;
  uint32_t single = 0;
  uint16_t half = 0;
  switch (size_of(dtype)) {
    case 8:
      std::memcpy(&wide, at, 8);
      return wide;
    case 4:
      std::memcpy(&single, at, 4);
      return single;
    default:
      std::memcpy(&half, at, 2);
      return half;
  }
}

inline double decode(int32_t dtype, uint64_t bits) {
  if (dtype == BN2D_F64) {
    double v = 0;
    std::memcpy(&v, &bits, 8);
    return v;
  }
  if (dtype == BN2D_F32) {
    const auto single = static_cast<uint32_t>(bits);
    float v = 0;
    std::memcpy(&v, &single, 4);
    return v;
  }
  static const auto table = [](const Format &format) {
    std::vector<double> values(65536);
    for (size_t i = 0; i < values.size(); ++i) values[i] = decode_half(format, static_cast<uint16_t>(i));
    return values;
  };
  static const std::vector<double> f16 = table(oracle::binary16), bf16 = table(oracle::bfloat16);
  return (dtype == BN2D_F16 ? f16 : bf16)[bits & 0xffff];
}

// --------------------------------------------------------------------------------------------------------- random

// The same numbers on every machine (std::normal_distribution is not).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  bool coin() { return (bits() & 1) != 0; }
  double normal() {  // Irwin-Hall of 4, scaled to variance 1: no library function, so the same bits everywhere
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += uniform();
    return (sum - 2) * 1.7320508075688772;
  }
  template <class T>
  const T &pick(const std::vector<T> &values) {
    return values[static_cast<size_t>(below(static_cast<int64_t>(values.size())))];
  }

 private:
  uint64_t state_;
};

inline Values normal_values(Random &random, int32_t dtype, int64_t count, double mean = 0, double std = 1) {
  Values values(static_cast<size_t>(count));
  for (double &v : values) v = rounded(dtype, mean + std * random.normal());
  return values;
}

// Every channel with a mean and a spread of its own.
inline Values channel_values(Random &random, int32_t dtype, const Extents &e, double mean = 3, double std = 2) {
  Values values(static_cast<size_t>(e.size()));
  for (int64_t c = 0; c < e.c; ++c) {
    const double m = random.uniform(-mean, mean), s = std * random.uniform(0.1, 1);
    oracle::for_channel(e, c, [&](int64_t i) { values[i] = rounded(dtype, m + s * random.normal()); });
  }
  return values;
}

// --------------------------------------------------------------------------------------------------------- tensors

enum class Layout { nchw, nhwc, padded_rows, padded_planes, channel_slice, nhwc_slice, permuted };
constexpr Layout all_layouts[] = {Layout::nchw,          Layout::nhwc,       Layout::padded_rows, Layout::padded_planes,
                                  Layout::channel_slice, Layout::nhwc_slice, Layout::permuted};
inline const char *name_of(Layout layout) {
  static const char *const names[] = {"nchw",          "nhwc",       "padded_rows", "padded_planes",
                                      "channel_slice", "nhwc_slice", "permuted"};
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
  Tensor(int32_t dtype, const Extents &e, Layout layout = Layout::nchw, const Placement &placement = {})
      : dtype_(dtype), e_(e), shape_{e.n, e.c, e.h, e.w}, front_(placement.front) {
    int64_t s[4] = {};
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
    }
    std::copy(s, s + 4, strides_);
    front_ += slice;
    int64_t last = 0;
    for (int d = 0; d < 4; ++d) last += (shape_[d] > 0 ? shape_[d] - 1 : 0) * strides_[d];
    const int64_t count = front_ + last + 1 + after;
    storage_.assign(static_cast<size_t>(count) * size_of(dtype), filler);
    std::copy(strides_, strides_ + 4, told_strides_);
    if (placement.wild_unit_stride) {
      for (int d = 0; d < 4; ++d) {
        if (shape_[d] == 1) told_strides_[d] = d % 2 == 0 ? -12345 : 0;
      }
    }
    view_.device_type = BN2D_CPU;
    view_.device_id = 0;
    view_.ndim = 4;
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
      for_each([&](uint8_t *at) { ours[static_cast<size_t>(at - storage_.data()) / size_of(dtype_)] = true; });
    }
    for (size_t i = 0; i < storage_.size(); ++i) {
      if (dense && i == first) i = behind;
      if ((dense || !ours[i / size_of(dtype_)]) && storage_[i] != filler) return false;
    }
    return true;
  }

 private:
  static constexpr uint8_t filler = 0xA7;
  static constexpr int64_t after = 7;  // elements behind the last one

  static void set_strides(int64_t *s, int64_t n, int64_t c, int64_t h, int64_t w) {
    s[0] = n, s[1] = c, s[2] = h, s[3] = w;
  }
  uint8_t *element(int64_t offset) { return storage_.data() + static_cast<size_t>(front_ + offset) * size_of(dtype_); }
  template <class Body>
  void for_each(Body body) {
    for (int64_t n = 0; n < e_.n; ++n) {
      for (int64_t c = 0; c < e_.c; ++c) {
        for (int64_t h = 0; h < e_.h; ++h) {
          uint8_t *at = element(n * strides_[0] + c * strides_[1] + h * strides_[2]);
          const int64_t step = strides_[3] * static_cast<int64_t>(size_of(dtype_));
          for (int64_t w = 0; w < e_.w; ++w) body(at + w * step);
        }
      }
    }
  }

  int32_t dtype_;
  Extents e_;
  int64_t shape_[4], strides_[4], told_strides_[4];
  int64_t front_;
  std::vector<uint8_t> storage_;
  bn2d_view view_{};
};

// An array of C parameters for the stateless functions.
class Array {
 public:
  Array() = default;  // NULL
  Array(int32_t dtype, const Values &values)
      : dtype_(dtype), count_(values.size()), storage_(values.size() * size_of(dtype)) {
    for (size_t i = 0; i < count_; ++i) write_element(dtype, storage_.data() + i * size_of(dtype), values[i]);
  }
  void *data() { return storage_.empty() ? nullptr : storage_.data(); }
  Values get() const {
    Values values;
    for (uint64_t b : bits()) values.push_back(decode(dtype_, b));
    return values;
  }
  Bits bits() const {
    Bits bits;
    for (size_t i = 0; i < count_; ++i) bits.push_back(read_bits(dtype_, storage_.data() + i * size_of(dtype_)));
    return bits;
  }

 private:
  int32_t dtype_ = BN2D_F32;
  size_t count_ = 0;
  std::vector<uint8_t> storage_;
};

// --------------------------------------------------------------------------------------------------------- handles

struct ModuleOptions {
  int32_t dtype = BN2D_F32;
  double eps = 1e-5, momentum = 0.1;
  bool cumulative = false, affine = true, bias = true, track = true, biased = false, protect = false;
};

class Module {
 public:
  explicit Module(int64_t channels, const ModuleOptions &o = {}) : dtype_(o.dtype) {
    bn2d_options *options = nullptr;
    NUMERICS_OK(bn2d_options_create(&options));
    int32_t status = bn2d_options_set_eps(options, o.eps);
    const auto also = [&](int32_t next) { status = status != BN2D_OK ? status : next; };
    also(o.cumulative ? bn2d_options_set_momentum_none(options) : bn2d_options_set_momentum(options, o.momentum));
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
    for (size_t i = 0; i < values.size(); ++i) write_element(dtype_, data(name) + i * size_of(dtype_), values[i]);
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
    for (int64_t i = 0; i < channels; ++i) bits.push_back(read_bits(dtype_, at + i * size_of(dtype_)));
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

// ------------------------------------------------------------------------------------------------------ comparison

// The largest errors seen, by dtype and operation: the table at the end of the run.
struct Measured {
  Real ulps = 0, bound = 0;
  int64_t elements = 0, misrounded = 0;
};
inline std::map<std::pair<std::string, std::string>, Measured> &measured() {
  static std::map<std::pair<std::string, std::string>, Measured> table;
  return table;
}

inline std::string name_of(int32_t data, int32_t module) {
  const auto short_name = [](int32_t d) {
    return d == BN2D_F32 ? "f32" : d == BN2D_F64 ? "f64" : d == BN2D_F16 ? "f16" : "bf16";
  };
  return data == module ? short_name(data) : std::string(short_name(data)) + "/" + short_name(module);
}

// The bound in ulp of the arithmetic: 4 for f32 and for halves (before they are rounded), 8 for f64.
inline Real bound_of(int32_t dtype) { return dtype == BN2D_F64 ? 8 : 4; }

struct Comparison {
  Real ulps =
      0;  // largest error in ulp of the arithmetic at the channel's scale; halves: beyond half an ulp of their own
  int64_t at = -1, elements = 0, misrounded = 0;
  Real got = 0, want = 0;
};

// Channel of element i: (i / plane) % c. For arrays of one value per channel: plane 1.
// `ignore`: elements to leave out (those on the edge of an activation), may be empty.
inline Comparison compare(int32_t dtype, int64_t channels, int64_t plane, const Values &got, const Reals &want,
                          const Reals &scale, const std::vector<bool> &ignore = {}) {
  Comparison worst;
  const Format &own = format_of(dtype), &arithmetic = arithmetic_of(dtype);
  const Real infinity = std::numeric_limits<Real>::infinity();
  if (got.size() != want.size()) {
    worst.ulps = infinity;
    return worst;
  }
  Reals unit;
  for (Real s : scale) unit.push_back(1 / oracle::ulp(arithmetic, s));
  for (size_t i = 0; i < got.size(); ++i) {
    if (!ignore.empty() && ignore[i]) continue;
    const auto c = static_cast<size_t>((static_cast<int64_t>(i) / plane) % channels);
    const Real nearest = rounded(dtype, want[i]);
    Real error = 0;
    ++worst.elements;
    if (got[i] != nearest) {
      // Halfway cases are rare only where the terms are not far larger than the result. What a long double of 113 bits
      // tells from halfway and a double does not (0.9 of one half and 0.1 of another are often that) is none.
      const Real beyond = (std::fabs(got[i] - want[i]) - oracle::ulp(own, want[i]) / 2) * unit[c];
      const bool halfway_in_double = beyond > 0 && beyond < 1e-8L;
      if (8 * bound_of(dtype) < unit[c] * oracle::ulp(own, want[i]) && !halfway_in_double) ++worst.misrounded;
      if (std::isinf(nearest) || std::isinf(got[i])) {
        // At the edge of the range the largest number and infinity are neighbours.
        error = std::fabs(want[i]) >=
                        std::ldexp(Real{1}, own.max_exponent + 1) * (1 - std::ldexp(Real{1}, -own.digits)) * 0.9999999L
                    ? 0
                    : infinity;
      } else {
        error = std::fabs(got[i] - want[i]);
        if (is_half(dtype)) error = std::max(Real{0}, error - oracle::ulp(own, want[i]) / 2);
        error *= unit[c];
      }
    } else if (!is_half(dtype) && std::isfinite(nearest)) {
      error = std::fabs(got[i] - want[i]) * unit[c];
    }
    if (!(error <= worst.ulps)) {  // a NaN, too
      worst.ulps = std::isnan(error) ? infinity : error;
      worst.at = static_cast<int64_t>(i);
      worst.got = got[i];
      worst.want = want[i];
    }
  }
  return worst;
}

// Checks, and notes what was measured under (dtype, operation). True where all is well.
inline bool check_close(const std::string &dtypes, const std::string &operation, int32_t dtype, const Comparison &worst,
                        Real bound) {
  Measured &m = measured()[{dtypes, operation}];
  m.ulps = std::max(m.ulps, worst.ulps);
  m.bound = std::max(m.bound, bound);
  m.elements += worst.elements;
  m.misrounded += is_half(dtype) ? worst.misrounded : 0;
  const bool close = worst.ulps <= bound;
  // Rare halfway cases: fewer than one in a hundred, where there are enough of them to count.
  const bool rare = !is_half(dtype) || worst.misrounded <= std::max<int64_t>(2, worst.elements / 100);
  if (close && rare) return true;
  char text[320];
  std::snprintf(
      text, sizeof text,
      "%s of %s: %.3Lf ulp (bound %.1Lf) at element %lld of %lld: got %.21Lg, want %.21Lg; %lld rounded wrongly",
      operation.c_str(), dtypes.c_str(), worst.ulps, bound, static_cast<long long>(worst.at),
      static_cast<long long>(worst.elements), worst.got, worst.want, static_cast<long long>(worst.misrounded));
  INFO(text);
  CHECK(close);
  CHECK(rare);
  return false;
}

// Index of the first difference, -1 where there is none.
inline int64_t first_difference(const Bits &a, const Bits &b) {
  if (a.size() != b.size()) return 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return static_cast<int64_t>(i);
  }
  return -1;
}

// Both zeros are equal here, NaN is equal to nothing. Returns the index of the first wrong value, -1 where all are
// right.
inline int64_t first_inexact(int32_t dtype, const Values &got, const Reals &want) {
  if (got.size() != want.size()) return 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(got[i] == rounded(dtype, want[i]))) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace numerics
