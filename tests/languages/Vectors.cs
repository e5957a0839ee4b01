// The values of vectors.txt (vectors.cc tells how they are made) through capi/csharp, errors, and handles given back.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using Bn2d;

internal static class Vectors
{
    private const int Channels = 64, Size = 8 * Channels * 32 * 32;

    /// x and dy in the order of memory.
    private static double[][] Inputs(bool channelsLast)
    {
        long s = 1;
        Func<long> next = () => s = s * 16807 % 2147483647;
        Func<int, int> channel = i => channelsLast ? i % Channels : i / 1024 % Channels;
        double[] x = Enumerable.Range(0, Size).Select(i => (next() % 128 + 2 * channel(i) - 128) / 64.0).ToArray();
        double[] dy = Enumerable.Range(0, Size).Select(i => (next() % 256 - 128) / 64.0).ToArray();
        return new[] { x, dy };
    }

    private static void Affine<T>(Norm bn, Func<double, T> from) where T : struct
    {
        bn.Set("weight", Enumerable.Range(0, Channels).Select(c => from((c % 16 + 8) / 16.0)).ToArray());
        bn.Set("bias", Enumerable.Range(0, Channels).Select(c => from((c % 8 - 4) / 4.0)).ToArray());
    }

    private static void Require(bool condition, string what)
    {
        if (!condition) throw new Exception("failed: " + what);
    }

    /// Compares with every line of a case.
    private static void Compare(string scenario, Dictionary<string, double[]> arrays, int expected)
    {
        int seen = 0;
        foreach (string line in File.ReadLines(Environment.GetEnvironmentVariable("BN2D_VECTORS")))
        {
            string[] words = line.Split(' ');
            if (words[0] != scenario) continue;
            double[] a = arrays[words[1]];
            double got = words[2] == "sum" ? a.Select((v, i) => v * (i % 11 - 5)).Sum() : a[int.Parse(words[2])];
            double value = double.Parse(words[3], CultureInfo.InvariantCulture);
            double tolerance = double.Parse(words[4], CultureInfo.InvariantCulture);
            Require(Math.Abs(got - value) <= tolerance, line + ": got " + got);
            ++seen;
        }
        Require(seen == expected, scenario + ": number of lines");
    }

    private static void Step<T>(string scenario, DType dtype, Func<double, T> from, Func<T, double> to) where T : struct
    {
        T[][] inputs = Inputs(false).Select(values => values.Select(from).ToArray()).ToArray();
        var y = new T[Size];
        var dx = new T[Size];
        var later = new T[Size];
        using (var bn = new BatchNorm2d(Channels, new Options { DType = dtype }))
        {
            Affine(bn, from);
            using (Record record = bn.Forward(inputs[0], 8, 32, 32, y)) bn.Backward(record, inputs[1], dx);
            bn.Eval();
            bn.Infer(inputs[0], 8, 32, 32, later);
            var arrays = new Dictionary<string, T[]> { { "y", y }, { "dx", dx }, { "eval.y", later } };
            foreach (string name in new[] { "weight.grad", "bias.grad", "running_mean", "running_var" })
                arrays[name] = bn.Get<T>(name);
            Compare(scenario, arrays.ToDictionary(a => a.Key, a => a.Value.Select(to).ToArray()), 58);
            Require(bn.Get<long>("num_batches_tracked")[0] == 1, "num_batches_tracked");
        }
    }

    /// bfloat16 is the upper half of a float.
    private static void Half()
    {
        Func<double, ushort> bits = v => (ushort)(BitConverter.ToUInt32(BitConverter.GetBytes((float)v), 0) >> 16);
        Func<ushort, double> value = u => BitConverter.ToSingle(BitConverter.GetBytes((uint)u << 16), 0);
        ushort[][] inputs = Inputs(true).Select(values => values.Select(bits).ToArray()).ToArray();
        var y = new ushort[Size];
        var dx = new ushort[Size];
        var dz = new ushort[Size];
        using (var bn = new BatchNorm2d(Channels))
        {
            Affine(bn, v => (float)v);
            var fused = new Fused<ushort> { Z = inputs[1], Activation = Activation.Relu, Layout = Layout.Nhwc, DType = DType.BF16 };
            using (Record record = bn.Forward(inputs[0], 8, 32, 32, y, fused)) bn.Backward(record, inputs[1], dx, dz);
            var arrays = new Dictionary<string, double[]>
            {
                { "y", y.Select(value).ToArray() },
                { "dx", dx.Select(value).ToArray() },
                { "dz", dz.Select(value).ToArray() },
                { "running_mean", bn.Get<float>("running_mean").Select(v => (double)v).ToArray() }
            };
            Compare("bf16", arrays, 37);
        }
    }

    private static void Fails(string status, string message, Action call)
    {
        try
        {
            call();
        }
        catch (Bn2dException e)
        {
            Require(e.Status == status && e.Message.Contains(message), e.Status + ": " + e.Message);
            return;
        }
        Require(false, "no error: " + message);
    }

    private static void Errors()
    {
        var bn = new BatchNorm2d(3);
        var x = new float[3];
        var y = new float[] { 7, 7, 7 };
        var six = new float[6];
        Fails("BN2D_ERROR_TOO_FEW_VALUES", "batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)",
            () => bn.Forward(x, 1, 1, 1, y));
        Require(y.SequenceEqual(new float[] { 7, 7, 7 }), "y is as it was");
        Fails("BN2D_ERROR_SHAPE", "x has 3 elements, must have 6", () => bn.Forward(x, 1, 1, 2, six));
        Fails("BN2D_ERROR_DTYPE", "weight is float32, not float64", () => bn.Get<double>("weight"));
        Fails("BN2D_ERROR_DTYPE", "weight is float32, not float64", () => bn.Set("weight", new double[3]));
        Fails("BN2D_ERROR_DTYPE", "weight is float32, not float16 or bfloat16", () => bn.Get<ushort>("weight"));
        Fails("BN2D_ERROR_DTYPE", "num_batches_tracked is int64, not Int32", () => bn.Get<int>("num_batches_tracked"));
        Fails("BN2D_ERROR_DTYPE", "x is float64, must be float32",
            () => bn.Forward(new double[3], 1, 1, 1, new double[3], new Fused<double> { DType = DType.F32 }));
        Fails("BN2D_ERROR_DTYPE", "float64", () => bn.Forward(new double[6], 1, 1, 2, new double[6]));
        Fails("BN2D_ERROR_OVERFLOW", "too large", () => bn.Forward(x, long.MaxValue, 1, 1, y));
        Fails("BN2D_ERROR_STATE", "eval mode", () => bn.Infer(x, 1, 1, 1, y));
        Fails("BN2D_ERROR_NOT_FOUND", "gamma", () => bn.Get<float>("gamma"));
        Fails("BN2D_ERROR_SHAPE", "the array has 6 elements, weight has 3",
            () => bn.Set("weight", six));
        // A missing array is told of by the argument's name, not by that of the tensor.
        Throws<ArgumentNullException>(() => bn.Set<float>("weight", null), "values");
        // The product of such extents is no length: with two of them it would even fit.
        Fails("BN2D_ERROR_SHAPE", "(-3, 3, 2, 2) has a negative extent",
            () => bn.Forward(x, -3, 2, 2, y));
        Fails("BN2D_ERROR_SHAPE", "(-1, 3, -1, 1) has a negative extent",
            () => bn.Forward(x, -1, -1, 1, y));
        // A number that is no type is told of as such, not as one that x should have.
        Fails("BN2D_ERROR_DTYPE", "DType of Fused is 77, must be F32, F64, F16 or BF16",
            () => bn.Forward(x, 1, 1, 1, y, new Fused<float> { DType = (DType)77 }));
        // double.NaN has a sign in C#; C would print it.
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "eps is nan",
            () => new BatchNorm2d(3, new Options { Eps = double.NaN }));
        // What has no UTF-8 would be an error of P/Invoke.
        Fails("BN2D_ERROR_NOT_FOUND", "half a surrogate pair", () => bn.Get<float>("w\ud800"));
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "1.5", () => new BatchNorm2d(3, new Options { Momentum = 1.5 }));
        Require(new BatchNorm2d(3, new Options { Momentum = null }).ToString().Contains("momentum=None"), "momentum");
        Fails("BN2D_ERROR_NOT_FOUND", "NUL", () => bn.Get<float>("weight\0zz"));
        Throws<ArgumentNullException>(() => bn.Backward(null, six, six));
        bn.Dispose();
        bn.Dispose();
        Throws<ObjectDisposedException>(bn.Eval);
        Throws<ObjectDisposedException>(() => bn.ToString());
    }

    private static void Throws<T>(Action call, string message = "") where T : Exception
    {
        try
        {
            call();
        }
        catch (T e)
        {
            Require(e.Message.Contains(message), e.Message);
            return;
        }
        Require(false, "no " + typeof(T).Name);
    }

    /// The use of a dead record, or of a live one with a dead module, keeps nothing of the other.
    private static void Disposed()
    {
        var six = new float[6];
        var bn = new BatchNorm2d(3);
        Record dead = bn.Forward(six, 1, 1, 2, new float[6]);
        dead.Dispose();
        Throws<ObjectDisposedException>(() => bn.Backward(dead, six, new float[6]));
        bn.Dispose();
        Throws<ObjectDisposedException>(bn.Eval);

        Action round = () =>
        {
            for (int i = 0; i < 100; ++i)
            {
                var large = new BatchNorm2d(100000);
                Throws<ObjectDisposedException>(() => large.Backward(dead, six, new float[6]));
                large.Dispose();
            }
        };
        round();
        long before = Resident();
        round();
        Require(Resident() < before + 30000, "disposed modules stay: from " + before + " to " + Resident() + " kB");
    }

    /// Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
    private static void Activations()
    {
        float[] x = { -4, -1, 0.5f, 8 };
        double sigma = 1 / (1 + Math.Exp(1)), half = 1 / (1 + Math.Exp(-0.5));
        double tail = 1 / (1 + Math.Exp(4)), large = 1 / (1 + Math.Exp(-8));
        var expected = new Dictionary<Activation, double[]>
        {
            { Activation.None, new[] { -4, -1, 0.5, 8 } },
            { Activation.Relu, new[] { 0, 0, 0.5, 8 } },
            { Activation.LeakyRelu, new[] { -8, -2, 0.5, 8 } },
            { Activation.Relu6, new[] { 0, 0, 0.5, 6 } },
            { Activation.Clamp, new[] { 0, 0, 0.5, 2.0 } },
            { Activation.Hardswish, new[] { 0, -1 / 3.0, 1.75 / 6, 8 } },
            { Activation.Silu, new[] { -4 * tail, -sigma, half / 2, 8 * large } },
            { Activation.Gelu, new[] { -0.000126685, -0.158655254, 0.345731231, 8 } },
            { Activation.Sigmoid, new[] { tail, sigma, half, large } }
        };
        Require(expected.Count == Enum.GetValues(typeof(Activation)).Length, "all activations");
        var bn = new BatchNorm2d(1, new Options { Eps = 0 });
        bn.Eval();
        foreach (KeyValuePair<Activation, double[]> pair in expected)
        {
            var y = new float[4];
            bn.Infer(x, 1, 2, 2, y, new Fused<float> { Activation = pair.Key, Slope = 2 });
            for (int i = 0; i < 4; ++i)
                Require(Math.Abs(y[i] - pair.Value[i]) < 1e-6 * (1 + Math.Abs(pair.Value[i])), pair.Key + " " + y[i]);
        }
        var leaky = new float[4];
        bn.Infer(x, 1, 2, 2, leaky, new Fused<float> { Activation = Activation.LeakyRelu });
        Require(leaky.SequenceEqual(new[] { -0.04f, -0.01f, 0.5f, 8 }), "LeakyRelu without a slope " + leaky[0]);
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "Clamp needs Slope, its upper bound",
            () => bn.Infer(x, 1, 2, 2, new float[4], new Fused<float> { Activation = Activation.Clamp }));
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "99",
            () => bn.Infer(x, 1, 2, 2, new float[4], new Fused<float> { Activation = (Activation)99 }));
    }

    /// Group, instance and ghost batch norm, told apart by y.
    private static void Norms()
    {
        Action<Norm, float[], long, float[]> gives = (norm, x, n, expected) =>
        {
            var y = new float[4];
            using (Record record = norm.Forward(x, n, 1, 4 / n / norm.NumFeatures, y))
                norm.Backward(record, new float[4], new float[4]);
            Require(y.Zip(expected, (a, b) => Math.Abs(a - b)).Max() < 1e-4, norm + ": " + string.Join(" ", y));
        };
        float[] channels = { 0, 0, 2, 2 }, samples = { 0, 2, 10, 12 };
        float[] apart = { -1, -1, 1, 1 }, alike = { -1, 1, -1, 1 };
        var group = new GroupNorm(1, 2); // (1, 2, 1, 2)
        gives(group, channels, 1, apart);
        gives(new GroupNorm(2, 2), new float[] { 0, 2, 10, 12 }, 1, alike);
        var instance = new InstanceNorm2d(1); // (2, 1, 1, 2)
        gives(instance, samples, 2, alike);
        var ghost = new BatchNorm2d(1, new Options { GhostBatchSize = 1 });
        gives(ghost, samples, 2, alike);
        Require(ghost.Get<long>("num_batches_tracked")[0] == 2, "a step of the counter for each ghost batch");
        Require(group.ToString().StartsWith("GroupNorm(1, 2"), group.ToString());
        Require(group.Get<float>("weight").Length == 2, "a group norm is affine");
        Fails("BN2D_ERROR_NOT_FOUND", "weight", () => instance.Get<float>("weight"));
        var options = new Options { Affine = true, TrackRunningStats = true };
        Require(new InstanceNorm2d(1, options).Get<float>("running_mean").Length == 1, "on request");
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "momentum", () => new GroupNorm(1, 2, new Options { Momentum = 0.1 }));
        Fails("BN2D_ERROR_INVALID_ARGUMENT", "3", () => new GroupNorm(2, 3));
    }

    /// Pointwise activations have their argument made again in backward: the record keeps z, too.
    private static void Residual()
    {
        const int size = 3000;
        float[] x = Enumerable.Range(0, size).Select(i => i * 37 % 101 / 10f - 5).ToArray();
        float[] z = Enumerable.Range(0, size).Select(i => i * 17 % 23 / 10f - 1).ToArray();
        float[] dy = Enumerable.Range(0, size).Select(i => i * 13 % 29 / 10f - 1).ToArray();
        var expected = new float[size];
        var dx = new float[size];
        var bn = new BatchNorm2d(3);
        Func<float[], Record> forward = residual => bn.Forward(x, 10, 10, 10, new float[size],
            new Fused<float> { Z = residual, Activation = Activation.Silu });
        using (Record record = forward(z)) bn.Backward(record, dy, expected);
        Record kept = null;
        var other = new Thread(() => kept = forward((float[])z.Clone())); // nothing of it stays on this stack
        other.Start();
        other.Join();
        for (int i = 0; i < 20; ++i)
        {
            GC.Collect();
            for (int k = 0; k < 50; ++k) Enumerable.Repeat(777f, size).ToArray();
        }
        bn.Backward(kept, dy, dx);
        Require(dx.SequenceEqual(expected), "z was gone");
    }

    private static long Resident()
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
        return long.Parse(line.Split(new[] { ' ', '\t' }, StringSplitOptions.RemoveEmptyEntries)[1]);
    }

    /// A record pins its x and outlives its module; many that nobody disposes of leave nothing behind.
    private static void Ownership()
    {
        Action round = () =>
        {
            for (int i = 0; i < 2000; ++i) new BatchNorm2d(256).Forward(new float[2048], 2, 2, 2, new float[2048]);
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
        };
        round();
        round();
        long before = Resident();
        for (int i = 0; i < 4; ++i) round();
        Require(Resident() < before + 30000, "memory grows from " + before + " to " + Resident() + " kB");

        var bn = new BatchNorm2d(3);
        var x = new float[] { 1, 2, 3, 4, 5, 6 };
        var y = new float[6];
        using (Record record = bn.Forward(x, 1, 1, 2, y))
        {
            GC.Collect();
            bn.Backward(record, new float[6], y);
            bn.Dispose();
        }
    }

    private static void Threads()
    {
        var bn = new BatchNorm2d(3);
        bn.Eval();
        int failed = 0;
        Thread[] threads = Enumerable.Range(0, 4).Select(i => new Thread(() =>
        {
            float[] x = Enumerable.Repeat((float)i, 24).ToArray();
            var y = new float[24];
            for (int k = 0; k < 100; ++k) bn.Infer(x, 2, 2, 2, y);
            if (Math.Abs(y[0] - i) > 1e-4) Interlocked.Increment(ref failed);
        })).ToArray();
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
        Require(failed == 0, "inference on several threads");
    }

    private static void Main()
    {
        Step("f32", DType.F32, v => (float)v, v => v);
        Step("f64", DType.F64, v => v, v => v);
        Half();
        Errors();
        Disposed();
        Activations();
        Norms();
        Residual();
        Ownership();
        Threads();
        Console.WriteLine("Vectors.cs: all held");
    }
}
