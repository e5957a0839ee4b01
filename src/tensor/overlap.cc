// The question "do two strided boxes share a byte" is a bounded linear Diophantine equation: is
// there a choice of indices with sum(coefficient*index) = distance? It is NP-hard in general and
// easy for the at most eleven terms that occur here: the search goes from the largest coefficient
// down and leaves a branch as soon as the rest cannot reach the target any more or the gcd of the
// rest does not divide it (the method of NumPy's solve_may_share_memory).
#include "tensor/overlap.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/int128.h"

namespace bn2d {
namespace {

using Wide = Int128;  // distances of pointers times strides never overflow in here

// By insertion: eleven elements at most.
template <class T, class F>
void sort(T *values, int count, const F &before) {
  for (int i = 1; i < count; ++i)
    for (int j = i; j > 0 && before(values[j], values[j - 1]); --j)
      std::swap(values[j], values[j - 1]);
}

struct Term {
  int64_t coefficient;  // > 0
  int64_t bound;        // index in [0, bound]
};

struct Equation {
  static constexpr int kMost = 2 * Axes::kCount + 1;
  Term terms[kMost];
  int count = 0;
  Wide reach[kMost + 1] = {};       // reach[i]: largest sum of terms i and on
  int64_t divisor[kMost + 1] = {};  // divisor[i]: gcd of the coefficients of terms i and on

  // Equal coefficients are one: views of one tensor have the same strides, and only the sum of two
  // indices counts.
  void add(int64_t coefficient, int64_t bound) {
    if (bound <= 0 || coefficient == 0) return;
    for (int i = 0; i < count; ++i)
      if (terms[i].coefficient == coefficient) return static_cast<void>(terms[i].bound += bound);
    terms[count++] = {coefficient, bound};
  }
  void prepare() {
    sort(terms, count, [](const Term &a, const Term &b) { return a.coefficient > b.coefficient; });
    for (int i = count - 1; i >= 0; --i) {
      reach[i] = reach[i + 1] + static_cast<Wide>(terms[i].coefficient) * terms[i].bound;
      divisor[i] = std::gcd(divisor[i + 1], terms[i].coefficient);
    }
  }
};

// A search this long means strides that no layout has; the answer is then the safe one: that they
// share memory.
constexpr int kMostSteps = 100000;

bool solvable(const Equation &equation, int i, Wide target, int &steps) {
  if (target == 0) return true;
  if (i == equation.count || target < 0 || target > equation.reach[i] ||
      target % equation.divisor[i] != 0)
    return false;
  const Term &term = equation.terms[i];
  const Wide most = std::min<Wide>(term.bound, target / term.coefficient);
  // What the others cannot reach falls to this term.
  const Wide rest = target - equation.reach[i + 1];
  const Wide least = rest <= 0 ? 0 : (rest + term.coefficient - 1) / term.coefficient;
  for (Wide index = most; index >= least; --index) {
    if (++steps > kMostSteps) return true;
    if (solvable(equation, i + 1, target - index * term.coefficient, steps)) return true;
  }
  return false;
}

bool solvable(Equation &equation, Wide target) {
  equation.prepare();
  int steps = 0;
  return solvable(equation, 0, target, steps);
}

// In bytes. Strides that matter have been checked; others, of an empty tensor, may wrap.
struct ByteAxes : Axes {
  explicit ByteAxes(const View &v) : Axes(v) {
    for (int64_t &one : stride)
      one = static_cast<int64_t>(static_cast<uint64_t>(one) *
                                 static_cast<uint64_t>(dtype_size(v.dtype)));
  }
  Wide reach() const {
    Wide sum = 0;
    for (int i = 0; i < kCount; ++i) sum += static_cast<Wide>(extent[i] - 1) * stride[i];
    return sum;
  }
};

// Ascending strides each of which steps over everything below it: the usual case, decided at once.
bool is_nested(const ByteAxes &axes, int64_t element) {
  int order[Axes::kCount] = {0, 1, 2, 3, 4};
  sort(order, Axes::kCount, [&](int a, int b) { return axes.stride[a] < axes.stride[b]; });
  Wide below = element;
  for (int i : order) {
    if (axes.extent[i] <= 1) continue;
    if (axes.stride[i] < below) return false;
    below += static_cast<Wide>(axes.extent[i] - 1) * axes.stride[i];
  }
  return true;
}

// Whether two boxes of elements share a byte.
bool share(const ByteAxes &p, Wide start_a, int64_t element_a, const ByteAxes &q, Wide start_b,
           int64_t element_b) {
  if (start_a + p.reach() + element_a <= start_b || start_b + q.reach() + element_b <= start_a)
    return false;
  // start_a + sum(p*i) + byte_a = start_b + sum(q*j) + byte_b; with j' = extent-1-j all terms
  // become positive.
  Equation equation;
  for (int i = 0; i < Axes::kCount; ++i) {
    equation.add(p.stride[i], p.extent[i] - 1);
    equation.add(q.stride[i], q.extent[i] - 1);
  }
  equation.add(1, element_a - 1 + element_b - 1);
  return solvable(equation, start_b + q.reach() + (element_b - 1) - start_a);
}

Wide address(const View &view) { return reinterpret_cast<uintptr_t>(view.data); }

}  // namespace

bool same_elements(const View &a, const View &b) {
  if (a.data != b.data || a.dtype != b.dtype || !(a.size == b.size)) return false;
  const Axes p(a), q(b);
  for (int i = 0; i < Axes::kCount; ++i)
    if (p.extent[i] != q.extent[i]) return false;
  for (int i = 0; i < Axes::kCount; ++i)
    if (p.extent[i] > 1 && p.stride[i] != q.stride[i]) return false;
  return true;
}

bool share_memory(const View &a, const View &b) {
  if (a.size.numel() == 0 || b.size.numel() == 0) return false;
  return share(ByteAxes(a), address(a), dtype_size(a.dtype), ByteAxes(b), address(b),
               dtype_size(b.dtype));
}

bool share_memory(const View &view, uintptr_t begin, uintptr_t end) {
  if (view.size.numel() == 0 || begin >= end) return false;
  View one;  // a range is one long element
  one.size = {1, 1, 1, 1};
  return share(ByteAxes(view), address(view), dtype_size(view.dtype), ByteAxes(one), begin,
               static_cast<int64_t>(end - begin));
}

bool overlaps_itself(const View &view) {
  if (view.size.numel() == 0) return false;
  const Strides &stride = view.stride;  // the usual case at once: planes of rows, rows of elements
  if (view.channel_block == 0 && stride.w >= 1 && stride.h >= view.size.w * stride.w &&
      stride.c >= view.size.h * stride.h && stride.n >= view.size.c * stride.c)
    return false;
  const ByteAxes axes(view);
  const int64_t element = dtype_size(view.dtype);
  if (is_nested(axes, element)) return false;
  // A difference of two indices, not all zero, that leads nowhere: for the first axis where they
  // differ the difference is at least 1, on later axes it is in [-(extent-1), extent-1], shifted
  // here to start at 0.
  for (int first = 0; first < Axes::kCount; ++first) {
    if (axes.extent[first] <= 1) continue;
    Equation equation;
    equation.add(axes.stride[first], axes.extent[first] - 2);
    Wide target = -static_cast<Wide>(axes.stride[first]);
    for (int i = first + 1; i < Axes::kCount; ++i) {
      equation.add(axes.stride[i], 2 * (axes.extent[i] - 1));
      target += static_cast<Wide>(axes.stride[i]) * (axes.extent[i] - 1);
    }
    equation.add(1, 2 * (element - 1));
    target += element - 1;
    if (solvable(equation, target)) return true;
  }
  return false;
}

}  // namespace bn2d
