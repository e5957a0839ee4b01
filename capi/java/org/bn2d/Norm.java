// SPDX-License-Identifier: MIT
package org.bn2d;

import static org.bn2d.Bn2dException.check;
import static org.bn2d.Bn2dException.given;

import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.IntByReference;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.function.Consumer;
import java.util.function.ObjIntConsumer;
import org.bn2d.BatchNorm2d.Fused;
import org.bn2d.BatchNorm2d.Options;
import org.bn2d.BatchNorm2d.Record;

/**
 * What all norms over (N, C, H, W) are: a module on direct buffers, without a copy. New ones are in
 * training mode. {@link #infer} may run on any number of threads at once (a batch norm without
 * running statistics: one at a time); what changes the module needs it alone. Else both throw with
 * "BN2D_ERROR_BUSY". README.md tells more.
 */
public abstract class Norm implements AutoCloseable {
  static final Cleaner CLEANER = Cleaner.create();

  /** A handle; the cleaner runs it where nobody closes. */
  static final class Handle implements Runnable {
    Pointer pointer;
    private final Consumer<Pointer> release;

    Handle(Pointer pointer, Consumer<Pointer> release) {
      this.pointer = pointer;
      this.release = release;
    }

    @Override
    public void run() {
      release.accept(pointer);
      pointer = null;
    }
  }

  private final Handle handle;
  private final Cleaner.Cleanable cleanable;
  private final long features;
  private final int dtype;

  /** One of the three functions that create a module. */
  interface Create { int with(Pointer options, PointerByReference out); }

  Norm(Options options, Create create) {
    given("options", options);
    PointerByReference out = new PointerByReference(), settings = new PointerByReference();
    check(Raw.bn2d_options_create(settings));
    try {
      options.values.forEach((n, value) -> check(Raw.bn2d_options_set_by_name(settings.getValue(), n, value)));
      check(create.with(settings.getValue(), out));
    } finally {
      Raw.bn2d_options_release(settings.getValue());
    }
    handle = new Handle(out.getValue(), Raw::bn2d_module_release);
    cleanable = CLEANER.register(this, handle);
    LongByReference channels = new LongByReference();
    check(Raw.bn2d_module_num_features(handle.pointer, channels));
    features = channels.getValue();
    IntByReference number = new IntByReference();
    check(Raw.bn2d_module_dtype(handle.pointer, number));
    dtype = number.getValue();
  }

  @Override
  public void close() { cleanable.clean(); }

  /** The module for functions of Raw; it lives as long as this object. */
  Pointer pointer() { return handle.pointer; }

  private interface Call { int with(Pointer module); }

  /** Makes a call while the module stays alive. */
  private void run(Call call) {
    try {
      if (handle.pointer == null) throw new Bn2dException(Raw.BN2D_ERROR_INVALID_HANDLE, "the module has been closed");
      check(call.with(handle.pointer));
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public String toString() {
    byte[] text = new byte[512];
    run(m -> Raw.bn2d_module_repr(m, text, text.length, null));
    return Native.toString(text, "UTF-8");
  }

  /** The number of channels. */
  public long numFeatures() { return features; }

  public boolean isTraining() {
    IntByReference out = new IntByReference();
    run(m -> Raw.bn2d_module_is_training(m, out));
    return out.getValue() != 0;
  }

  public void train(boolean training) { run(m -> Raw.bn2d_module_train(m, training ? 1 : 0)); }

  public void eval() { train(false); }

  public void zeroGrad() { run(Raw::bn2d_module_zero_grad); }

  public void resetRunningStats() { run(Raw::bn2d_module_reset_running_stats); }

  /** Limits the threads of this module's calls; 0: the process's limit alone. */
  public void setNumThreads(int threads) { run(m -> Raw.bn2d_module_set_num_threads(m, threads)); }

  /** Limits the threads that one call uses, for the whole process; 0: all of oneTBB's. */
  public static void setProcessNumThreads(int threads) { check(Raw.bn2d_set_num_threads(threads)); }

  // Buffers ---------------------------------------------------------------------------------------

  private static ByteBuffer bytes(int length, int size) {
    return ByteBuffer.allocateDirect(Math.multiplyExact(length, size)).order(ByteOrder.nativeOrder());
  }

  /** New memory outside of Java's heap, as all methods here want it. */
  public static FloatBuffer floats(int length) { return bytes(length, 4).asFloatBuffer(); }

  public static DoubleBuffer doubles(int length) { return bytes(length, 8).asDoubleBuffer(); }

  public static ShortBuffer shorts(int length) { return bytes(length, 2).asShortBuffer(); }

  private static int size(int dtype) { return dtype == Raw.BN2D_F32 ? 4 : dtype == Raw.BN2D_F64 ? 8 : 2; }

  /** As pointer(), of a buffer that is written. */
  private static Pointer output(String name, Buffer buffer, int dtype, long length) {
    if (buffer != null && buffer.isReadOnly())
      throw new Bn2dException(Raw.BN2D_ERROR_INVALID_ARGUMENT, name + " is read-only");
    return pointer(name, buffer, dtype, length);
  }

  private static ByteOrder order(Buffer buffer) {
    return buffer instanceof FloatBuffer ? ((FloatBuffer) buffer).order()
        : buffer instanceof DoubleBuffer ? ((DoubleBuffer) buffer).order()
        : ((ShortBuffer) buffer).order();
  }

  /** The public class of a buffer; those of its own are Java's internals. */
  private static String kind(Buffer buffer) {
    Class<?>[] kinds = {ByteBuffer.class, CharBuffer.class, ShortBuffer.class, IntBuffer.class,
        LongBuffer.class, FloatBuffer.class, DoubleBuffer.class};
    for (Class<?> kind : kinds) {
      String article = kind == IntBuffer.class ? "an " : "a ";
      if (kind.isInstance(buffer)) return article + kind.getSimpleName();
    }
    return "another Buffer"; // there is none: its constructors are private to java.nio
  }

  /** Where a buffer's elements from position to limit are; it must be of this dtype and length. */
  private static Pointer pointer(String name, Buffer buffer, int dtype, long length) {
    Class<?> kind = dtype == Raw.BN2D_F32 ? FloatBuffer.class
        : dtype == Raw.BN2D_F64 ? DoubleBuffer.class : ShortBuffer.class;
    String wanted = kind.getSimpleName();
    if (!kind.isInstance(given(name, buffer)))
      throw new Bn2dException(Raw.BN2D_ERROR_DTYPE,
          name + " is " + kind(buffer) + ", must be a " + wanted);
    if (!buffer.isDirect())
      throw new Bn2dException(Raw.BN2D_ERROR_DTYPE,
          name + " is a " + wanted + " on the heap, must be a direct one");
    if (order(buffer) != ByteOrder.nativeOrder())
      throw new Bn2dException(Raw.BN2D_ERROR_DTYPE, name + " is a " + wanted + " of the order "
          + order(buffer) + ", must be of the native order " + ByteOrder.nativeOrder());
    if (buffer.remaining() != length)
      throw new Bn2dException(Raw.BN2D_ERROR_SHAPE, name + " has " + buffer.remaining() + " elements, must have " + length);
    if (length == 0) return Pointer.NULL;
    return Native.getDirectBufferPointer(buffer).share((long) buffer.position() * size(dtype));
  }

  private int dtypeOf(Buffer x, Fused fused) {
    if (fused.dtype != null) return fused.dtype.ordinal() + 1;
    return x instanceof FloatBuffer ? Raw.BN2D_F32 : x instanceof DoubleBuffer ? Raw.BN2D_F64 : dtype;
  }

  // Forward and backward --------------------------------------------------------------------------

  /** y = bn(x) for (n, features, h, w), recorded for backward. */
  public Record forward(Buffer x, long n, long h, long w, Buffer y) { return forward(x, n, h, w, y, new Fused()); }

  /** y = activation(bn(x) + z), recorded. */
  public Record forward(Buffer x, long n, long h, long w, Buffer y, Fused fused) {
    given("fused", fused);
    PointerByReference out = new PointerByReference();
    call(x, n, h, w, y, fused, out);
    return new Record(out.getValue(), x, y, fused.z, dtypeOf(x, fused), fused.layout.ordinal() + 1);
  }

  /**
   * y = bn(x) in eval mode, for which it asks first: a thread that calls train(true) in between
   * makes it train.
   */
  public void infer(Buffer x, long n, long h, long w, Buffer y) { infer(x, n, h, w, y, new Fused()); }

  /** y = activation(bn(x) + z) in eval mode. */
  public void infer(Buffer x, long n, long h, long w, Buffer y, Fused fused) {
    given("fused", fused);
    if (isTraining())
      throw new Bn2dException(Raw.BN2D_ERROR_STATE, "infer needs eval mode, the module is in training mode");
    call(x, n, h, w, y, fused, null);
  }

  private void call(Buffer x, long n, long h, long w, Buffer y, Fused f, PointerByReference record) {
    String shape = "(" + n + ", " + features + ", " + h + ", " + w + ")";
    if (n < 0 || h < 0 || w < 0)
      throw new Bn2dException(Raw.BN2D_ERROR_SHAPE, shape + " has a negative extent");
    long length;
    try {
      length = Math.multiplyExact(Math.multiplyExact(Math.multiplyExact(n, features), h), w);
    } catch (ArithmeticException e) {
      throw new Bn2dException(Raw.BN2D_ERROR_OVERFLOW, shape + " is too large");
    }
    int type = dtypeOf(x, f);
    Pointer px = pointer("x", x, type, length), py = output("y", y, type, length);
    Pointer pz = f.z == null ? Pointer.NULL : pointer("z", f.z, type, length);
    try {
      run(m -> Raw.bn2d_forward_flat(m, type, f.layout.ordinal() + 1, px, pz, n, h, w, f.activation.ordinal(), f.slope,
          py, record));
    } finally {
      fence(x, y, f.z);
    }
  }

  private static void fence(Object... objects) {
    for (Object object : objects) Reference.reachabilityFence(object);
  }

  /** dx from dy; adds to weight.grad and bias.grad. */
  public void backward(Record record, Buffer dy, Buffer dx) { backward(record, dy, dx, null); }

  /** dx and dz (each may be null) from dy. */
  public void backward(Record record, Buffer dy, Buffer dx, Buffer dz) {
    if (given("record", record).handle.pointer == null)
      throw new Bn2dException(Raw.BN2D_ERROR_INVALID_HANDLE, "the record has been closed");
    Pointer pdy = pointer("dy", dy, record.dtype, record.length);
    Pointer pdx = dx == null ? Pointer.NULL : output("dx", dx, record.dtype, record.length);
    Pointer pdz = dz == null ? Pointer.NULL : output("dz", dz, record.dtype, record.length);
    try {
      run(m -> Raw.bn2d_backward_flat(m, record.handle.pointer, record.dtype, record.layout, pdy, pdx, pdz));
    } finally {
      fence(record, record.x, record.y, record.z, dy, dx, dz);
    }
  }

  // Parameters and buffers ------------------------------------------------------------------------

  private interface Use<T> { T with(Pointer data, int length); }

  private <T> T tensor(String name, int type, int size, Use<T> use) {
    PointerByReference out = new PointerByReference(), data = new PointerByReference();
    IntByReference found = new IntByReference();
    LongByReference bytes = new LongByReference();
    if (given("name", name).indexOf('\0') >= 0) // C would take it for the end
      throw new Bn2dException(Raw.BN2D_ERROR_NOT_FOUND, "a NUL is in the name of a tensor");
    run(m -> Raw.bn2d_module_tensor_by_name(m, name, out));
    Pointer tensor = out.getValue();
    try {
      check(Raw.bn2d_tensor_dtype(tensor, found));
      check(Raw.bn2d_tensor_nbytes(tensor, bytes));
      check(Raw.bn2d_tensor_data(tensor, data));
      if (found.getValue() != type)
        throw new Bn2dException(Raw.BN2D_ERROR_DTYPE, name + " is " + Raw.bn2d_dtype_name(found.getValue()) + ", not "
            + Raw.bn2d_dtype_name(type));
      return use.with(data.getValue(), (int) (bytes.getValue() / size));
    } finally {
      Raw.bn2d_tensor_release(tensor);
    }
  }

  private static void fit(String name, int got, int length) {
    if (got != length)
      throw new Bn2dException(Raw.BN2D_ERROR_SHAPE, "the array has " + got + " elements, " + name + " has " + length);
  }

  /**
   * A copy of a parameter, buffer or gradient of a float32 module: "weight", "bias",
   * "running_mean", "running_var", "weight.grad", "bias.grad".
   */
  public float[] getFloats(String name) { return tensor(name, Raw.BN2D_F32, 4, (data, n) -> data.getFloatArray(0, n)); }

  /** The same of a float64 module. */
  public double[] getDoubles(String name) {
    return tensor(name, Raw.BN2D_F64, 8, (data, n) -> data.getDoubleArray(0, n));
  }

  /** The bits of a half module. */
  public short[] getShorts(String name) {
    return tensor(name, halfType(), 2, (data, n) -> data.getShortArray(0, n));
  }

  private int halfType() { return dtype == Raw.BN2D_F16 ? Raw.BN2D_F16 : Raw.BN2D_BF16; }

  public long numBatchesTracked() {
    return tensor("num_batches_tracked", Raw.BN2D_I64, 8, (data, n) -> data.getLong(0));
  }

  public void set(String name, float[] values) {
    given("values", values);
    set(name, Raw.BN2D_F32, 4, values.length, (data, n) -> data.write(0, values, 0, n));
  }

  public void set(String name, double[] values) {
    given("values", values);
    set(name, Raw.BN2D_F64, 8, values.length, (data, n) -> data.write(0, values, 0, n));
  }

  /** The bits of a half module. */
  public void set(String name, short[] values) {
    given("values", values);
    set(name, halfType(), 2, values.length, (data, n) -> data.write(0, values, 0, n));
  }

  /** Of "num_batches_tracked", one number. */
  public void set(String name, long[] values) {
    given("values", values);
    set(name, Raw.BN2D_I64, 8, values.length, (data, n) -> data.write(0, values, 0, n));
  }

  private void set(String name, int wanted, int size, int length, ObjIntConsumer<Pointer> write) {
    tensor(name, wanted, size, (data, n) -> {
      fit(name, length, n);
      write.accept(data, n);
      return null;
    });
  }
}
