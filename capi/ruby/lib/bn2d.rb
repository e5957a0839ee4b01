# frozen_string_literal: true

# SPDX-License-Identifier: MIT

require 'fiddle'
require_relative 'bn2d/raw'

# Batch normalisation over (N, C, H, W) on the CPU. README.md tells how to use it.
module Bn2d
  # A call that failed: `status` is a BN2D_ERROR_* of Raw, the message is the library's.
  class Error < StandardError
    attr_reader :status

    def initialize(status, message)
      @status = status
      super("#{Lib.text(Lib.bn2d_status_name(status))}: #{message}")
    end
  end

  # The functions of the C ABI. BN2D_LIBRARY names another file than libbn2d.so.1.
  module Lib
    HANDLE = Fiddle.dlopen(ENV['BN2D_LIBRARY'] || 'libbn2d.so.1')
    KINDS = Raw::FUNCTIONS.keys.filter_map { |name| name[/\Abn2d_(\w+)_release\z/, 1] }
    RELEASE = KINDS.to_h do |kind|
      [kind.to_sym, Fiddle::Function.new(HANDLE["bn2d_#{kind}_release"], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_VOID)]
    end

    Raw::FUNCTIONS.each do |name, (parameters, result)|
      # With Ruby's lock: without it, Fiddle of Ruby 3.1 mixes up the arguments of calls on several threads.
      function = Fiddle::Function.new(HANDLE[name.to_s], parameters, result, need_gvl: true)
      define_singleton_method(name) { |*arguments| function.call(*arguments) }
    end

    module_function

    def text(pointer)
      pointer.to_s.force_encoding(Encoding::UTF_8)
    end

    # Nothing else of Ruby runs on this thread in between: the message is the call's.
    def check(status)
      raise Error.new(status, text(bn2d_last_error)) unless status == Raw::BN2D_OK
    end

    # What the block writes to an out parameter, as bytes.
    def out(bytes = 8)
      cell = Fiddle::Pointer.malloc(bytes, Fiddle::RUBY_FREE)
      check(yield(cell))
      cell[0, bytes]
    end

    def int32(&block)
      out(4, &block).unpack1('l')
    end

    # A handle that the garbage collector gives back, or call_free().
    def own(kind, &block)
      Fiddle::Pointer.new(out(&block).unpack1('J'), 0, RELEASE.fetch(kind))
    end
  end

  # Element types: number, bytes, letter of Array#pack, least, most. f16 and bf16 travel as their
  # bits.
  DTYPES = {
    f32: [Raw::BN2D_F32, 4, 'f', 2.0**104 - 2.0**128, 2.0**128 - 2.0**104],
    f64: [Raw::BN2D_F64, 8, 'd', -Float::MAX, Float::MAX],
    f16: [Raw::BN2D_F16, 2, 'S', 0, 2**16 - 1], bf16: [Raw::BN2D_BF16, 2, 'S', 0, 2**16 - 1],
    i64: [Raw::BN2D_I64, 8, 'q', -2**63, 2**63 - 1]
  }.freeze
  LAYOUTS = {
    nchw: Raw::BN2D_NCHW, nhwc: Raw::BN2D_NHWC, channels_first: Raw::BN2D_NCHW, channels_last: Raw::BN2D_NHWC
  }.freeze
  # From relu6 on they are pointwise: their record keeps z, too.
  ACTIVATIONS = {
    none: Raw::BN2D_ACT_NONE, relu: Raw::BN2D_ACT_RELU, leaky_relu: Raw::BN2D_ACT_LEAKY_RELU,
    relu6: Raw::BN2D_ACT_RELU6, clamp: Raw::BN2D_ACT_CLAMP, hardswish: Raw::BN2D_ACT_HARDSWISH,
    silu: Raw::BN2D_ACT_SILU, gelu: Raw::BN2D_ACT_GELU, sigmoid: Raw::BN2D_ACT_SIGMOID
  }.freeze

  # What Fiddle would take silently for something else.
  module Checks
    module_function

    def invalid(message)
      raise Error.new(Raw::BN2D_ERROR_INVALID_ARGUMENT, message)
    end

    def whole(name, value, most: 2**63 - 1, least: 0)
      return value if value.is_a?(Integer) && (least..most).cover?(value)

      invalid("#{name} must be a whole number from #{least} to #{most}, is #{value.inspect}")
    end

    # How many channels or groups there are.
    def count(name, value)
      whole(name, value, least: 1)
    end

    # A Rational or BigDecimal is as good as a Float; a Complex is not.
    def number(name, value)
      return value.to_f if value.is_a?(Numeric) && value.real?

      invalid("#{name} must be a number, is #{value.inspect}")
    end

    def array(values)
      return values if values.is_a?(Array)

      invalid("the values are a #{values.class}, must be an Array")
    end

    # The key that a Symbol or String stands for.
    def one_of(kinds, value, what)
      key = value.is_a?(String) ? value.to_sym : value
      return key if kinds.key?(key)

      invalid("no #{what} is named #{value.inspect}; known are #{kinds.keys.join(', ')}")
    end

    # C takes a NUL for the end of a name.
    def name_of(what, name)
      invalid("the name of #{what} is #{name.inspect}") unless name.is_a?(String) || name.is_a?(Symbol)
      return name.to_s unless name.to_s.include?("\0")

      raise Error.new(Raw::BN2D_ERROR_NOT_FOUND, "a NUL is in the name of #{what}")
    end
  end

  # What has a handle has it alone: a copy would use it after the first has released it.
  module Sole
    def initialize_copy(_other)
      Checks.invalid("a #{self.class} cannot be copied")
    end
  end

  # Numbers outside of Ruby's heap: they stay where they are. `pointer` is for other extensions, too.
  class Buffer
    attr_reader :dtype, :length, :pointer

    # A new one, 0; or one over a Fiddle::Pointer, which it keeps.
    def initialize(length, dtype = :f32, pointer = nil)
      @dtype = Checks.one_of(DTYPES, dtype, 'dtype')
      _, @bytes, @letter, @least, @most = DTYPES[@dtype]
      Checks.whole('the length', length, most: (2**63 - 1) / @bytes)
      @length = length
      @pointer = pointer || memory { |size| "\0" * size }
    end

    # A copy has memory of its own, also one of a module's tensor.
    def initialize_copy(other)
      super
      @pointer = memory { |size| other.pointer[0, size] }
      @tensor = nil
    end

    def self.from(values, dtype = :f32)
      new(Checks.array(values).length, dtype).replace(values)
    end

    def replace(values)
      given = Checks.array(values).length
      raise ArgumentError, "#{given} values for #{length} elements" unless given == length

      @pointer[0, length * @bytes] = packed(values) || refuse(values)
      self
    end

    def to_a
      @pointer[0, length * @bytes].unpack("#{@letter}*")
    end

    def [](index)
      raise IndexError, "index #{index} of #{length} elements" unless index.is_a?(Integer) && (0...length).cover?(index)

      @pointer[index * @bytes, @bytes].unpack1(@letter)
    end

    private

    # New memory with what the block gives for a number of bytes.
    def memory
      size = length * @bytes
      pointer = Fiddle::Pointer.malloc([size, 1].max, Fiddle::RUBY_FREE)
      pointer[0, size] = yield(size)
      pointer
    rescue NoMemoryError
      raise Error.new(Raw::BN2D_ERROR_OUT_OF_MEMORY, "no memory for #{length} elements of #{dtype}")
    end

    # The bytes of the values, nil if one is none of the type: pack cuts fractions off, wraps whole
    # numbers that are too large, and makes others infinite. All that it gives is read back at once,
    # as a block for each value is slow.
    def packed(values)
      bytes = values.pack("#{@letter}*")
      read = bytes.unpack("#{@letter}*")
      bytes if @least.is_a?(Integer) ? read == values : finite_alike?(values, read)
    rescue TypeError, RangeError # not a number, or NaN for a whole one
      nil
    end

    # Nothing has become infinite. include? is much faster than count.
    def finite_alike?(values, read)
      [Float::INFINITY, -Float::INFINITY].all? do |infinite|
        !read.include?(infinite) || read.count(infinite) == values.count(infinite)
      end
    end

    # Names the first value that the type cannot hold.
    def refuse(values)
      index = values.index { |value| !packed([value]) }
      kind = @least.is_a?(Integer) ? 'whole number' : 'number'
      kind = 'whole number (its bits)' if %i[f16 bf16].include?(dtype)
      Checks.invalid("value #{index} of #{dtype} must be a #{kind} from #{@least} to #{@most}, " \
                     "is #{values[index].inspect}")
    end
  end

  # What a forward leaves for its backward. Keeps x, y and z from the garbage collector.
  class Record
    include Sole

    attr_reader :handle, :dtype, :layout, :length

    def initialize(handle, x, y, z, layout)
      @handle = handle
      @kept = [x, y, z]
      @dtype = x.dtype
      @length = x.length
      @layout = layout
    end

    # Gives the handle back now. The garbage collector does so otherwise.
    def release
      @handle&.call_free
      @handle = @kept = nil
    end
  end

  # What all norms are: a module; new ones are in training mode.
  class Norm
    include Sole

    # handle: for functions of Lib; nil after release.
    attr_reader :num_features, :handle

    # The block creates the module.
    def initialize(num_features, options)
      settings = Lib.own(:options) { |out| Lib.bn2d_options_create(out) }
      options.each do |name, value|
        name = Checks.name_of('an option', name)
        Lib.check(Lib.bn2d_options_set_by_name(settings, name, text_of(name, value)))
      end
      @handle = Lib.own(:module) { |out| yield(settings, out) }
      @num_features = num_features
      @tensors = {}
    end

    # Gives the module back now. The garbage collector does so otherwise. Records and tensors that
    # are still used keep what they need.
    def release
      @handle&.call_free
      @handle = nil
      @tensors = {}
    end

    def to_s
      buffer = Fiddle::Pointer.malloc(512, Fiddle::RUBY_FREE)
      Lib.check(Lib.bn2d_module_repr(alive, buffer, 512, nil))
      Lib.text(buffer)
    end

    def train(training = true) # rubocop:disable Style/OptionalBooleanParameter
      Checks.invalid('the mode must be true or false') unless [true, false].include?(training)
      Lib.check(Lib.bn2d_module_train(alive, training ? 1 : 0))
    end

    def eval
      train(false)
    end

    def training?
      Lib.int32 { |out| Lib.bn2d_module_is_training(alive, out) } == 1
    end

    def num_threads=(threads)
      Checks.whole('threads', threads, most: 2**31 - 1)
      Lib.check(Lib.bn2d_module_set_num_threads(alive, threads))
    end

    def zero_grad
      Lib.check(Lib.bn2d_module_zero_grad(alive))
    end

    def reset_running_stats
      Lib.check(Lib.bn2d_module_reset_running_stats(alive))
    end

    # y = activation(bn(x) + z) for extents [n, h, w], recorded for backward.
    def forward(x, extents, y, **fused)
      handle = Lib.own(:record) { |out| call(x, extents, y, out, **fused) }
      Record.new(handle, x, y, fused[:z], Checks.one_of(LAYOUTS, fused.fetch(:layout, :nchw), 'layout'))
    end

    # The same in eval mode.
    def infer(x, extents, y, **fused)
      raise Error.new(Raw::BN2D_ERROR_STATE, 'infer needs eval mode, the module is in training mode') if training?

      Lib.check(call(x, extents, y, nil, **fused))
    end

    # dx and dz (each may be nil) from dy; adds to weight.grad and bias.grad.
    def backward(record, dy, dx, dz = nil)
      raise Error.new(Raw::BN2D_ERROR_INVALID_HANDLE, 'no record') unless record.is_a?(Record)
      raise Error.new(Raw::BN2D_ERROR_INVALID_HANDLE, 'the record has been released') unless record.handle

      fit('dy', dy, record.dtype, record.length)
      { 'dx' => dx, 'dz' => dz }.each { |name, wanted| fit(name, wanted, record.dtype, record.length) if wanted }
      Lib.check(Lib.bn2d_backward_flat(alive, record.handle, DTYPES[record.dtype][0],
                                       LAYOUTS[record.layout], dy.pointer, dx&.pointer,
                                       dz&.pointer))
    end

    # A parameter, buffer or gradient, as a Buffer over the module's own memory: "weight", "bias", "running_mean",
    # "running_var", "num_batches_tracked", "weight.grad", "bias.grad".
    def [](name)
      name = Checks.name_of('a tensor', name)
      @tensors[name] ||= begin
        handle = Lib.own(:tensor) { |out| Lib.bn2d_module_tensor_by_name(alive, name, out) }
        number = Lib.int32 { |out| Lib.bn2d_tensor_dtype(handle, out) }
        dtype, (_, size) = DTYPES.find { |_, (other)| other == number }
        bytes = Lib.out { |out| Lib.bn2d_tensor_nbytes(handle, out) }.unpack1('Q')
        address = Lib.out { |out| Lib.bn2d_tensor_data(handle, out) }.unpack1('J')
        buffer = Buffer.new(bytes / size, dtype, Fiddle::Pointer.new(address, bytes))
        buffer.instance_variable_set(:@tensor, handle) # the memory lives as long as the tensor
        buffer
      end
    end

    private

    def alive
      @handle || raise(Error.new(Raw::BN2D_ERROR_INVALID_HANDLE, 'the module has been released'))
    end

    # The value of an option as the library reads it, which knows no fraction like 1/4.
    def text_of(name, value)
      return 'None' if value.nil?

      value = Checks.number(name, value) if value.is_a?(Numeric) && !value.is_a?(Integer)
      Checks.name_of('a value', value.to_s)
    end

    def call(x, extents, y, record, z: nil, activation: :none, slope: nil, layout: :nchw)
      handle = alive
      n, h, w, length = shape(extents)
      layout = LAYOUTS[Checks.one_of(LAYOUTS, layout, 'layout')]
      activation = ACTIVATIONS[Checks.one_of(ACTIVATIONS, activation, 'activation')]
      slope = slope_of(activation, slope)
      buffers = { 'x' => x, 'y' => y }
      buffers['z'] = z unless z.nil?
      buffers.each { |name, buffer| fit(name, buffer, x.is_a?(Buffer) ? x.dtype : :f32, length) }
      Lib.bn2d_forward_flat(handle, DTYPES[x.dtype][0], layout, x.pointer, z&.pointer, n, h, w,
                            activation, slope, y.pointer, record)
    end

    # The slope as the library takes it; nil: the default.
    def slope_of(activation, slope)
      return Checks.number('slope', slope) unless slope.nil?

      Checks.invalid('clamp needs slope, its upper bound') if activation == Raw::BN2D_ACT_CLAMP
      0.01 # PyTorch's of leaky_relu; the others ignore it
    end

    # [n, h, w], and the length of a tensor.
    def shape(extents)
      Checks.invalid('the extents must be [n, h, w]') unless extents.is_a?(Array) && extents.length == 3
      extents.zip(%w[n h w]) { |extent, name| Checks.whole(name, extent) }
      length = extents.inject(num_features, :*)
      raise Error.new(Raw::BN2D_ERROR_OVERFLOW, 'the product of the extents is too large') if length >= 2**63

      [*extents, length]
    end

    def fit(name, buffer, dtype, length)
      Checks.invalid("#{name} is a #{buffer.class}, must be a Bn2d::Buffer") unless buffer.is_a?(Buffer)
      unless buffer.dtype == dtype
        raise Error.new(Raw::BN2D_ERROR_DTYPE, "#{name} is #{buffer.dtype}, must be #{dtype}")
      end
      return if buffer.length == length

      raise Error.new(Raw::BN2D_ERROR_SHAPE, "#{name} has #{buffer.length} elements, must have #{length}")
    end
  end

  # The statistics of a channel of the whole batch, or of ghost batches.
  class BatchNorm2d < Norm
    # Options: eps, momentum (nil: plain average), affine, bias, track_running_stats,
    # biased_running_var, protect_running_stats, dtype (:f32, :f64, :f16, :bf16), num_threads,
    # ghost_batch_size.
    def initialize(num_features, **options)
      Checks.count('num_features', num_features)
      super(num_features, options) { |settings, out| Lib.bn2d_module_create(num_features, settings, out) }
    end
  end

  # The statistics of num_channels / num_groups channels of a sample; 1 group is a layer norm over
  # (C, H, W). There are no running statistics, nor options for them; infer needs eval mode all the
  # same.
  class GroupNorm < Norm
    def initialize(num_groups, num_channels, **options)
      Checks.count('num_groups', num_groups)
      Checks.count('num_channels', num_channels)
      super(num_channels, options) do |settings, out|
        Lib.bn2d_group_norm_create(num_groups, num_channels, settings, out)
      end
    end
  end

  # The statistics of each channel of each sample; affine and track_running_stats are false by
  # default.
  class InstanceNorm2d < Norm
    def initialize(num_features, **options)
      Checks.count('num_features', num_features)
      super(num_features, options) { |settings, out| Lib.bn2d_instance_norm_create(num_features, settings, out) }
    end
  end

  module_function

  def version
    Lib.text(Lib.bn2d_version_string)
  end

  # Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
  def num_threads=(threads)
    Lib.check(Lib.bn2d_set_num_threads(Checks.whole('threads', threads, most: 2**31 - 1)))
  end
end
