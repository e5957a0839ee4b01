// SPDX-License-Identifier: MIT
#include "ours.h"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>

#include "limit.h"

namespace bench {

void check(int32_t status) { kLinked.check(status); }

namespace {

/// A bn2d_view and the arrays it points to.
class View {
 public:
  View(const Problem &p, Layout layout, void *data)
      : shape_{p.shape.n, p.shape.c, p.shape.h, p.shape.w} {
    const int64_t block = block_of(layout);
    if (block) {
      shape_[1] /= block;
      shape_[4] = block;
    } else {
      const auto strides = strides_of(layout, p.shape);
      std::copy(strides.begin(), strides.end(), strides_.begin());
    }
    view_.data = data;
    view_.device_type = BN2D_CPU;
    view_.ndim = block ? 5 : 4;
    view_.dtype_code = p.dtype == DType::kBF16 ? 4 : 2;
    view_.dtype_bits = static_cast<uint8_t>(8 * element_size(p.dtype));
    view_.dtype_lanes = 1;
    contiguous_ = layout == Layout::kNchw || block;
  }
  /// Null for a tensor that the problem does not have. The pointers inside are set here, so that a
  /// View can be copied.
  const bn2d_view *get() {
    view_.shape = shape_.data();
    view_.strides = contiguous_ ? nullptr : strides_.data();
    return view_.data ? &view_ : nullptr;
  }

 private:
  std::array<int64_t, 5> shape_, strides_{};
  bn2d_view view_{};
  bool contiguous_ = true;
};

int32_t activation_of(Fuse fuse) {
  switch (fuse) {
    case Fuse::kNone:
      return BN2D_ACT_NONE;
    case Fuse::kRelu:
    case Fuse::kAddRelu:
      return BN2D_ACT_RELU;
    case Fuse::kRelu6:
      return BN2D_ACT_RELU6;
    case Fuse::kClamp:
      return BN2D_ACT_CLAMP;
    case Fuse::kHardswish:
      return BN2D_ACT_HARDSWISH;
    case Fuse::kSilu:
      return BN2D_ACT_SILU;
    case Fuse::kGelu:
      return BN2D_ACT_GELU;
    case Fuse::kSigmoid:
      return BN2D_ACT_SIGMOID;
  }
  return BN2D_ACT_NONE;
}

double slope_of(Fuse fuse) { return fuse == Fuse::kClamp ? kClampBound : 0; }

/// Everything one variant owns. Shared by the copies of its std::function.
struct Contestant {
  Contestant(const Problem &problem, const Library &library)
      : lib(library),
        p(problem),
        module(make_module(problem, library)),
        record(nullptr, library.record_release),
        x(p, p.layouts.x, p.t.x),
        y(p, p.layouts.y, p.t.y),
        z(p, p.layouts.z, p.t.z),
        dy(p, p.layouts.dy, p.t.dy),
        dx(p, p.layouts.dx, p.t.dx),
        dz(p, p.layouts.z, p.t.dz) {}

  /// Plain contiguous float and double have functions of their own; they are what most callers use.
  bool flat() const { return p.layouts.are(Layout::kNchw) && p.fuse == Fuse::kNone; }

  int32_t forward(bn2d_record **out) {
    const Shape &s = p.shape;
    bn2d_module *m = module.get();
    if (statistics)
      return lib.forward_with_statistics(m, statistics.get(), x.get(), z.get(),
                                         activation_of(p.fuse), slope_of(p.fuse), y.get(), out);
    if (flat() && p.dtype == DType::kF32)
      return lib.forward_f32(m, static_cast<float *>(p.t.x), s.n, s.h, s.w,
                             static_cast<float *>(p.t.y), out);
    if (flat() && p.dtype == DType::kF64)
      return lib.forward_f64(m, static_cast<double *>(p.t.x), s.n, s.h, s.w,
                             static_cast<double *>(p.t.y), out);
    if (p.fuse == Fuse::kNone) return lib.forward(m, x.get(), y.get(), out);
    return lib.forward_act(m, x.get(), z.get(), activation_of(p.fuse), slope_of(p.fuse), y.get(),
                           out);
  }

  int32_t backward() {
    bn2d_module *m = module.get();
    if (flat() && p.dtype == DType::kF32)
      return lib.backward_f32(m, record.get(), static_cast<float *>(p.t.dy),
                              static_cast<float *>(p.t.dx));
    if (flat() && p.dtype == DType::kF64)
      return lib.backward_f64(m, record.get(), static_cast<double *>(p.t.dy),
                              static_cast<double *>(p.t.dx));
    return lib.backward(m, record.get(), dy.get(), dx.get(), dz.get());
  }

  void make_record() {
    bn2d_record *out = nullptr;
    lib.check(forward(&out));
    record.reset(out);
  }

  Library lib;
  Problem p;
  Module module;
  Record record;
  std::shared_ptr<bn2d_statistics> statistics;  // of x, where they are given
  View x, y, z, dy, dx, dz;
};

void stop_gradient(const Library &lib, bn2d_module *module, const char *name) {
  bn2d_tensor *tensor = nullptr;
  lib.check(lib.module_tensor_by_name(module, name, &tensor));
  const int32_t status = lib.tensor_set_requires_grad(tensor, 0);
  lib.tensor_release(tensor);
  lib.check(status);
}

Variant consumer_variant(const std::shared_ptr<Contestant> &ours, const std::string &name,
                         int64_t threshold) {
  Variant variant;
  variant.name = name;
  variant.run = [ours, threshold](int64_t calls) {
    check(bn2d_set_streaming_threshold(threshold));
    for (int64_t i = 0; i < calls; ++i) {
      check(ours->forward(nullptr));
      read_once(ours->p.t.y, ours->p.bytes());
    }
    check(bn2d_set_streaming_threshold(-1));
  };
  return variant;
}

Problem tiny_problem() {
  Problem problem{};
  problem.op = Op::kEval;
  problem.shape = {0, 16, 8, 8};
  return problem;
}

}  // namespace

Module make_module(const Problem &problem, const Library &lib) {
  bn2d_options *options = nullptr;
  lib.check(lib.options_create(&options));
  const std::unique_ptr<bn2d_options, void (*)(bn2d_options *)> guard(options, lib.options_release);
  lib.check(lib.options_set_dtype(options, problem.dtype == DType::kF64 ? BN2D_F64 : BN2D_F32));
  bn2d_module *out = nullptr;
  lib.check(problem.groups == 0
                ? lib.module_create(problem.shape.c, options, &out)
                : lib.group_norm_create(problem.groups, problem.shape.c, options, &out));
  Module module(out, lib.module_release);
  lib.check(lib.module_train(out, has_batch_statistics(problem.op) ? 1 : 0));
  if (problem.op == Op::kFrozenDx) {
    stop_gradient(lib, out, "weight");
    stop_gradient(lib, out, "bias");
  }
  return module;
}

Variant ours(const Problem &problem, const std::string &name, const Library &lib) {
  const auto ours = std::make_shared<Contestant>(problem, lib);
  Variant variant;
  variant.name = name;
  if (is_backward(problem.op)) {
    ours->make_record();
    variant.run = repeat([ours] { ours->lib.check(ours->backward()); });
  } else {
    if (problem.op == Op::kGiven) {
      bn2d_statistics *out = nullptr;
      lib.check(lib.statistics_create(problem.shape.c, &out));
      ours->statistics.reset(out, lib.statistics_release);
      lib.check(lib.statistics_accumulate(out, ours->x.get()));
    }
    variant.run = repeat([ours] { ours->lib.check(ours->forward(nullptr)); });
  }
  return variant;
}

Variant ours_gradients(const Problem &problem, const std::string &name, const Library &lib) {
  struct State {
    View x, dy, y;
    std::vector<double> mean, invstd;
  };
  const auto channels = static_cast<std::size_t>(problem.shape.c);
  const auto state =
      std::make_shared<State>(State{View(problem, problem.layouts.x, problem.t.x),
                                    View(problem, problem.layouts.dy, problem.t.dy),
                                    View(problem, problem.layouts.y, problem.t.y),
                                    std::vector<double>(channels), std::vector<double>(channels)});
  const int32_t dtype = problem.dtype == DType::kF64 ? BN2D_F64 : BN2D_F32;
  lib.check(lib.batch_norm_forward(state->x.get(), nullptr, state->y.get(), dtype, nullptr, nullptr,
                                   nullptr, nullptr, 1, 0, kEps, 0, BN2D_ACT_NONE, 0, nullptr,
                                   state->mean.data(), state->invstd.data()));
  char *const dweight = static_cast<char *>(problem.output());
  void *const dbias = dweight + problem.shape.c * static_cast<int64_t>(element_size(problem.dtype));
  Variant variant;
  variant.name = name;
  variant.run = repeat([=] {
    lib.check(lib.batch_norm_backward(state->x.get(), state->dy.get(), nullptr, nullptr, dtype,
                                      nullptr, state->mean.data(), state->invstd.data(), 1,
                                      BN2D_ACT_NONE, 0, 0, nullptr, nullptr, dweight, dbias));
  });
  return variant;
}

Variant ours_recording(const Problem &problem, const std::string &name, const Library &lib) {
  const auto ours = std::make_shared<Contestant>(problem, lib);
  Variant variant;
  variant.name = name;
  variant.run = repeat([ours] { ours->make_record(); });
  return variant;
}

std::vector<Variant> ours_with_consumer(const Problem &problem) {
  const auto ours = std::make_shared<Contestant>(problem, kLinked);
  return {consumer_variant(ours, kOurs, -1), consumer_variant(ours, kOursStreaming, 0),
          consumer_variant(ours, kOursOrdinary, std::numeric_limits<int64_t>::max())};
}

Variant ours_getter(const std::string &name) {
  const std::shared_ptr<bn2d_module> module = make_module(tiny_problem());
  Variant variant;
  variant.name = name;
  variant.run = repeat([module] {
    int32_t training = 0;
    check(bn2d_module_is_training(module.get(), &training));
  });
  return variant;
}

Variant ours_empty_forward(const std::string &name) {
  const std::shared_ptr<bn2d_module> module = make_module(tiny_problem());
  Variant variant;
  variant.name = name;
  variant.run = repeat(
      [module] { check(bn2d_forward_f32(module.get(), nullptr, 0, 8, 8, nullptr, nullptr)); });
  return variant;
}

}  // namespace bench
