// SPDX-License-Identifier: MIT
#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>

namespace bench {

const char *name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "?";
}

const char *name_of(Layout layout) {
  switch (layout) {
    case Layout::kNchw:
      return "nchw";
    case Layout::kNhwc:
      return "nhwc";
    case Layout::kWhcn:
      return "whcn";
    case Layout::kCnhw:
      return "cnhw";
    case Layout::kNcwh:
      return "ncwh";
    case Layout::kNwhc:
      return "nwhc";
    case Layout::kNchw8c:
      return "nchw8c";
    case Layout::kNchw16c:
      return "nchw16c";
    case Layout::kBorder:
      return "border";
  }
  return "?";
}

std::string name_of(const Layouts &layouts, Op op, Fuse fuse) {
  if (layouts.agree()) return name_of(layouts.x);
  const bool residual = fuse == Fuse::kAddRelu;
  std::string text = std::string("x=") + name_of(layouts.x);
  if (residual) text += std::string(",z=") + name_of(layouts.z);
  if (residual || !is_backward(op)) text += std::string(",y=") + name_of(layouts.y);
  if (is_backward(op))
    text += std::string(",dy=") + name_of(layouts.dy) + ",dx=" + name_of(layouts.dx);
  return text;
}

std::string name_of(Op op, Fuse fuse) {
  static const char *const ops[] = {"train", "backward", "eval", "frozen-dx", "gradients", "given"};
  static const char *const fuses[] = {"",           "+relu", "+add+relu", "+relu6",  "+clamp",
                                      "+hardswish", "+silu", "+gelu",     "+sigmoid"};
  return std::string(ops[static_cast<int>(op)]) + fuses[static_cast<int>(fuse)];
}

std::string name_of(const Shape &shape) {
  return std::to_string(shape.n) + "x" + std::to_string(shape.c) + "x" + std::to_string(shape.h) +
         "x" + std::to_string(shape.w);
}

std::size_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kF16:
    case DType::kBF16:
      return 2;
  }
  return 0;
}

Traffic traffic_of(Op op, Fuse fuse) {
  const int residual = fuse == Fuse::kAddRelu ? 1 : 0;
  if (!is_backward(op)) return {1 + residual, 1};
  if (op == Op::kGradients) return {2, 0};
  const int x = op == Op::kBackward ? 1 : 0;  // frozen statistics do not depend on x
  // On which side of 0 an element was is seen from x, or from y where there is a residual or x is
  // not read.
  const int y = fuse == Fuse::kAddRelu || (fuse == Fuse::kRelu && x == 0) ? 1 : 0;
  return {1 + x + y, 1 + residual};
}

namespace {

uint16_t to_bf16(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

float from_bf16(uint16_t v) {
  const uint32_t bits = static_cast<uint32_t>(v) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// Test data only: numbers below the smallest normal one become 0, none is above the largest.
uint16_t to_f16(float v) {
  const auto sign = static_cast<uint16_t>(std::signbit(v) ? 0x8000 : 0);
  int exponent;
  const float fraction = std::frexp(std::fabs(v), &exponent);
  if (exponent < -13) return sign;
  const auto mantissa = static_cast<int>(std::lrint(std::ldexp(fraction, 11))) - 1024;
  return static_cast<uint16_t>(sign + ((exponent + 14) << 10) + mantissa);
}

double from_f16(uint16_t v) {
  const int exponent = (v >> 10) & 31;
  const int mantissa = v & 1023;
  if (exponent == 31) return mantissa ? NAN : INFINITY;
  const double magnitude =
      exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return v & 0x8000 ? -magnitude : magnitude;
}

void store(void *data, DType dtype, int64_t i, double v) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float *>(data)[i] = static_cast<float>(v);
      break;
    case DType::kF64:
      static_cast<double *>(data)[i] = v;
      break;
    case DType::kF16:
      static_cast<uint16_t *>(data)[i] = to_f16(static_cast<float>(v));
      break;
    case DType::kBF16:
      static_cast<uint16_t *>(data)[i] = to_bf16(static_cast<float>(v));
      break;
  }
}

double load(const void *data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float *>(data)[i];
    case DType::kF64:
      return static_cast<const double *>(data)[i];
    case DType::kF16:
      return from_f16(static_cast<const uint16_t *>(data)[i]);
    case DType::kBF16:
      return from_bf16(static_cast<const uint16_t *>(data)[i]);
  }
  return 0;
}

// Normal numbers around 0.3, tiled with a prime period so that no two planes are alike.
void fill_normal(void *data, DType dtype, int64_t size, unsigned seed, double scale) {
  constexpr int64_t kPeriod = 65521;
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0.3, 1.0);
  const int64_t first = std::min(size, kPeriod);
  for (int64_t i = 0; i < first; ++i) store(data, dtype, i, scale * normal(random));
  const auto width = static_cast<int64_t>(element_size(dtype));
  for (int64_t done = first; done < size;) {
    const int64_t part = std::min(done, size - done) / kPeriod * kPeriod;
    const int64_t count = part ? part : size - done;
    std::memcpy(static_cast<char *>(data) + done * width, data,
                static_cast<std::size_t>(count * width));
    done += count;
  }
}

// The largest number that fill_normal() makes is 5 times this.
double scale_of_extreme(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 3e307;
    case DType::kF16:
      return 1e4;
    default:
      return 6e37;
  }
}

int64_t sample_step(int64_t size) { return std::max<int64_t>(1, size / 4093); }

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLine = 64;  // the limit reads whole lines

}  // namespace

Memory::~Memory() {
  for (void *block : blocks_) std::free(block);
}

void *Memory::block(const Problem &problem, std::size_t misalign, bool fill, unsigned seed,
                    double scale) {
  const Shape &shape = problem.shape;
  const int64_t size = problem.layouts.are(Layout::kBorder)
                           ? shape.n * strides_of(Layout::kBorder, shape)[0]
                           : shape.size();
  const std::size_t bytes = (static_cast<std::size_t>(size) * element_size(problem.dtype) +
                             misalign + kLine + kPage - 1) /
                            kPage * kPage;
  void *memory = std::aligned_alloc(kPage, bytes);
  if (!memory) throw std::bad_alloc();
  blocks_.push_back(memory);
  void *start = static_cast<char *>(memory) + misalign;
  if (fill) {
    fill_normal(start, problem.dtype, size, seed, scale);
  } else {
    std::memset(memory, 0, bytes);  // touched once, so that no variant pays for the page faults
  }
  return start;
}

void Memory::provide(Problem *problem, std::size_t misalign) {
  const bool backward = is_backward(problem->op);
  const bool residual = problem->fuse == Fuse::kAddRelu;
  problem->t.x =
      block(*problem, misalign, true, 1, problem->extreme ? scale_of_extreme(problem->dtype) : 1);
  problem->t.y = block(*problem, misalign, false, 0);
  if (residual) problem->t.z = block(*problem, misalign, true, 2);
  if (backward) problem->t.dy = block(*problem, misalign, true, 3);
  if (backward) problem->t.dx = block(*problem, misalign, false, 0);
  if (backward && residual) problem->t.dz = block(*problem, misalign, false, 0);
}

std::vector<double> sample(const void *data, DType dtype, int64_t size) {
  std::vector<double> values;
  for (int64_t i = 0; i < size; i += sample_step(size)) values.push_back(load(data, dtype, i));
  return values;
}

void spoil_sample(void *data, DType dtype, int64_t size) {
  for (int64_t i = 0; i < size; i += sample_step(size)) store(data, dtype, i, 77.0);
}

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 1e-4;
    case DType::kF64:
      return 1e-9;
    case DType::kF16:
      return 1e-2;
    case DType::kBF16:
      return 6e-2;
  }
  return 0;
}

}  // namespace bench
