// SPDX-License-Identifier: MIT
const { BatchNorm2d } = require('./bn2d.node');

const size = 8 * 64 * 32 * 32; // contiguous (8, 64, 32, 32)
const x = Float32Array.from({ length: size }, (_, i) => (i % 251) / 100);
const dy = new Float32Array(size).fill(0.5);
const y = new Float32Array(size);
const dx = new Float32Array(size);

const bn = new BatchNorm2d(64, { eps: 1e-5 });
const record = bn.forward(x, [8, 32, 32], y); // training
bn.backward(record, dy, dx); // adds to weight.grad and bias.grad
record.release(); // now; the garbage collector needs a turn of the event loop
bn.eval();
bn.infer(x, [8, 32, 32], y); // running statistics
console.log(`${bn}: bias.grad ${bn.get('bias.grad')[0]}, y ${y[0].toFixed(4)}`);
