// SPDX-License-Identifier: MIT
using System;
using System.Linq;
using Bn2d;

internal static class Example
{
    private static void Main()
    {
        float[] x = Enumerable.Range(0, 8 * 64 * 32 * 32).Select(i => i % 251 / 100f).ToArray(); // (8, 64, 32, 32)
        float[] dy = Enumerable.Repeat(0.5f, x.Length).ToArray();
        var y = new float[x.Length];
        var dx = new float[x.Length];

        using (var bn = new BatchNorm2d(64, new Options { Eps = 1e-5 }))
        {
            using (Record record = bn.Forward(x, 8, 32, 32, y)) // training; pins x and y
                bn.Backward(record, dy, dx); // adds to weight.grad and bias.grad
            bn.Eval();
            bn.Infer(x, 8, 32, 32, y); // running statistics
            FormattableString line = $"{bn}: bias.grad {bn.Get<float>("bias.grad")[0]}, y {y[0]:F4}";
            Console.WriteLine(FormattableString.Invariant(line));
        }
    }
}
