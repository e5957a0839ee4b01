# SPDX-License-Identifier: MIT
require 'bn2d'

size = 8 * 64 * 32 * 32 # contiguous (8, 64, 32, 32)
x = Bn2d::Buffer.from(Array.new(size) { |i| i % 251 / 100.0 })
dy = Bn2d::Buffer.from([0.5] * size)
y = Bn2d::Buffer.new(size)
dx = Bn2d::Buffer.new(size)

bn = Bn2d::BatchNorm2d.new(64, eps: 1e-5)
record = bn.forward(x, [8, 32, 32], y) # training
bn.backward(record, dy, dx) # adds to weight.grad and bias.grad
record.release # or the garbage collector does
bn.eval
bn.infer(x, [8, 32, 32], y) # running statistics
puts format('%s: bias.grad %g, y %.4f', bn, bn['bias.grad'][0], y[0])
