// SPDX-License-Identifier: MIT
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Bn2d
{
    /// <summary>A call that failed. Nothing has changed.</summary>
    public sealed class Bn2dException : Exception
    {
        /// <summary>The name of the status, "BN2D_ERROR_SHAPE".</summary>
        public string Status { get; }

        internal Bn2dException(int status, string message) : base(message)
        {
            Status = Native.Text(Raw.bn2d_status_name(status));
        }
    }

    public enum DType { F32 = Raw.BN2D_F32, F64 = Raw.BN2D_F64, F16 = Raw.BN2D_F16, BF16 = Raw.BN2D_BF16, I64 = Raw.BN2D_I64 }

    public enum Layout { Nchw = Raw.BN2D_NCHW, Nhwc = Raw.BN2D_NHWC }

    public enum Activation { None = Raw.BN2D_ACT_NONE, Relu = Raw.BN2D_ACT_RELU, LeakyRelu = Raw.BN2D_ACT_LEAKY_RELU }

    /// <summary>What a module is made with; the defaults are PyTorch's.</summary>
    public sealed class Options
    {
        public double Eps = 1e-5;
        /// <summary>null: the plain average of all batches.</summary>
        public double? Momentum = 0.1;
        public bool Affine = true, Bias = true, TrackRunningStats = true;
        public bool BiasedRunningVar, ProtectRunningStats;
        public DType DType = DType.F32;
        /// <summary>0: the process's limit alone.</summary>
        public int NumThreads;
    }

    /// <summary>y = activation(bn(x) + z), all of one layout.</summary>
    public sealed class Fused<T> where T : struct
    {
        public T[] Z;
        public Activation Activation = Activation.None;
        public double Slope;
        public Layout Layout = Layout.Nchw;
        /// <summary>For ushort[], the bits of a half type: F16 or BF16.</summary>
        public DType? DType;
    }

    internal static class Native
    {
        internal static string Text(IntPtr utf8)
        {
            var bytes = new List<byte>();
            for (byte b; (b = Marshal.ReadByte(utf8, bytes.Count)) != 0;) bytes.Add(b);
            return Encoding.UTF8.GetString(bytes.ToArray());
        }

        /// The text of the last error is the thread's; no other call comes between.
        internal static void Check(int status)
        {
            if (status != Raw.BN2D_OK) throw new Bn2dException(status, Text(Raw.bn2d_last_error()));
        }
    }

    internal abstract class Handle : SafeHandle
    {
        protected Handle(IntPtr value) : base(IntPtr.Zero, true) { SetHandle(value); }

        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
    }

    internal sealed class OptionsHandle : Handle
    {
        internal OptionsHandle(IntPtr value) : base(value) { }
        protected override bool ReleaseHandle() { Raw.bn2d_options_release(handle); return true; }
    }

    internal sealed class ModuleHandle : Handle
    {
        internal ModuleHandle(IntPtr value) : base(value) { }
        protected override bool ReleaseHandle() { Raw.bn2d_module_release(handle); return true; }
    }

    internal sealed class TensorHandle : Handle
    {
        internal TensorHandle(IntPtr value) : base(value) { }
        protected override bool ReleaseHandle() { Raw.bn2d_tensor_release(handle); return true; }
    }

    /// Keeps the arrays that the record borrows where they are.
    internal sealed class RecordHandle : Handle
    {
        private readonly GCHandle x, y;

        internal RecordHandle(IntPtr value, object x, object y) : base(value)
        {
            this.x = GCHandle.Alloc(x, GCHandleType.Pinned);
            this.y = GCHandle.Alloc(y, GCHandleType.Pinned);
        }

        protected override bool ReleaseHandle()
        {
            Raw.bn2d_record_release(handle);
            x.Free();
            y.Free();
            return true;
        }
    }

    /// <summary>Arrays that stay where they are for one call.</summary>
    internal struct Pins : IDisposable
    {
        private GCHandle first, second, third;

        internal Pins(Array first, Array second, Array third)
        {
            this.first = this.second = this.third = default(GCHandle);
            this.first = GCHandle.Alloc(first, GCHandleType.Pinned);
            this.second = GCHandle.Alloc(second, GCHandleType.Pinned);
            this.third = GCHandle.Alloc(third, GCHandleType.Pinned);
        }

        internal IntPtr this[int index]
        {
            get
            {
                GCHandle pin = index == 0 ? first : index == 1 ? second : third;
                return pin.Target == null ? IntPtr.Zero : pin.AddrOfPinnedObject();
            }
        }

        public void Dispose()
        {
            first.Free();
            second.Free();
            third.Free();
        }
    }

    /// <summary>
    /// What a forward leaves for its backward. Borrows x and y: they are pinned, and must not change, until it is disposed of
    /// (or collected).
    /// </summary>
    public sealed class Record : IDisposable
    {
        internal readonly RecordHandle Handle;
        internal readonly DType DType;
        internal readonly Layout Layout;
        internal readonly long Length;

        internal Record(RecordHandle handle, DType dtype, Layout layout, long length)
        {
            Handle = handle;
            DType = dtype;
            Layout = layout;
            Length = length;
        }

        public void Dispose() { Handle.Dispose(); }
    }

    /// <summary>
    /// A BatchNorm2d module; new ones are in training mode. Infer may run on any number of threads at once; what changes the
    /// module needs it alone, else it throws with "BN2D_ERROR_BUSY".
    /// </summary>
    public sealed class BatchNorm2d : IDisposable
    {
        private readonly ModuleHandle handle;

        public long NumFeatures { get; }
        public DType DType { get; }

        public BatchNorm2d(long numFeatures, Options options = null)
        {
            Options o = options ?? new Options();
            IntPtr made;
            Native.Check(Raw.bn2d_options_create(out made));
            using (var settings = new OptionsHandle(made))
            {
                Native.Check(Raw.bn2d_options_set_eps(settings, o.Eps));
                Native.Check(o.Momentum.HasValue
                    ? Raw.bn2d_options_set_momentum(settings, o.Momentum.Value)
                    : Raw.bn2d_options_set_momentum_none(settings));
                Native.Check(Raw.bn2d_options_set_affine(settings, o.Affine ? 1 : 0));
                Native.Check(Raw.bn2d_options_set_bias(settings, o.Bias ? 1 : 0));
                Native.Check(Raw.bn2d_options_set_track_running_stats(settings, o.TrackRunningStats ? 1 : 0));
                Native.Check(Raw.bn2d_options_set_biased_running_var(settings, o.BiasedRunningVar ? 1 : 0));
                Native.Check(Raw.bn2d_options_set_protect_running_stats(settings, o.ProtectRunningStats ? 1 : 0));
                Native.Check(Raw.bn2d_options_set_dtype(settings, (int)o.DType));
                Native.Check(Raw.bn2d_options_set_num_threads(settings, o.NumThreads));
                Native.Check(Raw.bn2d_module_create(numFeatures, settings, out made));
            }
            handle = new ModuleHandle(made);
            NumFeatures = numFeatures;
            DType = o.DType;
        }

        public void Dispose() { handle.Dispose(); }

        public override string ToString()
        {
            var buffer = new byte[512];
            var length = new ulong[1];
            Native.Check(Raw.bn2d_module_repr(handle, buffer, (ulong)buffer.Length, length));
            return Encoding.UTF8.GetString(buffer, 0, (int)length[0]);
        }

        public bool IsTraining
        {
            get
            {
                int training;
                Native.Check(Raw.bn2d_module_is_training(handle, out training));
                return training != 0;
            }
        }

        public void Train(bool training = true) { Native.Check(Raw.bn2d_module_train(handle, training ? 1 : 0)); }
        public void Eval() { Train(false); }
        public void ZeroGrad() { Native.Check(Raw.bn2d_module_zero_grad(handle)); }
        public void ResetRunningStats() { Native.Check(Raw.bn2d_module_reset_running_stats(handle)); }

        /// <summary>Limits the threads of this module's calls; 0: the process's limit alone.</summary>
        public void SetNumThreads(int threads) { Native.Check(Raw.bn2d_module_set_num_threads(handle, threads)); }

        /// <summary>Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.</summary>
        public static void SetProcessNumThreads(int threads) { Native.Check(Raw.bn2d_set_num_threads(threads)); }

        /// <summary>y = activation(bn(x) + z), recorded. T: float, double, or ushort for the bits of a half type.</summary>
        public Record Forward<T>(T[] x, long n, long h, long w, T[] y, Fused<T> fused = null) where T : struct
        {
            var made = new IntPtr[1];
            Fused<T> f = fused ?? new Fused<T>();
            using (Pins pins = Call(x, n, h, w, y, f, made)) // x and y do not move before the record pins them
                return new Record(new RecordHandle(made[0], x, y), DTypeOf(f), f.Layout, x.LongLength);
        }

        /// <summary>The same in eval mode.</summary>
        public void Infer<T>(T[] x, long n, long h, long w, T[] y, Fused<T> fused = null) where T : struct
        {
            if (IsTraining)
                throw new Bn2dException(Raw.BN2D_ERROR_STATE, "Infer needs eval mode, the module is in training mode");
            Call(x, n, h, w, y, fused ?? new Fused<T>(), null).Dispose();
        }

        /// <summary>dx and dz (each may be null) from dy; adds to weight.grad and bias.grad.</summary>
        public void Backward<T>(Record record, T[] dy, T[] dx, T[] dz = null) where T : struct
        {
            Fit("dy", dy, record.DType, record.Length);
            if (dx != null) Fit("dx", dx, record.DType, record.Length);
            if (dz != null) Fit("dz", dz, record.DType, record.Length);
            using (var pins = new Pins(dy, dx, dz))
            {
                Native.Check(Raw.bn2d_backward_flat(handle, record.Handle, (int)record.DType, (int)record.Layout,
                    pins[0], pins[1], pins[2]));
            }
        }

        /// <summary>
        /// A copy of a parameter, buffer or gradient: "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
        /// (one long), "weight.grad", "bias.grad".
        /// </summary>
        public T[] Get<T>(string name) where T : struct
        {
            using (TensorHandle tensor = Find(name))
            {
                DType dtype;
                var values = new T[Describe(tensor, out dtype)];
                Fit(name, values, dtype, values.LongLength);
                using (var pins = new Pins(values, null, null))
                    Native.Check(Raw.bn2d_tensor_copy_to_flat(tensor, (int)dtype, pins[0], values.LongLength));
                return values;
            }
        }

        /// <summary>Sets the elements.</summary>
        public void Set<T>(string name, T[] values) where T : struct
        {
            using (TensorHandle tensor = Find(name))
            {
                DType dtype;
                long length = Describe(tensor, out dtype);
                Fit(name, values, dtype, length);
                using (var pins = new Pins(values, null, null))
                    Native.Check(Raw.bn2d_tensor_copy_from_flat(tensor, (int)dtype, pins[0], values.LongLength));
            }
        }

        private Pins Call<T>(T[] x, long n, long h, long w, T[] y, Fused<T> f, IntPtr[] record) where T : struct
        {
            DType dtype = DTypeOf(f);
            long length = 0;
            try
            {
                length = checked(n * NumFeatures * h * w);
            }
            catch (OverflowException)
            {
                throw new Bn2dException(Raw.BN2D_ERROR_OVERFLOW, $"({n}, {NumFeatures}, {h}, {w}) is too large");
            }
            Fit("x", x, dtype, length);
            Fit("y", y, dtype, length);
            if (f.Z != null) Fit("z", f.Z, dtype, length);
            var pins = new Pins(x, f.Z, y);
            try
            {
                Native.Check(Raw.bn2d_forward_flat(handle, (int)dtype, (int)f.Layout, pins[0], pins[1], n, h, w,
                    (int)f.Activation, f.Slope, pins[2], record));
                return pins;
            }
            catch
            {
                pins.Dispose();
                throw;
            }
        }

        private DType DTypeOf<T>(Fused<T> fused) where T : struct
        {
            if (fused.DType.HasValue) return fused.DType.Value;
            return typeof(T) == typeof(float) ? DType.F32 : typeof(T) == typeof(double) ? DType.F64 : DType;
        }

        private static void Fit<T>(string name, T[] array, DType dtype, long length) where T : struct
        {
            if (array == null) throw new ArgumentNullException(name);
            Type element = dtype == DType.F32 ? typeof(float) : dtype == DType.F64 ? typeof(double)
                : dtype == DType.I64 ? typeof(long) : typeof(ushort);
            if (typeof(T) != element)
                throw new Bn2dException(Raw.BN2D_ERROR_DTYPE, $"{name} is {typeof(T).Name}[], {dtype} needs {element.Name}[]");
            if (array.LongLength != length)
                throw new Bn2dException(Raw.BN2D_ERROR_SHAPE, $"{name} has {array.LongLength} elements, must have {length}");
        }

        private TensorHandle Find(string name)
        {
            IntPtr tensor;
            Native.Check(Raw.bn2d_module_tensor_by_name(handle, name, out tensor));
            return new TensorHandle(tensor);
        }

        private static long Describe(TensorHandle tensor, out DType dtype)
        {
            int number;
            ulong bytes;
            Native.Check(Raw.bn2d_tensor_dtype(tensor, out number));
            Native.Check(Raw.bn2d_tensor_nbytes(tensor, out bytes));
            dtype = (DType)number;
            return (long)(bytes / Raw.bn2d_dtype_size(number));
        }
    }
}
