/* SPDX-License-Identifier: MIT */
/**
 * @file fold.hpp
 * @brief Folding in C++17, over fold.h. Header-only; link with bn2d::fold.
 *
 *     const bn2d::Layer conv{bn2d::LayerKind::conv, 64, 32, 9};   // 32 inputs, 64 outputs, 3x3
 *     const bn2d::Folded cost =
 *         bn2d::fold_into_previous(bn, conv, w.data(), b.data(), w.data(), b.data());
 *
 * fold.h is the manual, bn2d.hpp tells about errors. The functions call the library that the
 * program is linked with.
 */
#ifndef BN2D_FOLD_HPP
#define BN2D_FOLD_HPP

#include <bn2d/fold.h>

#include <bn2d/bn2d.hpp>

namespace bn2d {
namespace detail {
template <class T>
struct Same {
  using type = T;
};
/* Of a parameter whose type follows from another one: it may be nullptr. */
template <class T>
using same_t = typename Same<T>::type;
}  // namespace detail
#if defined(BN2D_NO_EXCEPTIONS)
inline namespace with_results {
#else
inline namespace with_exceptions {
#endif

/* ---------------------------------------------------------------------------------- folding */

/** bn2d_layer. */
enum class LayerKind : int32_t {
  conv = BN2D_LAYER_CONV,
  transposed = BN2D_LAYER_TRANSPOSED,
  linear = BN2D_LAYER_LINEAR
};

/** A layer whose weight and bias are contiguous. */
struct Layer {
  LayerKind kind = LayerKind::conv;
  int64_t out = 0, in = 0;
  int64_t taps = 1; /**< Elements of a kernel: 9 for 3x3. */
  int64_t groups = 1;
};

/** What folding does to the weights. */
struct Folded {
  double change = 0;   /**< The largest |W' - W| / |W|. */
  double rounding = 0; /**< The largest relative error by storing the new weights in their dtype. */
};

/** Into the layer before the module. bias nullptr: it has none. out_weight may be weight, out_bias
 * may be bias. */
template <class T, class U>
Returns<Folded> fold_into_previous(const Module &module, const Layer &layer, const T *weight,
                                   const detail::same_t<T> *bias, U *out_weight,
                                   detail::same_t<U> *out_bias) {
  Folded folded;
  const auto fault =
      detail::fault_of(Library::linked().api(),
                       bn2d_fold_into_previous_flat(
                           module.get(), static_cast<int32_t>(layer.kind), layer.groups,
                           static_cast<int32_t>(dtype_of<T>::value), layer.out, layer.in,
                           layer.taps, weight, bias, static_cast<int32_t>(dtype_of<U>::value),
                           out_weight, out_bias, &folded.change, &folded.rounding));
  if (fault) return detail::failed<Folded>(fault);
  return folded;
}

/** Into the layer after the module. padded: some outputs read fewer inputs than others. */
template <class T, class U>
Returns<Folded> fold_into_next(const Module &module, const Layer &layer, bool padded,
                               const T *weight, const detail::same_t<T> *bias, U *out_weight,
                               detail::same_t<U> *out_bias) {
  Folded folded;
  const auto fault = detail::fault_of(
      Library::linked().api(),
      bn2d_fold_into_next_flat(module.get(), static_cast<int32_t>(layer.kind), layer.groups, padded,
                               static_cast<int32_t>(dtype_of<T>::value), layer.out, layer.in,
                               layer.taps, weight, bias, static_cast<int32_t>(dtype_of<U>::value),
                               out_weight, out_bias, &folded.change, &folded.rounding));
  if (fault) return detail::failed<Folded>(fault);
  return folded;
}

}  // inline namespace
}  // namespace bn2d

#endif  // BN2D_FOLD_HPP
