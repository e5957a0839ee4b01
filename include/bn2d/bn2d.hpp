/* SPDX-License-Identifier: MIT */
/**
 * @file bn2d.hpp
 * @brief bn2d in C++17: owners, views and exceptions over the C ABI of bn2d.h. Header-only.
 *
 *     #include <bn2d/bn2d.hpp>
 *
 *     bn2d::Module bn(64);                            // 64 channels, defaults
 *     const bn2d::Shape shape{8, 64, 32, 32};         // N, C, H, W
 *     auto record = bn.record({x, shape}, {y, shape});  // training; x, y: std::vector<float>
 *     bn.backward(record, {dy, shape}, {dx, shape});  // adds to weight_grad(), bias_grad()
 *     bn.eval();
 *     bn.infer({x, shape}, {y, shape}, bn2d::relu);   // running statistics; const
 *
 * The other norms are modules, too: `bn2d::GroupNorm gn(32, 256)`, `bn2d::InstanceNorm2d in(64)`.
 *
 * bn2d.h is the manual: what is computed, statuses, threads. This file says only what C++ adds.
 *
 * **Linked or loaded.** `Module bn(64)` calls the library that the program is linked with. A
 * program that is not linked loads it and says so; everything else is the same, and nothing has to
 * be defined:
 *
 *     const auto library = bn2d::Library::open("libbn2d.so.1");
 *     bn2d::Module bn(library, 64);
 *
 * **Errors.** A call that fails throws bn2d::Error and has changed nothing. With -fno-exceptions,
 * or where BN2D_NO_EXCEPTIONS is defined before the include, it returns a bn2d::Result instead:
 * `auto bn = bn2d::Module::create(64); if (!bn) puts(bn.message());`. `Returns<T>` below is T or
 * Result<T>. Both kinds may meet in one program.
 *
 * **Ownership.** Module, Record, Statistics and Tensor own their handle: they move, they do not
 * copy, their order of destruction does not matter. Views and spans own nothing. A temporary
 * container is no source for a view: that does not compile. A Record *borrows* x, y after an
 * activation with a residual or on running statistics, and z after a pointwise one such as silu
 * (see Record): keep them in place and unchanged until the last backward.
 *
 * **Threads.** const member functions of a Module are "shared" or "free": any number at once, but
 * infer() of a batch norm without running statistics. The others are exclusive; a violation is the
 * error Status::busy. An object outlives the calls that use it: who destroys, moves or assigns it
 * does so when they have returned. Views, spans, options and Library are plain values.
 *
 * **No ABI of its own.** All is inline over the C table, so a library and its user may be built by
 * different compilers.
 */
#ifndef BN2D_BN2D_HPP
#define BN2D_BN2D_HPP

#if !(__cplusplus >= 201703L || (defined(_MSVC_LANG) && _MSVC_LANG >= 201703L))
#error "bn2d.hpp needs C++17; bn2d.h has the same library for C and older C++"
#endif

#include <bn2d/bn2d.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif
#if defined(__STDCPP_FLOAT16_T__) || defined(__STDCPP_BFLOAT16_T__)
#include <stdfloat>
#endif
#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#endif

#if !defined(BN2D_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define BN2D_NO_EXCEPTIONS 1
#endif

namespace bn2d {
// Files with and without exceptions may be linked into one program: their functions have different
// names.
#if defined(BN2D_NO_EXCEPTIONS)
inline namespace with_results {
#else
inline namespace with_exceptions {
#endif

/* --------------------------------------------------------------------------------- plain values */

/** bn2d_status. */
enum class Status : int32_t {
  ok = BN2D_OK,
  invalid_argument = BN2D_ERROR_INVALID_ARGUMENT,
  invalid_handle = BN2D_ERROR_INVALID_HANDLE,
  not_found = BN2D_ERROR_NOT_FOUND,
  shape = BN2D_ERROR_SHAPE,
  dtype = BN2D_ERROR_DTYPE,
  device = BN2D_ERROR_DEVICE,
  layout = BN2D_ERROR_LAYOUT,
  overlap = BN2D_ERROR_OVERLAP,
  overflow = BN2D_ERROR_OVERFLOW,
  too_few_values = BN2D_ERROR_TOO_FEW_VALUES,
  state = BN2D_ERROR_STATE,
  busy = BN2D_ERROR_BUSY,
  buffer_too_small = BN2D_ERROR_BUFFER_TOO_SMALL,
  out_of_memory = BN2D_ERROR_OUT_OF_MEMORY,
  internal = BN2D_ERROR_INTERNAL,
  io = BN2D_ERROR_IO,
  format = BN2D_ERROR_FORMAT
};

/** bn2d_dtype. */
enum class DType : int32_t {
  f32 = BN2D_F32,
  f64 = BN2D_F64,
  f16 = BN2D_F16,
  bf16 = BN2D_BF16,
  i64 = BN2D_I64
};

/** bn2d_norm. */
enum class Norm : int32_t {
  batch = BN2D_NORM_BATCH,
  group = BN2D_NORM_GROUP,
  instance = BN2D_NORM_INSTANCE
};

/** bn2d_tensor_kind. */
enum class TensorKind : int32_t {
  parameter = BN2D_PARAMETER,
  buffer = BN2D_BUFFER,
  gradient = BN2D_GRADIENT
};

/**
 * y = act(bn(x) + z): none, relu, leaky_relu(slope), relu6, clamp(most), hardswish, silu, gelu,
 * sigmoid. Those from relu6 on since 1.3; see bn2d_activation.
 */
struct Activation {
  int32_t kind = BN2D_ACT_NONE;
  double slope = 0;
};
inline constexpr Activation none{BN2D_ACT_NONE, 0};
inline constexpr Activation relu{BN2D_ACT_RELU, 0};
constexpr Activation leaky_relu(double slope = 0.01) { return {BN2D_ACT_LEAKY_RELU, slope}; }
inline constexpr Activation relu6{BN2D_ACT_RELU6, 0};
/** min(max(v, 0), most) */
constexpr Activation clamp(double most) { return {BN2D_ACT_CLAMP, most}; }
inline constexpr Activation hardswish{BN2D_ACT_HARDSWISH, 0};
inline constexpr Activation silu{BN2D_ACT_SILU, 0};
inline constexpr Activation gelu{BN2D_ACT_GELU, 0};
inline constexpr Activation sigmoid{BN2D_ACT_SIGMOID, 0};
/** Whether backward makes the argument again, of x and z. */
constexpr bool is_pointwise(const Activation &activation) {
  return activation.kind >= BN2D_ACT_RELU6;
}

/** Extents of a tensor. */
struct Shape {
  int64_t n = 0, c = 0, h = 0, w = 0;
  friend constexpr bool operator==(const Shape &a, const Shape &b) {
    return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
  }
};
/** Distances between neighbours, in elements. */
struct Strides {
  int64_t n = 0, c = 0, h = 0, w = 0;
  friend constexpr bool operator==(const Strides &a, const Strides &b) {
    return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
  }
};
/**
 * Contiguous in one of these orders. nchw8c and nchw16c: blocks of 8 or 16 channels, (N, C/16, H,
 * W, 16), as oneDNN has them; C is a multiple of 8 or 16. They need a library of 1.3 or later.
 */
enum class Layout { nchw, channels_last, nchw8c, nchw16c };
inline constexpr Layout nchw = Layout::nchw;
inline constexpr Layout channels_last = Layout::channels_last;
inline constexpr Layout nchw8c = Layout::nchw8c;
inline constexpr Layout nchw16c = Layout::nchw16c;

/**
 * What a module is made with; the defaults are the library's. C++20: `Module bn(64, {.eps = 1e-3,
 * .momentum = 0.01})`.
 */
struct Options {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1; /**< std::nullopt: the cumulative average. */
  bool affine = true;
  bool bias = true;
  bool track_running_stats = true;
  bool biased_running_var = false;
  bool protect_running_stats = false;
  DType dtype = DType::f32;
  int32_t num_threads = 0;
  int64_t ghost_batch_size = 0; /**< Samples of a ghost batch; 0: the whole batch. Since 1.3. */
};

/** What a GroupNorm is made with. */
struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;
  bool bias = true;
  DType dtype = DType::f32;
  int32_t num_threads = 0;
};

/** What an InstanceNorm2d is made with. */
struct InstanceNormOptions {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1; /**< std::nullopt: the running statistics stay. */
  bool affine = false;
  bool bias = true; /**< Of an affine one. */
  bool track_running_stats = false;
  bool biased_running_var = false;
  bool protect_running_stats = false;
  DType dtype = DType::f32;
  int32_t num_threads = 0;
};

/**
 * The dtype of a C++ type. float, double, int64_t, and std::float16_t, std::bfloat16_t where they
 * exist. For a half type of your own: `template <> struct bn2d::dtype_of<Eigen::half> { static
 * constexpr auto value = bn2d::DType::f16; };` Without a type, bits and a dtype do:
 * `bn2d::View(bits, bn2d::DType::bf16, shape)`.
 */
template <class T>
struct dtype_of {};
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<int64_t> {
  static constexpr DType value = DType::i64;
};
#if defined(__STDCPP_FLOAT16_T__)
template <>
struct dtype_of<std::float16_t> {
  static constexpr DType value = DType::f16;
};
#endif
#if defined(__STDCPP_BFLOAT16_T__)
template <>
struct dtype_of<std::bfloat16_t> {
  static constexpr DType value = DType::bf16;
};
#endif

/* --------------------------------------------------------------------------------------- errors */

namespace detail {

/** Why a call failed: the library's status and message, or this header's. */
struct Fault {
  // Every call that succeeds makes some of these: only the text that there is gets written and
  // copied.
  Fault() noexcept { text[0] = '\0'; }
  Fault(const Fault &other) noexcept : status(other.status) {
    std::memcpy(text, other.text, other.length());
  }
  Fault &operator=(const Fault &other) noexcept {
    status = other.status;
    std::memmove(text, other.text, other.length());
    return *this;
  }
  explicit operator bool() const noexcept { return status != Status::ok; }
  size_t length() const noexcept { return text[0] == '\0' ? 1 : std::strlen(text) + 1; }

  Status status = Status::ok;
  char text[256];
};

#if defined(__GNUC__) || defined(__clang__)
__attribute__((format(printf, 2, 3)))
#endif
inline Fault
fault(Status status, const char *format, ...) {
  Fault made;
  made.status = status;
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(made.text, sizeof made.text, format, arguments);
  va_end(arguments);
  return made;
}

/** For the "%lld" of fault(). */
inline long long number(int64_t value) { return value; }
inline long long number(uint64_t value) { return static_cast<long long>(value); }

/** Of a status that the library has just returned on this thread. */
inline Fault fault_of(const bn2d_api &api, int32_t status) {
  return status == BN2D_OK ? Fault() : fault(static_cast<Status>(status), "%s", api.last_error());
}

}  // namespace detail

#if !defined(BN2D_NO_EXCEPTIONS)

/**
 * A call that failed, and has changed nothing. what() has the fact and both values, in one line.
 */
class Error : public std::runtime_error {
 public:
  Error(Status status, const char *message) : std::runtime_error(message), status_(status) {}
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

/** T; a failure throws Error. */
template <class T>
using Returns = T;

namespace detail {
template <class T>
[[noreturn]] T failed(const Fault &fault) {
  throw Error(fault.status, fault.text);
}
inline void done() {}
/** For getters, which fail on an object that was moved from only. */
inline void expect(const Fault &fault) {
  if (fault) failed<void>(fault);
}
}  // namespace detail

#else

/** A value, or why there is none. To be looked at: `if (!result) puts(result.message());`. */
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  explicit Result(const detail::Fault &fault) : fault_(fault) {}

  explicit operator bool() const noexcept { return value_.has_value(); }
  Status status() const noexcept { return fault_.status; }
  /** The fact and both values, in one line; "" after success. */
  const char *message() const noexcept { return fault_.text; }
  /** The value; only where there is one. */
  T &operator*() & { return *value_; }
  const T &operator*() const & { return *value_; }
  T &&operator*() && { return std::move(*value_); }
  T *operator->() { return &*value_; }
  const T *operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  detail::Fault fault_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  explicit Result(const detail::Fault &fault) : fault_(fault) {}

  explicit operator bool() const noexcept { return !fault_; }
  Status status() const noexcept { return fault_.status; }
  const char *message() const noexcept { return fault_.text; }

 private:
  detail::Fault fault_;
};

/** Result<T>. */
template <class T>
using Returns = Result<T>;

namespace detail {
template <class T>
Result<T> failed(const Fault &fault) {
  return Result<T>(fault);
}
inline Result<void> done() { return {}; }
/** For getters, which fail on an object that was moved from only, and then return 0. */
inline void expect(const Fault &) {}
}  // namespace detail

#endif

namespace detail {
inline Returns<void> finish(const Fault &fault) {
  if (fault) return failed<void>(fault);
  return done();
}
}  // namespace detail

/* ------------------------------------------------------------------------------ spans and views */

/**
 * Elements one after another, owned by somebody else. Converts from containers and arrays, to and
 * from std::span.
 */
template <class T>
class Span {
 public:
  constexpr Span() = default;
  constexpr Span(T *data, size_t size) : data_(data), size_(size) {}
  template <class Container,
            std::enable_if_t<std::is_convertible_v<std::remove_pointer_t<decltype(std::data(
                                                       std::declval<Container &>()))> (*)[],
                                                   T (*)[]>,
                             int> = 0>
  constexpr Span(Container &container) : data_(std::data(container)), size_(std::size(container)) {}
  template <class Other, std::enable_if_t<std::is_convertible_v<Other (*)[], T (*)[]>, int> = 0>
  constexpr Span(const Span<Other> &other) : data_(other.data()), size_(other.size()) {}
#if defined(__cpp_lib_span)
  template <class Other, size_t kExtent,
            std::enable_if_t<std::is_convertible_v<Other (*)[], T (*)[]>, int> = 0>
  constexpr Span(const std::span<Other, kExtent> &other)
      : data_(other.data()), size_(other.size()) {}
#if !defined(__cpp_lib_ranges)  // else it converts as any range does, see the end
  constexpr operator std::span<T>() const { return {data_, size_}; }
#endif
#endif

  constexpr T *data() const { return data_; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T *begin() const { return data_; }
  constexpr T *end() const { return data_ + size_; }
  constexpr T &operator[](size_t index) const { return data_[index]; }

 private:
  T *data_ = nullptr;
  size_t size_ = 0;
};

namespace detail {

inline constexpr uint64_t kUnknown = ~uint64_t{0};

/** Temporaries of these own nothing, so they may be the source of a view. */
template <class T>
struct is_borrowed : std::false_type {};
template <class T>
struct is_borrowed<Span<T>> : std::true_type {};
#if defined(__cpp_lib_span)
template <class T, size_t kExtent>
struct is_borrowed<std::span<T, kExtent>> : std::true_type {};
#endif

/**
 * What a view can be made of: a pointer, whose number of elements is not known, or an array or
 * container.
 */
template <class Source, class = void>
struct SourceOf {};
template <class T>
struct SourceOf<T *, void> {
  using Element = T;
  static constexpr bool kSafe = true;
  static T *data(T *source) { return source; }
  static uint64_t count(T *) { return kUnknown; }
};
template <class C>
struct SourceOf<C, std::void_t<decltype(std::data(std::declval<C &>())),
                               decltype(std::size(std::declval<C &>()))>> {
  using Element = std::remove_pointer_t<decltype(std::data(std::declval<C &>()))>;
  static constexpr bool kSafe = is_borrowed<std::remove_cv_t<C>>::value;
  static Element *data(C &source) { return std::data(source); }
  static uint64_t count(C &source) { return std::size(source); }
};
// A pointer may be const itself; an argument is a reference, or a temporary.
template <class S>
using Source = SourceOf<
    std::conditional_t<std::is_pointer_v<std::remove_reference_t<S>>,
                       std::remove_cv_t<std::remove_reference_t<S>>, std::remove_reference_t<S>>>;
template <class S>
using Element = typename Source<S>::Element;

/** Enables a constructor that reads from a Source. */
template <class S>
using Readable =
    std::enable_if_t<(std::is_lvalue_reference_v<S> || Source<S>::kSafe) &&
                         std::is_enum_v<decltype(dtype_of<std::remove_cv_t<Element<S>>>::value)>,
                     int>;
/** And one that writes to it. */
template <class S>
using Writable = std::enable_if_t<!std::is_const_v<Element<S>>, Readable<S>>;

/**
 * std::mdspan of rank 4, and what looks like it (Kokkos::mdspan). Its data_handle() is a pointer,
 * or a reference to one.
 */
template <class M>
using MdspanElement = std::enable_if_t<
    M::rank() == 4 && M::is_always_strided(),
    std::remove_pointer_t<std::decay_t<decltype(std::declval<const M &>().data_handle())>>>;
template <class M>
using ReadableMdspan =
    std::enable_if_t<std::is_enum_v<decltype(dtype_of<std::remove_cv_t<MdspanElement<M>>>::value)>,
                     int>;
template <class M>
using WritableMdspan = std::enable_if_t<!std::is_const_v<MdspanElement<M>>, ReadableMdspan<M>>;

}  // namespace detail

/**
 * A tensor (N, C, H, W) in the caller's memory that is only read. Made of a pointer, array,
 * container or std::span and a shape: contiguous, channels_last, in blocks of channels or with
 * strides; or of a std::mdspan of rank 4. Where the number of elements is known, a call checks that
 * they suffice. Without arguments: no tensor, for what is optional.
 */
class ConstView {
 public:
  ConstView() = default;
  template <class S, detail::Readable<S> = 0>
  ConstView(S &&source, const Shape &shape, Layout layout = nchw)
      : ConstView(detail::Source<S>::data(source),
                  dtype_of<std::remove_cv_t<detail::Element<S>>>::value, shape, layout) {
    count_ = detail::Source<S>::count(source);
  }
  template <class S, detail::Readable<S> = 0>
  ConstView(S &&source, const Shape &shape, const Strides &strides)
      : ConstView(detail::Source<S>::data(source),
                  dtype_of<std::remove_cv_t<detail::Element<S>>>::value, shape, strides) {
    count_ = detail::Source<S>::count(source);
  }
  template <class M, detail::ReadableMdspan<M> = 0>
  ConstView(const M &mdspan)
      : ConstView(mdspan.data_handle(), dtype_of<std::remove_cv_t<detail::MdspanElement<M>>>::value,
                  {int64_t(mdspan.extent(0)), int64_t(mdspan.extent(1)), int64_t(mdspan.extent(2)),
                   int64_t(mdspan.extent(3))},
                  Strides{int64_t(mdspan.stride(0)), int64_t(mdspan.stride(1)),
                          int64_t(mdspan.stride(2)), int64_t(mdspan.stride(3))}) {}
  ConstView(const void *data, DType dtype, const Shape &shape, Layout layout = nchw)
      : ConstView(data, dtype, shape, contiguous(shape, layout)) {
    if (layout == Layout::nchw8c) block_ = 8;
    if (layout == Layout::nchw16c) block_ = 16;
  }
  ConstView(const void *data, DType dtype, const Shape &shape, const Strides &strides)
      : given_(true), data_(data), dtype_(dtype), shape_(shape), strides_(strides) {}

  /** false: no tensor. */
  explicit operator bool() const { return given_; }
  const void *data() const { return data_; }
  DType dtype() const { return dtype_; }
  const Shape &shape() const { return shape_; }
  /** Of a Layout of blocks they mean nothing. */
  const Strides &strides() const { return strides_; }
  /** Channels of a block; 0: no blocks. */
  int64_t block() const { return block_; }

  /** Elements that there are behind data(); ~0 where that is not known. */
  uint64_t count() const { return count_; }

 private:
  // Shapes may be nonsense: a product that overflows ends at the largest number, and is for the
  // library to report.
  static Strides contiguous(const Shape &s, Layout layout) {
    const auto product = [](int64_t a, int64_t b) {
      return a <= 0 || b <= 0 ? 0 : a > INT64_MAX / b ? INT64_MAX : a * b;
    };
    if (layout == Layout::channels_last)
      return {product(product(s.h, s.w), s.c), 1, product(s.w, s.c), s.c};
    return {product(product(s.c, s.h), s.w), product(s.h, s.w), s.w, 1};
  }

  bool given_ = false;
  const void *data_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_;
  Strides strides_;
  int64_t block_ = 0;
  uint64_t count_ = detail::kUnknown;
};

/** A tensor that is written, too. As ConstView; its source is not const. */
class View : public ConstView {
 public:
  View() = default;
  template <class S, detail::Writable<S> = 0>
  View(S &&source, const Shape &shape, Layout layout = nchw)
      : ConstView(std::forward<S>(source), shape, layout) {}
  template <class S, detail::Writable<S> = 0>
  View(S &&source, const Shape &shape, const Strides &strides)
      : ConstView(std::forward<S>(source), shape, strides) {}
  template <class M, detail::WritableMdspan<M> = 0>
  View(const M &mdspan) : ConstView(mdspan) {}
  View(void *data, DType dtype, const Shape &shape, Layout layout = nchw)
      : ConstView(data, dtype, shape, layout) {}
  View(void *data, DType dtype, const Shape &shape, const Strides &strides)
      : ConstView(data, dtype, shape, strides) {}

  void *data() const { return const_cast<void *>(ConstView::data()); }
};

/**
 * One value for each channel in the caller's memory, only read. Made as a ConstView; absent by
 * default.
 */
class ConstChannels {
 public:
  ConstChannels() = default;
  template <class S, detail::Readable<S> = 0,
            std::enable_if_t<!std::is_pointer_v<std::remove_reference_t<S>>, int> = 0>
  ConstChannels(S &&source)
      : ConstChannels(detail::Source<S>::data(source),
                      dtype_of<std::remove_cv_t<detail::Element<S>>>::value,
                      static_cast<int64_t>(detail::Source<S>::count(source))) {}
  template <class T, std::enable_if_t<std::is_enum_v<decltype(dtype_of<T>::value)>, int> = 0>
  ConstChannels(const T *data, int64_t count) : ConstChannels(data, dtype_of<T>::value, count) {}
  ConstChannels(const void *data, DType dtype, int64_t count)
      : given_(true), data_(data), dtype_(dtype), count_(count) {}

  explicit operator bool() const { return given_; }
  const void *data() const { return data_; }
  DType dtype() const { return dtype_; }
  int64_t count() const { return count_; }

 private:
  bool given_ = false;
  const void *data_ = nullptr;
  DType dtype_ = DType::f32;
  int64_t count_ = 0;
};

/** One value for each channel that is written, too. */
class Channels : public ConstChannels {
 public:
  Channels() = default;
  template <class S, detail::Writable<S> = 0,
            std::enable_if_t<!std::is_pointer_v<std::remove_reference_t<S>>, int> = 0>
  Channels(S &&source) : ConstChannels(std::forward<S>(source)) {}
  template <class T,
            std::enable_if_t<!std::is_const_v<T> && std::is_enum_v<decltype(dtype_of<T>::value)>,
                             int> = 0>
  Channels(T *data, int64_t count) : ConstChannels(data, count) {}
  Channels(void *data, DType dtype, int64_t count) : ConstChannels(data, dtype, count) {}

  void *data() const { return const_cast<void *>(ConstChannels::data()); }
};

namespace detail {

/** A bn2d_view for the length of one call; NULL where there is no tensor. */
class RawView {
 public:
  explicit RawView(const ConstView &view)
      : given_(static_cast<bool>(view)),
        shape_{view.shape().n, view.shape().c, view.shape().h, view.shape().w},
        strides_{view.strides().n, view.strides().c, view.strides().h, view.strides().w} {
    fill(view.data(), view.dtype(), 4);
    if (view.block() == 0) return;
    view_.ndim = 5;  // (N, C/block, H, W, block), contiguous
    view_.strides = nullptr;
    shape_[1] /= view.block();
    shape_[4] = view.block();
  }
  /** Of rank 1 or 0. */
  RawView(const ConstChannels &values, int32_t rank)
      : given_(static_cast<bool>(values)), shape_{values.count()}, strides_{1} {
    fill(values.data(), values.dtype(), rank);
  }
  RawView(const RawView &) = delete;
  RawView &operator=(const RawView &) = delete;
  operator const bn2d_view *() const { return given_ ? &view_ : nullptr; }

 private:
  void fill(const void *data, DType dtype, int32_t rank) {
    view_.data = const_cast<void *>(data);
    view_.device_type = BN2D_CPU;
    view_.ndim = rank;
    view_.dtype_code = dtype == DType::bf16 ? 4 : dtype == DType::i64 ? 0 : 2;
    view_.dtype_bits = dtype == DType::f32                          ? 32
                       : dtype == DType::f64 || dtype == DType::i64 ? 64
                                                                    : 16;
    view_.dtype_lanes = 1;
    view_.shape = shape_;
    view_.strides = strides_;
  }
  bool given_;
  int64_t shape_[5];
  int64_t strides_[4];
  bn2d_view view_{};
};

inline uint64_t saturating_product(uint64_t a, uint64_t b) {
  return b != 0 && a > kUnknown / b ? kUnknown : a * b;
}
inline uint64_t saturating_sum(uint64_t a, uint64_t b) {
  return a > kUnknown - b ? kUnknown : a + b;
}

/**
 * Elements from the first to the last one of a view, both included. What is negative, or more than
 * 64 bits count (UINT64_MAX), is for the library to report.
 */
inline uint64_t extent_in_memory(const ConstView &view) {
  const Shape &shape = view.shape();
  const Strides &strides = view.strides();
  const int64_t extents[] = {shape.n, shape.c, shape.h, shape.w};
  const int64_t distances[] = {strides.n, strides.c, strides.h, strides.w};
  uint64_t last = 0;
  for (int i = 0; i < 4; ++i) {
    if (extents[i] <= 0) return 0;
    const uint64_t steps = static_cast<uint64_t>(extents[i]) - 1;
    if (distances[i] > 0)
      last = saturating_sum(last, saturating_product(steps, static_cast<uint64_t>(distances[i])));
  }
  return saturating_sum(last, 1);
}

struct Named {
  const char *name;
  const ConstView *view;
};
/** Views that reach beyond their container, or end within a block: only C++ knows. */
inline Fault check_reach(std::initializer_list<Named> views) {
  for (const Named &named : views) {
    const ConstView &view = *named.view;
    if (view && view.block() != 0 && view.shape().c % view.block() != 0)
      return fault(Status::shape, "%s has %lld channels, no multiple of the blocks of %lld",
                   named.name, number(view.shape().c), number(view.block()));
    const uint64_t needed = extent_in_memory(view);
    if (!view || view.count() == kUnknown || needed <= view.count() || needed > INT64_MAX) continue;
    const Shape &s = view.shape();
    return fault(Status::shape, "%s has %lld elements, shape (%lld, %lld, %lld, %lld) needs %lld",
                 named.name, number(view.count()), number(s.n), number(s.c), number(s.h),
                 number(s.w), number(needed));
  }
  return {};
}

struct NamedChannels {
  const char *name;
  const ConstChannels *values;
};
/** Values for each channel: as many as there are channels, all of one dtype. */
inline Fault check_channels(const bn2d_api &api, int64_t channels, DType dtype, const char *whose,
                            std::initializer_list<NamedChannels> all) {
  for (const NamedChannels &named : all) {
    const ConstChannels &values = *named.values;
    if (!values) continue;
    if (values.count() != channels)
      return fault(Status::shape, "%s has %lld elements, %s has %lld channels", named.name,
                   number(values.count()), whose, number(channels));
    if (values.dtype() != dtype)
      return fault(Status::dtype, "%s is %s, must be %s", named.name,
                   api.dtype_name(static_cast<int32_t>(values.dtype())),
                   api.dtype_name(static_cast<int32_t>(dtype)));
  }
  return {};
}

/** A span that may be absent; an empty one is not: it is too short. */
template <class T>
T *pointer(const std::optional<Span<T>> &span) {
  return span ? span->data() : nullptr;
}
template <class T>
Fault check_doubles(int64_t channels, const char *name, const std::optional<Span<T>> &values) {
  if (!values || values->size() == static_cast<uint64_t>(channels)) return {};
  return fault(Status::shape, "%s has %lld elements, x has %lld channels", name,
               number(values->size()), number(channels));
}

}  // namespace detail

/* -------------------------------------------------------------------------------------- library */

/**
 * The library that calls go to: a pointer to its table. A plain value; the table is valid for ever,
 * because a library that was loaded stays.
 */
class Library {
 public:
  /** A table that the host has found itself. */
  explicit Library(const bn2d_api &api) noexcept : api_(&api) {}
  /**
   * The library that this program is linked with. Only who calls this (or leaves the library out)
   * needs to link.
   */
  static Library linked() noexcept { return Library(*bn2d_get_api(1)); }
#if __has_include(<dlfcn.h>)
  /**
   * Loads a library; Status::not_found with the loader's message, Status::state for one that is too
   * old.
   */
  static Returns<Library> open(const char *path = "libbn2d.so.1") {
    void *const loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *const symbol = loaded != nullptr ? dlsym(loaded, "bn2d_get_api") : nullptr;
    if (symbol == nullptr) {
      const char *const why = dlerror();
      return detail::failed<Library>(
          detail::fault(Status::not_found, "%s", why != nullptr ? why : path));
    }
    const bn2d_api *const api = reinterpret_cast<decltype(&bn2d_get_api)>(symbol)(1);
    if (api == nullptr || !Library(*api).has(&bn2d_api::mask_nbytes))
      return detail::failed<Library>(
          detail::fault(Status::state, "%s is older than version 1.0", path));
    return Library(*api);
  }
#endif

  const bn2d_api &api() const { return *api_; }
  /**
   * Whether a library, older than this header perhaps, has a slot:
   * `library.has(&bn2d_api::mask_nbytes)`.
   */
  template <class Function>
  bool has(Function bn2d_api::*slot) const {
    const bn2d_api *const base = api_;
    const auto offset =
        reinterpret_cast<const char *>(&(base->*slot)) - reinterpret_cast<const char *>(base);
    return static_cast<uint64_t>(offset) + sizeof(Function) <= base->size;
  }

  uint32_t version() const { return api_->version(); }
  const char *version_string() const { return api_->version_string(); }
  const char *build_info() const { return api_->build_info(); }
  const char *simd_target() const { return api_->simd_target(); }
  /** "BN2D_ERROR_SHAPE" */
  const char *name(Status status) const { return api_->status_name(static_cast<int32_t>(status)); }
  /** "float32" */
  const char *name(DType dtype) const { return api_->dtype_name(static_cast<int32_t>(dtype)); }
  Returns<DType> dtype_from_name(const char *name) const {
    int32_t dtype = 0;
    if (const auto fault = detail::fault_of(*api_, api_->dtype_from_name(name, &dtype)))
      return detail::failed<DType>(fault);
    return static_cast<DType>(dtype);
  }
  /** Limits of the whole process; see bn2d.h. */
  Returns<void> set_num_threads(int32_t threads) const {
    return finish(api_->set_num_threads(threads));
  }
  int32_t num_threads() const { return api_->get_num_threads(); }
  Returns<void> set_streaming_threshold(int64_t bytes) const {
    return finish(api_->set_streaming_threshold(bytes));
  }
  int64_t streaming_threshold() const { return api_->get_streaming_threshold(); }
  Returns<uint64_t> mask_nbytes(const Shape &shape) const {
    uint64_t bytes = 0;
    if (const auto fault =
            detail::fault_of(*api_, api_->mask_nbytes(shape.n, shape.c, shape.h, shape.w, &bytes)))
      return detail::failed<uint64_t>(fault);
    return bytes;
  }

 private:
  Returns<void> finish(int32_t status) const {
    return detail::finish(detail::fault_of(*api_, status));
  }
  const bn2d_api *api_;
};

namespace detail {

/** One reference, given back at the end. */
template <class Handle, void (*bn2d_api::*kRelease)(Handle *)>
class Owner {
 public:
  Owner(const bn2d_api &api, Handle *handle) noexcept : api_(&api), handle_(handle) {}
  Owner(Owner &&other) noexcept
      : api_(other.api_), handle_(std::exchange(other.handle_, nullptr)) {}
  Owner &operator=(Owner &&other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owner() {
    if (handle_ != nullptr) (api_->*kRelease)(handle_);
  }
  const bn2d_api &api() const { return *api_; }
  Handle *get() const { return handle_; }
  Handle *release() { return std::exchange(handle_, nullptr); }

 private:
  const bn2d_api *api_;
  Handle *handle_;
};

using OptionsOwner = Owner<bn2d_options, &bn2d_api::options_release>;
using ModuleOwner = Owner<bn2d_module, &bn2d_api::module_release>;
using TensorOwner = Owner<bn2d_tensor, &bn2d_api::tensor_release>;
using RecordOwner = Owner<bn2d_record, &bn2d_api::record_release>;
using StatisticsOwner = Owner<bn2d_statistics, &bn2d_api::statistics_release>;

/** Whether a library has what is new in 1.3: the last slot of it. */
inline Fault check_1_3(const bn2d_api &api) {
  if (Library(api).has(&bn2d_api::group_norm_double_backward_act)) return {};
  return fault(Status::state, "the library is older than version 1.3");
}

/** Sets options one after another: the message is that of the first that fails. */
class OptionsSetter {
 public:
  explicit OptionsSetter(const bn2d_api &api) : owner_(api, nullptr) {
    bn2d_options *made = nullptr;
    status_ = api.options_create(&made);
    owner_ = OptionsOwner(api, made);
  }
  template <class T, class Value>
  void set(int32_t (*bn2d_api::*setter)(bn2d_options *, T), Value value) {
    if (status_ == BN2D_OK) status_ = (owner_.api().*setter)(owner_.get(), static_cast<T>(value));
  }
  void set_momentum(std::optional<double> momentum) {
    if (momentum) return set(&bn2d_api::options_set_momentum, *momentum);
    if (status_ == BN2D_OK) status_ = owner_.api().options_set_momentum_none(owner_.get());
  }
  int32_t status() const { return status_; }
  const bn2d_options *get() const { return owner_.get(); }

 private:
  OptionsOwner owner_;
  int32_t status_ = BN2D_OK;
};

template <class AnyOptions>
void set_parameters(OptionsSetter &to, const AnyOptions &o) {
  to.set(&bn2d_api::options_set_eps, o.eps);
  to.set(&bn2d_api::options_set_affine, o.affine);
  to.set(&bn2d_api::options_set_bias, o.bias);
  to.set(&bn2d_api::options_set_dtype, o.dtype);
  to.set(&bn2d_api::options_set_num_threads, o.num_threads);
}
template <class AnyOptions>
void set_running_stats(OptionsSetter &to, const AnyOptions &o) {
  to.set_momentum(o.momentum);
  to.set(&bn2d_api::options_set_track_running_stats, o.track_running_stats);
  to.set(&bn2d_api::options_set_biased_running_var, o.biased_running_var);
  to.set(&bn2d_api::options_set_protect_running_stats, o.protect_running_stats);
}
inline void set_all(OptionsSetter &to, const Options &o) {
  set_parameters(to, o);
  set_running_stats(to, o);
  // Not needed for 0, and unknown to a library before 1.3.
  if (o.ghost_batch_size != 0) to.set(&bn2d_api::options_set_ghost_batch_size, o.ghost_batch_size);
}
inline void set_all(OptionsSetter &to, const GroupNormOptions &o) { set_parameters(to, o); }
inline void set_all(OptionsSetter &to, const InstanceNormOptions &o) {
  set_parameters(to, o);
  set_running_stats(to, o);
}

/** Asks a handle for a value. */
template <class Handle, class T>
T get(const bn2d_api &api, int32_t (*bn2d_api::*getter)(const Handle *, T *),
      const Handle *handle) {
  T value{};
  expect(fault_of(api, (api.*getter)(handle, &value)));
  return value;
}

}  // namespace detail

/* --------------------------------------------------------------------------------------- tensor */

/**
 * A parameter, buffer or gradient of a module, read only. Its memory stays where it is as long as
 * the tensor or its module lives, and is the caller's to guard against calls on other threads.
 */
class ConstTensor {
 public:
  /** Takes over one reference. */
  ConstTensor(const Library &library, bn2d_tensor *handle) : owner_(library.api(), handle) {}

  const char *name() const { return get(&bn2d_api::tensor_name); }
  TensorKind kind() const { return static_cast<TensorKind>(get(&bn2d_api::tensor_kind)); }
  DType dtype() const { return static_cast<DType>(get(&bn2d_api::tensor_dtype)); }
  /** 1, or 0 for num_batches_tracked. */
  int32_t rank() const { return get(&bn2d_api::tensor_rank); }
  uint64_t nbytes() const { return get(&bn2d_api::tensor_nbytes); }
  /** Number of elements. */
  int64_t size() const {
    const uint64_t width = owner_.api().dtype_size(get(&bn2d_api::tensor_dtype));
    return width == 0 ? 0 : static_cast<int64_t>(nbytes() / width);
  }
  const void *data() const { return get(&bn2d_api::tensor_data); }
  /** Whether backward accumulates this parameter's gradient. */
  bool requires_grad() const { return get(&bn2d_api::tensor_requires_grad) != 0; }

  /** The elements; Status::dtype where they are no T. */
  template <class T>
  Returns<Span<const T>> span() const {
    if (const auto fault = check_type<T>()) return detail::failed<Span<const T>>(fault);
    return Span<const T>(static_cast<const T *>(data()), static_cast<size_t>(size()));
  }
  /** Copies the elements out; floating dtypes convert. Status::shape for another length. */
  Returns<void> copy_to(const Channels &target) const {
    if (const auto fault = check_length("target", target)) return detail::failed<void>(fault);
    return finish(owner_.api().tensor_copy_to(owner_.get(), detail::RawView(target, rank())));
  }
  bn2d_tensor *get() const { return owner_.get(); }

 protected:
  template <class T>
  T get(int32_t (*bn2d_api::*getter)(const bn2d_tensor *, T *)) const {
    return detail::get(owner_.api(), getter, static_cast<const bn2d_tensor *>(owner_.get()));
  }
  template <class T>
  detail::Fault check_type() const {
    if (dtype() == dtype_of<T>::value) return {};
    const bn2d_api &api = owner_.api();
    return detail::fault(Status::dtype, "%s is %s, asked for as %s", name(),
                         api.dtype_name(get(&bn2d_api::tensor_dtype)),
                         api.dtype_name(static_cast<int32_t>(dtype_of<T>::value)));
  }
  /** A view of rank 0 has no length that the library could check. */
  detail::Fault check_length(const char *what, const ConstChannels &values) const {
    if (!values || rank() != 0 || values.count() == 1 || size() != 1) return {};
    return detail::fault(Status::shape, "%s has %lld elements, the tensor has 1", what,
                         detail::number(values.count()));
  }
  Returns<void> finish(int32_t status) const {
    return detail::finish(detail::fault_of(owner_.api(), status));
  }

  detail::TensorOwner owner_;
};

/** A tensor that may be written. */
class Tensor : public ConstTensor {
 public:
  using ConstTensor::ConstTensor;
  using ConstTensor::data;
  using ConstTensor::span;

  void *data() { return ConstTensor::get(&bn2d_api::tensor_data); }
  template <class T>
  Returns<Span<T>> span() {
    if (const auto fault = check_type<T>()) return detail::failed<Span<T>>(fault);
    return Span<T>(static_cast<T *>(data()), static_cast<size_t>(size()));
  }
  /** The gradient of a parameter; Status::state for another tensor. */
  Returns<Tensor> grad() {
    bn2d_tensor *found = nullptr;
    if (const auto fault =
            detail::fault_of(owner_.api(), owner_.api().tensor_grad(owner_.get(), &found)))
      return detail::failed<Tensor>(fault);
    return Tensor(Library(owner_.api()), found);
  }
  Returns<void> set_requires_grad(bool value) {
    return finish(owner_.api().tensor_set_requires_grad(owner_.get(), value));
  }
  /** Copies elements in; floating dtypes convert. Status::shape for another length. */
  Returns<void> copy_from(const ConstChannels &source) {
    if (const auto fault = check_length("source", source)) return detail::failed<void>(fault);
    return finish(owner_.api().tensor_copy_from(owner_.get(), detail::RawView(source, rank())));
  }
  /** An export without a copy; who takes it calls its deleter. */
  Returns<DLManagedTensorVersioned *> to_dlpack() {
    DLManagedTensorVersioned *made = nullptr;
    if (const auto fault =
            detail::fault_of(owner_.api(), owner_.api().tensor_to_dlpack(owner_.get(), &made)))
      return detail::failed<DLManagedTensorVersioned *>(fault);
    return made;
  }
};

/* --------------------------------------------------------------------------------------- record */

/**
 * What a forward leaves for its backward, any number of them. It borrows the memory of x, and that
 * of y after an activation with a residual or on running statistics, that of z after a pointwise
 * one such as silu (see bn2d_forward_act()): keep them in place and unchanged until the last
 * backward. x() and y() tell what they were.
 */
class Record {
 public:
  /** Takes over one reference. */
  Record(const Library &library, bn2d_record *handle, const ConstView &x, const ConstView &y)
      : owner_(library.api(), handle), x_(x), y_(y) {}

  const ConstView &x() const { return x_; }
  const ConstView &y() const { return y_; }
  bn2d_record *get() const { return owner_.get(); }

 private:
  detail::RecordOwner owner_;
  ConstView x_, y_;
};

/* ----------------------------------------------------------------------------------- statistics */

/** Mean and biased variance of each channel. */
struct MeanVariance {
  std::vector<double> mean, var;
};

/**
 * Statistics from outside: gathered from any number of tensors, from others, and from what other
 * processes have exported; see "statistics from outside" in bn2d.h. One thread at a time.
 *
 *     bn2d::Statistics statistics(64);
 *     for (const auto &part : parts) statistics.accumulate({part, shape});
 *     auto record = bn.record(statistics, {x, shape}, {y, shape});
 *     std::vector<double> sums = bn.backward_sums(record, {dy, shape});
 *     // ... here those of other parts are added ...
 *     bn.backward_with_sums(record, {dy, shape}, sums, {dx, shape});
 */
class Statistics {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  explicit Statistics(int64_t num_features) : Statistics(create(num_features)) {}
  Statistics(const Library &library, int64_t num_features)
      : Statistics(create(library, num_features)) {}
#endif
  static Returns<Statistics> create(int64_t num_features) {
    return create(Library::linked(), num_features);
  }
  /** Status::state for a library before 1.3. */
  static Returns<Statistics> create(const Library &library, int64_t num_features) {
    const bn2d_api &api = library.api();
    bn2d_statistics *made = nullptr;
    auto fault = detail::check_1_3(api);
    if (!fault) fault = detail::fault_of(api, api.statistics_create(num_features, &made));
    if (fault) return detail::failed<Statistics>(fault);
    return Statistics(api, made);
  }

  /** Adds the values of a tensor. */
  Returns<void> accumulate(const ConstView &x) {
    if (const auto fault = detail::check_reach({{"x", &x}})) return detail::failed<void>(fault);
    return finish(owner_.api().statistics_accumulate(owner_.get(), detail::RawView(x)));
  }
  Returns<void> merge(const Statistics &other) {
    return finish(owner_.api().statistics_merge(owner_.get(), other.get()));
  }
  /** Those of another process, from exported(). */
  Returns<void> merge_exported(Span<const double> values) {
    return finish(owner_.api().statistics_merge_exported(owner_.get(), values.data(),
                                                         static_cast<int64_t>(values.size())));
  }
  /** The same for a temporary container, which a Span does not take. */
  Returns<void> merge_exported(const std::vector<double> &values) {
    return merge_exported(Span<const double>(values));
  }
  Returns<void> reset() { return finish(owner_.api().statistics_reset(owner_.get())); }

  int64_t num_features() const { return (exported_length() - 1) / 4; }
  /** Values of each channel. */
  int64_t count() const { return get(&bn2d_api::statistics_count); }
  /** What travels between processes. */
  std::vector<double> exported() const {
    std::vector<double> values(static_cast<size_t>(exported_length()));
    detail::expect(detail::fault_of(
        owner_.api(), owner_.api().statistics_export(owner_.get(), values.data(),
                                                     static_cast<int64_t>(values.size()))));
    return values;
  }
  /** Status::too_few_values where there are none. */
  Returns<MeanVariance> mean_var() const {
    const auto channels = static_cast<size_t>(num_features());
    MeanVariance m{std::vector<double>(channels), std::vector<double>(channels)};
    if (const auto fault = detail::fault_of(
            owner_.api(), owner_.api().statistics_mean_var(owner_.get(), m.mean.data(),
                                                           m.var.data(), num_features())))
      return detail::failed<MeanVariance>(fault);
    return m;
  }
  bn2d_statistics *get() const { return owner_.get(); }

 private:
  Statistics(const bn2d_api &api, bn2d_statistics *handle) : owner_(api, handle) {}
  int64_t exported_length() const { return get(&bn2d_api::statistics_export_length); }
  int64_t get(int32_t (*bn2d_api::*getter)(const bn2d_statistics *, int64_t *)) const {
    return detail::get(owner_.api(), getter, static_cast<const bn2d_statistics *>(owner_.get()));
  }
  Returns<void> finish(int32_t status) const {
    return detail::finish(detail::fault_of(owner_.api(), status));
  }

  detail::StatisticsOwner owner_;
};

/* --------------------------------------------------------------------------------------- module */

/** What Module::double_backward() takes and gives; what is left out is zero, or not wanted. */
struct DoubleBackward {
  ConstView ddx{}; /**< Gradient of the loss with respect to dx. */
  /** With respect to dweight and dbias; of the module's dtype. */
  ConstChannels ddweight{}, ddbias{};
  View ddy{}; /**< Out: with respect to dy. */
  /** Out: with respect to x. That of weight is added to weight.grad, and through hardswish, silu,
   * gelu and sigmoid that of bias to bias.grad. */
  View dx{};
  ConstView ddz{}; /**< Gradient of the loss with respect to dz. Since 1.3, as dz. */
  View dz{};       /**< Out: with respect to the residual z. */
};

/** A batch norm, and what every norm can do: parameters, buffers, mode. In training mode at first.
 */
class Module {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  explicit Module(int64_t num_features, const Options &options = {})
      : Module(create(num_features, options)) {}
  Module(const Library &library, int64_t num_features, const Options &options = {})
      : Module(create(library, num_features, options)) {}
#endif
  static Returns<Module> create(int64_t num_features, const Options &options = {}) {
    return create(Library::linked(), num_features, options);
  }
  static Returns<Module> create(const Library &library, int64_t num_features,
                                const Options &options = {}) {
    const bn2d_api &api = library.api();
    if (options.ghost_batch_size != 0)
      if (const auto fault = detail::check_1_3(api)) return detail::failed<Module>(fault);
    return make<Module>(api, options, [&](const bn2d_options *raw, bn2d_module **out) {
      return api.module_create(num_features, raw, out);
    });
  }
  /** Takes over one reference of a handle that was made in C. */
  static Module adopt(const Library &library, bn2d_module *handle) {
    return Module(library.api(), handle);
  }

  /**
   * y = activation(bn(x) + z). In training mode by the batch's statistics, and the running ones
   * move. Exclusive.
   */
  Returns<void> forward(const ConstView &x, const View &y, Activation activation = none,
                        const ConstView &z = {}) {
    return detail::finish(run(x, y, activation, z, nullptr));
  }
  /** As forward() on batch statistics, with these in place of those of x. */
  Returns<void> forward(const Statistics &statistics, const ConstView &x, const View &y,
                        Activation activation = none, const ConstView &z = {}) {
    return detail::finish(run(x, y, activation, z, nullptr, &statistics));
  }
  /** As forward(), and what backward needs. Borrows x, y and z: see Record. */
  [[nodiscard]] Returns<Record> record(const ConstView &x, const View &y,
                                       Activation activation = none, const ConstView &z = {}) {
    bn2d_record *made = nullptr;
    if (const auto fault = run(x, y, activation, z, &made)) return detail::failed<Record>(fault);
    return Record(Library(owner_.api()), made, x, y);
  }
  /** As record(), with these statistics in place of those of x. */
  [[nodiscard]] Returns<Record> record(const Statistics &statistics, const ConstView &x,
                                       const View &y, Activation activation = none,
                                       const ConstView &z = {}) {
    bn2d_record *made = nullptr;
    if (const auto fault = run(x, y, activation, z, &made, &statistics))
      return detail::failed<Record>(fault);
    return Record(Library(owner_.api()), made, x, y);
  }
  /**
   * As forward() in eval mode: by the running statistics where the module has some, else by those
   * of x. Changes nothing. Status::state in training mode; it asks for the mode first, so a thread
   * that calls train() in between makes it train. Any number of threads at once (of a batch norm
   * without running statistics: one).
   */
  Returns<void> infer(const ConstView &x, const View &y, Activation activation = none,
                      const ConstView &z = {}) const {
    if (is_training())
      return detail::failed<void>(
          detail::fault(Status::state, "the module is in training mode, infer needs eval mode"));
    return detail::finish(run(x, y, activation, z, nullptr));
  }
  /**
   * dx and dz (the gradient of the residual) are overwritten, {} where not wanted; the gradients of
   * weight and bias are added to weight_grad() and bias_grad(). Exclusive.
   */
  Returns<void> backward(const Record &record, const ConstView &dy, const View &dx = {},
                         const View &dz = {}) {
    if (const auto fault = detail::check_reach({{"dy", &dy}, {"dx", &dx}, {"dz", &dz}}))
      return detail::failed<void>(fault);
    return finish(owner_.api().backward(owner_.get(), record.get(), detail::RawView(dy),
                                        detail::RawView(dx), detail::RawView(dz)));
  }
  /**
   * First step of a backward in two: the sums of this part of the batch, to be added to those of
   * others. Adds to weight_grad() and bias_grad(). Exclusive.
   */
  [[nodiscard]] Returns<std::vector<double>> backward_sums(const Record &record,
                                                           const ConstView &dy) {
    const bn2d_api &api = owner_.api();
    std::vector<double> sums(2 * static_cast<size_t>(num_features()));
    auto fault = detail::check_1_3(api);
    if (!fault) fault = detail::check_reach({{"dy", &dy}});
    if (!fault)
      fault =
          detail::fault_of(api, api.backward_sums(owner_.get(), record.get(), detail::RawView(dy),
                                                  sums.data(), static_cast<int64_t>(sums.size())));
    if (fault) return detail::failed<std::vector<double>>(fault);
    return sums;
  }
  /** Second step: dx and dz from the sums of the whole batch, 2*C doubles. Exclusive. */
  Returns<void> backward_with_sums(const Record &record, const ConstView &dy,
                                   Span<const double> sums, const View &dx = {},
                                   const View &dz = {}) {
    const bn2d_api &api = owner_.api();
    auto fault = detail::check_1_3(api);
    if (!fault) fault = detail::check_reach({{"dy", &dy}, {"dx", &dx}, {"dz", &dz}});
    if (!fault && sums.data() == nullptr && sums.size() != 0)  // C would only check
      fault = detail::fault(Status::invalid_argument, "sums is NULL");
    if (fault) return detail::failed<void>(fault);
    return finish(api.backward_with_sums(owner_.get(), record.get(), detail::RawView(dy),
                                         sums.data(), static_cast<int64_t>(sums.size()),
                                         detail::RawView(dx), detail::RawView(dz)));
  }
  /** The same for a temporary container, which a Span does not take. */
  Returns<void> backward_with_sums(const Record &record, const ConstView &dy,
                                   const std::vector<double> &sums, const View &dx = {},
                                   const View &dz = {}) {
    return backward_with_sums(record, dy, Span<const double>(sums), dx, dz);
  }
  /** Backward of backward. Exclusive. */
  Returns<void> double_backward(const Record &record, const ConstView &dy,
                                const DoubleBackward &a) {
    const bn2d_api &api = owner_.api();
    auto fault = detail::check_reach({{"dy", &dy},
                                      {"ddx", &a.ddx},
                                      {"ddz", &a.ddz},
                                      {"ddy", &a.ddy},
                                      {"dx", &a.dx},
                                      {"dz", &a.dz}});
    if (!fault)
      fault = detail::check_channels(api, num_features(), dtype(), "the module",
                                     {{"ddweight", &a.ddweight}, {"ddbias", &a.ddbias}});
    const bool has_residual = a.ddz || a.dz;
    if (!fault && has_residual) fault = detail::check_1_3(api);
    if (fault) return detail::failed<void>(fault);
    if (has_residual)
      return finish(api.double_backward_act(
          owner_.get(), record.get(), detail::RawView(dy), detail::RawView(a.ddx),
          detail::RawView(a.ddz), a.ddweight.data(), a.ddbias.data(), detail::RawView(a.ddy),
          detail::RawView(a.dx), detail::RawView(a.dz)));
    return finish(api.double_backward(owner_.get(), record.get(), detail::RawView(dy),
                                      detail::RawView(a.ddx), a.ddweight.data(), a.ddbias.data(),
                                      detail::RawView(a.ddy), detail::RawView(a.dx)));
  }

  Returns<void> train(bool training = true) {
    return finish(owner_.api().module_train(owner_.get(), training));
  }
  Returns<void> eval() { return finish(owner_.api().module_eval(owner_.get())); }
  Returns<void> reset_running_stats() {
    return finish(owner_.api().module_reset_running_stats(owner_.get()));
  }
  Returns<void> reset_parameters() {
    return finish(owner_.api().module_reset_parameters(owner_.get()));
  }
  Returns<void> zero_grad() { return finish(owner_.api().module_zero_grad(owner_.get())); }
  /** std::nullopt: the cumulative average. Status::state for a library before 1.3. */
  Returns<void> set_momentum(std::optional<double> momentum) {
    const bn2d_api &api = owner_.api();
    if (const auto fault = detail::check_1_3(api)) return detail::failed<void>(fault);
    return finish(momentum ? api.module_set_momentum(owner_.get(), *momentum)
                           : api.module_set_momentum_none(owner_.get()));
  }
  /** Running statistics in training mode, too, which stay as they are. As set_momentum(). */
  Returns<void> set_frozen(bool frozen = true) {
    const bn2d_api &api = owner_.api();
    if (const auto fault = detail::check_1_3(api)) return detail::failed<void>(fault);
    return finish(api.module_set_frozen(owner_.get(), frozen));
  }
  /** Mean and variance of a data set, say, as the running ones. */
  Returns<void> set_running_stats(const Statistics &statistics) {
    const bn2d_api &api = owner_.api();
    if (const auto fault = detail::check_1_3(api)) return detail::failed<void>(fault);
    return finish(api.module_set_running_stats(owner_.get(), statistics.get()));
  }
  Returns<void> set_num_threads(int32_t threads) {
    return finish(owner_.api().module_set_num_threads(owner_.get(), threads));
  }

  bool is_training() const { return get(&bn2d_api::module_is_training) != 0; }
  bool is_frozen() const { return since_1_3(&bn2d_api::module_is_frozen, int32_t{0}) != 0; }
  /** What it normalises together. */
  Norm norm() const {
    return static_cast<Norm>(since_1_3(&bn2d_api::module_norm, int32_t{BN2D_NORM_BATCH}));
  }
  /** Of a GroupNorm; 0: another norm. */
  int64_t num_groups() const { return since_1_3(&bn2d_api::module_num_groups, int64_t{0}); }
  /** Samples of a ghost batch; 0: the whole batch. */
  int64_t ghost_batch_size() const {
    return since_1_3(&bn2d_api::module_ghost_batch_size, int64_t{0});
  }
  int64_t num_features() const { return get(&bn2d_api::module_num_features); }
  double eps() const { return get(&bn2d_api::module_eps); }
  /** std::nullopt: the cumulative average. */
  std::optional<double> momentum() const {
    int32_t has = 0;
    double value = 0;
    detail::expect(
        detail::fault_of(owner_.api(), owner_.api().module_momentum(owner_.get(), &has, &value)));
    return has != 0 ? std::optional<double>(value) : std::nullopt;
  }
  bool affine() const { return get(&bn2d_api::module_affine) != 0; }
  bool track_running_stats() const { return get(&bn2d_api::module_track_running_stats) != 0; }
  DType dtype() const { return static_cast<DType>(get(&bn2d_api::module_dtype)); }
  int32_t num_threads() const { return get(&bn2d_api::module_get_num_threads); }
  /** "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)" */
  std::string repr() const {
    const bn2d_api &api = owner_.api();
    // Between the two questions another thread may change it: set_momentum(), set_frozen().
    for (;;) {
      uint64_t length = 0;
      const auto fault = detail::fault_of(api, api.module_repr(owner_.get(), nullptr, 0, &length));
      detail::expect(fault);
      if (fault) return {};
      std::string text(length, '\0');  // the NUL behind it may be written, too
      const int32_t status = api.module_repr(owner_.get(), text.data(), length + 1, &length);
      if (status == BN2D_ERROR_BUFFER_TOO_SMALL) continue;
      detail::expect(detail::fault_of(api, status));
      text.resize(status == BN2D_OK ? length : 0);
      return text;
    }
  }

  /**
   * The map of eval mode, y = scale*x + shift, whatever the present mode; either may be left out.
   * Both of one dtype. Shared. Status::state for a library before 1.2.
   */
  Returns<void> scale_shift(const Channels &scale, const Channels &shift = {}) const {
    const bn2d_api &api = owner_.api();
    if (!Library(api).has(&bn2d_api::module_scale_shift))
      return detail::failed<void>(
          detail::fault(Status::state, "the library is older than version 1.2"));
    const DType dtype = scale ? scale.dtype() : shift.dtype();
    if (const auto fault = detail::check_channels(api, num_features(), dtype, "the module",
                                                  {{"scale", &scale}, {"shift", &shift}}))
      return detail::failed<void>(fault);
    return finish(api.module_scale_shift(owner_.get(), static_cast<int32_t>(dtype), scale.data(),
                                         shift.data(), num_features()));
  }

  /**
   * "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight.grad",
   * "bias.grad".
   */
  Returns<Tensor> tensor(const char *name) { return find<Tensor>(name); }
  Returns<ConstTensor> tensor(const char *name) const { return find<ConstTensor>(name); }
  /** All parameters and buffers, those that exist, in that order. */
  Returns<std::vector<Tensor>> tensors() { return list<Tensor>(); }
  Returns<std::vector<ConstTensor>> tensors() const { return list<ConstTensor>(); }

  /**
   * The elements of a tensor, valid as long as the module: `bn.weight()[c]`, `bn.weight<double>()`
   * of an f64 module. Status::not_found where there is no such tensor, Status::dtype where T is not
   * its type.
   */
  template <class T = float>
  Returns<Span<T>> weight() & {
    return values<T>("weight");
  }
  template <class T = float>
  Returns<Span<T>> bias() & {
    return values<T>("bias");
  }
  template <class T = float>
  Returns<Span<T>> running_mean() & {
    return values<T>("running_mean");
  }
  template <class T = float>
  Returns<Span<T>> running_var() & {
    return values<T>("running_var");
  }
  template <class T = float>
  Returns<Span<T>> weight_grad() & {
    return values<T>("weight.grad");
  }
  template <class T = float>
  Returns<Span<T>> bias_grad() & {
    return values<T>("bias.grad");
  }
  template <class T = float>
  Returns<Span<const T>> weight() const & {
    return values<const T>("weight");
  }
  template <class T = float>
  Returns<Span<const T>> bias() const & {
    return values<const T>("bias");
  }
  template <class T = float>
  Returns<Span<const T>> running_mean() const & {
    return values<const T>("running_mean");
  }
  template <class T = float>
  Returns<Span<const T>> running_var() const & {
    return values<const T>("running_var");
  }
  template <class T = float>
  Returns<Span<const T>> weight_grad() const & {
    return values<const T>("weight.grad");
  }
  template <class T = float>
  Returns<Span<const T>> bias_grad() const & {
    return values<const T>("bias.grad");
  }
  /** Batches that moved the running statistics; Status::not_found where there are none. */
  Returns<int64_t> num_batches_tracked() const {
    const auto found = values<const int64_t>("num_batches_tracked");
#if defined(BN2D_NO_EXCEPTIONS)
    if (!found)
      return detail::failed<int64_t>(detail::fault(found.status(), "%s", found.message()));
    return (*found)[0];
#else
    return found[0];
#endif
  }
  // Of a temporary they would dangle.
  template <class T = float>
  void weight() && = delete;
  template <class T = float>
  void bias() && = delete;
  template <class T = float>
  void running_mean() && = delete;
  template <class T = float>
  void running_var() && = delete;
  template <class T = float>
  void weight_grad() && = delete;
  template <class T = float>
  void bias_grad() && = delete;

  bn2d_module *get() const { return owner_.get(); }
  /** Hands the reference over. */
  bn2d_module *release() { return owner_.release(); }
  Library library() const { return Library(owner_.api()); }

 protected:
  Module(const bn2d_api &api, bn2d_module *handle) : owner_(api, handle) {}
  /** A module of a class that is this one, or built on it. */
  template <class Made, class AnyOptions, class Create>
  static Returns<Made> make(const bn2d_api &api, const AnyOptions &options, Create create) {
    detail::OptionsSetter raw(api);
    detail::set_all(raw, options);
    bn2d_module *made = nullptr;
    const int32_t status = raw.status() == BN2D_OK ? create(raw.get(), &made) : raw.status();
    if (const auto fault = detail::fault_of(api, status)) return detail::failed<Made>(fault);
    return Made(api, made);
  }

 private:
  detail::Fault run(const ConstView &x, const View &y, Activation activation, const ConstView &z,
                    bn2d_record **record, const Statistics *statistics = nullptr) const {
    if (const auto fault = detail::check_reach({{"x", &x}, {"y", &y}, {"z", &z}})) return fault;
    const bn2d_api &api = owner_.api();
    if (statistics != nullptr) {
      if (const auto fault = detail::check_1_3(api)) return fault;
      return detail::fault_of(
          api, api.forward_with_statistics(owner_.get(), statistics->get(), detail::RawView(x),
                                           detail::RawView(z), activation.kind, activation.slope,
                                           detail::RawView(y), record));
    }
    return detail::fault_of(
        api, api.forward_act(owner_.get(), detail::RawView(x), detail::RawView(z), activation.kind,
                             activation.slope, detail::RawView(y), record));
  }
  template <class T>
  T get(int32_t (*bn2d_api::*getter)(const bn2d_module *, T *)) const {
    return detail::get(owner_.api(), getter, static_cast<const bn2d_module *>(owner_.get()));
  }
  /** As get(); of a library before 1.3 what its modules are. */
  template <class T>
  T since_1_3(int32_t (*bn2d_api::*getter)(const bn2d_module *, T *), T before) const {
    return detail::check_1_3(owner_.api()) ? before : get(getter);
  }
  template <class Found>
  Returns<Found> find(const char *name) const {
    bn2d_tensor *found = nullptr;
    if (const auto fault = detail::fault_of(
            owner_.api(), owner_.api().module_tensor_by_name(owner_.get(), name, &found)))
      return detail::failed<Found>(fault);
    return Found(library(), found);
  }
  template <class Found>
  Returns<std::vector<Found>> list() const {
    std::vector<Found> all;
    const int32_t count = get(&bn2d_api::module_tensor_count);
    for (int32_t i = 0; i < count; ++i) {
      bn2d_tensor *found = nullptr;
      if (const auto fault = detail::fault_of(
              owner_.api(), owner_.api().module_tensor_at(owner_.get(), i, &found)))
        return detail::failed<std::vector<Found>>(fault);
      all.emplace_back(library(), found);
    }
    return all;
  }
  template <class T>
  Returns<Span<T>> values(const char *name) const {
    using Found = std::conditional_t<std::is_const_v<T>, ConstTensor, Tensor>;
    bn2d_tensor *raw = nullptr;
    if (const auto fault = detail::fault_of(
            owner_.api(), owner_.api().module_tensor_by_name(owner_.get(), name, &raw)))
      return detail::failed<Span<T>>(fault);
    // The module holds the tensor: its memory stays.
    return Found(library(), raw).template span<std::remove_const_t<T>>();
  }
  Returns<void> finish(int32_t status) const {
    return detail::finish(detail::fault_of(owner_.api(), status));
  }

  detail::ModuleOwner owner_;
};

/**
 * Group norm: the statistics of num_channels/num_groups channels of a sample, in eval mode, too. A
 * Module in everything else. Status::state for a library before 1.3.
 */
class GroupNorm : public Module {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  GroupNorm(int64_t num_groups, int64_t num_channels, const GroupNormOptions &options = {})
      : GroupNorm(create(num_groups, num_channels, options)) {}
  GroupNorm(const Library &library, int64_t num_groups, int64_t num_channels,
            const GroupNormOptions &options = {})
      : GroupNorm(create(library, num_groups, num_channels, options)) {}
#endif
  static Returns<GroupNorm> create(int64_t num_groups, int64_t num_channels,
                                   const GroupNormOptions &options = {}) {
    return create(Library::linked(), num_groups, num_channels, options);
  }
  static Returns<GroupNorm> create(const Library &library, int64_t num_groups, int64_t num_channels,
                                   const GroupNormOptions &options = {}) {
    const bn2d_api &api = library.api();
    if (const auto fault = detail::check_1_3(api)) return detail::failed<GroupNorm>(fault);
    return make<GroupNorm>(api, options, [&](const bn2d_options *raw, bn2d_module **out) {
      return api.group_norm_create(num_groups, num_channels, raw, out);
    });
  }

 private:
  friend class Module;
  GroupNorm(const bn2d_api &api, bn2d_module *handle) : Module(api, handle) {}
};

/**
 * Instance norm: the statistics of a channel of a sample; on request with running statistics, which
 * eval mode uses then. A Module in everything else. Status::state for a library before 1.3.
 */
class InstanceNorm2d : public Module {
 public:
#if !defined(BN2D_NO_EXCEPTIONS)
  explicit InstanceNorm2d(int64_t num_features, const InstanceNormOptions &options = {})
      : InstanceNorm2d(create(num_features, options)) {}
  InstanceNorm2d(const Library &library, int64_t num_features,
                 const InstanceNormOptions &options = {})
      : InstanceNorm2d(create(library, num_features, options)) {}
#endif
  static Returns<InstanceNorm2d> create(int64_t num_features,
                                        const InstanceNormOptions &options = {}) {
    return create(Library::linked(), num_features, options);
  }
  static Returns<InstanceNorm2d> create(const Library &library, int64_t num_features,
                                        const InstanceNormOptions &options = {}) {
    const bn2d_api &api = library.api();
    if (const auto fault = detail::check_1_3(api)) return detail::failed<InstanceNorm2d>(fault);
    return make<InstanceNorm2d>(api, options, [&](const bn2d_options *raw, bn2d_module **out) {
      return api.instance_norm_create(num_features, raw, out);
    });
  }

 private:
  friend class Module;
  InstanceNorm2d(const bn2d_api &api, bn2d_module *handle) : Module(api, handle) {}
};

/* ------------------------------------------------------------------- functions without a module */

/**
 * Stateless forward, bn2d_batch_norm_forward(): what is left out is not given, or not wanted.
 * C++20: `bn2d::batch_norm_forward({.x = x, .y = y, .weight = weight, .bias = bias});`
 */
struct BatchNormForward {
  ConstView x{};
  View y{};
  ConstView z{}; /**< Residual. */
  /** 1 and 0. All values for channels have one dtype: x's, or f32 with half x. */
  ConstChannels weight{}, bias{};
  Channels running_mean{}, running_var{}; /**< Moved with batch statistics, else read. */
  bool batch_stats = true;                /**< false: the running ones. */
  double averaging_factor = 0.1;
  double eps = 1e-5;
  bool biased_running_var = false;
  bool protect_running_stats = false;
  Activation activation{};
  std::optional<Span<uint8_t>> mask{}; /**< Out: Library::mask_nbytes() bytes. */
  std::optional<Span<double>> saved_mean{}, saved_invstd{}; /**< Out: one for each channel. */
};

/** Stateless backward, bn2d_batch_norm_backward() or bn2d_batch_norm_backward_act(). */
struct BatchNormBackward {
  ConstView x{};
  ConstView dy{};
  ConstView y{};                             /**< To read the side of the activation off, or */
  std::optional<Span<const uint8_t>> mask{}; /**< from forward. */
  ConstChannels weight{};                    /**< 1. */
  std::optional<Span<const double>> saved_mean{}, saved_invstd{}; /**< From forward. */
  bool batch_stats = true;
  Activation activation{};
  double blend = 0;            /**< 0: dweight and dbias are overwritten; 1: added to. */
  View dx{}, dz{};             /**< Out. */
  Channels dweight{}, dbias{}; /**< Out. */
  /** Of forward; read where the activation is pointwise (relu6 and those after it). */
  ConstView z{};
  ConstChannels bias{}; /**< As z. */
};

/**
 * Stateless double backward, bn2d_batch_norm_double_backward() or
 * bn2d_batch_norm_double_backward_act().
 */
struct BatchNormDoubleBackward {
  ConstView x{};
  ConstView dy{};
  ConstView y{};
  std::optional<Span<const uint8_t>> mask{};
  ConstChannels weight{};
  std::optional<Span<const double>> saved_mean{}, saved_invstd{};
  bool batch_stats = true;
  Activation activation{};
  ConstView ddx{};                    /**< Gradient of the loss with respect to dx, */
  ConstChannels ddweight{}, ddbias{}; /**< dweight and dbias. */
  double blend = 0;
  View ddy{}, dx{};   /**< Out. */
  Channels dweight{}; /**< Out. */
  /** Of forward; read where the activation is pointwise (relu6 and those after it). */
  ConstView z{};
  ConstChannels bias{}; /**< As z. */
  ConstView ddz{};      /**< Gradient of the loss with respect to dz. */
  View dz{};            /**< Out. */
  Channels dbias{};     /**< Out. */
};

/**
 * Stateless forward, bn2d_group_norm_forward(): what is left out is not given, or not wanted. With
 * as many groups as channels it is an instance norm, with one a layer norm over (C, H, W).
 */
struct GroupNormForward {
  ConstView x{};
  View y{};
  ConstView z{};          /**< Residual. */
  int64_t num_groups = 1; /**< Divides the channels. */
  /** 1 and 0. All values for channels have one dtype: x's, or f32 with half x. */
  ConstChannels weight{}, bias{};
  double eps = 1e-5;
  Activation activation{};
  std::optional<Span<uint8_t>> mask{}; /**< Out: Library::mask_nbytes() bytes. */
  /** Out: N*num_groups, those of sample n and group g at [n*num_groups + g]. */
  std::optional<Span<double>> saved_mean{}, saved_invstd{};
};

/** Stateless backward, bn2d_group_norm_backward() or bn2d_group_norm_backward_act(). */
struct GroupNormBackward {
  ConstView x{};
  ConstView dy{};
  ConstView y{};                             /**< To read the side of the activation off, or */
  std::optional<Span<const uint8_t>> mask{}; /**< from forward. */
  int64_t num_groups = 1;
  ConstChannels weight{};                                         /**< 1. */
  std::optional<Span<const double>> saved_mean{}, saved_invstd{}; /**< From forward. */
  Activation activation{};
  double blend = 0;            /**< 0: dweight and dbias are overwritten; 1: added to. */
  View dx{}, dz{};             /**< Out. */
  Channels dweight{}, dbias{}; /**< Out. */
  /** Of forward; read where the activation is pointwise (relu6 and those after it). */
  ConstView z{};
  ConstChannels bias{}; /**< As z. */
};

/**
 * Stateless double backward, bn2d_group_norm_double_backward() or
 * bn2d_group_norm_double_backward_act().
 */
struct GroupNormDoubleBackward {
  ConstView x{};
  ConstView dy{};
  ConstView y{};
  std::optional<Span<const uint8_t>> mask{};
  int64_t num_groups = 1;
  ConstChannels weight{};
  std::optional<Span<const double>> saved_mean{}, saved_invstd{};
  Activation activation{};
  ConstView ddx{};                    /**< Gradient of the loss with respect to dx, */
  ConstChannels ddweight{}, ddbias{}; /**< dweight and dbias. */
  double blend = 0;
  View ddy{}, dx{};   /**< Out. */
  Channels dweight{}; /**< Out. */
  /** Of forward; read where the activation is pointwise (relu6 and those after it). */
  ConstView z{};
  ConstChannels bias{}; /**< As z. */
  ConstView ddz{};      /**< Gradient of the loss with respect to dz. */
  View dz{};            /**< Out. */
  Channels dbias{};     /**< Out. */
};

namespace detail {

/** Whether a stateless double backward is one of 1.3, which knows z and every activation. */
template <class Arguments>
bool is_double_backward_act(const Arguments &a) {
  return is_pointwise(a.activation) || a.ddz || a.dz || a.dbias;
}

/** The dtype of the values for channels: that of the first that is given, else the data's. */
inline DType channels_dtype(DType data, std::initializer_list<NamedChannels> all) {
  for (const NamedChannels &named : all)
    if (*named.values) return named.values->dtype();
  return data;
}

template <class T>
Fault check_mask(const bn2d_api &api, const Shape &shape, const std::optional<Span<T>> &mask) {
  uint64_t bytes = 0;
  if (!mask || api.mask_nbytes(shape.n, shape.c, shape.h, shape.w, &bytes) != BN2D_OK) return {};
  if (mask->size() >= bytes) return {};
  return fault(Status::shape, "mask has %lld bytes, shape (%lld, %lld, %lld, %lld) needs %lld",
               number(mask->size()), number(shape.n), number(shape.c), number(shape.h),
               number(shape.w), number(bytes));
}

/** Statistics of groups: one value for each group of each sample, where that is a length at all. */
template <class T>
Fault check_groups(const Shape &shape, int64_t groups, const char *name,
                   const std::optional<Span<T>> &values) {
  if (!values || groups < 1 || shape.n < 0 || shape.n > INT64_MAX / groups) return {};
  if (values->size() == static_cast<uint64_t>(shape.n * groups)) return {};
  return fault(Status::shape,
               "%s has %lld elements, shape (%lld, %lld, %lld, %lld) in num_groups %lld needs %lld",
               name, number(values->size()), number(shape.n), number(shape.c), number(shape.h),
               number(shape.w), number(groups), number(shape.n * groups));
}

/** What a call of group norm checks first: the lengths, which C cannot see. */
template <class Call>
Fault check_group_norm(const bn2d_api &api, const Call &a, const Shape &shape, const char *whose,
                       DType dtype, std::initializer_list<NamedChannels> channels) {
  auto fault = check_1_3(api);
  if (!fault) fault = check_channels(api, shape.c, dtype, whose, channels);
  if (!fault) fault = check_mask(api, shape, a.mask);
  if (!fault) fault = check_groups(shape, a.num_groups, "saved_mean", a.saved_mean);
  if (!fault) fault = check_groups(shape, a.num_groups, "saved_invstd", a.saved_invstd);
  return fault;
}

}  // namespace detail

/**
 * y = activation(bn(x) + z). Values for channels, statistics and mask have the length that the
 * shape asks for.
 */
inline Returns<void> batch_norm_forward(const Library &library, const BatchNormForward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {{"weight", &a.weight},
                                                                 {"bias", &a.bias},
                                                                 {"running_mean", &a.running_mean},
                                                                 {"running_var", &a.running_var}};
  const DType dtype = detail::channels_dtype(a.x.dtype(), channels);
  const Shape &shape = a.x.shape();
  auto fault = detail::check_reach({{"x", &a.x}, {"y", &a.y}, {"z", &a.z}});
  if (!fault) fault = detail::check_channels(api, shape.c, dtype, "x", channels);
  if (!fault) fault = detail::check_mask(api, shape, a.mask);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_mean", a.saved_mean);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_invstd", a.saved_invstd);
  if (fault) return detail::failed<void>(fault);
  const int32_t flags = (a.biased_running_var ? BN2D_FLAG_BIASED_RUNNING_VAR : 0) |
                        (a.protect_running_stats ? BN2D_FLAG_PROTECT_RUNNING_STATS : 0);
  return detail::finish(detail::fault_of(
      api, api.batch_norm_forward(detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.y),
                                  static_cast<int32_t>(dtype), a.weight.data(), a.bias.data(),
                                  a.running_mean.data(), a.running_var.data(), a.batch_stats,
                                  a.averaging_factor, a.eps, flags, a.activation.kind,
                                  a.activation.slope, detail::pointer(a.mask),
                                  detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd))));
}

/** The gradients of what batch_norm_forward() did. */
inline Returns<void> batch_norm_backward(const Library &library, const BatchNormBackward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {
      {"weight", &a.weight}, {"bias", &a.bias}, {"dweight", &a.dweight}, {"dbias", &a.dbias}};
  const DType dtype = detail::channels_dtype(a.dy.dtype(), channels);
  const Shape &shape = a.dy.shape();
  auto fault = detail::check_reach(
      {{"x", &a.x}, {"dy", &a.dy}, {"y", &a.y}, {"z", &a.z}, {"dx", &a.dx}, {"dz", &a.dz}});
  if (!fault) fault = detail::check_channels(api, shape.c, dtype, "dy", channels);
  if (!fault) fault = detail::check_mask(api, shape, a.mask);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_mean", a.saved_mean);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_invstd", a.saved_invstd);
  if (!fault && is_pointwise(a.activation)) fault = detail::check_1_3(api);
  if (fault) return detail::failed<void>(fault);
  if (is_pointwise(a.activation))
    return detail::finish(detail::fault_of(
        api,
        api.batch_norm_backward_act(
            detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.dy), detail::RawView(a.y),
            detail::pointer(a.mask), static_cast<int32_t>(dtype), a.weight.data(), a.bias.data(),
            detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.batch_stats,
            a.activation.kind, a.activation.slope, a.blend, detail::RawView(a.dx),
            detail::RawView(a.dz), a.dweight.data(), a.dbias.data())));
  return detail::finish(detail::fault_of(
      api, api.batch_norm_backward(
               detail::RawView(a.x), detail::RawView(a.dy), detail::RawView(a.y),
               detail::pointer(a.mask), static_cast<int32_t>(dtype), a.weight.data(),
               detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.batch_stats,
               a.activation.kind, a.activation.slope, a.blend, detail::RawView(a.dx),
               detail::RawView(a.dz), a.dweight.data(), a.dbias.data())));
}

/** The gradients of what batch_norm_backward() did. */
inline Returns<void> batch_norm_double_backward(const Library &library,
                                                const BatchNormDoubleBackward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {
      {"weight", &a.weight}, {"bias", &a.bias},       {"ddweight", &a.ddweight},
      {"ddbias", &a.ddbias}, {"dweight", &a.dweight}, {"dbias", &a.dbias}};
  const DType dtype = detail::channels_dtype(a.dy.dtype(), channels);
  const Shape &shape = a.dy.shape();
  auto fault = detail::check_reach({{"x", &a.x},
                                    {"dy", &a.dy},
                                    {"y", &a.y},
                                    {"z", &a.z},
                                    {"ddx", &a.ddx},
                                    {"ddz", &a.ddz},
                                    {"ddy", &a.ddy},
                                    {"dx", &a.dx},
                                    {"dz", &a.dz}});
  if (!fault) fault = detail::check_channels(api, shape.c, dtype, "dy", channels);
  if (!fault) fault = detail::check_mask(api, shape, a.mask);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_mean", a.saved_mean);
  if (!fault) fault = detail::check_doubles(shape.c, "saved_invstd", a.saved_invstd);
  if (!fault && detail::is_double_backward_act(a)) fault = detail::check_1_3(api);
  if (fault) return detail::failed<void>(fault);
  if (detail::is_double_backward_act(a))
    return detail::finish(detail::fault_of(
        api,
        api.batch_norm_double_backward_act(
            detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.dy), detail::RawView(a.y),
            detail::pointer(a.mask), static_cast<int32_t>(dtype), a.weight.data(), a.bias.data(),
            detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.batch_stats,
            a.activation.kind, a.activation.slope, detail::RawView(a.ddx), detail::RawView(a.ddz),
            a.ddweight.data(), a.ddbias.data(), a.blend, detail::RawView(a.ddy),
            detail::RawView(a.dx), detail::RawView(a.dz), a.dweight.data(), a.dbias.data())));
  return detail::finish(detail::fault_of(
      api, api.batch_norm_double_backward(
               detail::RawView(a.x), detail::RawView(a.dy), detail::RawView(a.y),
               detail::pointer(a.mask), static_cast<int32_t>(dtype), a.weight.data(),
               detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.batch_stats,
               a.activation.kind, a.activation.slope, detail::RawView(a.ddx), a.ddweight.data(),
               a.ddbias.data(), a.blend, detail::RawView(a.ddy), detail::RawView(a.dx),
               a.dweight.data())));
}

/**
 * y = activation(gn(x) + z), by the statistics of num_groups groups of channels of each sample.
 * Status::state for a library before 1.3.
 */
inline Returns<void> group_norm_forward(const Library &library, const GroupNormForward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {{"weight", &a.weight},
                                                                 {"bias", &a.bias}};
  const DType dtype = detail::channels_dtype(a.x.dtype(), channels);
  auto fault = detail::check_reach({{"x", &a.x}, {"y", &a.y}, {"z", &a.z}});
  if (!fault) fault = detail::check_group_norm(api, a, a.x.shape(), "x", dtype, channels);
  if (fault) return detail::failed<void>(fault);
  return detail::finish(detail::fault_of(
      api, api.group_norm_forward(detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.y),
                                  a.num_groups, static_cast<int32_t>(dtype), a.weight.data(),
                                  a.bias.data(), a.eps, a.activation.kind, a.activation.slope,
                                  detail::pointer(a.mask), detail::pointer(a.saved_mean),
                                  detail::pointer(a.saved_invstd))));
}

/** The gradients of what group_norm_forward() did. */
inline Returns<void> group_norm_backward(const Library &library, const GroupNormBackward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {
      {"weight", &a.weight}, {"bias", &a.bias}, {"dweight", &a.dweight}, {"dbias", &a.dbias}};
  const DType dtype = detail::channels_dtype(a.dy.dtype(), channels);
  auto fault = detail::check_reach(
      {{"x", &a.x}, {"dy", &a.dy}, {"y", &a.y}, {"z", &a.z}, {"dx", &a.dx}, {"dz", &a.dz}});
  if (!fault) fault = detail::check_group_norm(api, a, a.dy.shape(), "dy", dtype, channels);
  if (fault) return detail::failed<void>(fault);
  if (is_pointwise(a.activation))
    return detail::finish(detail::fault_of(
        api,
        api.group_norm_backward_act(
            detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.dy), detail::RawView(a.y),
            detail::pointer(a.mask), a.num_groups, static_cast<int32_t>(dtype), a.weight.data(),
            a.bias.data(), detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd),
            a.activation.kind, a.activation.slope, a.blend, detail::RawView(a.dx),
            detail::RawView(a.dz), a.dweight.data(), a.dbias.data())));
  return detail::finish(detail::fault_of(
      api, api.group_norm_backward(
               detail::RawView(a.x), detail::RawView(a.dy), detail::RawView(a.y),
               detail::pointer(a.mask), a.num_groups, static_cast<int32_t>(dtype), a.weight.data(),
               detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.activation.kind,
               a.activation.slope, a.blend, detail::RawView(a.dx), detail::RawView(a.dz),
               a.dweight.data(), a.dbias.data())));
}

/** The gradients of what group_norm_backward() did. */
inline Returns<void> group_norm_double_backward(const Library &library,
                                                const GroupNormDoubleBackward &a) {
  const bn2d_api &api = library.api();
  const std::initializer_list<detail::NamedChannels> channels = {
      {"weight", &a.weight}, {"bias", &a.bias},       {"ddweight", &a.ddweight},
      {"ddbias", &a.ddbias}, {"dweight", &a.dweight}, {"dbias", &a.dbias}};
  const DType dtype = detail::channels_dtype(a.dy.dtype(), channels);
  auto fault = detail::check_reach({{"x", &a.x},
                                    {"dy", &a.dy},
                                    {"y", &a.y},
                                    {"z", &a.z},
                                    {"ddx", &a.ddx},
                                    {"ddz", &a.ddz},
                                    {"ddy", &a.ddy},
                                    {"dx", &a.dx},
                                    {"dz", &a.dz}});
  if (!fault) fault = detail::check_group_norm(api, a, a.dy.shape(), "dy", dtype, channels);
  if (fault) return detail::failed<void>(fault);
  if (detail::is_double_backward_act(a))
    return detail::finish(detail::fault_of(
        api,
        api.group_norm_double_backward_act(
            detail::RawView(a.x), detail::RawView(a.z), detail::RawView(a.dy), detail::RawView(a.y),
            detail::pointer(a.mask), a.num_groups, static_cast<int32_t>(dtype), a.weight.data(),
            a.bias.data(), detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd),
            a.activation.kind, a.activation.slope, detail::RawView(a.ddx), detail::RawView(a.ddz),
            a.ddweight.data(), a.ddbias.data(), a.blend, detail::RawView(a.ddy),
            detail::RawView(a.dx), detail::RawView(a.dz), a.dweight.data(), a.dbias.data())));
  return detail::finish(detail::fault_of(
      api, api.group_norm_double_backward(
               detail::RawView(a.x), detail::RawView(a.dy), detail::RawView(a.y),
               detail::pointer(a.mask), a.num_groups, static_cast<int32_t>(dtype), a.weight.data(),
               detail::pointer(a.saved_mean), detail::pointer(a.saved_invstd), a.activation.kind,
               a.activation.slope, detail::RawView(a.ddx), a.ddweight.data(), a.ddbias.data(),
               a.blend, detail::RawView(a.ddy), detail::RawView(a.dx), a.dweight.data())));
}

/** The same of the library that the program is linked with. */
inline Returns<void> batch_norm_forward(const BatchNormForward &a) {
  return batch_norm_forward(Library::linked(), a);
}
inline Returns<void> batch_norm_backward(const BatchNormBackward &a) {
  return batch_norm_backward(Library::linked(), a);
}
inline Returns<void> batch_norm_double_backward(const BatchNormDoubleBackward &a) {
  return batch_norm_double_backward(Library::linked(), a);
}
inline Returns<void> group_norm_forward(const GroupNormForward &a) {
  return group_norm_forward(Library::linked(), a);
}
inline Returns<void> group_norm_backward(const GroupNormBackward &a) {
  return group_norm_backward(Library::linked(), a);
}
inline Returns<void> group_norm_double_backward(const GroupNormDoubleBackward &a) {
  return group_norm_double_backward(Library::linked(), a);
}

}  // inline namespace
}  // namespace bn2d

#if defined(__cpp_lib_span) && defined(__cpp_lib_ranges)
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<bn2d::Span<T>> = true;
#endif

#endif /* BN2D_BN2D_HPP */
