// What the tests of the bindings expect, from the oracle in long double: writes vectors.txt, or
// checks that it is fresh.
//
//     bn2d_vectors > tests/languages/vectors.txt
//     bn2d_vectors --check tests/languages/vectors.txt
//
// A line is: case, array, index, value, tolerance. The index is the place in memory, or "sum" for
// the checksum sum(a[i] * (i % 11 - 5)): it moves where elements change places. The inputs are no
// file: any language computes them, in the order of memory, from
//
//     s = 1, then for each number s = s * 16807 % 2147483647     (a double holds the product)
//     x[i] = (s % 128 + 2c - 128) / 64                           (c is the channel of element i)
//     dy[i] = (s % 256 - 128) / 64                               (s goes on after x)
//     weight[c] = (c % 16 + 8) / 16, bias[c] = (c % 8 - 4) / 4
//
// which are exact in every dtype, bfloat16 included. Shape (8, 64, 32, 32). Cases:
//
//     f32, f64   NCHW, one training step: y, dx, weight.grad, bias.grad, running_mean,
//                running_var; then eval.y
//
//     bf16       channels_last, an f32 module, y = relu(bn(x) + z) with z = dy: y, dx, dz,
//                running_mean
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "../support/oracle.h"

namespace {

using oracle::Real;
using oracle::Reals;
using oracle::Values;

constexpr oracle::Extents kExtents{8, 64, 32, 32};
constexpr double kEps = 1e-5, kMomentum = 0.1;

struct Line {
  std::string what, index;
  Real value, tolerance;
};

struct Inputs {
  Values x, dy, weight, bias;
};

// The numbers of the formula above; layouts differ in the order in which the elements are drawn.
struct Order {
  bool channels_last;
  // Logical NCHW index of the element at a place in memory.
  int64_t logical(int64_t place) const {
    if (!channels_last) return place;
    const int64_t c = place % kExtents.c, pixel = place / kExtents.c, plane = kExtents.plane();
    return (pixel / plane * kExtents.c + c) * plane + pixel % plane;
  }
};

Inputs make_inputs(const Order &order) {
  const int64_t size = kExtents.size();
  Inputs in{Values(size), Values(size), {}, {}};
  int64_t s = 1;
  for (int64_t place = 0; place < size; ++place) {
    const int64_t i = order.logical(place), c = i / kExtents.plane() % kExtents.c;
    s = s * 16807 % 2147483647;
    in.x[i] = static_cast<double>(s % 128 + 2 * c - 128) / 64;
  }
  for (int64_t place = 0; place < size; ++place) {
    s = s * 16807 % 2147483647;
    in.dy[order.logical(place)] = static_cast<double>(s % 256 - 128) / 64;
  }
  for (int64_t c = 0; c < kExtents.c; ++c) {
    in.weight.push_back(static_cast<double>(c % 16 + 8) / 16);
    in.bias.push_back(static_cast<double>(c % 8 - 4) / 4);
  }
  return in;
}

// The lines of one array. Elements within 4 units of its largest (8 for float64, 1 for bfloat16);
// the checksum has what so many roundings add up to at random, and the roundings of a plain sum in
// double.
class Lines {
 public:
  void add(const std::string &scenario, const std::string &array, const Reals &logical,
           const oracle::Format &format, const Order &order = {false}) {
    const auto size = static_cast<int64_t>(logical.size());
    const bool half = format.digits == oracle::bfloat16.digits,
               wide = format.digits == oracle::binary64.digits;
    Reals a(logical.size());
    Real largest = 0, magnitude = 0, sum = 0;
    for (int64_t i = 0; i < size; ++i) {
      a[i] = logical[order.logical(i)];
      if (half) a[i] = round_to(format, a[i]);
      largest = std::max(largest, std::fabs(a[i]));
      magnitude += std::fabs(a[i]) * 5;
      sum += a[i] * static_cast<Real>(i % 11 - 5);
    }
    const Real unit = std::ldexp(largest, 1 - format.digits),
               root = std::sqrt(static_cast<Real>(size));
    const Real element = unit * (half ? 1 : wide ? 8 : 4);
    const std::string what = scenario + " " + array;
    for (int64_t i :
         size > 64 ? std::vector<int64_t>{0, 1, 31, 32, 1023, 1024, 65536, size / 2 + 7, size - 1}
                   : std::vector<int64_t>{0, 1, 2, 31, 32, size - 1})
      lines_.push_back({what, std::to_string(i), a[i], element});
    const Real rounding = half ? 32 * unit : 5 * element * root;
    lines_.push_back({what, "sum", sum, rounding + std::ldexp(magnitude, -52) * root});
  }
  const std::vector<Line> &all() const { return lines_; }

 private:
  std::vector<Line> lines_;
};

struct Running {
  Reals mean, var;
};

Running running_after_one_step(const oracle::Statistics &s) {
  Running r;
  for (int64_t c = 0; c < kExtents.c; ++c) {
    r.mean.push_back(oracle::running(0, s.mean[c] + s.mean_rest[c], kMomentum));
    r.var.push_back(
        oracle::running(1, oracle::unbiased(s.var[c], kExtents.per_channel()), kMomentum));
  }
  return r;
}

Values stored(const oracle::Format &format, const Reals &values) {
  Values result;
  for (const Real v : values) result.push_back(static_cast<double>(round_to(format, v)));
  return result;
}

void plain(Lines &lines, const std::string &name, const oracle::Format &format) {
  const Inputs in = make_inputs({false});
  const oracle::Statistics s = oracle::batch_statistics(kExtents, in.x, kEps);
  const Reals g(in.dy.begin(), in.dy.end());
  const oracle::Gradient back = oracle::backward(kExtents, in.x, g, in.weight, s, true);
  const Running running = running_after_one_step(s);
  const oracle::Statistics frozen =
      oracle::frozen_statistics(stored(format, running.mean), stored(format, running.var), kEps);
  lines.add(name, "y", oracle::forward(kExtents, in.x, {}, in.weight, in.bias, s, {}).y, format);
  lines.add(name, "dx", back.dx, format);
  lines.add(name, "weight.grad", back.dweight, format);
  lines.add(name, "bias.grad", back.dbias, format);
  lines.add(name, "running_mean", running.mean, format);
  lines.add(name, "running_var", running.var, format);
  lines.add(name, "eval.y", oracle::forward(kExtents, in.x, {}, in.weight, in.bias, frozen, {}).y,
            format);
}

void half(Lines &lines) {
  const Order order{true};
  const Inputs in = make_inputs(order);
  const oracle::Activation relu{oracle::Activation::relu};
  const oracle::Statistics s = oracle::batch_statistics(kExtents, in.x, kEps);
  const oracle::Forward f = oracle::forward(kExtents, in.x, in.dy, in.weight, in.bias, s, relu);
  for (const Real v : f.v) {
    if (std::fabs(v) < 1e-6L) {  // An element on the edge may fall to either side.
      std::cerr << "an element is too near to the edge of the relu; begin with another s\n";
      std::exit(1);
    }
  }
  const oracle::Gradient back =
      oracle::backward(kExtents, in.x, through(relu, f.v, in.dy), in.weight, s, true);
  lines.add("bf16", "y", f.y, oracle::bfloat16, order);
  lines.add("bf16", "dx", back.dx, oracle::bfloat16, order);
  lines.add("bf16", "dz", back.dz, oracle::bfloat16, order);
  lines.add("bf16", "running_mean", running_after_one_step(s).mean, oracle::binary32);
}

void print(const std::vector<Line> &lines) {
  std::printf("# Written by bn2d_vectors (vectors.cc, which tells what it means): do not edit.\n");
  for (const Line &line : lines)
    std::printf("%s %s %.18Lg %.3Lg\n", line.what.c_str(), line.index.c_str(), line.value,
                line.tolerance);
}

// The last digits of a long double depend on the machine.
int check(const std::vector<Line> &lines, const char *path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  for (const Line &line : lines) {
    std::string scenario, array, index;
    Real value = NAN, tolerance = NAN;
    std::getline(file, text);
    std::istringstream(text) >> scenario >> array >> index >> value >> tolerance;
    const bool same = scenario + " " + array == line.what && index == line.index &&
                      std::fabs(value - line.value) <= line.tolerance / 64 &&
                      std::fabs(tolerance - line.tolerance) <= line.tolerance / 100;
    if (same) continue;
    std::cerr << path << " is stale at: " << text << "\nrun: bn2d_vectors > " << path << "\n";
    return 1;
  }
  if (std::getline(file, text)) {
    std::cerr << path << " has too many lines\n";
    return 1;
  }
  return 0;
}

}  // namespace

int main(int count, char **arguments) {
  Lines lines;
  plain(lines, "f32", oracle::binary32);
  plain(lines, "f64", oracle::binary64);
  half(lines);
  if (count == 3 && std::strcmp(arguments[1], "--check") == 0)
    return check(lines.all(), arguments[2]);
  print(lines.all());
  return 0;
}
