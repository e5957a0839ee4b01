// SPDX-License-Identifier: MIT
// bn2d_bench_convolution: a 1x1 convolution and the batch norm after it, in training. Once as two
// layers; once with statistics that are accumulated from each tile of the convolution's output
// while it is in cache, and a forward with these given. A program of its own, because OpenBLAS
// beside the peers' own BLAS in one process would be called by them.
#include <cblas.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <vector>

#include "bn2d/bn2d.h"
#include "limit.h"
#include "ours.h"
#include "problem.h"
#include "timer.h"
#include "traffic.h"

namespace bench {
namespace {

/// Of z = convolution of x, both NCHW or both channels last.
struct Convolution {
  Layout layout;
  int64_t n, in, out, side;

  int64_t plane() const { return side * side; }
  bool channels_last() const { return layout == Layout::kNhwc; }
};

/// A part of z that is made, and looked at, in one go: some pixels of one sample, or some samples.
/// In channels last all pixels of the batch are one sample's.
struct Tile {
  int64_t sample, samples, pixel, pixels;
};

/// Tiles of about `bytes`, in the order of memory.
std::vector<Tile> tiles_of(const Convolution &c, int64_t bytes) {
  const int64_t samples = c.channels_last() ? 1 : c.n;
  const int64_t pixels = c.channels_last() ? c.n * c.plane() : c.plane();
  const int64_t row = c.out * static_cast<int64_t>(sizeof(float));
  const int64_t some_pixels = std::clamp<int64_t>(bytes / row / 16 * 16, 16, pixels);
  const int64_t some_samples = std::clamp<int64_t>(bytes / (row * pixels), 1, samples);
  std::vector<Tile> tiles;
  for (int64_t s = 0; s < samples; s += some_samples)
    for (int64_t p = 0; p < pixels; p += some_pixels)
      tiles.push_back(
          {s, std::min(some_samples, samples - s), p, std::min(some_pixels, pixels - p)});
  return tiles;
}

class Layers {
 public:
  Layers(const Convolution &convolution, int threads, int64_t tile_bytes)
      : c_(convolution), threads_(threads), tiles_(tiles_of(convolution, tile_bytes)) {
    Problem in = problem({c_.n, c_.in, c_.side, c_.side});
    Problem out = problem({c_.n, c_.out, c_.side, c_.side});
    Problem weight = problem({1, c_.out, 1, c_.in});
    for (Problem *p : {&in, &out, &weight}) memory_.provide(p, 0);
    x_ = static_cast<float *>(in.t.x);
    z_ = static_cast<float *>(out.t.x);
    y_ = static_cast<float *>(out.t.y);
    weight_ = static_cast<float *>(weight.t.x);
    module_ = make_module(out);
    total_ = new_statistics();
    for (int part = 0; part < threads_; ++part) parts_.push_back(new_statistics());
  }

  void convolve() {
    for_tiles([](int, const Tile &) {});
  }

  void convolve_then_train() {
    convolve();
    check(bn2d_forward_flat(module_.get(), BN2D_F32, layout(), z_, nullptr, c_.n, c_.side, c_.side,
                            BN2D_ACT_NONE, 0, y_, nullptr));
  }

  /// Parts are as many as threads and merged in their order: the same bits in each run.
  void convolve_with_statistics() {
    check(bn2d_set_num_threads(1));  // this is on all threads already
    for (const Statistics &part : parts_) check(bn2d_statistics_reset(part.get()));
    for_tiles([&](int part, const Tile &tile) { accumulate(parts_[part].get(), tile); });
    check(bn2d_set_num_threads(threads_));
    check(bn2d_statistics_reset(total_.get()));
    for (const Statistics &part : parts_) check(bn2d_statistics_merge(total_.get(), part.get()));
    check(bn2d_forward_with_statistics_flat(module_.get(), total_.get(), BN2D_F32, layout(), z_,
                                            nullptr, c_.n, c_.side, c_.side, BN2D_ACT_NONE, 0, y_,
                                            nullptr));
  }

  /// The largest difference of y between the two ways.
  double difference() {
    const int64_t size = c_.n * c_.out * c_.plane();
    convolve_then_train();
    const std::vector<double> expected = sample(y_, DType::kF32, size);
    spoil_sample(y_, DType::kF32, size);
    convolve_with_statistics();
    const std::vector<double> found = sample(y_, DType::kF32, size);
    double largest = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double difference = std::fabs(found[i] - expected[i]);
      if (std::isnan(difference)) return difference;
      largest = std::max(largest, difference);
    }
    return largest;
  }

 private:
  using Statistics = std::unique_ptr<bn2d_statistics, void (*)(bn2d_statistics *)>;

  Problem problem(const Shape &shape) const {
    return {Op::kTrain, Fuse::kNone, DType::kF32, c_.layout, shape, threads_, {}};
  }
  Statistics new_statistics() const {
    bn2d_statistics *out = nullptr;
    check(bn2d_statistics_create(c_.out, &out));
    return Statistics(out, bn2d_statistics_release);
  }
  int32_t layout() const { return c_.channels_last() ? BN2D_NHWC : BN2D_NCHW; }

  /// Makes the tiles on all threads, each a run of them, and calls f(thread, tile) after each.
  template <class F>
  void for_tiles(const F &f) {
    const auto count = static_cast<int64_t>(tiles_.size());
    tbb::parallel_for(
        0, threads_,
        [&](int part) {
          const int64_t end = count * (part + 1) / threads_;
          for (int64_t i = count * part / threads_; i < end; ++i) {
            multiply(tiles_[i]);
            f(part, tiles_[i]);
          }
        },
        tbb::static_partitioner());
  }

  void multiply(const Tile &t) {
    const int in = static_cast<int>(c_.in), out = static_cast<int>(c_.out);
    const int pixels = static_cast<int>(t.pixels), plane = static_cast<int>(c_.plane());
    if (c_.channels_last()) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, pixels, out, in, 1, x_ + t.pixel * in,
                  in, weight_, in, 0, z_ + t.pixel * out, out);
      return;
    }
    for (int64_t s = t.sample; s < t.sample + t.samples; ++s)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, out, pixels, in, 1, weight_, in,
                  x_ + s * in * plane + t.pixel, plane, 0, z_ + s * out * plane + t.pixel, plane);
  }

  void accumulate(bn2d_statistics *statistics, const Tile &t) const {
    const int64_t shape[4] = {t.samples, c_.out, 1, t.pixels};
    const int64_t planes[4] = {c_.out * c_.plane(), c_.plane(), 0, 1};
    const int64_t rows[4] = {0, 1, 0, c_.out};
    bn2d_view view = {};
    view.data =
        c_.channels_last() ? z_ + t.pixel * c_.out : z_ + t.sample * c_.out * c_.plane() + t.pixel;
    view.device_type = BN2D_CPU;
    view.ndim = 4;
    view.dtype_code = 2;
    view.dtype_bits = 32;
    view.dtype_lanes = 1;
    view.shape = shape;
    view.strides = c_.channels_last() ? rows : planes;
    check(bn2d_statistics_accumulate(statistics, &view));
  }

  Convolution c_;
  int threads_;
  std::vector<Tile> tiles_;
  Memory memory_;
  float *x_, *z_, *y_, *weight_;
  Module module_{nullptr, bn2d_module_release};
  Statistics total_{nullptr, bn2d_statistics_release};
  std::vector<Statistics> parts_;
};

struct Settings {
  TimerOptions timer;
  int64_t tile_bytes = l2_bytes() / 2;  // the other half is for the operands
};

void run_row(const Convolution &c, int threads, const Settings &settings) {
  const auto layers = std::make_shared<Layers>(c, threads, settings.tile_bytes);
  const double difference = layers->difference();
  if (!(difference <= tolerance_of(DType::kF32)))
    throw std::runtime_error("the two ways differ by " + std::to_string(difference));
  std::vector<Variant> variants(3);
  variants[0].name = "convolution alone";
  variants[0].run = repeat([layers] { layers->convolve(); });
  variants[1].name = "then training forward";
  variants[1].run = repeat([layers] { layers->convolve_then_train(); });
  variants[2].name = "with statistics, then forward with them";
  variants[2].run = repeat([layers] { layers->convolve_with_statistics(); });
  const std::vector<Timing> t = time_alternately(variants, settings.timer);
  const double norm = t[1].median - t[0].median, of_tiles = t[2].median - t[0].median;
  char name[80];
  std::snprintf(name, sizeof name, "%s/%lldx%lld->%lldx%lldx%lld", name_of(c.layout),
                static_cast<long long>(c.n), static_cast<long long>(c.in),
                static_cast<long long>(c.out), static_cast<long long>(c.side),
                static_cast<long long>(c.side));
  std::printf("%-26s %8.2f %8.2f %8.2f  %5.3f %4.1f%%  %5.2f  %3lld\n", name, t[0].median / 1e3,
              t[1].median / 1e3, t[2].median / 1e3, median_ratio(t[2], t[1]),
              50 * (t[1].quartile3 - t[1].quartile1) / t[1].median, of_tiles / norm,
              static_cast<long long>(t[1].samples));
  std::fflush(stdout);
}

void run_all(const Settings &settings, bool smoke) {
  openblas_set_num_threads(1);  // one multiplication on each thread
  const bool has_locks = openblas_get_parallel() != OPENBLAS_SEQUENTIAL;
  const int threads = has_locks ? tbb::info::default_concurrency() : 1;
  if (!has_locks)
    std::puts(
        "OpenBLAS is built without threads, and so without locks for the buffers of its "
        "multiplications: all is timed on one thread. (Debian: install libopenblas-pthread-dev.)");
  check(bn2d_set_num_threads(threads));
  std::printf("bn2d %s, %s, %d threads, tiles of %lld KiB; milliseconds, medians of the rounds\n",
              bn2d_version_string(), bn2d_simd_target(), threads,
              static_cast<long long>(settings.tile_bytes / 1024));
  std::printf("%-26s %8s %8s %8s  %5s %5s  %5s  %s\n", "", "conv", "+ train", "fused", "ratio",
              "+-", "norm", "rounds");
  if (smoke) return run_row({Layout::kNchw, 2, 8, 16, 6}, threads, settings);
  for (const Layout layout : {Layout::kNchw, Layout::kNhwc})
    for (const auto &[in, out, side] : {std::array<int64_t, 3>{64, 256, 56},
                                        {256, 64, 56},
                                        {128, 512, 28},
                                        {512, 128, 28},
                                        {256, 1024, 14},
                                        {512, 2048, 7}})
      run_row({layout, 32, in, out, side}, threads, settings);
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) {
  bench::Settings settings;
  settings.timer.budget_seconds = 5;
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  if (smoke) {
    settings.timer.max_samples = 1;
  } else if (argc == 3 && std::strcmp(argv[1], "--tile-kib") == 0 && std::atoi(argv[2]) > 0) {
    settings.tile_bytes = int64_t{1024} * std::atoi(argv[2]);
  } else if (argc > 1) {
    std::fputs("usage: bn2d_bench_convolution [--smoke | --tile-kib N]\n", stderr);
    return 2;
  }
  try {
    bench::run_all(settings, smoke);
    return 0;
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
