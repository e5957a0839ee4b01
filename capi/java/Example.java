// SPDX-License-Identifier: MIT
import java.nio.FloatBuffer;
import java.util.Locale;
import org.bn2d.BatchNorm2d;

public final class Example {
  public static void main(String[] arguments) {
    int size = 8 * 64 * 32 * 32; // contiguous (8, 64, 32, 32)
    FloatBuffer x = BatchNorm2d.floats(size), y = BatchNorm2d.floats(size);
    FloatBuffer dy = BatchNorm2d.floats(size), dx = BatchNorm2d.floats(size);
    for (int i = 0; i < size; i++) {
      x.put(i, i % 251 / 100f);
      dy.put(i, 0.5f);
    }

    try (BatchNorm2d bn = new BatchNorm2d(64, new BatchNorm2d.Options().eps(1e-5))) {
      try (BatchNorm2d.Record record = bn.forward(x, 8, 32, 32, y)) { // training
        bn.backward(record, dy, dx); // adds to weight.grad and bias.grad
      }
      bn.eval();
      bn.infer(x, 8, 32, 32, y); // running statistics
      float grad = bn.getFloats("bias.grad")[0];
      System.out.println(String.format(Locale.ROOT, "%s: bias.grad %s, y %.4f", bn, grad, y.get(0)));
    }
  }
}
