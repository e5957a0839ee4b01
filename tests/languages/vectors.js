// The values of vectors.txt (vectors.cc tells how they are made) through capi/node, errors, and handles given back.
//     node --expose-gc vectors.js FOLDER_OF_bn2d.node
'use strict';
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const { once } = require('events');
const { Worker } = require('worker_threads');
const { BatchNorm2d, setNumThreads, version } = require(path.resolve(process.argv[2], 'bn2d.node'));

const CHANNELS = 64;
const SIZE = 8 * CHANNELS * 32 * 32;
const EXTENTS = [8, 32, 32];

// x and dy in the order of memory.
function inputs(channelsLast) {
  let s = 1;
  const next = () => (s = (s * 16807) % 2147483647);
  const channel = (i) => (channelsLast ? i % CHANNELS : Math.floor(i / 1024) % CHANNELS);
  const x = Float64Array.from({ length: SIZE }, (_, i) => ((next() % 128) + 2 * channel(i) - 128) / 64);
  const dy = Float64Array.from({ length: SIZE }, () => ((next() % 256) - 128) / 64);
  return [x, dy];
}

function affine(bn, Kind) {
  bn.set('weight', Kind.from({ length: CHANNELS }, (_, c) => ((c % 16) + 8) / 16));
  bn.set('bias', Kind.from({ length: CHANNELS }, (_, c) => ((c % 8) - 4) / 4));
}

// Compares with every line of a case.
function compare(scenario, arrays, expected) {
  const lines = fs.readFileSync(process.env.BN2D_VECTORS, 'utf8').split('\n').map((line) => line.split(' '));
  let seen = 0;
  for (const [name, array, index, value, tolerance] of lines) {
    if (name !== scenario) continue;
    const a = arrays[array];
    const got = index === 'sum' ? a.reduce((sum, v, i) => sum + v * ((i % 11) - 5), 0) : a[Number(index)];
    assert(Math.abs(got - Number(value)) <= Number(tolerance), `${name} ${array} ${index}: got ${got}, not ${value}`);
    ++seen;
  }
  assert.strictEqual(seen, expected);
}

for (const [scenario, Kind] of [['f32', Float32Array], ['f64', Float64Array]]) {
  const [x, dy] = inputs(false).map((values) => Kind.from(values));
  const [y, dx, later] = [0, 0, 0].map(() => new Kind(SIZE));
  const bn = new BatchNorm2d(CHANNELS, { dtype: scenario });
  affine(bn, Kind);
  bn.backward(bn.forward(x, EXTENTS, y), dy, dx);
  bn.eval();
  bn.infer(x, EXTENTS, later);
  const arrays = { y, dx, 'eval.y': later };
  for (const name of ['weight.grad', 'bias.grad', 'running_mean', 'running_var']) arrays[name] = bn.get(name);
  for (const name in arrays) arrays[name] = Float64Array.from(arrays[name]);
  compare(scenario, arrays, 58);
  assert.strictEqual(bn.get('num_batches_tracked')[0], 1n);
}

// bfloat16 is the upper half of a float.
{
  const bits = (values) => Uint16Array.from(new Uint32Array(Float32Array.from(values).buffer), (u) => u >>> 16);
  const value = (halves) => Float64Array.from(new Float32Array(Uint32Array.from(halves, (u) => u << 16).buffer));
  const [x, dy] = inputs(true).map(bits);
  const [y, dx, dz] = [0, 0, 0].map(() => new Uint16Array(SIZE));
  const bn = new BatchNorm2d(CHANNELS);
  affine(bn, Float32Array);
  const record = bn.forward(x, EXTENTS, y, { z: dy, activation: 'relu', layout: 'nhwc', dtype: 'bf16' });
  bn.backward(record, dy, dx, dz);
  compare('bf16', { y: value(y), dx: value(dx), dz: value(dz), running_mean: bn.get('running_mean') }, 37);
}

// Errors.
const fails = (code, message, call) =>
  assert.throws(call, (e) => e instanceof Error && new RegExp(code).test(e.code) && e.message.includes(message));
{
  const bn = new BatchNorm2d(3);
  const [x, y, six] = [new Float32Array(3), new Float32Array(3).fill(7), new Float32Array(6)];
  const text = 'batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)';
  fails('BN2D_ERROR_TOO_FEW_VALUES', text, () => bn.forward(x, [1, 1, 1], y));
  assert.deepStrictEqual([...y], [7, 7, 7]);
  fails('BN2D_ERROR_SHAPE', 'x has 3 elements, must have 6', () => bn.forward(x, [1, 1, 2], six));
  fails('BN2D_ERROR_DTYPE', 'y is no typed array of float32', () => bn.forward(x, [1, 1, 1], new Float64Array(3)));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '[n, h, w]', () => bn.forward());
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'n must be a whole number', () => bn.forward(x, [-1, 1, 1], y));
  fails('BN2D_ERROR_OVERFLOW', 'too large', () => bn.forward(x, [2 ** 52, 2 ** 52, 1], y));
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'gelu', () => bn.forward(x, [1, 1, 1], y, { activation: 'gelu' }));
  fails('BN2D_ERROR_STATE', 'eval mode', () => bn.infer(x, [1, 1, 1], y));
  fails('BN2D_ERROR_NOT_FOUND', 'gamma', () => bn.get('gamma'));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '1.5', () => new BatchNorm2d(3, { momentum: 1.5 }));
  fails('BN2D_ERROR_NOT_FOUND', 'epsilon', () => new BatchNorm2d(3, { epsilon: 1 }));
  fails('BN2D_ERROR_INVALID_HANDLE', 'no record', () => bn.backward({}, six, six));
  assert.throws(() => bn.eval.call({}), TypeError);
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'new', () => BatchNorm2d(3));
  assert(String(new BatchNorm2d(3, { momentum: null, bias: false })).includes('momentum=None'));

  // The memory of x given to another thread: an error, no crash.
  const moved = new Float32Array(6);
  const record = bn.forward(moved, [1, 1, 2], six);
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  fails(/BN2D_ERROR_(SHAPE|INVALID_ARGUMENT|DTYPE)/, 'x ', () => bn.backward(record, six, new Float32Array(6)));
  record.release();
  record.release();
  fails('BN2D_ERROR_INVALID_HANDLE', 'released', () => bn.backward(record, six, six));
  bn.setNumThreads(1);
  setNumThreads(0);
  assert(/^\d+\.\d+\.\d+$/.test(version));
}

// A record keeps its x; many leave nothing behind, whether they are released or collected.
(async () => {
  const pause = () => new Promise((resolve) => setImmediate(resolve));
  const round = async () => {
    for (let i = 0; i < 2000; ++i) {
      const bn = new BatchNorm2d(256);
      const record = bn.forward(new Float32Array(2048), [2, 2, 2], new Float32Array(2048));
      if (i % 2) record.release();
      if (i % 200 === 0) {
        global.gc();
        await pause();
      }
    }
    global.gc();
    await pause();
    global.gc();
  };
  await round();
  await round();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 4; ++i) await round();
  const grown = process.memoryUsage().rss - before;
  assert(grown < 30e6, `memory grows by ${grown} bytes`);

  const bn = new BatchNorm2d(3);
  const record = bn.forward(new Float32Array(6).fill(2), [1, 1, 2], new Float32Array(6));
  global.gc();
  bn.backward(record, new Float32Array(6), new Float32Array(6));

  // A worker loads the addon and computes on its own.
  const code = `
    const { parentPort, workerData } = require('worker_threads');
    const { BatchNorm2d } = require(workerData);
    const bn = new BatchNorm2d(1);
    const y = new Float32Array(4);
    bn.forward(Float32Array.of(-1, 1, -1, 1), [1, 2, 2], y);
    parentPort.postMessage([...y]);`;
  const worker = new Worker(code, { eval: true, workerData: path.resolve(process.argv[2], 'bn2d.node') });
  const [y] = await once(worker, 'message');
  assert(y.every((v, i) => Math.abs(v - [-1, 1, -1, 1][i]) < 1e-4), `${y}`);
  console.log('vectors.js: all held');
})();
