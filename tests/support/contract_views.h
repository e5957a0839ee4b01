// Views for the contract tests: a bn2d_view that owns its shape and strides and may be copied and
// changed at will.
#pragma once
#include <bn2d/bn2d.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

namespace bn2d_test {

using Extents = std::array<int64_t, 4>;

inline int64_t count_of(const Extents &shape) { return shape[0] * shape[1] * shape[2] * shape[3]; }

inline Extents nchw_strides(const Extents &s) { return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1}; }
inline Extents nhwc_strides(const Extents &s) { return {s[2] * s[3] * s[1], 1, s[3] * s[1], s[1]}; }

inline void set_dtype(bn2d_view &view, int32_t dtype) {
  view.dtype_code = dtype == BN2D_BF16 ? 4 : dtype == BN2D_I64 ? 0 : 2;
  view.dtype_bits = static_cast<uint8_t>(dtype == BN2D_F32                        ? 32
                                         : dtype == BN2D_F64 || dtype == BN2D_I64 ? 64
                                                                                  : 16);
  view.dtype_lanes = 1;
}

template <class T>
constexpr int32_t dtype_of() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int64_t>,
                "no dtype");
  return std::is_same_v<T, float> ? BN2D_F32 : std::is_same_v<T, double> ? BN2D_F64 : BN2D_I64;
}

class View {
 public:
  View() {
    view_.device_type = BN2D_CPU;
    view_.ndim = 4;
    view_.shape = shape_.data();
    set_dtype(view_, BN2D_F32);
  }
  View(void *data, int32_t dtype, const Extents &shape) : View() {
    view_.data = data;
    set_dtype(view_, dtype);
    for (size_t i = 0; i < 4; ++i) shape_[i] = shape[i];
  }
  // Of any rank; strides NULL: contiguous.
  View(void *data, int32_t dtype, size_t rank, const int64_t *shape, const int64_t *strides)
      : View() {
    view_.data = data;
    set_dtype(view_, dtype);
    view_.ndim = static_cast<int32_t>(rank);
    std::copy_n(shape, rank, shape_.begin());
    if (strides == nullptr) return;
    std::copy_n(strides, rank, strides_.begin());
    view_.strides = strides_.data();
  }
  View(void *data, int32_t dtype, const Extents &shape, const Extents &strides)
      : View(data, dtype, shape) {
    set_strides(strides);
  }
  // Of rank 1, with the elements `stride` apart; or of rank 0.
  static View vector(void *data, int32_t dtype, int64_t length, int64_t stride = 1) {
    View view;
    view.view_.data = data;
    set_dtype(view.view_, dtype);
    view.view_.ndim = 1;
    view.shape_[0] = length;
    view.strides_[0] = stride;
    view.view_.strides = view.strides_.data();
    return view;
  }
  static View scalar(void *data, int32_t dtype) {
    View view = vector(data, dtype, 1);
    view.view_.ndim = 0;
    return view;
  }

  View(const View &other) { *this = other; }
  View &operator=(const View &other) {
    shape_ = other.shape_;
    strides_ = other.strides_;
    view_ = other.view_;
    if (other.view_.shape == other.shape_.data()) view_.shape = shape_.data();
    if (other.view_.strides == other.strides_.data()) view_.strides = strides_.data();
    return *this;
  }

  // Strides become explicit; the first change from "contiguous" starts with the contiguous ones.
  void set_strides(const Extents &strides) {
    for (size_t i = 0; i < 4; ++i) strides_[i] = strides[i];
    view_.strides = strides_.data();
  }
  void set_stride(size_t dimension, int64_t stride) {
    if (view_.strides == nullptr) {
      int64_t next = 1;
      for (auto i = static_cast<size_t>(view_.ndim); i-- > 0; next *= shape_[i]) strides_[i] = next;
      view_.strides = strides_.data();
    }
    strides_[dimension] = stride;
  }
  void set_extent(size_t dimension, int64_t extent) { shape_[dimension] = extent; }
  int64_t extent(size_t dimension) const { return shape_[dimension]; }

  bn2d_view *operator->() { return &view_; }
  const bn2d_view *get() const { return &view_; }
  operator const bn2d_view *() const { return &view_; }

 private:
  std::array<int64_t, 8> shape_{};
  std::array<int64_t, 8> strides_{};
  bn2d_view view_{};
};

}  // namespace bn2d_test
