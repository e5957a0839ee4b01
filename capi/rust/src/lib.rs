// SPDX-License-Identifier: MIT
//! Batch normalisation over (N, C, H, W) on the CPU: `torch.nn.BatchNorm2d` on slices, without a copy.
//!
//! Ownership: a module and a record give their handle back when they are dropped, in any order. A
//! [`Record`] borrows x (and y and z of a fused forward), so that the compiler keeps them in place
//! until the last backward.
//!
//! Threads: [`Norm::infer`] takes `&self` and may run on any number of threads at once (a batch
//! norm without running statistics: one at a time, else `BN2D_ERROR_BUSY`; group and instance norms
//! in eval mode: any number). What changes the module takes `&mut self`. Everything is `Send` and
//! `Sync`.
//!
//! Errors: [`Error`] has the status (a `BN2D_ERROR_*` of [`raw`]) and the library's message; nothing has changed then.
//!
//! Not covered: see README.md. [`raw`] has all of it.

pub mod raw;

use std::ffi::{CStr, CString};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{null, null_mut, NonNull};

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub status: i32,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = unsafe { CStr::from_ptr(raw::bn2d_status_name(self.status)) };
        write!(f, "{}: {}", name.to_string_lossy(), self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

fn error<T>(status: i32, message: String) -> Result<T> {
    Err(Error { status, message })
}

fn check(status: i32) -> Result<()> {
    if status == raw::BN2D_OK {
        return Ok(());
    }
    // The text is this thread's; no other call of the library comes between.
    let message = unsafe { CStr::from_ptr(raw::bn2d_last_error()) };
    error(status, message.to_string_lossy().into_owned())
}

mod sealed {
    pub trait Sealed {}
}

/// An element type of the library. Not for other types: the library reads and writes the memory.
pub trait Element: Copy + sealed::Sealed {
    const DTYPE: i32;
}

/// The bits of an IEEE binary16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The bits of a bfloat16: the upper half of an `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Bf16(pub u16);

macro_rules! element {
    ($($type:ty, $dtype:ident);*) => {
        $(impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: i32 = raw::$dtype;
        })*
    };
}
element!(f32, BN2D_F32; f64, BN2D_F64; F16, BN2D_F16; Bf16, BN2D_BF16; i64, BN2D_I64);

/// What a module is made with; `..Default::default()` is what PyTorch has.
#[derive(Debug, Clone)]
pub struct Options {
    pub eps: f64,
    /// `None`: the plain average of all batches.
    pub momentum: Option<f64>,
    pub affine: bool,
    pub bias: bool,
    pub track_running_stats: bool,
    pub biased_running_var: bool,
    pub protect_running_stats: bool,
    /// `Element::DTYPE` of parameters and buffers.
    pub dtype: i32,
    /// 0: the process's limit alone.
    pub num_threads: i32,
    /// In training, every so many samples are normalised on their own. 0: the whole batch.
    pub ghost_batch_size: i64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            eps: 1e-5,
            momentum: Some(0.1),
            affine: true,
            bias: true,
            track_running_stats: true,
            biased_running_var: false,
            protect_running_stats: false,
            dtype: raw::BN2D_F32,
            num_threads: 0,
            ghost_batch_size: 0,
        }
    }
}

impl Options {
    /// The defaults of an instance norm: neither affine nor running statistics.
    pub fn instance() -> Self {
        Options { affine: false, track_running_stats: false, ..Default::default() }
    }

    /// For a group norm a field equal to its default is not passed on, because the library refuses
    /// any that is set.
    fn apply(&self, to: *mut raw::bn2d_options, norm: i32) -> Result<()> {
        let plain = Options::default();
        let all = norm != raw::BN2D_NORM_GROUP;
        unsafe {
            check(raw::bn2d_options_set_eps(to, self.eps))?;
            if all || self.momentum != plain.momentum {
                check(match self.momentum {
                    Some(momentum) => raw::bn2d_options_set_momentum(to, momentum),
                    None => raw::bn2d_options_set_momentum_none(to),
                })?;
            }
            check(raw::bn2d_options_set_affine(to, self.affine as i32))?;
            check(raw::bn2d_options_set_bias(to, self.bias as i32))?;
            if all || !self.track_running_stats {
                let track = self.track_running_stats as i32;
                check(raw::bn2d_options_set_track_running_stats(to, track))?;
            }
            if all || self.biased_running_var {
                check(raw::bn2d_options_set_biased_running_var(
                    to,
                    self.biased_running_var as i32,
                ))?;
            }
            if all || self.protect_running_stats {
                let protect = self.protect_running_stats as i32;
                check(raw::bn2d_options_set_protect_running_stats(to, protect))?;
            }
            if self.ghost_batch_size != 0 {
                check(raw::bn2d_options_set_ghost_batch_size(to, self.ghost_batch_size))?;
            }
            check(raw::bn2d_options_set_dtype(to, self.dtype))?;
            check(raw::bn2d_options_set_num_threads(to, self.num_threads))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Nchw,
    /// channels_last
    Nhwc,
}

/// From `Relu6` on they are pointwise: backward reads x and z again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    None,
    Relu,
    /// With the slope of the negative side; PyTorch's is 0.01.
    LeakyRelu(f64),
    Relu6,
    /// To 0 and this bound, which is above 0.
    Clamp(f64),
    Hardswish,
    Silu,
    /// By erf, not the form with tanh.
    Gelu,
    Sigmoid,
}

impl Activation {
    /// As the library wants it: the number, and the slope or bound.
    fn numbers(self) -> (i32, f64) {
        match self {
            Activation::None => (raw::BN2D_ACT_NONE, 0.0),
            Activation::Relu => (raw::BN2D_ACT_RELU, 0.0),
            Activation::LeakyRelu(slope) => (raw::BN2D_ACT_LEAKY_RELU, slope),
            Activation::Relu6 => (raw::BN2D_ACT_RELU6, 0.0),
            Activation::Clamp(bound) => (raw::BN2D_ACT_CLAMP, bound),
            Activation::Hardswish => (raw::BN2D_ACT_HARDSWISH, 0.0),
            Activation::Silu => (raw::BN2D_ACT_SILU, 0.0),
            Activation::Gelu => (raw::BN2D_ACT_GELU, 0.0),
            Activation::Sigmoid => (raw::BN2D_ACT_SIGMOID, 0.0),
        }
    }
}

/// y = activation(bn(x) + z), all of one layout.
#[derive(Debug, Clone, Copy)]
pub struct Fused<'z, T> {
    pub z: Option<&'z [T]>,
    pub activation: Activation,
    pub layout: Layout,
}

impl<T> Default for Fused<'_, T> {
    fn default() -> Self {
        Fused { z: None, activation: Activation::None, layout: Layout::Nchw }
    }
}

/// N, H and W of a tensor; C is the module's.
pub type Extents = (usize, usize, usize);

/// What a forward leaves for its backward. Borrows x, and y and z of a fused forward.
#[derive(Debug)]
pub struct Record<'a> {
    handle: NonNull<raw::bn2d_record>,
    length: usize,
    layout: Layout,
    borrowed: PhantomData<&'a [u8]>,
}

unsafe impl Send for Record<'_> {}
unsafe impl Sync for Record<'_> {}

impl Record<'_> {
    /// For the functions of [`raw`]; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut raw::bn2d_record {
        self.handle.as_ptr()
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        unsafe { raw::bn2d_record_release(self.handle.as_ptr()) }
    }
}

/// A module: batch norm, or one of its kin; new ones are in training mode.
#[derive(Debug)]
pub struct Norm {
    handle: NonNull<raw::bn2d_module>,
    num_features: usize,
}

/// `BatchNorm2d::new` is a batch norm.
pub type BatchNorm2d = Norm;

unsafe impl Send for Norm {}
unsafe impl Sync for Norm {}

impl Drop for Norm {
    fn drop(&mut self) {
        unsafe { raw::bn2d_module_release(self.handle.as_ptr()) }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 512];
        let buffer = text.as_mut_ptr().cast();
        let status = unsafe {
            raw::bn2d_module_repr(self.handle.as_ptr(), buffer, text.len() as u64, null_mut())
        };
        check(status).map_err(|_| fmt::Error)?;
        write!(f, "{}", unsafe { CStr::from_ptr(text.as_ptr().cast()) }.to_string_lossy())
    }
}

fn layout_number(layout: Layout) -> i32 {
    match layout {
        Layout::Nchw => raw::BN2D_NCHW,
        Layout::Nhwc => raw::BN2D_NHWC,
    }
}

fn fit(name: &str, length: usize, expected: usize) -> Result<()> {
    if length == expected {
        return Ok(());
    }
    error(raw::BN2D_ERROR_SHAPE, format!("{name} has {length} elements, must have {expected}"))
}

/// A number as the library counts: signed.
fn number(name: &str, value: usize) -> Result<i64> {
    i64::try_from(value).or_else(|_| {
        error(raw::BN2D_ERROR_OVERFLOW, format!("{name} is {value}, can be at most {}", i64::MAX))
    })
}

impl Norm {
    /// A batch norm: the statistics of a channel of the whole batch, or of ghost batches.
    pub fn new(num_features: usize, options: &Options) -> Result<Self> {
        let c = number("num_features", num_features)?;
        Self::create(num_features, options, raw::BN2D_NORM_BATCH, |o, out| unsafe {
            raw::bn2d_module_create(c, o, out)
        })
    }

    /// A group norm: the statistics of num_channels / num_groups channels of a sample. 1 group is a
    /// layer norm over (C, H, W). There are no running statistics, and options for them are an
    /// error; infer needs eval mode all the same.
    pub fn group(num_groups: usize, num_channels: usize, options: &Options) -> Result<Self> {
        let (g, c) = (number("num_groups", num_groups)?, number("num_channels", num_channels)?);
        Self::create(num_channels, options, raw::BN2D_NORM_GROUP, |o, out| unsafe {
            raw::bn2d_group_norm_create(g, c, o, out)
        })
    }

    /// An instance norm: the statistics of each channel of each sample. [`Options::instance`] has
    /// the defaults.
    pub fn instance(num_features: usize, options: &Options) -> Result<Self> {
        let c = number("num_features", num_features)?;
        Self::create(num_features, options, raw::BN2D_NORM_INSTANCE, |o, out| unsafe {
            raw::bn2d_instance_norm_create(c, o, out)
        })
    }

    fn create(
        num_features: usize,
        options: &Options,
        norm: i32,
        make: impl Fn(*const raw::bn2d_options, *mut *mut raw::bn2d_module) -> i32,
    ) -> Result<Self> {
        let (mut settings, mut out) = (null_mut(), null_mut());
        check(unsafe { raw::bn2d_options_create(&mut settings) })?;
        let made = options.apply(settings, norm).and_then(|()| check(make(settings, &mut out)));
        unsafe { raw::bn2d_options_release(settings) };
        made?;
        Ok(Norm { handle: NonNull::new(out).expect("a module"), num_features })
    }

    /// For the functions of [`raw`]; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut raw::bn2d_module {
        self.handle.as_ptr()
    }

    pub fn num_features(&self) -> usize {
        self.num_features
    }

    /// Training mode, or eval mode.
    pub fn train(&mut self, training: bool) -> Result<()> {
        check(unsafe { raw::bn2d_module_train(self.handle.as_ptr(), training as i32) })
    }

    pub fn eval(&mut self) -> Result<()> {
        self.train(false)
    }

    pub fn is_training(&self) -> bool {
        let mut training = 0;
        unsafe { raw::bn2d_module_is_training(self.handle.as_ptr(), &mut training) };
        training != 0
    }

    /// Limits the threads of this module's calls; 0: the process's limit alone.
    pub fn set_num_threads(&mut self, threads: i32) -> Result<()> {
        check(unsafe { raw::bn2d_module_set_num_threads(self.handle.as_ptr(), threads) })
    }

    pub fn zero_grad(&mut self) -> Result<()> {
        check(unsafe { raw::bn2d_module_zero_grad(self.handle.as_ptr()) })
    }

    pub fn reset_running_stats(&mut self) -> Result<()> {
        check(unsafe { raw::bn2d_module_reset_running_stats(self.handle.as_ptr()) })
    }

    /// y = bn(x), contiguous NCHW, recorded for backward.
    pub fn forward<'a, T: Element>(
        &mut self,
        x: &'a [T],
        extents: Extents,
        y: &mut [T],
    ) -> Result<Record<'a>> {
        self.record(x, extents, y, &Fused::default())
    }

    /// y = activation(bn(x) + z), recorded. Backward may read y and z: y comes back as a shared
    /// slice.
    pub fn forward_fused<'a, T: Element>(
        &mut self,
        x: &'a [T],
        extents: Extents,
        y: &'a mut [T],
        fused: &Fused<'a, T>,
    ) -> Result<(&'a [T], Record<'a>)> {
        let record = self.record(x, extents, y, fused)?;
        Ok((y, record))
    }

    /// y = bn(x) in eval mode.
    pub fn infer<T: Element>(&self, x: &[T], extents: Extents, y: &mut [T]) -> Result<()> {
        self.infer_fused(x, extents, y, &Fused::default())
    }

    /// y = activation(bn(x) + z) in eval mode.
    pub fn infer_fused<T: Element>(
        &self,
        x: &[T],
        extents: Extents,
        y: &mut [T],
        fused: &Fused<'_, T>,
    ) -> Result<()> {
        if self.is_training() {
            return error(
                raw::BN2D_ERROR_STATE,
                "infer needs eval mode, the module is in training mode".into(),
            );
        }
        self.call(x, extents, y, fused, null_mut())
    }

    fn record<'a, T: Element>(
        &mut self,
        x: &'a [T],
        extents: Extents,
        y: &mut [T],
        fused: &Fused<'a, T>,
    ) -> Result<Record<'a>> {
        let mut out = null_mut();
        self.call(x, extents, y, fused, &mut out)?;
        let handle = NonNull::new(out).expect("a record");
        Ok(Record { handle, length: x.len(), layout: fused.layout, borrowed: PhantomData })
    }

    fn call<T: Element>(
        &self,
        x: &[T],
        (n, h, w): Extents,
        y: &mut [T],
        fused: &Fused<'_, T>,
        record: *mut *mut raw::bn2d_record,
    ) -> Result<()> {
        let extents = (number("extent N", n)?, number("extent H", h)?, number("extent W", w)?);
        let product = [self.num_features, h, w]
            .iter()
            .try_fold(n, |product, &extent| product.checked_mul(extent));
        let length = product.ok_or_else(|| Error {
            status: raw::BN2D_ERROR_OVERFLOW,
            message: format!("({n}, {}, {h}, {w}) is too large", self.num_features),
        })?;
        fit("x", x.len(), length)?;
        fit("y", y.len(), length)?;
        fit("z", fused.z.map_or(length, <[T]>::len), length)?;
        let (activation, slope) = fused.activation.numbers();
        check(unsafe {
            raw::bn2d_forward_flat(
                self.handle.as_ptr(),
                T::DTYPE,
                layout_number(fused.layout),
                x.as_ptr().cast(),
                fused.z.map_or(null(), |z| z.as_ptr().cast()),
                extents.0,
                extents.1,
                extents.2,
                activation,
                slope,
                y.as_mut_ptr().cast(),
                record,
            )
        })
    }

    /// dx from dy, in the layout of the forward; adds to weight.grad and bias.grad.
    pub fn backward<T: Element>(
        &mut self,
        record: &Record<'_>,
        dy: &[T],
        dx: &mut [T],
    ) -> Result<()> {
        self.backward_fused(record, dy, Some(dx), None)
    }

    /// dx and dz, each if it is wanted.
    pub fn backward_fused<T: Element>(
        &mut self,
        record: &Record<'_>,
        dy: &[T],
        dx: Option<&mut [T]>,
        dz: Option<&mut [T]>,
    ) -> Result<()> {
        fit("dy", dy.len(), record.length)?;
        let mut outputs = [null_mut(); 2];
        for (output, (name, wanted)) in outputs.iter_mut().zip([("dx", dx), ("dz", dz)]) {
            if let Some(slice) = wanted {
                fit(name, slice.len(), record.length)?;
                *output = slice.as_mut_ptr().cast();
            }
        }
        let layout = layout_number(record.layout);
        let (module, record) = (self.handle.as_ptr(), record.handle.as_ptr());
        let [dx, dz] = outputs;
        check(unsafe {
            raw::bn2d_backward_flat(module, record, T::DTYPE, layout, dy.as_ptr().cast(), dx, dz)
        })
    }

    /// The elements of a parameter, buffer or gradient: "weight", "bias", "running_mean", "running_var",
    /// "num_batches_tracked" (one `i64`), "weight.grad", "bias.grad".
    pub fn tensor<T: Element>(&self, name: &str) -> Result<&[T]> {
        let (data, length) = self.elements::<T>(name)?;
        Ok(unsafe { std::slice::from_raw_parts(data, length) })
    }

    /// The same to be written.
    pub fn tensor_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T]> {
        let (data, length) = self.elements::<T>(name)?;
        Ok(unsafe { std::slice::from_raw_parts_mut(data, length) })
    }

    // The module holds its tensors: their memory stays as long as it does.
    fn elements<T: Element>(&self, name: &str) -> Result<(*mut T, usize)> {
        let text = CString::new(name.replace('\0', "?")).expect("no NUL");
        let (mut tensor, mut dtype, mut bytes, mut data) = (null_mut(), 0, 0, null_mut());
        unsafe {
            check(raw::bn2d_module_tensor_by_name(
                self.handle.as_ptr(),
                text.as_ptr(),
                &mut tensor,
            ))?;
            raw::bn2d_tensor_dtype(tensor, &mut dtype);
            raw::bn2d_tensor_nbytes(tensor, &mut bytes);
            raw::bn2d_tensor_data(tensor, &mut data);
            raw::bn2d_tensor_release(tensor);
        }
        if dtype != T::DTYPE {
            let names = [dtype, T::DTYPE]
                .map(|d| unsafe { CStr::from_ptr(raw::bn2d_dtype_name(d)) }.to_string_lossy());
            return error(
                raw::BN2D_ERROR_DTYPE,
                format!("{name} is {}, not {}", names[0], names[1]),
            );
        }
        Ok((data.cast(), bytes as usize / std::mem::size_of::<T>()))
    }
}

/// Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
pub fn set_num_threads(threads: i32) -> Result<()> {
    check(unsafe { raw::bn2d_set_num_threads(threads) })
}

/// The library's version, "1.3.0".
pub fn version() -> &'static str {
    unsafe { CStr::from_ptr(raw::bn2d_version_string()) }.to_str().unwrap_or("?")
}
