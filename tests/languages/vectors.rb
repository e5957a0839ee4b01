# frozen_string_literal: true

# The values of vectors.txt (vectors.cc tells how they are made) through capi/ruby, errors, and handles given back.
require 'bn2d'

CHANNELS = 64
SIZE = 8 * CHANNELS * 32 * 32
EXTENTS = [8, 32, 32].freeze

# x and dy in the order of memory.
def inputs(channels_last)
  s = 1
  x = Array.new(SIZE) do |i|
    c = channels_last ? i % CHANNELS : i / 1024 % CHANNELS
    s = s * 16_807 % 2_147_483_647
    (s % 128 + 2 * c - 128) / 64.0
  end
  dy = Array.new(SIZE) do
    s = s * 16_807 % 2_147_483_647
    (s % 256 - 128) / 64.0
  end
  [x, dy]
end

def affine(bn)
  bn['weight'].replace(Array.new(CHANNELS) { |c| (c % 16 + 8) / 16.0 })
  bn['bias'].replace(Array.new(CHANNELS) { |c| (c % 8 - 4) / 4.0 })
end

# Compares with every line of a case.
def compare(scenario, arrays, expected)
  lines = File.readlines(ENV.fetch('BN2D_VECTORS'), chomp: true).map(&:split).select { |words| words[0] == scenario }
  raise "#{scenario}: #{lines.length} lines" unless lines.length == expected

  lines.each do |_, name, index, value, tolerance|
    array = arrays.fetch(name)
    got = index == 'sum' ? array.each_with_index.sum { |v, i| v * (i % 11 - 5) } : array[Integer(index)]
    raise "#{name} #{index}: got #{got}, not #{value}" unless (got - Float(value)).abs <= Float(tolerance)
  end
end

# A strided view, as README.md says: y of every second element, in eval mode of a new module that is x.
# Catches a field of another size or place.
begin
  bn = Bn2d::BatchNorm2d.new(1, eps: 0)
  bn.eval
  x = Bn2d::Buffer.from([1, 2, 3, 4, 5, 6])
  y = Bn2d::Buffer.from([7] * 6)
  numbers = Fiddle::Pointer.malloc(64, Fiddle::RUBY_FREE)
  numbers[0, 64] = [1, 1, 1, 3, 6, 6, 6, 2].pack('q*')
  views = [x, y].map do |buffer|
    view = Bn2d::Raw::View.malloc(Fiddle::RUBY_FREE)
    { data: buffer.pointer, device_type: Bn2d::Raw::BN2D_CPU, device_id: 0, ndim: 4, dtype_code: 2, dtype_bits: 32,
      dtype_lanes: 1, shape: numbers, strides: numbers + 32, byte_offset: 0 }.each { |name, value| view[name.to_s] = value }
    view
  end
  Bn2d::Lib.check(Bn2d::Lib.bn2d_forward(bn.handle, *views, nil))
  raise "strided: #{y.to_a}" unless y.to_a == [1, 7, 3, 7, 5, 7]
end

# Every kind of handle has an owner. Catches a list of kinds that lacks one.
statistics = Bn2d::Lib.own(:statistics) { |out| Bn2d::Lib.bn2d_statistics_create(3, out) }
raise 'statistics' unless Bn2d::Lib.out { |out| Bn2d::Lib.bn2d_statistics_count(statistics, out) }.unpack1('q').zero?

PLAIN = inputs(false)
%i[f32 f64].each do |dtype|
  x, dy = PLAIN.map { |values| Bn2d::Buffer.from(values, dtype) }
  y, dx, later = Array.new(3) { Bn2d::Buffer.new(SIZE, dtype) }
  bn = Bn2d::BatchNorm2d.new(CHANNELS, dtype: dtype)
  affine(bn)
  bn.backward(bn.forward(x, EXTENTS, y), dy, dx)
  bn.eval
  bn.infer(x, EXTENTS, later)
  arrays = { 'y' => y, 'dx' => dx, 'eval.y' => later }
  %w[weight.grad bias.grad running_mean running_var].each { |name| arrays[name] = bn[name] }
  compare(dtype.to_s, arrays.transform_values(&:to_a), 58)
  raise 'num_batches_tracked' unless bn['num_batches_tracked'].to_a == [1]
end

# bfloat16 is the upper half of a float.
begin
  bits = ->(values) { values.pack('f*').unpack('L*').map { |u| u >> 16 } }
  value = ->(buffer) { buffer.to_a.map { |u| u << 16 }.pack('L*').unpack('f*') }
  x, dy = inputs(true).map { |values| Bn2d::Buffer.from(bits.call(values), :bf16) }
  y, dx, dz = Array.new(3) { Bn2d::Buffer.new(SIZE, :bf16) }
  bn = Bn2d::BatchNorm2d.new(CHANNELS)
  affine(bn)
  record = bn.forward(x, EXTENTS, y, z: dy, activation: :relu, layout: :nhwc)
  bn.backward(record, dy, dx, dz)
  arrays = { 'y' => value.call(y), 'dx' => value.call(dx), 'dz' => value.call(dz) }
  compare('bf16', arrays.merge('running_mean' => bn['running_mean'].to_a), 37)
end

# Errors.
def fails(status, message)
  begin
    yield
  rescue Bn2d::Error => e
    return if e.status == status && e.message.include?(message)

    raise "another error: #{e.message}"
  end
  raise "no error: #{message}"
end
bn = Bn2d::BatchNorm2d.new(3)
three = Bn2d::Buffer.new(3)
six = Bn2d::Buffer.new(6)
raw = Bn2d::Raw
text = 'BN2D_ERROR_TOO_FEW_VALUES: batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)'
fails(raw::BN2D_ERROR_TOO_FEW_VALUES, text) { bn.forward(three, [1, 1, 1], Bn2d::Buffer.new(3)) }
fails(raw::BN2D_ERROR_SHAPE, 'x has 3 elements, must have 6') { bn.forward(three, [1, 1, 2], six) }
fails(raw::BN2D_ERROR_DTYPE, 'y is f64, must be f32') { bn.forward(six, [1, 1, 2], Bn2d::Buffer.new(6, :f64)) }
fails(raw::BN2D_ERROR_NOT_FOUND, 'gamma') { bn['gamma'] }
fails(raw::BN2D_ERROR_STATE, 'eval mode') { bn.infer(six, [1, 1, 2], six) }
fails(raw::BN2D_ERROR_INVALID_ARGUMENT, '1.5') { Bn2d::BatchNorm2d.new(3, momentum: 1.5) }
fails(raw::BN2D_ERROR_NOT_FOUND, 'epsilon') { Bn2d::BatchNorm2d.new(3, epsilon: 1) }
raise 'momentum' unless Bn2d::BatchNorm2d.new(3, momentum: nil).to_s.include?('momentum=None')

# What is no whole number, name, buffer or shape is an error, not something else.
invalid = raw::BN2D_ERROR_INVALID_ARGUMENT
large = Bn2d::Buffer.new(6)
fails(invalid, 'n must be a whole number from 0 to 9223372036854775807, is 0.5') { bn.forward(six, [0.5, 4, 1], large) }
fails(invalid, 'h must be a whole number') { bn.forward(six, [1, -1, -2], large) }
fails(invalid, 'w must be a whole number') { bn.forward(Bn2d::Buffer.new(0), [0, 1, 2**80], large) }
fails(raw::BN2D_ERROR_OVERFLOW, 'too large') { bn.forward(six, [2**40, 2**40, 1], large) }
fails(invalid, '[n, h, w]') { bn.forward(six, [1, 1, 2, 7], large) }
fails(invalid, '[n, h, w]') { bn.forward(six, [1, 2], large) }
one_or_more = 'must be a whole number from 1 to 9223372036854775807, is'
fails(invalid, "num_features #{one_or_more} 1.5") { Bn2d::BatchNorm2d.new(1.5) }
fails(invalid, "num_features #{one_or_more} \"4\"") { Bn2d::BatchNorm2d.new('4') }
fails(invalid, "num_features #{one_or_more} 0") { Bn2d::InstanceNorm2d.new(0) }
fails(invalid, "num_groups #{one_or_more} 0") { Bn2d::GroupNorm.new(0, 4) }
fails(invalid, "num_channels #{one_or_more} -1") { Bn2d::GroupNorm.new(1, -1) }
fails(invalid, 'num_features must be') { Bn2d::BatchNorm2d.new(2**80) }
fails(invalid, 'the length must be') { Bn2d::Buffer.new(1.5) }
fails(invalid, "the length must be a whole number from 0 to #{2**61 - 1}, is #{2**62}") do
  Bn2d::Buffer.new(2**62)
end
fails(raw::BN2D_ERROR_OUT_OF_MEMORY, "no memory for #{2**60} elements of f32") do
  Bn2d::Buffer.new(2**60)
end
fails(invalid, 'threads must be') { bn.num_threads = 2**32 }
fails(invalid, 'true or false') { bn.train(0) }
fails(invalid, 'slope must be') { bn.forward(six, [1, 1, 2], large, slope: '0.2') }
fails(invalid, 'slope must be a number, is (0+1i)') { bn.forward(six, [1, 1, 2], large, slope: 1i) }
fails(invalid, 'momentum must be a number, is (0+1i)') { Bn2d::BatchNorm2d.new(3, momentum: 1i) }
fails(invalid, 'no activation is named :tanh; known are none, relu, leaky_relu, relu6, clamp') do
  bn.forward(six, [1, 1, 2], large, activation: :tanh)
end
fails(invalid, 'no layout is named "nwhc"; known are nchw, nhwc') { bn.forward(six, [1, 1, 2], large, layout: 'nwhc') }
fails(invalid, 'no dtype is named :half; known are f32, f64, f16, bf16') { Bn2d::Buffer.new(6, :half) }
fails(invalid, 'x is a Array') { bn.forward([0.0] * 6, [1, 1, 2], large) }
fails(raw::BN2D_ERROR_NOT_FOUND, 'NUL') { bn["weight\0zz"] }
fails(raw::BN2D_ERROR_NOT_FOUND, 'NUL') { Bn2d::BatchNorm2d.new(3, "eps\0zz": 1) }
fails(raw::BN2D_ERROR_INVALID_HANDLE, 'no record') { bn.backward(nil, six, large) }
begin
  six[1.5]
  raise 'an element between two'
rescue IndexError
  raise 'y' unless large.to_a == [0.0] * 6
end

# Options are read as text, which has no fraction.
raise 'momentum' unless Bn2d::BatchNorm2d.new(3, momentum: 1/4r).to_s.include?('momentum=0.25')

# pack cuts, wraps and makes infinite without a word; nothing is written then.
begin
  half = 'must be a whole number (its bits) from 0 to 65535, is'
  long = 'of i64 must be a whole number from -9223372036854775808 to 9223372036854775807, is'
  [
    [:i64, [2**64 + 5], "value 0 #{long} 18446744073709551621"],
    [:i64, [1, 1.9], "value 1 #{long} 1.9"], [:i64, [2**63], "value 0 #{long} 9223372036854775808"],
    [:i64, [-2**63 - 1], "value 0 #{long} -9223372036854775809"],
    [:i64, [2.0**63], "value 0 #{long} 9.223372036854776e+18"],
    [:i64, [Float::NAN], "value 0 #{long} NaN"],
    [:i64, [nil], "value 0 #{long} nil"], [:f16, [70_000, -1], "value 0 of f16 #{half} 70000"],
    [:f16, [0, -1], "value 1 of f16 #{half} -1"], [:bf16, [1.5], "value 0 of bf16 #{half} 1.5"],
    [:f32, [1, 'a'], 'to 3.4028234663852886e+38, is "a"'],
    [:f32, [Float::INFINITY, Float::NAN, -1e39], 'value 2 of f32 must be a number from -3.40'],
    [:f64, [1i], 'is (0+1i)']
  ].each do |dtype, values, message|
    fails(invalid, message) { Bn2d::Buffer.from(values, dtype) }
    untouched = Bn2d::Buffer.new(values.length, dtype)
    fails(invalid, message) { untouched.replace(values) }
    raise message unless untouched.to_a.all?(&:zero?)
  end
  verbose = $VERBOSE
  $VERBOSE = nil # Ruby warns of this one
  fails(invalid, "to 1.7976931348623157e+308, is #{10**400}") { Bn2d::Buffer.from([10**400], :f64) }
  $VERBOSE = verbose
  fails(invalid, 'the values are a String, must be an Array') { Bn2d::Buffer.from('ab') }
  fails(invalid, 'the values are a NilClass, must be an Array') { three.replace(nil) }
  fails(invalid, 'is 18446744073709551621') { bn['num_batches_tracked'].replace([2**64 + 5]) }

  # What the type holds goes in, to the ends of the range.
  {
    i64: [-2**63, 2**63 - 1, 3.0, 4r], f16: [0, 65_535], bf16: [0, 65_535],
    f64: [Float::MAX, Float::MAX, 0.25r],
    f32: [2.0**128 - 2.0**104, -Float::INFINITY, Float::INFINITY, 7]
  }.each { |dtype, values| raise dtype.to_s unless Bn2d::Buffer.from(values, dtype).to_a == values }
  raise 'NaN' unless Bn2d::Buffer.from([Float::NAN, 1])[0].nan?
end

# A copy of a buffer shares no memory, also one of a module's tensor; handles have no copies.
begin
  %i[f32 f64 f16 i64].each do |dtype|
    first = Bn2d::Buffer.from([1, 2], dtype)
    copies = [first.dup, first.clone]
    first.replace([7, 8])
    copies.each { |copy| raise 'shared memory' unless copy.to_a == [1, 2] && copy.dtype == dtype }
  end
  bn['weight'].dup.replace([5.0] * 3)
  raise 'the copy of a tensor writes to the module' unless bn['weight'].to_a == [1.0] * 3

  record = bn.forward(six, [1, 1, 2], Bn2d::Buffer.new(6))
  fails(invalid, 'a Bn2d::BatchNorm2d cannot be copied') { bn.dup }
  fails(invalid, 'a Bn2d::Record cannot be copied') { record.clone }
  bn.backward(record, six, Bn2d::Buffer.new(6))
end

# A released module is an error, not a crash; its tensors and records stay.
begin
  norm = Bn2d::BatchNorm2d.new(3)
  weight = norm['weight']
  record = norm.forward(six, [1, 1, 2], Bn2d::Buffer.new(6))
  2.times { norm.release }
  raise 'weight' unless weight.to_a == [1.0] * 3

  [
    -> { norm.eval }, -> { norm.train }, -> { norm.training? }, -> { norm.to_s },
    -> { norm['weight'] },
    -> { norm.zero_grad }, -> { norm.reset_running_stats }, -> { norm.num_threads = 1 },
    -> { norm.forward(six, [1, 1, 2], six) }, -> { norm.infer(six, [1, 1, 2], six) },
    -> { norm.backward(record, six, six) }
  ].each { |call| fails(raw::BN2D_ERROR_INVALID_HANDLE, 'the module has been released', &call) }
  record.release
end

# A String is as good as a Symbol, in forward and backward.
['nhwc', :channels_last, 'channels_last'].each do |layout|
  gives = lambda do |dtype, activation, order|
    x = Bn2d::Buffer.from([-1.0, 2.0, 3.0, -4.0, 5.0, 7.0], dtype)
    y, dx = Array.new(2) { Bn2d::Buffer.new(6, dtype) }
    norm = Bn2d::BatchNorm2d.new(3, dtype: dtype)
    norm.backward(norm.forward(x, [1, 1, 2], y, activation: activation, layout: order), x, dx)
    [x.dtype, y.to_a, dx.to_a]
  end
  raise layout.inspect unless gives.call('f64', 'relu', layout) == gives.call(:f64, :relu, :nhwc)
  raise layout.inspect if gives.call('f64', 'relu', layout) == gives.call(:f64, :relu, 'channels_first')
end

# Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
begin
  cases = {
    none: ->(v) { v }, relu: ->(v) { [v, 0].max }, leaky_relu: ->(v) { v.positive? ? v : 2 * v },
    relu6: ->(v) { v.clamp(0, 6) }, clamp: ->(v) { v.clamp(0, 2) }, hardswish: ->(v) { v * (v + 3).clamp(0, 6) / 6 },
    silu: ->(v) { v / (1 + Math.exp(-v)) }, gelu: ->(v) { v * (1 + Math.erf(v / Math.sqrt(2))) / 2 },
    sigmoid: ->(v) { 1 / (1 + Math.exp(-v)) }
  }
  raise 'all activations' unless cases.keys == Bn2d::ACTIVATIONS.keys

  one = Bn2d::BatchNorm2d.new(1, eps: 0, dtype: :f64)
  one.eval
  x = Bn2d::Buffer.from([-4.0, -1.0, 0.5, 8.0], :f64)
  y = Bn2d::Buffer.new(4, :f64)
  cases.each do |activation, of|
    one.infer(x, [1, 2, 2], y, activation: activation, slope: 2)
    x.to_a.zip(y.to_a) { |v, got| raise "#{activation} of #{v}: #{got}" unless (got - of.call(v)).abs < 1e-14 }
  end

  one.infer(x, [1, 2, 2], y, activation: :leaky_relu)
  raise "leaky_relu without a slope: #{y.to_a}" unless y.to_a == [-0.04, -0.01, 0.5, 8.0]

  fails(invalid, 'clamp needs slope, its upper bound') { one.infer(x, [1, 2, 2], y, activation: :clamp) }
end

# Group, instance and ghost batch norm, told apart by y.
begin
  gives = lambda do |norm, values, (n, w), expected|
    x = Bn2d::Buffer.from(values)
    y = Bn2d::Buffer.new(4)
    norm.backward(norm.forward(x, [n, 1, w], y), x, Bn2d::Buffer.new(4))
    raise "#{norm}: #{y.to_a}" unless y.to_a.zip(expected).all? { |a, b| (a - b).abs < 1e-4 }

    norm
  end
  samples = [0, 2, 10, 12]
  alike = [-1, 1, -1, 1]
  group = gives.call(Bn2d::GroupNorm.new(1, 2), [0, 0, 2, 2], [1, 2], [-1, -1, 1, 1])
  instance = gives.call(Bn2d::InstanceNorm2d.new(1), samples, [2, 2], alike)
  ghost = gives.call(Bn2d::BatchNorm2d.new(1, ghost_batch_size: 1), samples, [2, 2], alike)
  raise 'a step of the counter for each ghost batch' unless ghost['num_batches_tracked'].to_a == [2]
  raise group.to_s unless group.to_s.start_with?('GroupNorm(1, 2') && group['weight'].length == 2

  fails(raw::BN2D_ERROR_NOT_FOUND, 'weight') { instance['weight'] }
  Bn2d::InstanceNorm2d.new(1, affine: true, track_running_stats: true)['running_mean']
  fails(invalid, 'momentum') { Bn2d::GroupNorm.new(1, 2, momentum: 0.1) }
  fails(invalid, '3') { Bn2d::GroupNorm.new(2, 3) }
end

# Pointwise activations have their argument made again in backward: the record keeps z, too.
begin
  filled = ->(length = 3000, &f) { Bn2d::Buffer.from(Array.new(length, &f)) }
  x = filled.call { |i| i * 37 % 101 / 10.0 - 5 }
  dy = filled.call { |i| i * 13 % 29 / 10.0 - 1 }
  expected, dx, y = Array.new(3) { Bn2d::Buffer.new(3000) }
  norm = Bn2d::BatchNorm2d.new(3)
  forward = lambda do
    norm.forward(x, [10, 10, 10], y, z: filled.call { |i| i * 17 % 23 / 10.0 - 1 }, activation: :silu)
  end
  norm.backward(forward.call, dy, expected)
  kept = Array.new(20) { forward.call } # the stack may still refer to the last ones
  10.times do
    GC.start
    Array.new(50) { filled.call { 777.0 } }
  end
  kept.each do |record|
    norm.backward(record, dy, dx)
    raise 'z was gone' unless dx.to_a == expected.to_a
  end
end

# A record outlives its module and keeps its x; a tensor outlives its module; many of each leave nothing behind.
def resident
  File.read('/proc/self/status')[/^VmRSS:\s*(\d+)/, 1].to_i
end

def round
  1000.times do
    bn = Bn2d::BatchNorm2d.new(256)
    bn.forward(Bn2d::Buffer.new(2048), [2, 2, 2], Bn2d::Buffer.new(2048))
    bn['weight']
  end
  GC.start
end
2.times { round }
before = resident
8.times { round }
raise "memory grows from #{before} to #{resident} kB" if resident > before + 60_000

# The collector is off: release alone gives memory back.
GC.disable
before = resident
100.times { Bn2d::BatchNorm2d.new(100_000).release }
raise "release leaves memory: from #{before} to #{resident} kB" if resident > before + 60_000

GC.enable

record = bn.forward(Bn2d::Buffer.new(6), [1, 1, 2], Bn2d::Buffer.new(6))
weight = Bn2d::BatchNorm2d.new(3)['weight']
GC.start
bn.backward(record, six, Bn2d::Buffer.new(6))
raise 'weight' unless weight.to_a == [1.0, 1.0, 1.0]

2.times { record.release }
fails(raw::BN2D_ERROR_INVALID_HANDLE, 'released') { bn.backward(record, six, six) }

# Inference on several threads at once.
bn.eval
Array.new(4) do |i|
  Thread.new do |; x, y| # not those of the file, which all threads would share
    x = Bn2d::Buffer.from([i.to_f] * 24)
    y = Bn2d::Buffer.new(24)
    50.times { bn.infer(x, [2, 2, 2], y) }
    raise 'y' unless (y[0] - bn['running_var'].to_a.first.then { |v| (i - bn['running_mean'][0]) / Math.sqrt(v + 1e-5) }).abs < 1e-5
  end
end.each(&:join)
puts 'vectors.rb: all held'
