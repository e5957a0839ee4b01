// SPDX-License-Identifier: MIT
#include <bn2d/bn2d.hpp>
#include <cstdio>

int main() {
  const float x[12] = {1, 2, 10, 20, -1, 1, 3, 4, 30, 40, -1, 1},
              dy[12] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  float y[12], dx[12];
  const bn2d::Shape shape{2, 3, 1, 2};  // N, C, H, W

  bn2d::Module bn(3);
  const auto record = bn.record({x, shape}, {y, shape});  // training: the statistics of this batch
  bn.backward(record, {dy, shape}, {dx, shape});          // adds to weight_grad() and bias_grad()
  bn.eval();                                              // from here on the running statistics
  bn.infer({x, shape}, {y, shape}, bn2d::relu);
  // BatchNorm2d(3, ...): weight.grad 1.7888, y[0] 0.7262
  std::printf("%s: weight.grad %.4f, y[0] %.4f\n", bn.repr().c_str(), bn.weight_grad()[0], y[0]);
}
