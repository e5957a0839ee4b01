// The values of vectors.txt (vectors.cc tells how they are made) through capi/node, errors, and handles given back.
//     node --expose-gc vectors.js FOLDER_OF_bn2d.node
// told.node (node.sh makes it) gives the bytes outside of V8 that V8 has been told of.
'use strict';
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const { once } = require('events');
const { Worker } = require('worker_threads');
const { BatchNorm2d, GroupNorm, InstanceNorm2d, setNumThreads, version } = require(
  path.resolve(process.argv[2], 'bn2d.node')
);

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
  assert(bn.isTraining() && bn.numFeatures() === CHANNELS);
  bn.eval();
  assert(!bn.isTraining());
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

const fails = (code, message, call) =>
  assert.throws(call, (e) => e instanceof Error && new RegExp(code).test(e.code) && e.message.includes(message));

// Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
{
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
  const gelu = new Map([[-4, -0.000126685], [-1, -0.158655254], [0.5, 0.345731231], [8, 8]]);
  const cases = {
    none: (v) => v,
    relu: (v) => Math.max(v, 0),
    leaky_relu: (v) => (v > 0 ? v : 2 * v),
    relu6: (v) => clamp(v, 0, 6),
    clamp: (v) => clamp(v, 0, 2),
    hardswish: (v) => (v * clamp(v + 3, 0, 6)) / 6,
    silu: (v) => v / (1 + Math.exp(-v)),
    gelu: (v) => gelu.get(v),
    sigmoid: (v) => 1 / (1 + Math.exp(-v)),
  };
  const bn = new BatchNorm2d(1, { eps: 0, dtype: 'f64' });
  bn.eval();
  const [x, y] = [Float64Array.of(-4, -1, 0.5, 8), new Float64Array(4)];
  for (const [activation, of] of Object.entries(cases)) {
    bn.infer(x, [1, 2, 2], y, { activation, slope: 2 });
    x.forEach((v, i) => assert(Math.abs(y[i] - of(v)) < 1e-8, `${activation} of ${v}: ${y[i]}`));
  }
  bn.infer(x, [1, 2, 2], y, { activation: 'leaky_relu' });
  assert.deepStrictEqual([...y], [-0.04, -0.01, 0.5, 8]);
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'clamp needs slope, its upper bound', () =>
    bn.infer(x, [1, 2, 2], y, { activation: 'clamp' }));
}

// Errors.
{
  const bn = new BatchNorm2d(3);
  const [x, y, six] = [new Float32Array(3), new Float32Array(3).fill(7), new Float32Array(6)];
  const text = 'batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)';
  fails('BN2D_ERROR_TOO_FEW_VALUES', text, () => bn.forward(x, [1, 1, 1], y));
  assert.deepStrictEqual([...y], [7, 7, 7]);
  fails('BN2D_ERROR_SHAPE', 'x has 3 elements, must have 6', () => bn.forward(x, [1, 1, 2], six));
  fails('BN2D_ERROR_DTYPE', 'y must be a Float32Array for float32, is a Float64Array', () => bn.forward(x, [1, 1, 1], new Float64Array(3)));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '[n, h, w]', () => bn.forward());
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'n must be a whole number from 0 to 9007199254740991, is -1', () => bn.forward(x, [-1, 1, 1], y));
  fails('BN2D_ERROR_OVERFLOW', 'too large', () => bn.forward(x, [2 ** 52, 2 ** 52, 1], y));
  const activations = 'none, relu, leaky_relu, relu6, clamp, hardswish, silu, gelu, sigmoid';
  fails('BN2D_ERROR_INVALID_ARGUMENT', `no activation is named 'tanh'; known are ${activations}`, () =>
    bn.forward(x, [1, 1, 1], y, { activation: 'tanh' }));
  for (const layout of ['nwhc', ''])
    fails('BN2D_ERROR_INVALID_ARGUMENT', `no layout is named '${layout}'; known are nchw, nhwc, channels_first`, () =>
      bn.forward(x, [1, 1, 1], y, { layout }));
  fails('BN2D_ERROR_STATE', 'eval mode', () => bn.infer(x, [1, 1, 1], y));
  fails('BN2D_ERROR_NOT_FOUND', 'gamma', () => bn.get('gamma'));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '1.5', () => new BatchNorm2d(3, { momentum: 1.5 }));
  fails('BN2D_ERROR_NOT_FOUND', 'epsilon', () => new BatchNorm2d(3, { epsilon: 1 }));
  fails('BN2D_ERROR_INVALID_HANDLE', 'record must be one of forward, is an object', () => bn.backward({}, six, six));
  assert.throws(() => bn.eval.call({}), TypeError);
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'new', () => BatchNorm2d(3));
  assert(String(new BatchNorm2d(3, { momentum: null, bias: false })).includes('momentum=None'));

  // What is no number, mode, option or shape is an error, not something else.
  const large = new Float32Array(6);
  for (const slope of ['0.2', {}, true])
    fails('BN2D_ERROR_INVALID_ARGUMENT', 'slope must be a number', () =>
      bn.forward(six, [1, 1, 2], large, { activation: 'leaky_relu', slope }));
  fails('BN2D_ERROR_NOT_FOUND', "no option is named 'activaton'; known are z, activation, slope, layout, dtype", () =>
    bn.forward(six, [1, 1, 2], large, { activaton: 'relu' }));
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'object', () => bn.forward(six, [1, 1, 2], large, 'relu'));
  fails('BN2D_ERROR_INVALID_ARGUMENT', "no dtype is named 'int64'; known are f32, f64, f16, bf16, float32", () =>
    bn.forward(six, [1, 1, 2], large, { dtype: 'int64' }));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '[n, h, w]', () => bn.forward(six, [1, 1, 2, 9], large));
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'h must be a whole number', () => bn.forward(six, [1, 0.5, 4], large));
  for (const set of [setNumThreads, (n) => bn.setNumThreads(n)])
    fails('BN2D_ERROR_INVALID_ARGUMENT', 'from 0 to 2147483647, is 4294967296', () => set(2 ** 32));
  for (const mode of [0, 1, 'false'])
    fails('BN2D_ERROR_INVALID_ARGUMENT', 'true or false', () => bn.train(mode));
  fails('BN2D_ERROR_NOT_FOUND', 'NUL', () => bn.get('weight\0zz'));
  fails('BN2D_ERROR_NOT_FOUND', 'NUL', () => new BatchNorm2d(3, { 'eps\0zz': 1 }));
  fails('BN2D_ERROR_NOT_FOUND', 'long', () => bn.get('weight'.padEnd(200)));
  assert.deepStrictEqual([...large], [0, 0, 0, 0, 0, 0]);
  const thrown = { get z() { throw new RangeError('mine'); } };
  assert.throws(() => bn.forward(six, [1, 1, 2], large, thrown), RangeError);
  const plain = new BatchNorm2d(3, { momentum: undefined, eps: undefined, affine: undefined });
  assert.strictEqual(String(plain), String(new BatchNorm2d(3)));
  bn.forward(six, [1, 1, 2], large, { dtype: 'float32' });
  const [nhwc, last, first] = ['nhwc', 'channels_last', 'channels_first'].map((layout) => {
    const [of, to, dx] = [Float32Array.of(0, 1, 4, 9, 16, 25), new Float32Array(6), new Float32Array(6)];
    bn.backward(bn.forward(of, [1, 1, 2], to, { layout, activation: 'relu' }), of, dx);
    return [...to, ...dx];
  });
  assert.deepStrictEqual(last, nhwc);
  assert.notDeepStrictEqual(first, nhwc);

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

// A text that does not say what came, or from where to where a number may be.
{
  const bn = new BatchNorm2d(3);
  const six = new Float32Array(6);
  const invalid = (text, call) => fails('BN2D_ERROR_INVALID_ARGUMENT', text, call);
  const came = [
    [undefined, 'undefined'], [null, 'null'], [true, 'true'], [4n, 'the BigInt 4n'],
    ['4', "the string '4'"], ['4\n\0', "the string '4??'"], [Symbol('4'), 'a symbol'],
    ['x'.repeat(50), `the string '${'x'.repeat(40)}...'`], [() => 4, 'a function'],
    [{}, 'an object'], [[4], 'an Array'], [new Int32Array(6), 'an Int32Array'],
    [new ArrayBuffer(24), 'an ArrayBuffer'], [new DataView(new ArrayBuffer(24)), 'a DataView'],
    [Buffer.alloc(24), 'a Uint8Array'],
  ];
  for (const [value, text] of came) {
    invalid(`numFeatures must be a whole number from 1 to 9007199254740991, is ${text}`, () =>
      new BatchNorm2d(value));
    fails('BN2D_ERROR_DTYPE', `x must be a Float32Array for float32, is ${text}`, () =>
      bn.forward(value, [1, 1, 2], six));
    if (text !== 'an Array')
      invalid(`the extents must be an array [n, h, w], are ${text}`, () =>
        bn.forward(six, value, six));
  }
  fails('BN2D_ERROR_DTYPE', 'x must be a Uint16Array for bfloat16, is a Float32Array', () =>
    bn.forward(six, [1, 1, 2], six, { dtype: 'bf16' }));
  for (const number of [0, -1, 0.1, NaN])
    invalid(`numFeatures must be a whole number from 1 to 9007199254740991, is ${number}`, () =>
      new BatchNorm2d(number));
  invalid('numGroups must be a whole number from 1', () => new GroupNorm(0, 2));
  invalid('the extents have 2 elements, must have 3: [n, h, w]', () =>
    bn.forward(six, [1, 2], six));
  invalid('the extents have 4 elements, must have 3: [n, h, w]', () =>
    bn.forward(six, [1, 3, 1, 2], six));
  const large = `(${2 ** 52}, 3, ${2 ** 52}, 1) is too large: more than 9223372036854775807 elements`;
  fails('BN2D_ERROR_OVERFLOW', large, () => bn.forward(six, [2 ** 52, 2 ** 52, 1], six));
  invalid("slope must be a number, is the string '0.2'", () =>
    bn.forward(six, [1, 1, 2], six, { activation: 'leaky_relu', slope: '0.2' }));
  invalid('the mode must be true or false, is 0', () => bn.train(0));
  invalid("the options must be an object, are the string 'relu'", () =>
    bn.forward(six, [1, 1, 2], six, 'relu'));
}

// A released module that is still used, also by code of the user within a call.
{
  const six = new Float32Array(6);
  const gone = (call) => fails('BN2D_ERROR_INVALID_HANDLE', 'the module has been released', call);
  const bn = new BatchNorm2d(3);
  const record = bn.forward(six, [1, 1, 2], new Float32Array(6));
  bn.release();
  bn.release();
  const uses = {
    train: [], isTraining: [], numFeatures: [], eval: [], zeroGrad: [], resetRunningStats: [],
    setNumThreads: [1], toString: [],
    forward: [six, [1, 1, 2], six], infer: [six, [1, 1, 2], six], backward: [record, six, six],
    get: ['weight'], set: ['weight', six],
  };
  const methods = Object.getOwnPropertyNames(BatchNorm2d.prototype).sort();
  assert.deepStrictEqual(methods, ['constructor', 'release', ...Object.keys(uses)].sort());
  for (const [method, values] of Object.entries(uses)) gone(() => bn[method](...values));
  record.release();

  const within = (call) => {
    const norm = new BatchNorm2d(3);
    gone(() => call(norm, () => norm.release()));
  };
  within((norm, end) => norm.forward(six, [1, 1, 2], six, { get z() { end(); } }));
  within((norm, end) => norm.get({ toString() { end(); return 'weight'; } }));
  within((norm, end) => norm.set({ toString() { end(); return 'bias'; } }, new Float32Array(3)));
}

// Memory that a synchronous loop does not get back by release().
{
  const loop = () => {
    for (let i = 0; i < 100; ++i) {
      const bn = new BatchNorm2d(100000);
      bn.forward(new Float32Array(200000), [2, 1, 1], new Float32Array(200000)).release();
      bn.release();
    }
    global.gc();
  };
  loop();
  const before = process.memoryUsage().rss;
  loop();
  const grown = process.memoryUsage().rss - before;
  assert(grown < 60e6, `memory of a synchronous loop grows by ${grown} bytes`);
}

// Group, instance and ghost batch norm, told apart by y.
{
  const gives = (norm, x, [n, w], expected) => {
    const y = new Float32Array(4);
    norm.backward(norm.forward(Float32Array.from(x), [n, 1, w], y), y, new Float32Array(4));
    assert(y.every((v, i) => Math.abs(v - expected[i]) < 1e-4), `${norm}: ${y}`);
    return norm;
  };
  const [samples, alike] = [[0, 2, 10, 12], [-1, 1, -1, 1]];
  const group = gives(new GroupNorm(1, 2), [0, 0, 2, 2], [1, 2], [-1, -1, 1, 1]);
  const instance = gives(new InstanceNorm2d(1), samples, [2, 2], alike);
  const ghost = gives(new BatchNorm2d(1, { ghost_batch_size: 1 }), samples, [2, 2], alike);
  assert.strictEqual(ghost.get('num_batches_tracked')[0], 2n);
  assert(String(group).startsWith('GroupNorm(1, 2'), String(group));
  assert(group instanceof GroupNorm);
  assert.strictEqual(group.get('weight').length, 2);
  fails('BN2D_ERROR_NOT_FOUND', 'weight', () => instance.get('weight'));
  new InstanceNorm2d(1, { affine: true, track_running_stats: true }).get('running_mean');
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'momentum', () => new GroupNorm(1, 2, { momentum: 0.1 }));
  fails('BN2D_ERROR_INVALID_ARGUMENT', '3', () => new GroupNorm(2, 3));
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'numChannels', () => new GroupNorm(2, {}));
  fails('BN2D_ERROR_INVALID_ARGUMENT', 'new GroupNorm', () => GroupNorm(1, 2));
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

  const collect = async () => {
    for (let i = 0; i < 3; ++i) {
      await pause();
      global.gc();
    }
    await pause();
  };

  // An array that knows its record, which keeps the array: a cycle that V8 does not see.
  {
    const norm = new BatchNorm2d(64);
    const cycles = async (count) => {
      for (let i = 0; i < count; ++i) {
        const [of, to] = [new Float32Array(131072), new Float32Array(131072)];
        to.gradFn = norm.forward(of, [8, 16, 16], to, { z: i % 2 ? of : null });
        await pause();
      }
      await collect();
      return process.memoryUsage().arrayBuffers;
    };
    const first = await cycles(1);
    const more = (await cycles(100)) - first;
    assert(more < 10e6, `arrays that know their records stay: ${more} bytes`);
  }

  // A released record that keeps its arrays; a living one that does not.
  {
    const norm = new BatchNorm2d(3);
    const make = () => {
      const arrays = [0, 1, 2].map(() => new Float32Array(6));
      const made = norm.forward(arrays[0], [1, 1, 2], arrays[1], { z: arrays[2] });
      return [made, arrays.map((a) => new WeakRef(a))];
    };
    const there = (refs) => refs.filter((ref) => ref.deref()).length;
    const [[living, kept], [released, lost]] = [make(), make()];
    released.release();
    await collect();
    assert.deepStrictEqual([there(kept), there(lost)], [3, 0]);
    norm.backward(living, new Float32Array(6), null);

    // Code of the user that takes the arrays from a record: an error, no dangling pointer.
    for (const take of [(held) => (held.length = 0), (held) => held.fill(new Float32Array(6))]) {
      const [robbed, refs] = make();
      assert.deepStrictEqual(Object.keys(robbed), ['release']);
      assert(!Reflect.deleteProperty(robbed, 'held') && !Reflect.set(robbed, 'held', []));
      for (const i of [0, 1, 2]) Reflect.deleteProperty(robbed.held, i);
      take(robbed.held);
      await collect();
      assert.strictEqual(there(refs), 0);
      fails('BN2D_ERROR_INVALID_HANDLE', 'x is gone', () =>
        norm.backward(robbed, new Float32Array(6), null));
      robbed.release();
    }
    const [frozen] = make();
    Object.freeze(frozen.held);
    Object.freeze(frozen).release();
  }

  // Bytes of modules and records that V8 is not told of, or that it is given back twice.
  {
    const told = require(path.resolve(process.argv[2], 'told.node'));
    const external = async () => {
      await collect();
      return told();
    };
    const near = (got, wanted, what) =>
      assert(Math.abs(got - wanted) < 1e6, `${what}: V8 knows of ${got} bytes, not ${wanted}`);
    const before = await external();
    await (async () => {
      const norms = Array.from({ length: 10 }, () => new BatchNorm2d(100000));
      near((await external()) - before, 24e6, 'modules');
      const [of, to] = [new Float32Array(200000), new Float32Array(200000)];
      const all = norms.map((norm) => norm.forward(of, [2, 1, 1], to));
      near((await external()) - before, 24e6 + 1.6e6 + 40e6, 'modules and records');
      for (const one of [...norms, ...all].filter((_, i) => i % 2)) {
        one.release();
        one.release();
      }
      near((await external()) - before, 12e6 + 1.6e6 + 20e6, 'half of them released');
    })();
    near(await external(), before, 'all collected');
  }

  const bn = new BatchNorm2d(3);
  const record = bn.forward(new Float32Array(6).fill(2), [1, 1, 2], new Float32Array(6));
  global.gc();
  bn.backward(record, new Float32Array(6), new Float32Array(6));

  // Pointwise activations have their argument made again in backward: the record keeps z, too.
  const length = 300000;
  const filled = (f) => Float32Array.from({ length }, (_, i) => f(i));
  const [x, dy] = [filled((i) => ((i * 37) % 101) / 10), filled((i) => ((i * 13) % 29) / 10 - 1)];
  const silu = (z) => bn.forward(x, [10, 100, 100], new Float32Array(length), { z, activation: 'silu' });
  const [expected, dx] = [new Float32Array(length), new Float32Array(length)];
  const makeZ = () => filled((i) => ((i * 17) % 23) / 10);
  bn.backward(silu(makeZ()), dy, expected);
  const kept = silu(makeZ());
  for (let i = 0; i < 10; ++i) {
    await pause();
    global.gc();
    filled(() => 777);
  }
  bn.backward(kept, dy, dx);
  assert.deepStrictEqual(dx, expected);

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
