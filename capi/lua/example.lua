-- SPDX-License-Identifier: MIT
local bn2d = require("bn2d")

local size = 8 * 64 * 32 * 32 -- contiguous (8, 64, 32, 32)
local x, y, dy, dx = bn2d.array(size), bn2d.array(size), bn2d.array(size), bn2d.array(size)
for i = 0, size - 1 do x[i], dy[i] = i % 251 / 100, 0.5 end

local bn = bn2d.new(64, { eps = 1e-5 })
local record = bn:forward(x, 8, 32, 32, y) -- training
bn:backward(record, dy, dx) -- adds to weight.grad and bias.grad
record:release() -- or the garbage collector does
bn:eval()
bn:infer(x, 8, 32, 32, y) -- running statistics
print(string.format("%s: bias.grad %g, y %.4f", tostring(bn), bn:tensor("bias.grad").data[0], y[0]))
