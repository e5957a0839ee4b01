// SPDX-License-Identifier: MIT
// oneDNN as a peer, versions 2 and 3: plain NCHW, channels last, and the blocked layout its JIT
// likes best; other orders of the dimensions with the row's own strides.
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
#include <omp.h>
#endif

#include "variant.h"

// Since 3.3.
#define HAS_GROUP_NORM \
  (DNNL_VERSION_MAJOR > 3 || (DNNL_VERSION_MAJOR == 3 && DNNL_VERSION_MINOR >= 3))

namespace bench {
namespace {

using dnnl::memory;
using Flags = dnnl::normalization_flags;
using Tag = memory::format_tag;

memory::data_type type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return memory::data_type::f32;
    case DType::kF16:
      return memory::data_type::f16;
    case DType::kBF16:
      return memory::data_type::bf16;
#if DNNL_VERSION_MAJOR >= 3
    case DType::kF64:
      return memory::data_type::f64;
#else
    case DType::kF64:
      break;
#endif
  }
  return memory::data_type::undef;
}

Flags flags_of(const Problem &p) {
  // Without weight and bias where only dx is wanted of frozen statistics: oneDNN has no flag for
  // "weight, but not its gradient". That is less work than ours does.
  auto flags = p.op == Op::kFrozenDx ? Flags::none : Flags::use_scale | Flags::use_shift;
  if (p.op == Op::kEval || p.op == Op::kFrozenDx) flags |= Flags::use_global_stats;
  if (p.fuse == Fuse::kRelu) flags |= Flags::fuse_norm_relu;
  return flags;
}

/// What Job calls, of whatever kind of norm.
struct Primitives {
  dnnl::primitive forward, backward;  // backward: where the problem is one
  memory::desc workspace;
  std::string implementation;
};

template <class Forward, class Backward, class ForwardDesc, class MakeBackwardDesc>
Primitives primitives_of(const Problem &p, const ForwardDesc &forward,
                         const MakeBackwardDesc &make_backward_desc) {
  Primitives out{Forward(forward), {}, forward.workspace_desc(), forward.impl_info_str()};
  if (is_backward(p.op)) {
    const auto desc = make_backward_desc();
    out.backward = Backward(desc);
    out.implementation = desc.impl_info_str();
  }
  return out;
}

dnnl::prop_kind forward_kind(Op op) {
  return op == Op::kEval ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training;
}

Primitives batch_norm(const Problem &p, const memory::desc &md, const dnnl::engine &engine) {
  using Forward = dnnl::batch_normalization_forward;
  using Backward = dnnl::batch_normalization_backward;
  const auto backward_kind =
      p.op == Op::kFrozenDx ? dnnl::prop_kind::backward_data : dnnl::prop_kind::backward;
  const auto eps = static_cast<float>(kEps);
#if DNNL_VERSION_MAJOR >= 3
  const Forward::primitive_desc forward(engine, forward_kind(p.op), md, md, eps, flags_of(p));
  return primitives_of<Forward, Backward>(p, forward, [&] {
    return Backward::primitive_desc(engine, backward_kind, md, md, md, eps, flags_of(p), forward);
  });
#else
  const Forward::primitive_desc forward(Forward::desc(forward_kind(p.op), md, eps, flags_of(p)),
                                        engine);
  return primitives_of<Forward, Backward>(p, forward, [&] {
    return Backward::primitive_desc(Backward::desc(backward_kind, md, md, eps, flags_of(p)), engine,
                                    forward);
  });
#endif
}

#if HAS_GROUP_NORM
Primitives group_norm(const Problem &p, const memory::desc &md, const dnnl::engine &engine) {
  using Forward = dnnl::group_normalization_forward;
  using Backward = dnnl::group_normalization_backward;
  const auto eps = static_cast<float>(kEps);
  const Forward::primitive_desc forward(engine, forward_kind(p.op), md, md, p.groups, eps,
                                        flags_of(p));
  return primitives_of<Forward, Backward>(p, forward, [&] {
    return Backward::primitive_desc(engine, dnnl::prop_kind::backward, md, md, md, p.groups, eps,
                                    flags_of(p), forward);
  });
}
#endif

Primitives primitives_of(const Problem &p, const memory::desc &md, const dnnl::engine &engine) {
#if HAS_GROUP_NORM
  if (p.groups != 0) return group_norm(p, md, engine);
#endif
  return batch_norm(p, md, engine);
}

void copy(dnnl::stream &stream, memory from, memory to) {
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

void fill(const memory &m, int64_t count, float value) {
  auto *data = static_cast<float *>(m.get_data_handle());
  for (int64_t i = 0; i < count; ++i) data[i] = value;
}

/// The primitives and memory of one problem in one oneDNN layout.
class Job {
 public:
  Job(const Problem &problem, Tag layout, const dnnl::engine &engine)
      : p_(problem),
        stream_(engine),
        row_desc_(desc_of_row()),
        desc_(layout == Tag::undef ? row_desc_ : desc(layout)),
        same_layout_(desc_ == row_desc_),
        engine_(engine),
        primitives_(primitives_of(p_, desc_, engine)) {
    x_ = input(p_.t.x);
    y_ = output(p_.t.y);
    make_parameters();
    forward_args_ = {{DNNL_ARG_SRC, x_},        {DNNL_ARG_DST, y_},       {DNNL_ARG_MEAN, mean_},
                     {DNNL_ARG_VARIANCE, var_}, {DNNL_ARG_SCALE, scale_}, {DNNL_ARG_SHIFT, shift_}};
    if (p_.fuse == Fuse::kRelu && p_.op != Op::kEval)
      forward_args_[DNNL_ARG_WORKSPACE] = workspace_;
    if (is_backward(p_.op)) make_backward();
  }

  void run() {
    if (is_backward(p_.op)) {
      primitives_.backward.execute(stream_, backward_args_);
    } else {
      primitives_.forward.execute(stream_, forward_args_);
    }
    stream_.wait();
  }

  void fetch() {
    if (!same_layout_)
      copy(stream_, is_backward(p_.op) ? dx_ : y_, memory(row_desc_, engine_, p_.output()));
  }

  const std::string &implementation() const { return primitives_.implementation; }

 private:
  memory::dims extents() const { return {p_.shape.n, p_.shape.c, p_.shape.h, p_.shape.w}; }
  memory::desc desc(Tag tag) const { return memory::desc(extents(), type_of(p_.dtype), tag); }
  memory::desc desc_of_row() const {
    if (p_.layouts.x == Layout::kNchw8c) return desc(Tag::nChw8c);
    if (p_.layouts.x == Layout::kNchw16c) return desc(Tag::nChw16c);
    const auto strides = strides_of(p_.layouts.x, p_.shape);
    return memory::desc(extents(), type_of(p_.dtype), memory::dims(strides.begin(), strides.end()));
  }

  /// The row's own tensor where the layout is the row's, else a copy.
  memory input(void *data) {
    memory shared(row_desc_, engine_, data);
    if (same_layout_) return shared;
    memory own(desc_, engine_);
    copy(stream_, shared, own);
    return own;
  }
  memory output(void *data) {
    return same_layout_ ? memory(row_desc_, engine_, data) : memory(desc_, engine_);
  }

  void make_parameters() {
    const int64_t c = p_.shape.c;
    const memory::desc channels({c}, memory::data_type::f32, Tag::a);
    for (memory *m : {&scale_, &shift_, &dscale_, &dshift_}) *m = memory(channels, engine_);
    const memory::desc sets =
        p_.groups == 0 ? channels
                       : memory::desc({p_.shape.n, p_.groups}, memory::data_type::f32, Tag::ab);
    for (memory *m : {&mean_, &var_}) *m = memory(sets, engine_);
    if (p_.groups == 0) {  // running statistics of eval
      fill(mean_, c, 0);
      fill(var_, c, 1);
    }
    fill(scale_, c, 1);
    fill(shift_, c, 0);
    if (p_.fuse == Fuse::kRelu && p_.op != Op::kEval)
      workspace_ = memory(primitives_.workspace, engine_);
  }

  void make_backward() {
    if (p_.op == Op::kBackward) {
      primitives_.forward.execute(stream_,
                                  forward_args_);  // statistics and the side of the activation
      stream_.wait();
    }
    dy_ = input(p_.t.dy);
    dx_ = output(p_.t.dx);
    backward_args_ = {{DNNL_ARG_SRC, x_},
                      {DNNL_ARG_DIFF_DST, dy_},
                      {DNNL_ARG_DIFF_SRC, dx_},
                      {DNNL_ARG_MEAN, mean_},
                      {DNNL_ARG_VARIANCE, var_},
                      {DNNL_ARG_SCALE, scale_},
                      {DNNL_ARG_DIFF_SCALE, dscale_},
                      {DNNL_ARG_DIFF_SHIFT, dshift_}};
#if DNNL_VERSION_MAJOR < 3
    backward_args_[DNNL_ARG_SHIFT] = shift_;  // version 3 refuses it: "bad number of inputs"
#endif
    if (p_.fuse == Fuse::kRelu) backward_args_[DNNL_ARG_WORKSPACE] = workspace_;
  }

  Problem p_;
  dnnl::stream stream_;
  memory::desc row_desc_, desc_;
  bool same_layout_;
  dnnl::engine engine_;
  Primitives primitives_;
  memory x_, y_, dy_, dx_, mean_, var_, scale_, shift_, dscale_, dshift_, workspace_;
  std::unordered_map<int, memory> forward_args_, backward_args_;
};

class OneDnn : public Peer {
 public:
  std::string version() const override {
    const dnnl_version_t *v = dnnl_version();
    const char *const runtime = DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP   ? "OpenMP"
                                : DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_TBB ? "oneTBB"
                                                                                 : "other threads";
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch) + " (" + runtime + ")";
  }

  void set_threads([[maybe_unused]] int threads) override {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
    omp_set_num_threads(threads);
#endif
  }

  void wake() override {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
#pragma omp parallel
    {
#pragma omp barrier
    }
#endif
  }

  std::vector<Variant> variants(const Problem &problem) override {
    if (problem.fuse != Fuse::kNone && problem.fuse != Fuse::kRelu)
      return {missing(name(), "fuses relu only")};
    if (problem.groups != 0 && !HAS_GROUP_NORM)
      return {missing(name(), "no group norm before 3.3")};
    if (!problem.layouts.agree()) return {missing(name(), "one layout for all tensors")};
    if (problem.op == Op::kGradients)
      return {missing(name(), "no gradients of weight and bias without dx")};
    const Layout layout = problem.layouts.x;
    if (layout == Layout::kNhwc) return {variant(problem, " channels_last", Tag::undef)};
    if (block_of(layout)) return {variant(problem, " blocked", Tag::undef)};
    if (layout != Layout::kNchw) return {variant(problem, " strided", Tag::undef)};
    std::vector<Variant> all{variant(problem, " plain", Tag::undef),
                             variant(problem, " channels_last", Tag::nhwc)};
    // Group norm in blocks is its reference loop, hundreds of times slower.
    if (problem.groups == 0) all.push_back(variant(problem, " blocked", blocked()));
    return all;
  }

 private:
  static std::string name() {
    const dnnl_version_t *v = dnnl_version();
    return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor);
  }

  static Tag blocked() {
    return dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core ? Tag::nChw16c : Tag::nChw8c;
  }

  /// Tag::undef: as the row's tensors lie.
  Variant variant(const Problem &problem, const std::string &layout, Tag tag) {
    const std::string name = this->name() + layout;
    if (type_of(problem.dtype) == memory::data_type::undef)
      return missing(name, "dtype not supported");
    try {
      const auto job = std::make_shared<Job>(problem, tag, engine_);
      Variant variant;
      variant.name = name;
      variant.family = "oneDNN" + layout;
      // The oneTBB build runs in the arena that the whole benchmark runs in.
      variant.runtime =
          DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP ? Runtime::kOpenMp : Runtime::kTbb;
      variant.run = repeat([job] { job->run(); });
      variant.fetch = [job] { job->fetch(); };
      variant.note = job->implementation();
      return variant;
    } catch (const dnnl::error &e) {
      return missing(name, e.status == dnnl_unimplemented ? "not implemented" : e.what());
    }
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
};

}  // namespace
}  // namespace bench

extern "C" __attribute__((visibility("default"))) bench::Peer *bn2d_bench_peer() {
  return new bench::OneDnn;
}
