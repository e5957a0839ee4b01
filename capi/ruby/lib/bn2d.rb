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
    RELEASE = %i[options module tensor record].to_h do |kind|
      [kind, Fiddle::Function.new(HANDLE["bn2d_#{kind}_release"], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_VOID)]
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

  # Element types: number, bytes, letter of Array#pack. f16 and bf16 travel as their bits.
  DTYPES = {
    f32: [Raw::BN2D_F32, 4, 'f'], f64: [Raw::BN2D_F64, 8, 'd'], f16: [Raw::BN2D_F16, 2, 'S'],
    bf16: [Raw::BN2D_BF16, 2, 'S'], i64: [Raw::BN2D_I64, 8, 'q']
  }.freeze
  LAYOUTS = { nchw: Raw::BN2D_NCHW, nhwc: Raw::BN2D_NHWC }.freeze
  ACTIVATIONS = {
    none: Raw::BN2D_ACT_NONE, relu: Raw::BN2D_ACT_RELU, leaky_relu: Raw::BN2D_ACT_LEAKY_RELU
  }.freeze

  # Numbers outside of Ruby's heap: they stay where they are. `pointer` is for other extensions, too.
  class Buffer
    attr_reader :dtype, :length, :pointer

    # A new one, 0; or one over a Fiddle::Pointer, which it keeps.
    def initialize(length, dtype = :f32, pointer = nil)
      _, @bytes, @letter = DTYPES.fetch(dtype)
      @dtype = dtype
      @length = length
      @pointer = pointer || Fiddle::Pointer.malloc([length * @bytes, 1].max, Fiddle::RUBY_FREE)
      @pointer[0, length * @bytes] = "\0" * (length * @bytes) unless pointer
    end

    def self.from(values, dtype = :f32)
      new(values.length, dtype).replace(values)
    end

    def replace(values)
      raise ArgumentError, "#{values.length} values for #{length} elements" unless values.length == length

      @pointer[0, length * @bytes] = values.pack("#{@letter}*")
      self
    end

    def to_a
      @pointer[0, length * @bytes].unpack("#{@letter}*")
    end

    def [](index)
      raise IndexError, "index #{index} of #{length} elements" unless (0...length).cover?(index)

      @pointer[index * @bytes, @bytes].unpack1(@letter)
    end
  end

  # What a forward leaves for its backward. Keeps x and y from the garbage collector.
  class Record
    attr_reader :handle, :dtype, :layout, :length

    def initialize(handle, x, y, layout)
      @handle = handle
      @kept = [x, y]
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

  # A BatchNorm2d module; new ones are in training mode.
  class BatchNorm2d
    attr_reader :num_features

    # Options: eps, momentum (nil: plain average), affine, bias, track_running_stats, biased_running_var,
    # protect_running_stats, dtype (:f32, :f64, :f16, :bf16), num_threads.
    def initialize(num_features, **options)
      settings = Lib.own(:options) { |out| Lib.bn2d_options_create(out) }
      options.each do |name, value|
        text = value.nil? ? 'None' : value.to_s
        Lib.check(Lib.bn2d_options_set_by_name(settings, name.to_s, text))
      end
      @handle = Lib.own(:module) { |out| Lib.bn2d_module_create(num_features, settings, out) }
      @num_features = num_features
      @tensors = {}
    end

    def to_s
      buffer = Fiddle::Pointer.malloc(512, Fiddle::RUBY_FREE)
      Lib.check(Lib.bn2d_module_repr(@handle, buffer, 512, nil))
      Lib.text(buffer)
    end

    def train(training = true) # rubocop:disable Style/OptionalBooleanParameter
      Lib.check(Lib.bn2d_module_train(@handle, training ? 1 : 0))
    end

    def eval
      train(false)
    end

    def training?
      Lib.int32 { |out| Lib.bn2d_module_is_training(@handle, out) } == 1
    end

    def num_threads=(threads)
      Lib.check(Lib.bn2d_module_set_num_threads(@handle, threads))
    end

    def zero_grad
      Lib.check(Lib.bn2d_module_zero_grad(@handle))
    end

    def reset_running_stats
      Lib.check(Lib.bn2d_module_reset_running_stats(@handle))
    end

    # y = activation(bn(x) + z) for extents [n, h, w], recorded for backward.
    def forward(x, extents, y, **fused)
      handle = Lib.own(:record) { |out| call(x, extents, y, out, **fused) }
      Record.new(handle, x, y, fused.fetch(:layout, :nchw))
    end

    # The same in eval mode.
    def infer(x, extents, y, **fused)
      raise Error.new(Raw::BN2D_ERROR_STATE, 'infer needs eval mode, the module is in training mode') if training?

      Lib.check(call(x, extents, y, nil, **fused))
    end

    # dx and dz (each may be nil) from dy; adds to weight.grad and bias.grad.
    def backward(record, dy, dx, dz = nil)
      raise Error.new(Raw::BN2D_ERROR_INVALID_HANDLE, 'the record has been released') unless record.handle

      fit('dy', dy, record.dtype, record.length)
      { 'dx' => dx, 'dz' => dz }.each { |name, wanted| fit(name, wanted, record.dtype, record.length) if wanted }
      Lib.check(Lib.bn2d_backward_flat(@handle, record.handle, DTYPES[record.dtype][0], LAYOUTS[record.layout],
                                       dy.pointer, dx&.pointer, dz&.pointer))
    end

    # A parameter, buffer or gradient, as a Buffer over the module's own memory: "weight", "bias", "running_mean",
    # "running_var", "num_batches_tracked", "weight.grad", "bias.grad".
    def [](name)
      @tensors[name] ||= begin
        handle = Lib.own(:tensor) { |out| Lib.bn2d_module_tensor_by_name(@handle, name, out) }
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

    def call(x, extents, y, record, z: nil, activation: :none, slope: 0.0, layout: :nchw)
      n, h, w = extents
      length = n * num_features * h * w
      { 'x' => x, 'y' => y, 'z' => z }.each { |name, buffer| fit(name, buffer, x.dtype, length) unless name == 'z' && !z }
      Lib.bn2d_forward_flat(@handle, DTYPES[x.dtype][0], LAYOUTS.fetch(layout), x.pointer, z&.pointer, n, h, w,
                            ACTIVATIONS.fetch(activation), slope, y.pointer, record)
    end

    def fit(name, buffer, dtype, length)
      unless buffer.dtype == dtype
        raise Error.new(Raw::BN2D_ERROR_DTYPE, "#{name} is #{buffer.dtype}, must be #{dtype}")
      end
      return if buffer.length == length

      raise Error.new(Raw::BN2D_ERROR_SHAPE, "#{name} has #{buffer.length} elements, must have #{length}")
    end
  end

  module_function

  def version
    Lib.text(Lib.bn2d_version_string)
  end

  # Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
  def num_threads=(threads)
    Lib.check(Lib.bn2d_set_num_threads(threads))
  end
end
