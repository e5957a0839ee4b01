// The values of vectors.txt (vectors.cc tells how they are made) through capi/java, errors, and handles given back.
import java.nio.ByteBuffer;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.ShortBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntToDoubleFunction;
import org.bn2d.BatchNorm2d;
import org.bn2d.Bn2dException;
import org.bn2d.GroupNorm;
import org.bn2d.InstanceNorm2d;
import org.bn2d.Norm;

public final class Vectors {
  static final int CHANNELS = 64, SIZE = 8 * CHANNELS * 32 * 32;

  interface Store { void put(int index, double value); }

  /** x and dy in the order of memory. */
  static void inputs(boolean channelsLast, Store x, Store dy) {
    long s = 1;
    for (int i = 0; i < SIZE; i++) {
      int c = channelsLast ? i % CHANNELS : i / 1024 % CHANNELS;
      s = s * 16807 % 2147483647;
      x.put(i, (s % 128 + 2 * c - 128) / 64.0);
    }
    for (int i = 0; i < SIZE; i++) {
      s = s * 16807 % 2147483647;
      dy.put(i, (s % 256 - 128) / 64.0);
    }
  }

  static double weight(int c) { return (c % 16 + 8) / 16.0; }

  static double bias(int c) { return (c % 8 - 4) / 4.0; }

  static void floatAffine(Norm bn) {
    float[] weight = new float[CHANNELS], bias = new float[CHANNELS];
    for (int c = 0; c < CHANNELS; c++) {
      weight[c] = (float) weight(c);
      bias[c] = (float) bias(c);
    }
    bn.set("weight", weight);
    bn.set("bias", bias);
  }

  static void require(boolean condition, String what) {
    if (!condition) throw new AssertionError(what);
  }

  static final class Values {
    final int length;
    final IntToDoubleFunction at;

    Values(int length, IntToDoubleFunction at) {
      this.length = length;
      this.at = at;
    }
  }

  /** Compares with every line of a case. */
  static void compare(String scenario, Map<String, Values> arrays, int expected) throws Exception {
    int seen = 0;
    for (String line : Files.readAllLines(Path.of(System.getenv("BN2D_VECTORS")))) {
      String[] words = line.split(" ");
      if (!words[0].equals(scenario)) continue;
      Values a = arrays.get(words[1]);
      double got = 0;
      if (words[2].equals("sum")) {
        for (int i = 0; i < a.length; i++) got += a.at.applyAsDouble(i) * (i % 11 - 5);
      } else {
        got = a.at.applyAsDouble(Integer.parseInt(words[2]));
      }
      double value = Double.parseDouble(words[3]), tolerance = Double.parseDouble(words[4]);
      require(Math.abs(got - value) <= tolerance, line + ": got " + got);
      seen++;
    }
    require(seen == expected, scenario + ": " + seen + " lines");
  }

  static void float32() throws Exception {
    FloatBuffer x = BatchNorm2d.floats(SIZE), dy = BatchNorm2d.floats(SIZE), y = BatchNorm2d.floats(SIZE);
    FloatBuffer dx = BatchNorm2d.floats(SIZE), later = BatchNorm2d.floats(SIZE);
    inputs(false, (i, v) -> x.put(i, (float) v), (i, v) -> dy.put(i, (float) v));
    try (BatchNorm2d bn = new BatchNorm2d(CHANNELS)) {
      floatAffine(bn);
      try (BatchNorm2d.Record record = bn.forward(x, 8, 32, 32, y)) {
        bn.backward(record, dy, dx);
      }
      require(bn.isTraining() && bn.numFeatures() == CHANNELS, "mode and channels");
      bn.eval();
      bn.infer(x, 8, 32, 32, later);
      Map<String, Values> arrays = new HashMap<>();
      arrays.put("y", new Values(SIZE, y::get));
      arrays.put("dx", new Values(SIZE, dx::get));
      arrays.put("eval.y", new Values(SIZE, later::get));
      for (String name : new String[] {"weight.grad", "bias.grad", "running_mean", "running_var"}) {
        float[] values = bn.getFloats(name);
        arrays.put(name, new Values(values.length, i -> values[i]));
      }
      compare("f32", arrays, 58);
      require(bn.numBatchesTracked() == 1, "num_batches_tracked");
    }
  }

  static void float64() throws Exception {
    DoubleBuffer x = BatchNorm2d.doubles(SIZE), dy = BatchNorm2d.doubles(SIZE), y = BatchNorm2d.doubles(SIZE);
    DoubleBuffer dx = BatchNorm2d.doubles(SIZE), later = BatchNorm2d.doubles(SIZE);
    inputs(false, x::put, dy::put);
    try (BatchNorm2d bn = new BatchNorm2d(CHANNELS, new BatchNorm2d.Options().dtype(BatchNorm2d.DType.F64))) {
      double[] weight = new double[CHANNELS], bias = new double[CHANNELS];
      for (int c = 0; c < CHANNELS; c++) {
        weight[c] = weight(c);
        bias[c] = bias(c);
      }
      bn.set("weight", weight);
      bn.set("bias", bias);
      try (BatchNorm2d.Record record = bn.forward(x, 8, 32, 32, y)) {
        bn.backward(record, dy, dx);
      }
      bn.eval();
      bn.infer(x, 8, 32, 32, later);
      Map<String, Values> arrays = new HashMap<>();
      arrays.put("y", new Values(SIZE, y::get));
      arrays.put("dx", new Values(SIZE, dx::get));
      arrays.put("eval.y", new Values(SIZE, later::get));
      for (String name : new String[] {"weight.grad", "bias.grad", "running_mean", "running_var"}) {
        double[] values = bn.getDoubles(name);
        arrays.put(name, new Values(values.length, i -> values[i]));
      }
      compare("f64", arrays, 58);
    }
  }

  /** bfloat16 is the upper half of a float. */
  static short bits(double v) { return (short) (Float.floatToRawIntBits((float) v) >>> 16); }

  static double value(short half) { return Float.intBitsToFloat(half << 16); }

  static void bfloat16() throws Exception {
    ShortBuffer x = BatchNorm2d.shorts(SIZE), dy = BatchNorm2d.shorts(SIZE), y = BatchNorm2d.shorts(SIZE);
    ShortBuffer dx = BatchNorm2d.shorts(SIZE), dz = BatchNorm2d.shorts(SIZE);
    inputs(true, (i, v) -> x.put(i, bits(v)), (i, v) -> dy.put(i, bits(v)));
    try (BatchNorm2d bn = new BatchNorm2d(CHANNELS)) {
      floatAffine(bn);
      BatchNorm2d.Fused fused = new BatchNorm2d.Fused().z(dy).relu().layout(BatchNorm2d.Layout.NHWC)
          .dtype(BatchNorm2d.DType.BF16);
      try (BatchNorm2d.Record record = bn.forward(x, 8, 32, 32, y, fused)) {
        bn.backward(record, dy, dx, dz);
      }
      float[] mean = bn.getFloats("running_mean");
      compare("bf16", Map.of("y", new Values(SIZE, i -> value(y.get(i))), "dx", new Values(SIZE, i -> value(dx.get(i))),
          "dz", new Values(SIZE, i -> value(dz.get(i))), "running_mean", new Values(CHANNELS, i -> mean[i])), 37);
    }
  }

  static void fails(String status, String message, Runnable call) {
    try {
      call.run();
    } catch (Bn2dException e) {
      require(e.status().equals(status) && e.getMessage().contains(message), e.status() + ": " + e.getMessage());
      return;
    }
    throw new AssertionError("no error: " + message);
  }

  static void errors() {
    BatchNorm2d bn = new BatchNorm2d(3);
    FloatBuffer x = BatchNorm2d.floats(3), y = BatchNorm2d.floats(3), six = BatchNorm2d.floats(6);
    y.put(0, 7);
    fails("BN2D_ERROR_TOO_FEW_VALUES", "batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)",
        () -> bn.forward(x, 1, 1, 1, y));
    require(y.get(0) == 7, "y is as it was");
    fails("BN2D_ERROR_SHAPE", "x has 3 elements, must have 6", () -> bn.forward(x, 1, 1, 2, six));
    fails("BN2D_ERROR_DTYPE", "y is a FloatBuffer on the heap, must be a direct one",
        () -> bn.forward(x, 1, 1, 1, FloatBuffer.allocate(3)));
    fails("BN2D_ERROR_DTYPE", "y is a DoubleBuffer, must be a FloatBuffer",
        () -> bn.forward(x, 1, 1, 1, BatchNorm2d.doubles(3)));
    fails("BN2D_ERROR_DTYPE", "y is an IntBuffer, must be a FloatBuffer",
        () -> bn.forward(x, 1, 1, 1, IntBuffer.allocate(3)));
    FloatBuffer big = ByteBuffer.allocateDirect(12).order(java.nio.ByteOrder.BIG_ENDIAN).asFloatBuffer();
    fails("BN2D_ERROR_DTYPE",
        "x is a FloatBuffer of the order BIG_ENDIAN, must be of the native order LITTLE_ENDIAN",
        () -> bn.forward(big, 1, 1, 1, y));
    // The product of such extents is no length: with two of them it would even fit.
    fails("BN2D_ERROR_SHAPE", "(-3, 3, 2, 2) has a negative extent",
        () -> bn.forward(x, -3, 2, 2, y));
    fails("BN2D_ERROR_SHAPE", "(-1, 3, -1, 1) has a negative extent",
        () -> bn.forward(x, -1, -1, 1, y));
    fails("BN2D_ERROR_DTYPE", "float64", () -> bn.forward(BatchNorm2d.doubles(6), 1, 1, 2, BatchNorm2d.doubles(6)));
    fails("BN2D_ERROR_OVERFLOW", "too large", () -> bn.forward(x, Long.MAX_VALUE, 1, 1, y));
    fails("BN2D_ERROR_STATE", "eval mode", () -> bn.infer(x, 1, 1, 1, y));
    fails("BN2D_ERROR_NOT_FOUND", "gamma", () -> bn.getFloats("gamma"));
    fails("BN2D_ERROR_DTYPE", "weight is float32, not float64", () -> bn.getDoubles("weight"));
    fails("BN2D_ERROR_SHAPE", "the array has 2 elements, weight has 3", () -> bn.set("weight", new float[2]));
    fails("BN2D_ERROR_INVALID_ARGUMENT", "1.5", () -> new BatchNorm2d(3, new BatchNorm2d.Options().momentum(1.5)));
    fails("BN2D_ERROR_NOT_FOUND", "NUL", () -> bn.getFloats("weight\0zz"));
    bn.set("num_batches_tracked", new long[] {42});
    require(bn.numBatchesTracked() == 42, "num_batches_tracked is set");
    FloatBuffer memory = BatchNorm2d.floats(6), readOnly = memory.asReadOnlyBuffer(), more = BatchNorm2d.floats(6);
    fails("BN2D_ERROR_INVALID_ARGUMENT", "y is read-only", () -> bn.forward(six, 1, 1, 2, readOnly));
    BatchNorm2d.Record good = bn.forward(readOnly, 1, 1, 2, more);
    fails("BN2D_ERROR_INVALID_ARGUMENT", "dx is read-only", () -> bn.backward(good, readOnly, six.asReadOnlyBuffer()));
    fails("BN2D_ERROR_INVALID_ARGUMENT", "dz is read-only",
        () -> bn.backward(good, readOnly, six, BatchNorm2d.floats(6).asReadOnlyBuffer()));
    BatchNorm2d half = new BatchNorm2d(3, new BatchNorm2d.Options().dtype(BatchNorm2d.DType.F16));
    require(half.getShorts("weight")[2] == 0x3c00, "bits of 1");
    half.set("weight", new short[] {0, 1, 2});
    require(half.getShorts("weight")[2] == 2, "bits are set");
    fails("BN2D_ERROR_DTYPE", "weight is float16, not float32", () -> half.getFloats("weight"));
    BatchNorm2d plain = new BatchNorm2d(3, new BatchNorm2d.Options().cumulativeAverage().numThreads(1));
    require(plain.toString().contains("momentum=None"), plain.toString());

    // From the position to the limit.
    FloatBuffer part = BatchNorm2d.floats(10), out = BatchNorm2d.floats(6);
    for (int i = 0; i < 10; i++) part.put(i, i);
    part.position(2).limit(8);
    plain.eval();
    plain.infer(part, 1, 1, 2, out);
    require(Math.abs(out.get(0) - 2) < 1e-4 && part.position() == 2, "position");

    BatchNorm2d.Record record = bn.forward(six, 1, 1, 2, BatchNorm2d.floats(6));
    record.close();
    record.close();
    fails("BN2D_ERROR_INVALID_HANDLE", "closed", () -> bn.backward(record, six, six));
    bn.close();
    bn.close();
    fails("BN2D_ERROR_INVALID_HANDLE", "closed", bn::eval);
  }

  static void isNull(String name, Runnable call) {
    fails("BN2D_ERROR_INVALID_ARGUMENT", name + " is null", call);
  }

  /** A null is told of by the argument's name, not as a field that Java cannot read. */
  static void nulls() {
    BatchNorm2d bn = new BatchNorm2d(3);
    FloatBuffer six = BatchNorm2d.floats(6), y = BatchNorm2d.floats(6);
    isNull("options", () -> new BatchNorm2d(3, null));
    isNull("options", () -> new GroupNorm(1, 2, null));
    isNull("options", () -> new InstanceNorm2d(3, null));
    isNull("dtype", () -> new BatchNorm2d.Options().dtype(null));
    isNull("layout", () -> new BatchNorm2d.Fused().layout(null));
    isNull("fused", () -> bn.forward(six, 1, 1, 2, y, null));
    isNull("fused", () -> bn.infer(six, 1, 1, 2, y, null));
    isNull("x", () -> bn.forward(null, 1, 1, 2, y));
    isNull("y", () -> bn.forward(six, 1, 1, 2, null));
    isNull("record", () -> bn.backward(null, six, y));
    BatchNorm2d.Record record = bn.forward(six, 1, 1, 2, y);
    isNull("dy", () -> bn.backward(record, null, six));
    isNull("name", () -> bn.getFloats(null));
    isNull("name", () -> bn.set(null, new float[3]));
    isNull("values", () -> bn.set("weight", (float[]) null));
    isNull("values", () -> bn.set("weight", (double[]) null));
    isNull("values", () -> bn.set("weight", (short[]) null));
    isNull("values", () -> bn.set("num_batches_tracked", (long[]) null));
  }

  /** Each activation by its name, of v = x: eval mode on running statistics of 0 and 1. */
  static void activations() {
    double[] v = {-4, -1, 0.5, 8}, gelu = {-0.000126685, -0.158655254, 0.345731231, 8};
    DoubleBuffer x = BatchNorm2d.doubles(4), y = BatchNorm2d.doubles(4);
    for (int i = 0; i < 4; i++) x.put(i, v[i]);
    BatchNorm2d bn = new BatchNorm2d(1, new BatchNorm2d.Options().eps(0).dtype(BatchNorm2d.DType.F64));
    bn.eval();
    Map<BatchNorm2d.Fused, IntToDoubleFunction> cases = new HashMap<>();
    cases.put(new BatchNorm2d.Fused(), i -> v[i]);
    cases.put(new BatchNorm2d.Fused().relu(), i -> Math.max(v[i], 0));
    cases.put(new BatchNorm2d.Fused().leakyRelu(2), i -> v[i] > 0 ? v[i] : 2 * v[i]);
    cases.put(new BatchNorm2d.Fused().relu6(), i -> Math.min(Math.max(v[i], 0), 6));
    cases.put(new BatchNorm2d.Fused().clamp(2), i -> Math.min(Math.max(v[i], 0), 2));
    cases.put(new BatchNorm2d.Fused().hardswish(), i -> v[i] * Math.min(Math.max(v[i] + 3, 0), 6) / 6);
    cases.put(new BatchNorm2d.Fused().silu(), i -> v[i] / (1 + Math.exp(-v[i])));
    cases.put(new BatchNorm2d.Fused().gelu(), i -> gelu[i]);
    cases.put(new BatchNorm2d.Fused().sigmoid(), i -> 1 / (1 + Math.exp(-v[i])));
    require(cases.size() == BatchNorm2d.Activation.values().length, "all activations");
    cases.put(new BatchNorm2d.Fused().leakyRelu(), i -> v[i] > 0 ? v[i] : 0.01 * v[i]);
    cases.forEach((fused, of) -> {
      bn.infer(x, 1, 2, 2, y, fused);
      for (int i = 0; i < 4; i++)
        require(Math.abs(y.get(i) - of.applyAsDouble(i)) < 1e-8, v[i] + ": " + y.get(i) + ", " + of.applyAsDouble(i));
    });
  }

  static void gives(Norm norm, int n, int c, float[] values, float[] expected) {
    FloatBuffer x = BatchNorm2d.floats(4), y = BatchNorm2d.floats(4);
    x.duplicate().put(values);
    try (BatchNorm2d.Record record = norm.forward(x, n, 1, 4 / n / c, y)) {
      norm.backward(record, x, BatchNorm2d.floats(4));
    }
    for (int i = 0; i < 4; i++) require(Math.abs(y.get(i) - expected[i]) < 1e-4, norm + ": " + y.get(i));
  }

  /** Group, instance and ghost batch norm, told apart by y. */
  static void norms() {
    float[] samples = {0, 2, 10, 12}, alike = {-1, 1, -1, 1};
    GroupNorm group = new GroupNorm(1, 2);
    gives(group, 1, 2, new float[] {0, 0, 2, 2}, new float[] {-1, -1, 1, 1});
    InstanceNorm2d instance = new InstanceNorm2d(1);
    gives(instance, 2, 1, samples, alike);
    BatchNorm2d ghost = new BatchNorm2d(1, new BatchNorm2d.Options().ghostBatchSize(1));
    gives(ghost, 2, 1, samples, alike);
    require(ghost.numBatchesTracked() == 2, "a step of the counter for each ghost batch");
    require(group.toString().startsWith("GroupNorm(1, 2"), group.toString());
    require(group.getFloats("weight").length == 2, "a group norm is affine");
    fails("BN2D_ERROR_NOT_FOUND", "weight", () -> instance.getFloats("weight"));
    BatchNorm2d.Options both = new BatchNorm2d.Options().affine(true).trackRunningStats(true);
    require(new InstanceNorm2d(1, both).getFloats("running_mean").length == 1, "on request");
    fails("BN2D_ERROR_INVALID_ARGUMENT", "momentum", () -> new GroupNorm(1, 2, new BatchNorm2d.Options().momentum(0.1)));
    fails("BN2D_ERROR_INVALID_ARGUMENT", "3", () -> new GroupNorm(2, 3));
  }

  static FloatBuffer filled(IntToDoubleFunction at) {
    FloatBuffer buffer = BatchNorm2d.floats(300_000);
    for (int i = 0; i < buffer.limit(); i++) buffer.put(i, (float) at.applyAsDouble(i));
    return buffer;
  }

  /** Pointwise activations have their argument made again in backward: the record keeps z, too. */
  static void residual() throws Exception {
    FloatBuffer x = filled(i -> i * 37L % 101 / 10.0), dy = filled(i -> i * 13L % 29 / 10.0 - 1);
    FloatBuffer y = filled(i -> 0), dx = filled(i -> 0), expected = filled(i -> 0), z = filled(i -> i * 17L % 23 / 10.0);
    BatchNorm2d bn = new BatchNorm2d(3);
    try (BatchNorm2d.Record record = bn.forward(x, 10, 100, 100, y, new BatchNorm2d.Fused().z(z).silu())) {
      bn.backward(record, dy, expected);
    }
    BatchNorm2d.Record[] kept = new BatchNorm2d.Record[1];
    Thread other = new Thread(
        () -> kept[0] = bn.forward(x, 10, 100, 100, y, new BatchNorm2d.Fused().z(filled(i -> i * 17L % 23 / 10.0)).silu()));
    other.start();
    other.join();
    for (int i = 0; i < 10; i++) {
      System.gc();
      Thread.sleep(5);
      filled(k -> 777);
    }
    bn.backward(kept[0], dy, dx);
    require(dx.equals(expected), "z was gone");
  }

  static long resident() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status")))
      if (line.startsWith("VmRSS:")) return Long.parseLong(line.replaceAll("\\D", ""));
    return 0;
  }

  /** A record keeps its x and outlives its module; many that nobody closes leave nothing behind. */
  static void ownership() throws Exception {
    FloatBuffer x = BatchNorm2d.floats(65536 * 8), y = BatchNorm2d.floats(65536 * 8);
    Runnable round = () -> {
      for (int i = 0; i < 150; i++) {
        BatchNorm2d bn = new BatchNorm2d(65536); // 2 MB of parameters each
        bn.forward(x, 2, 2, 2, y);
        if (i % 20 == 0) {
          System.gc();
          try {
            Thread.sleep(5);
          } catch (InterruptedException e) {
            throw new AssertionError(e);
          }
        }
      }
    };
    round.run();
    long before = resident();
    round.run();
    round.run();
    require(resident() < before + 300_000, "memory grows from " + before + " to " + resident() + " kB");

    BatchNorm2d bn = new BatchNorm2d(3);
    BatchNorm2d.Record record = bn.forward(BatchNorm2d.floats(6), 1, 1, 2, BatchNorm2d.floats(6));
    System.gc();
    bn.backward(record, BatchNorm2d.floats(6), BatchNorm2d.floats(6));
    bn.close();
    record.close();
  }

  static void threads() throws Exception {
    BatchNorm2d bn = new BatchNorm2d(3);
    bn.eval();
    AtomicInteger failed = new AtomicInteger();
    Thread[] threads = new Thread[4];
    for (int t = 0; t < threads.length; t++) {
      float v = t;
      threads[t] = new Thread(() -> {
        FloatBuffer x = BatchNorm2d.floats(24), y = BatchNorm2d.floats(24);
        for (int i = 0; i < 24; i++) x.put(i, v);
        for (int k = 0; k < 200; k++) bn.infer(x, 2, 2, 2, y);
        if (Math.abs(y.get(0) - v) > 1e-4) failed.incrementAndGet();
      });
      threads[t].start();
    }
    for (Thread thread : threads) thread.join();
    require(failed.get() == 0, "inference on several threads");
  }

  public static void main(String[] arguments) throws Exception {
    float32();
    float64();
    bfloat16();
    errors();
    nulls();
    activations();
    norms();
    residual();
    ownership();
    threads();
    System.out.println("Vectors.java: all held");
  }
}
