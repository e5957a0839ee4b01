// SPDX-License-Identifier: MIT
// PyTorch as a peer, through libtorch: contiguous tensors for NCHW rows, channels_last for NHWC
// rows.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/hardswish_backward.h>
#include <ATen/ops/hardtanh.h>
#include <ATen/ops/hardtanh_backward.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "variant.h"

namespace bench {
namespace {

at::ScalarType type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

/// The tensors of one problem, and the call.
class Job {
 public:
  explicit Job(const Problem &problem) : p_(problem) {
    const c10::InferenceMode inference;
    const auto parameters =
        at::TensorOptions().dtype(p_.dtype == DType::kF64 ? at::kDouble : at::kFloat);
    weight_ = at::ones({p_.shape.c}, parameters);
    bias_ = at::zeros({p_.shape.c}, parameters);
    running_mean_ = at::zeros({p_.shape.c}, parameters);
    running_var_ = at::ones({p_.shape.c}, parameters);
    x_ = wrap(p_.t.x, p_.layouts.x);
    if (p_.t.z) z_ = wrap(p_.t.z, p_.layouts.z);
    if (!is_backward(p_.op)) return;
    dy_ = wrap(p_.t.dy, p_.layouts.dy);
    forward();
  }

  void run() {
    const c10::InferenceMode inference;
    result().reset();  // as in a program that is done with the last one
    if (!is_backward(p_.op)) argument_.reset();
    is_backward(p_.op) ? backward() : forward();
    if (!p_.layouts.agree()) lay_out(&result(), p_.shape, p_.output_layout());
  }

  void fetch() {
    const c10::InferenceMode inference;
    if (p_.op == Op::kGradients) {
      const at::Tensor out =
          at::from_blob(p_.output(), {2, p_.shape.c}, at::TensorOptions().dtype(type_of(p_.dtype)));
      out.select(0, 0).copy_(dweight_);
      out.select(0, 1).copy_(dbias_);
      return;
    }
    wrap(p_.output(), p_.output_layout()).copy_(result());
  }

 private:
  at::Tensor wrap(void *data, Layout layout) const {
    const Shape &s = p_.shape;
    const auto strides = strides_of(layout, s);
    return at::from_blob(data, {s.n, s.c, s.h, s.w}, {strides.data(), strides.size()},
                         at::TensorOptions().dtype(type_of(p_.dtype)));
  }

  at::Tensor &result() { return is_backward(p_.op) ? dx_ : y_; }

  /// PyTorch chooses the layout of a result; who wants another one copies it.
  static void lay_out(at::Tensor *tensor, const Shape &shape, Layout layout) {
    const auto strides = strides_of(layout, shape);
    const at::IntArrayRef wanted(strides.data(), strides.size());
    if (tensor->strides() == wanted) return;
    *tensor = at::empty_strided(tensor->sizes(), wanted, tensor->options()).copy_(*tensor);
  }

  bool batch_statistics() const { return has_batch_statistics(p_.op); }

  void forward() {
    if (p_.groups != 0) {
      std::tie(y_, saved_mean_, saved_invstd_) = at::native_group_norm(
          x_, weight_, bias_, p_.shape.n, p_.shape.c, p_.shape.h * p_.shape.w, p_.groups, kEps);
      return;
    }
    std::tie(y_, saved_mean_, saved_invstd_) = at::native_batch_norm(
        x_, weight_, bias_, running_mean_, running_var_, batch_statistics(), kMomentum, kEps);
    if (p_.fuse == Fuse::kAddRelu) y_.add_(z_);
    activate();
  }

  /// In place where the backward needs no argument, as in networks; the others keep it.
  void activate() {
    switch (p_.fuse) {
      case Fuse::kNone:
        break;
      case Fuse::kRelu:
      case Fuse::kAddRelu:
        y_.relu_();
        break;
      case Fuse::kRelu6:
      case Fuse::kClamp:
        at::hardtanh_(y_, 0, upper_bound());
        break;
      case Fuse::kHardswish:
        argument_ = y_;
        y_ = at::hardswish(argument_);
        break;
      case Fuse::kSilu:
        argument_ = y_;
        y_ = at::silu(argument_);
        break;
      case Fuse::kGelu:
        argument_ = y_;
        y_ = at::gelu(argument_);
        break;
      case Fuse::kSigmoid:
        y_.sigmoid_();
        break;
    }
  }

  double upper_bound() const { return p_.fuse == Fuse::kRelu6 ? 6 : kClampBound; }

  /// The gradient of the argument of the activation, which is also that of z.
  at::Tensor argument_gradient() const {
    switch (p_.fuse) {
      case Fuse::kNone:
        break;
      case Fuse::kRelu:
      case Fuse::kAddRelu:
        return at::threshold_backward(dy_, y_, 0);
      case Fuse::kRelu6:
      case Fuse::kClamp:
        return at::hardtanh_backward(dy_, y_, 0, upper_bound());
      case Fuse::kHardswish:
        return at::hardswish_backward(dy_, argument_);
      case Fuse::kSilu:
        return at::silu_backward(dy_, argument_);
      case Fuse::kGelu:
        return at::gelu_backward(dy_, argument_);
      case Fuse::kSigmoid:
        return at::sigmoid_backward(dy_, y_);
    }
    return dy_;
  }

  void backward() {
    const at::Tensor g = argument_gradient();
    const bool parameters = p_.op != Op::kFrozenDx;
    if (p_.groups != 0) {
      std::tie(dx_, dweight_, dbias_) = at::native_group_norm_backward(
          g, x_, saved_mean_, saved_invstd_, weight_, p_.shape.n, p_.shape.c,
          p_.shape.h * p_.shape.w, p_.groups, {true, true, true});
      return;
    }
    std::tie(dx_, dweight_, dbias_) = at::native_batch_norm_backward(
        g, x_, weight_, running_mean_, running_var_, saved_mean_, saved_invstd_, batch_statistics(),
        kEps, {p_.op != Op::kGradients, parameters, parameters});
  }

  Problem p_;
  at::Tensor weight_, bias_, running_mean_, running_var_, x_, z_, dy_, argument_, y_, dx_, dweight_,
      dbias_, saved_mean_, saved_invstd_;
};

/// PyTorch's operators allocate their results, and a large result is fresh memory from the system
/// with a page fault for every page. That is what its users get. As a second variant this allocator
/// gives memory back to the next call of the same size, which leaves the time of the operator
/// itself.
class Recycler : public c10::Allocator {
 public:
  static void switch_on(bool on) { recycles().store(on, std::memory_order_relaxed); }

  c10::DataPtr allocate(std::size_t bytes) { return make(bytes); }
  // The qualifiers of the virtual function differ between versions of PyTorch; both signatures are
  // provided.
  c10::DataPtr allocate(std::size_t bytes) const { return make(bytes); }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  void copy_data(void *to, const void *from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
#endif

  static void drop_all() {
    const std::lock_guard<std::mutex> lock(mutex());
    for (auto &entry : spare())
      for (void *block : entry.second) std::free(block);
    spare().clear();
  }

 private:
  static constexpr std::size_t kHeader = 64;  // holds the size; keeps the alignment

  static c10::DataPtr make(std::size_t bytes) {
    const std::size_t size = (bytes + kHeader + 63) / 64 * 64;
    void *block = take(size);
    if (!block) block = std::aligned_alloc(64, size);
    if (!block) throw std::bad_alloc();
    *static_cast<std::size_t *>(block) = size;
    void *data = static_cast<char *>(block) + kHeader;
    return {data, data, &give_back, at::Device(at::kCPU)};
  }

  static void *take(std::size_t size) {
    if (!recycles().load(std::memory_order_relaxed)) return nullptr;
    const std::lock_guard<std::mutex> lock(mutex());
    std::vector<void *> &blocks = spare()[size];
    if (blocks.empty()) return nullptr;
    void *block = blocks.back();
    blocks.pop_back();
    return block;
  }

  static void give_back(void *data) {
    if (!data) return;
    void *block = static_cast<char *>(data) - kHeader;
    if (!recycles().load(std::memory_order_relaxed)) return std::free(block);
    const std::lock_guard<std::mutex> lock(mutex());
    spare()[*static_cast<std::size_t *>(block)].push_back(block);
  }

  static std::atomic<bool> &recycles() {
    static std::atomic<bool> on{false};
    return on;
  }
  // Never destroyed: tensors inside PyTorch may outlive every static of this module.
  static std::unordered_map<std::size_t, std::vector<void *>> &spare() {
    static auto *blocks = new std::unordered_map<std::size_t, std::vector<void *>>;
    return *blocks;
  }
  static std::mutex &mutex() {
    static auto *lock = new std::mutex;
    return *lock;
  }
};

class Torch : public Peer {
 public:
  Torch() { c10::SetAllocator(c10::DeviceType::CPU, new Recycler, 100); }

  std::string version() const override { return TORCH_VERSION; }
  void set_threads(int threads) override { at::set_num_threads(threads); }

  void wake() override {
    at::parallel_for(0, at::get_num_threads(), 1, [](int64_t, int64_t) {});
  }

  std::vector<Variant> variants(const Problem &problem) override {
    const std::string layout = problem.layouts.are(Layout::kNhwc) ? " channels_last" : "";
    if (block_of(problem.layouts.x)) return {missing(name(), "no blocks of channels")};
    Recycler::drop_all();
    try {
      const auto job = std::make_shared<Job>(problem);
      job->run();
      return {variant(job, layout, false), variant(job, layout + ", memory recycled", true)};
    } catch (const std::exception &e) {
      const std::string text = e.what();
      return {missing(name() + layout, text.substr(0, text.find('\n')))};
    }
  }

 private:
  static std::string name() {
    return "PyTorch " + std::to_string(TORCH_VERSION_MAJOR) + "." +
           std::to_string(TORCH_VERSION_MINOR);
  }

  static Variant variant(const std::shared_ptr<Job> &job, const std::string &what, bool recycle) {
    Variant variant;
    variant.name = name() + what;
    variant.family = "PyTorch" + what;
    variant.runtime = Runtime::kOpenMp;
    variant.run = [job, recycle](int64_t calls) {
      Recycler::switch_on(recycle);
      for (int64_t i = 0; i < calls; ++i) job->run();
      Recycler::switch_on(false);
    };
    variant.fetch = [job] { job->fetch(); };
    return variant;
  }
};

}  // namespace
}  // namespace bench

extern "C" __attribute__((visibility("default"))) bench::Peer *bn2d_bench_peer() {
  return new bench::Torch;
}
