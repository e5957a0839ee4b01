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

    /// <summary>Those from Relu6 on are pointwise: their record pins z, too.</summary>
    public enum Activation
    {
        None = Raw.BN2D_ACT_NONE,
        Relu = Raw.BN2D_ACT_RELU,
        /// <summary>Slope: that of the negative side.</summary>
        LeakyRelu = Raw.BN2D_ACT_LEAKY_RELU,
        Relu6 = Raw.BN2D_ACT_RELU6,
        /// <summary>To [0, Slope]: the upper bound, above 0.</summary>
        Clamp = Raw.BN2D_ACT_CLAMP,
        Hardswish = Raw.BN2D_ACT_HARDSWISH,
        Silu = Raw.BN2D_ACT_SILU,
        /// <summary>By erf, not the form with tanh.</summary>
        Gelu = Raw.BN2D_ACT_GELU,
        Sigmoid = Raw.BN2D_ACT_SIGMOID
    }

    /// <summary>
    /// What a module is made with. null, or what is not set: the default of PyTorch for
    /// this norm. A norm refuses what is set and has no meaning for it.
    /// </summary>
    public sealed class Options
    {
        private double? momentum = 0.1;
        private bool momentumIsSet;

        /// <summary>1e-5.</summary>
        public double? Eps { get; set; }
        /// <summary>0.1; null, where that is set: the plain average of all batches.</summary>
        public double? Momentum
        {
            get { return momentum; }
            set { momentum = value; momentumIsSet = true; }
        }
        /// <summary>true; of an instance norm: false.</summary>
        public bool? Affine { get; set; }
        /// <summary>true.</summary>
        public bool? Bias { get; set; }
        /// <summary>true; of an instance norm: false.</summary>
        public bool? TrackRunningStats { get; set; }
        /// <summary>false.</summary>
        public bool? BiasedRunningVar { get; set; }
        /// <summary>false.</summary>
        public bool? ProtectRunningStats { get; set; }
        /// <summary>Of parameters and buffers: F32.</summary>
        public DType? DType { get; set; }
        /// <summary>0: the process's limit alone.</summary>
        public int? NumThreads { get; set; }
        /// <summary>In training, every so many samples are normalised on their own. 0: the whole
        /// batch.</summary>
        public long? GhostBatchSize { get; set; }

        /// Sets on the handle what is set here.
        internal void Apply(OptionsHandle to)
        {
            if (Eps.HasValue)
                Native.Check(Raw.bn2d_options_set_eps(to, Native.WithoutSignOfNaN(Eps.Value)));
            if (momentumIsSet)
            {
                Native.Check(momentum.HasValue
                    ? Raw.bn2d_options_set_momentum(to, Native.WithoutSignOfNaN(momentum.Value))
                    : Raw.bn2d_options_set_momentum_none(to));
            }
            Truth(Affine, value => Raw.bn2d_options_set_affine(to, value));
            Truth(Bias, value => Raw.bn2d_options_set_bias(to, value));
            Truth(TrackRunningStats, value => Raw.bn2d_options_set_track_running_stats(to, value));
            Truth(BiasedRunningVar, value => Raw.bn2d_options_set_biased_running_var(to, value));
            Truth(ProtectRunningStats,
                value => Raw.bn2d_options_set_protect_running_stats(to, value));
            if (DType.HasValue) Native.Check(Raw.bn2d_options_set_dtype(to, (int)DType.Value));
            if (NumThreads.HasValue)
                Native.Check(Raw.bn2d_options_set_num_threads(to, NumThreads.Value));
            if (GhostBatchSize.HasValue)
                Native.Check(Raw.bn2d_options_set_ghost_batch_size(to, GhostBatchSize.Value));
        }

        private static void Truth(bool? value, Func<int, int> set)
        {
            if (value.HasValue) Native.Check(set(value.Value ? 1 : 0));
        }
    }

    /// <summary>y = activation(bn(x) + z), all of one layout.</summary>
    public sealed class Fused<T> where T : struct
    {
        public T[] Z;
        public Activation Activation = Activation.None;
        /// <summary>Of LeakyRelu: null is 0.01. Of Clamp: the upper bound, required. Others ignore
        /// it.</summary>
        public double? Slope;
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

        /// C# makes its NaN with a sign, which C would print: "-nan".
        internal static double WithoutSignOfNaN(double value)
        {
            return double.IsNaN(value) ? BitConverter.Int64BitsToDouble(0x7ff8L << 48) : value;
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
        private long told; // bytes

        internal ModuleHandle(IntPtr value) : base(value) { }

        /// Tells the collector how large the module is: it sees the handle alone. Once, after the
        /// creation; taken back with the module, of which a SafeHandle lets go once.
        internal void Tell(long bytes)
        {
            if (bytes == 0) return; // the collector refuses 0
            GC.AddMemoryPressure(bytes);
            told = bytes;
        }

        protected override bool ReleaseHandle()
        {
            Raw.bn2d_module_release(handle);
            if (told > 0) GC.RemoveMemoryPressure(told);
            return true;
        }
    }

    internal sealed class TensorHandle : Handle
    {
        internal TensorHandle(IntPtr value) : base(value) { }
        protected override bool ReleaseHandle() { Raw.bn2d_tensor_release(handle); return true; }
    }

    /// Keeps the arrays that the record borrows where they are: x, z and y of whichever activation.
    internal sealed class RecordHandle : Handle
    {
        private Pins borrowed;

        internal RecordHandle(IntPtr value, Pins borrowed) : base(value) { this.borrowed = borrowed; }

        protected override bool ReleaseHandle()
        {
            Raw.bn2d_record_release(handle);
            borrowed.Dispose();
            return true;
        }
    }

    /// Holds two handles for one call. P/Invoke does so itself, but where the second one has been
    /// disposed of, Mono's does not let go of the first: that one would never be given back.
    internal struct Held : IDisposable
    {
        private readonly SafeHandle first, second;

        internal Held(SafeHandle first, SafeHandle second)
        {
            this.first = first;
            this.second = second;
            bool firstIsHeld = false, secondIsHeld = false;
            try
            {
                first.DangerousAddRef(ref firstIsHeld);
                second.DangerousAddRef(ref secondIsHeld);
            }
            finally
            {
                if (firstIsHeld && !secondIsHeld) first.DangerousRelease();
            }
        }

        public void Dispose()
        {
            second.DangerousRelease();
            first.DangerousRelease();
        }
    }

    /// <summary>Arrays that stay where they are.</summary>
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
    /// What a forward leaves for its backward. Borrows x, y and z: they are pinned, and
    /// must not change, until it is disposed of (or collected).
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
    /// What all norms are: a module; new ones are in training mode. Infer may run on any
    /// number of threads at once (a batch norm without running statistics: one at a time); what
    /// changes the module needs it alone. Else both throw with "BN2D_ERROR_BUSY".
    /// </summary>
    public abstract class Norm : IDisposable
    {
        internal readonly ModuleHandle handle; // for functions of Raw, too

        /// <summary>Channels.</summary>
        public long NumFeatures { get; }
        /// <summary>Of parameters and buffers.</summary>
        public DType DType { get; }

        internal delegate int Create(SafeHandle options, out IntPtr made);

        internal Norm(Options options, Create create)
        {
            IntPtr made;
            Native.Check(Raw.bn2d_options_create(out made));
            using (var settings = new OptionsHandle(made))
            {
                if (options != null) options.Apply(settings);
                Native.Check(create(settings, out made));
            }
            handle = new ModuleHandle(made);
            long features;
            int dtype;
            Native.Check(Raw.bn2d_module_num_features(handle, out features));
            Native.Check(Raw.bn2d_module_dtype(handle, out dtype));
            NumFeatures = features;
            DType = (DType)dtype;
            handle.Tell(Bytes());
        }

        /// Of parameters, buffers and gradients.
        private long Bytes()
        {
            int count;
            long sum = 0;
            Native.Check(Raw.bn2d_module_tensor_count(handle, out count));
            for (int i = 0; i < count; ++i)
            {
                IntPtr found;
                ulong bytes;
                int kind;
                Native.Check(Raw.bn2d_module_tensor_at(handle, i, out found));
                using (var tensor = new TensorHandle(found))
                {
                    Native.Check(Raw.bn2d_tensor_nbytes(tensor, out bytes));
                    Native.Check(Raw.bn2d_tensor_kind(tensor, out kind));
                }
                sum += (long)bytes * (kind == Raw.BN2D_PARAMETER ? 2 : 1);  // with its gradient
            }
            return sum;
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
            Pins borrowed = Call(x, n, h, w, y, f, made); // the record's from here on
            return new Record(new RecordHandle(made[0], borrowed), DTypeOf(f), f.Layout, x.LongLength);
        }

        /// <summary>
        /// The same in eval mode, for which it asks first: a thread that calls Train in between
        /// makes it train.
        /// </summary>
        public void Infer<T>(T[] x, long n, long h, long w, T[] y, Fused<T> fused = null) where T : struct
        {
            if (IsTraining)
                throw new Bn2dException(Raw.BN2D_ERROR_STATE, "Infer needs eval mode, the module is in training mode");
            Call(x, n, h, w, y, fused ?? new Fused<T>(), null).Dispose();
        }

        /// <summary>dx and dz (each may be null) from dy; adds to weight.grad and bias.grad.</summary>
        public void Backward<T>(Record record, T[] dy, T[] dx, T[] dz = null) where T : struct
        {
            if (record == null) throw new ArgumentNullException(nameof(record));
            Fit("dy", dy, record.DType, record.Length);
            if (dx != null) Fit("dx", dx, record.DType, record.Length);
            if (dz != null) Fit("dz", dz, record.DType, record.Length);
            using (new Held(handle, record.Handle))
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
                var values = new T[Describe<T>(name, tensor, out dtype)];
                using (var pins = new Pins(values, null, null))
                    Native.Check(Raw.bn2d_tensor_copy_to_flat(tensor, (int)dtype, pins[0], values.LongLength));
                return values;
            }
        }

        /// <summary>Sets the elements.</summary>
        public void Set<T>(string name, T[] values) where T : struct
        {
            if (values == null) throw new ArgumentNullException(nameof(values));
            using (TensorHandle tensor = Find(name))
            {
                DType dtype;
                long length = Describe<T>(name, tensor, out dtype);
                if (values.LongLength != length)
                    throw new Bn2dException(Raw.BN2D_ERROR_SHAPE,
                        $"the array has {values.LongLength} elements, {name} has {length}");
                using (var pins = new Pins(values, null, null))
                    Native.Check(Raw.bn2d_tensor_copy_from_flat(tensor, (int)dtype, pins[0], values.LongLength));
            }
        }

        private Pins Call<T>(T[] x, long n, long h, long w, T[] y, Fused<T> f, IntPtr[] record) where T : struct
        {
            DType dtype = DTypeOf(f);
            if (dtype < DType.F32 || dtype > DType.BF16)
                throw new Bn2dException(Raw.BN2D_ERROR_DTYPE,
                    $"DType of Fused is {dtype}, must be F32, F64, F16 or BF16");
            if (n < 0 || h < 0 || w < 0)
                throw new Bn2dException(Raw.BN2D_ERROR_SHAPE,
                    $"({n}, {NumFeatures}, {h}, {w}) has a negative extent");
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
            if (f.Activation == Activation.Clamp && !f.Slope.HasValue)
                throw new Bn2dException(Raw.BN2D_ERROR_INVALID_ARGUMENT, "Clamp needs Slope, its upper bound");
            var pins = new Pins(x, f.Z, y);
            try
            {
                Native.Check(Raw.bn2d_forward_flat(handle, (int)dtype, (int)f.Layout, pins[0], pins[1], n, h, w,
                    (int)f.Activation, Native.WithoutSignOfNaN(f.Slope ?? 0.01), pins[2], record));
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
            if (array != null && !Holds<T>(dtype))
                throw new Bn2dException(Raw.BN2D_ERROR_DTYPE, $"{name} is {Element<T>()}, must be {NameOf(dtype)}");
            if (array == null) throw new ArgumentNullException(name);
            if (array.LongLength != length)
                throw new Bn2dException(Raw.BN2D_ERROR_SHAPE, $"{name} has {array.LongLength} elements, must have {length}");
        }

        private static bool Holds<T>(DType dtype)
        {
            return typeof(T) == (dtype == DType.F32 ? typeof(float) : dtype == DType.F64 ? typeof(double)
                : dtype == DType.I64 ? typeof(long) : typeof(ushort));
        }

        private static string NameOf(DType dtype) { return Native.Text(Raw.bn2d_dtype_name((int)dtype)); }

        /// What an array of T is, in the library's words.
        private static string Element<T>()
        {
            if (Holds<T>(DType.F16)) return NameOf(DType.F16) + " or " + NameOf(DType.BF16);
            foreach (DType dtype in new[] { DType.F32, DType.F64, DType.I64 })
                if (Holds<T>(dtype)) return NameOf(dtype);
            return typeof(T).Name;
        }

        private TensorHandle Find(string name)
        {
            if (name == null) throw new ArgumentNullException(nameof(name));
            if (name.IndexOf('\0') >= 0)
                throw new Bn2dException(Raw.BN2D_ERROR_NOT_FOUND, "a NUL is in the name of a tensor");
            try
            {
                new UTF8Encoding(false, true).GetByteCount(name);
            }
            catch (EncoderFallbackException)
            {
                throw new Bn2dException(Raw.BN2D_ERROR_NOT_FOUND,
                    "half a surrogate pair is in the name of a tensor");
            }
            IntPtr tensor;
            Native.Check(Raw.bn2d_module_tensor_by_name(handle, name, out tensor));
            return new TensorHandle(tensor);
        }

        /// The dtype, which must be that of T, and the length.
        private static long Describe<T>(string name, TensorHandle tensor, out DType dtype) where T : struct
        {
            int number;
            ulong bytes;
            Native.Check(Raw.bn2d_tensor_dtype(tensor, out number));
            Native.Check(Raw.bn2d_tensor_nbytes(tensor, out bytes));
            dtype = (DType)number;
            if (!Holds<T>(dtype))
                throw new Bn2dException(Raw.BN2D_ERROR_DTYPE, $"{name} is {NameOf(dtype)}, not {Element<T>()}");
            return (long)(bytes / Raw.bn2d_dtype_size(number));
        }
    }

    /// <summary>The statistics of a channel of the whole batch, or of ghost batches.</summary>
    public sealed class BatchNorm2d : Norm
    {
        public BatchNorm2d(long numFeatures, Options options = null)
            : base(options, (SafeHandle o, out IntPtr made) =>
                Raw.bn2d_module_create(numFeatures, o, out made))
        {
        }
    }

    /// <summary>
    /// The statistics of numChannels/numGroups channels of a sample; 1 group is a layer
    /// norm over (C, H, W). There are no running statistics, nor options for them; Infer needs eval
    /// mode all the same.
    /// </summary>
    public sealed class GroupNorm : Norm
    {
        public GroupNorm(long numGroups, long numChannels, Options options = null)
            : base(options, (SafeHandle o, out IntPtr made) =>
                Raw.bn2d_group_norm_create(numGroups, numChannels, o, out made))
        {
        }
    }

    /// <summary>The statistics of each channel of each sample.</summary>
    public sealed class InstanceNorm2d : Norm
    {
        public InstanceNorm2d(long numFeatures, Options options = null)
            : base(options, (SafeHandle o, out IntPtr made) =>
                Raw.bn2d_instance_norm_create(numFeatures, o, out made))
        {
        }
    }
}
