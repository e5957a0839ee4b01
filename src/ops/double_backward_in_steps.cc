#include "ops/double_backward_in_steps.h"

#include <algorithm>
#include <cstring>

#include "base/scratch.h"
#include "ops/packed_tensors.h"
#include "ops/parameter_gradients.h"

namespace bn2d {
namespace {

class Steps {
 public:
  explicit Steps(const DoubleBackwardCall &call)
      : call_(call),
        finds_h_(call.fused.is_curved() && (call.dx.exists() || call.dz.exists() ||
                                            call.dweight.exists() || call.dbias.exists())),
        reads_y_(call.reads_y()),
        tensors_(call.dy.size, call.dy.dtype, pool_or_default(call.pool), call.thread_limit),
        half_bytes_(most_half_bytes()),
        scratch_(static_cast<size_t>(packed_count() * tensors_.bytes() + half_bytes_ +
                                     kSums * channels() * 8)),
        next_(static_cast<std::byte *>(scratch_.data())) {
    halves_ = next_ + packed_count() * tensors_.bytes();
    dweight_ = reinterpret_cast<double *>(halves_ + half_bytes_);
    dweight_of_h_ = dweight_ + channels();
    dbias_ = dweight_of_h_ + channels();
    std::fill_n(dweight_, kSums * channels(), 0.0);
  }

  void run() {
    x_ = packed(call_.x);
    z_ = packed(call_.z);
    if (reads_y_) y_ = packed(call_.y);
    const View dy = packed(call_.dy), ddx = packed(call_.ddx), ddz = packed(call_.ddz);
    const View g = take(), u = take(), dx = call_.dx.exists() ? take() : View();
    through_activation(dy, g, false);
    double_backward_of_norm(g, ddx, u, dx);
    if (ddz.exists()) combine(Of::sum, u, ddz, u);
    View h;
    if (finds_h_) {
      h = take();
      through_activation(dy, h, true);
      combine(Of::product, h, u, h);
      backward_of_norm(h, dx.exists() ? g : View());
      if (dx.exists()) combine(Of::sum, dx, g, dx);
    } else if (call_.dz.exists()) {
      h = g;
      std::memset(h.data, 0, static_cast<size_t>(tensors_.bytes()));
    }
    if (call_.ddy.exists()) through_activation(u, u, false);
    store(u, call_.ddy);
    store(dx, call_.dx);
    store(h, call_.dz);
    blend_sums();
  }

 private:
  static constexpr int kSums = 3;  // of each channel

  int64_t channels() const { return call_.dy.size.c; }

  // ---- memory

  bool is_copied(const View &view) const { return view.exists() && !tensors_.has(view); }
  int64_t packed_count() const {
    int64_t count = 2 + call_.dx.exists() + finds_h_ + (reads_y_ && is_copied(call_.y));
    for (const View *view : {&call_.x, &call_.z, &call_.dy, &call_.ddx, &call_.ddz})
      count += is_copied(*view);
    return count;
  }
  int64_t most_half_bytes() const {
    int64_t most = 0;
    for (const View *view : {&call_.x, &call_.y, &call_.z, &call_.dy, &call_.ddx, &call_.ddz,
                             &call_.ddy, &call_.dx, &call_.dz})
      most = std::max(most, tensors_.half_bytes(*view));
    return most;
  }
  View take() {
    const View view = tensors_.in(next_);
    next_ += tensors_.bytes();
    return view;
  }
  View packed(const View &view) {
    if (!is_copied(view)) return view;
    const View copy = take();
    tensors_.load(view, copy, halves_);
    return copy;
  }
  void store(const View &from, const View &to) const {
    if (to.exists()) tensors_.store(from, to, halves_);
  }

  // ---- steps

  // What all inner calls have of this one.
  template <class Call>
  Call call_of_norm(const View &dy) const {
    Call call;
    call.x = x_;
    call.dy = dy;
    call.saved = call_.saved;
    call.sets = call_.sets;
    call.batch_statistics = call_.batch_statistics;
    call.blend = 0;
    call.thread_limit = call_.thread_limit;
    call.pool = call_.pool;
    return call;
  }
  ChannelArray sums(double *memory, const ChannelArray &wanted) const {
    return wanted.exists() ? ChannelArray{DType::f64, memory} : ChannelArray();
  }

  // Not inlined: a call is most of a kilobyte of stack, which the others do not need as well.

  // out = act'(a)*dy, or act''(a)*dy. out may be dy.
  [[gnu::noinline]] void through_activation(const View &dy, const View &out, bool is_second) const {
    BackwardCall call = call_of_norm<BackwardCall>(dy);
    call.y = y_;
    call.z = z_;
    call.mask = call_.mask;
    call.fused = call_.fused;
    call.is_second = is_second;
    call.dz = out;
    backward(&call);
  }
  [[gnu::noinline]] void double_backward_of_norm(const View &g, const View &ddx, const View &u,
                                                 const View &dx) const {
    DoubleBackwardCall call = call_of_norm<DoubleBackwardCall>(g);
    call.ddx = ddx;
    call.ddweight = call_.ddweight;
    call.ddbias = call_.ddbias;
    call.ddy = u;
    call.dx = dx;
    call.dweight = sums(dweight_, call_.dweight);
    double_backward(&call);
  }
  [[gnu::noinline]] void backward_of_norm(const View &h, const View &dx) const {
    BackwardCall call = call_of_norm<BackwardCall>(h);
    call.dx = dx;
    call.dweight = sums(dweight_of_h_, call_.dweight);
    call.dbias = sums(dbias_, call_.dbias);
    if (call.dx.exists() || call.dweight.exists() || call.dbias.exists()) backward(&call);
  }

  // out = a + b, or a*b, element by element. As with relu: where nothing gets through, an infinite
  // gradient does not either.
  enum class Of { sum, product };
  void combine(Of of, const View &a, const View &b, const View &out) const {
    tensors_.for_runs(2, [&](int64_t first, int64_t count) {
      if (out.dtype == DType::f64) {
        combine_run<double>(of, a, b, out, first, count);
      } else {
        combine_run<float>(of, a, b, out, first, count);
      }
    });
  }
  template <class A>
  static void combine_run(Of of, const View &a, const View &b, const View &out, int64_t first,
                          int64_t count) {
    const auto at = [&](const View &view) { return reinterpret_cast<A *>(view.data); };
    for (int64_t i = first; i < first + count; ++i)
      at(out)[i] = of == Of::sum ? at(a)[i] + at(b)[i] : at(a)[i] == 0 ? 0 : at(a)[i] * at(b)[i];
  }

  void blend_sums() const {
    for (int64_t c = 0; c < channels(); ++c) dweight_[c] += dweight_of_h_[c];
    blend_all_into(call_.dweight, channels(), call_.blend, dweight_);
    blend_all_into(call_.dbias, channels(), call_.blend, dbias_);
  }

  const DoubleBackwardCall &call_;
  const bool finds_h_, reads_y_;
  const PackedTensors tensors_;
  const int64_t half_bytes_;
  const Scratch scratch_;
  std::byte *next_, *halves_;
  double *dweight_, *dweight_of_h_, *dbias_;
  View x_, y_, z_;
};

}  // namespace

bool needs_steps(const DoubleBackwardCall &call) {
  return call.fused.is_pointwise() || call.ddz.exists() || call.dz.exists();
}

void double_backward_in_steps(const DoubleBackwardCall &call) { Steps(call).run(); }

}  // namespace bn2d
