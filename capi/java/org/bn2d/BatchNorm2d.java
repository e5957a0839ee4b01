// SPDX-License-Identifier: MIT
package org.bn2d;

import static org.bn2d.Bn2dException.given;

import com.sun.jna.Pointer;
import java.lang.ref.Cleaner;
import java.nio.Buffer;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * Batch normalisation over (N, C, H, W) on the CPU: torch.nn.BatchNorm2d on direct buffers, without
 * a copy. The statistics of a channel of the whole batch, or of ghost batches. The types in here
 * are those of all norms.
 */
public final class BatchNorm2d extends Norm {
  /** Element types; F16 and BF16 travel as their bits in a ShortBuffer. */
  public enum DType { F32, F64, F16, BF16 } // from 1 on, as in the C ABI

  public enum Layout { NCHW, NHWC } // from 1 on

  /** From RELU6 on they are pointwise: their record keeps z, too. */
  public enum Activation { NONE, RELU, LEAKY_RELU, RELU6, CLAMP, HARDSWISH, SILU, GELU, SIGMOID } // from 0 on

  /**
   * What a module is made with; what is not set has PyTorch's default for that norm. A norm refuses
   * what is set and has no meaning for it.
   */
  public static final class Options {
    final Map<String, String> values = new LinkedHashMap<>();

    private Options set(String name, Object value) {
      values.put(name, value.toString());
      return this;
    }

    public Options eps(double value) { return set("eps", value); }

    public Options momentum(double value) { return set("momentum", value); }

    /** No momentum: the plain average of all batches. */
    public Options cumulativeAverage() { return set("momentum", "None"); }

    public Options affine(boolean on) { return set("affine", on); }

    public Options bias(boolean on) { return set("bias", on); }

    public Options trackRunningStats(boolean on) { return set("track_running_stats", on); }

    public Options biasedRunningVar(boolean on) { return set("biased_running_var", on); }

    public Options protectRunningStats(boolean on) { return set("protect_running_stats", on); }

    /** Of parameters and buffers. */
    public Options dtype(DType dtype) {
      return set("dtype", given("dtype", dtype).name().toLowerCase(Locale.ROOT));
    }

    /** 0: the process's limit alone. */
    public Options numThreads(int threads) { return set("num_threads", threads); }

    /** In training, every so many samples are normalised on their own. 0: the whole batch. */
    public Options ghostBatchSize(long samples) { return set("ghost_batch_size", samples); }
  }

  /** y = activation(bn(x) + z), all of one layout. */
  public static final class Fused {
    Buffer z;
    Activation activation = Activation.NONE;
    double slope;
    Layout layout = Layout.NCHW;
    DType dtype;

    public Fused z(Buffer buffer) { z = buffer; return this; }

    private Fused act(Activation value, double number) { activation = value; slope = number; return this; }

    public Fused relu() { return act(Activation.RELU, 0); }

    /** Of PyTorch's slope, 0.01. */
    public Fused leakyRelu() { return leakyRelu(0.01); }

    public Fused leakyRelu(double negative) { return act(Activation.LEAKY_RELU, negative); }

    public Fused relu6() { return act(Activation.RELU6, 0); }

    /** To [0, bound]; the bound is above 0. */
    public Fused clamp(double bound) { return act(Activation.CLAMP, bound); }

    public Fused hardswish() { return act(Activation.HARDSWISH, 0); }

    public Fused silu() { return act(Activation.SILU, 0); }

    /** By erf, not the form with tanh. */
    public Fused gelu() { return act(Activation.GELU, 0); }

    public Fused sigmoid() { return act(Activation.SIGMOID, 0); }

    public Fused layout(Layout value) { layout = given("layout", value); return this; }

    /** Of ShortBuffers, where it is not the module's. */
    public Fused dtype(DType value) { dtype = value; return this; }
  }

  /**
   * What a forward leaves for its backward. Keeps x, y and z from the garbage collector; do not
   * change them until the last backward.
   */
  public static final class Record implements AutoCloseable {
    final Handle handle;
    final Cleaner.Cleanable cleanable;
    final Buffer x, y, z;
    final int dtype, layout;
    final long length;

    Record(Pointer pointer, Buffer x, Buffer y, Buffer z, int dtype, int layout) {
      handle = new Handle(pointer, Raw::bn2d_record_release);
      cleanable = CLEANER.register(this, handle);
      this.x = x;
      this.y = y;
      this.z = z;
      this.dtype = dtype;
      this.layout = layout;
      this.length = x.remaining();
    }

    @Override
    public void close() { cleanable.clean(); }
  }

  public BatchNorm2d(long numFeatures) {
    this(numFeatures, new Options());
  }

  public BatchNorm2d(long numFeatures, Options options) {
    super(options, (o, out) -> Raw.bn2d_module_create(numFeatures, o, out));
  }
}
