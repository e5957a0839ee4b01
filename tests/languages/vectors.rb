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
  Thread.new do
    x = Bn2d::Buffer.from([i.to_f] * 24)
    y = Bn2d::Buffer.new(24)
    50.times { bn.infer(x, [2, 2, 2], y) }
    raise 'y' unless (y[0] - bn['running_var'].to_a.first.then { |v| (i - bn['running_mean'][0]) / Math.sqrt(v + 1e-5) }).abs < 1e-5
  end
end.each(&:join)
puts 'vectors.rb: all held'
