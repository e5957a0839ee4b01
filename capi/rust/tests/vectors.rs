// SPDX-License-Identifier: MIT
//! The values of tests/languages/vectors.txt (vectors.cc tells how they are made), errors, and handles given back.
use bn2d::{raw, Activation, BatchNorm2d, Bf16, Element, Fused, Layout, Norm, Options};
use std::collections::HashMap;

const EXTENTS: (usize, usize, usize) = (8, 32, 32);
const CHANNELS: usize = 64;
const SIZE: usize = 8 * CHANNELS * 32 * 32;

/// x and dy in the order of memory.
fn inputs(channels_last: bool) -> (Vec<f64>, Vec<f64>) {
    let mut s: i64 = 1;
    let mut next = move || {
        s = s * 16807 % 2147483647;
        s
    };
    let channel = |i: usize| if channels_last { i % CHANNELS } else { i / 1024 % CHANNELS };
    let x = (0..SIZE).map(|i| (next() % 128 + 2 * channel(i) as i64 - 128) as f64 / 64.0).collect();
    let dy = (0..SIZE).map(|_| (next() % 256 - 128) as f64 / 64.0).collect();
    (x, dy)
}

fn weight(c: usize) -> f64 {
    (c % 16 + 8) as f64 / 16.0
}

fn bias(c: usize) -> f64 {
    (c as f64 % 8.0 - 4.0) / 4.0
}

/// Compares with every line of a case.
fn compare(case: &str, arrays: &HashMap<&str, Vec<f64>>) {
    let path = std::env::var("BN2D_VECTORS")
        .unwrap_or_else(|_| "../../tests/languages/vectors.txt".into());
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] != case {
            continue;
        }
        let array = &arrays[words[1]];
        let got = match words[2] {
            "sum" => array.iter().enumerate().map(|(i, v)| v * ((i % 11) as f64 - 5.0)).sum(),
            index => array[index.parse::<usize>().unwrap()],
        };
        let (value, tolerance): (f64, f64) = (words[3].parse().unwrap(), words[4].parse().unwrap());
        assert!((got - value).abs() <= tolerance, "{line}: got {got}");
        seen += 1;
    }
    assert!(seen >= 7 * arrays.len(), "{seen} lines for {} arrays", arrays.len());
}

trait Real: Element + Default {
    fn from(v: f64) -> Self;
    fn to(self) -> f64;
}
impl Real for f32 {
    fn from(v: f64) -> Self {
        v as f32
    }
    fn to(self) -> f64 {
        self as f64
    }
}
impl Real for f64 {
    fn from(v: f64) -> Self {
        v
    }
    fn to(self) -> f64 {
        self
    }
}

fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.to()).collect()
}

fn step<T: Real>(case: &str) {
    let (x, dy) = inputs(false);
    let (x, dy): (Vec<T>, Vec<T>) =
        (x.iter().map(|&v| T::from(v)).collect(), dy.iter().map(|&v| T::from(v)).collect());
    let (mut y, mut dx) = (vec![T::default(); SIZE], vec![T::default(); SIZE]);
    let mut bn =
        BatchNorm2d::new(CHANNELS, &Options { dtype: T::DTYPE, ..Default::default() }).unwrap();
    for c in 0..CHANNELS {
        bn.tensor_mut::<T>("weight").unwrap()[c] = T::from(weight(c));
        bn.tensor_mut::<T>("bias").unwrap()[c] = T::from(bias(c));
    }
    let record = bn.forward(&x, EXTENTS, &mut y).unwrap();
    bn.backward(&record, &dy, &mut dx).unwrap();
    let mut arrays = HashMap::from([("y", wide(&y)), ("dx", wide(&dx))]);
    for name in ["weight.grad", "bias.grad", "running_mean", "running_var"] {
        arrays.insert(name, wide(bn.tensor::<T>(name).unwrap()));
    }
    bn.eval().unwrap();
    bn.infer(&x, EXTENTS, &mut y).unwrap();
    arrays.insert("eval.y", wide(&y));
    compare(case, &arrays);
    assert_eq!(bn.tensor::<i64>("num_batches_tracked").unwrap(), [1]);
}

#[test]
fn float32() {
    step::<f32>("f32");
}

#[test]
fn float64() {
    step::<f64>("f64");
}

#[test]
fn bfloat16_channels_last_relu_and_residual() {
    let bits = |v: &f64| Bf16(((*v as f32).to_bits() >> 16) as u16);
    let value = |values: &[Bf16]| -> Vec<f64> {
        values.iter().map(|v| f32::from_bits((v.0 as u32) << 16) as f64).collect()
    };
    let (x, dy) = inputs(true);
    let (x, dy): (Vec<Bf16>, Vec<Bf16>) =
        (x.iter().map(bits).collect(), dy.iter().map(bits).collect());
    let (mut y, mut dx, mut dz) = (vec![Bf16(0); SIZE], vec![Bf16(0); SIZE], vec![Bf16(0); SIZE]);
    let mut bn = BatchNorm2d::new(CHANNELS, &Options::default()).unwrap();
    for c in 0..CHANNELS {
        bn.tensor_mut::<f32>("weight").unwrap()[c] = weight(c) as f32;
        bn.tensor_mut::<f32>("bias").unwrap()[c] = bias(c) as f32;
    }
    let fused = Fused { z: Some(&dy), activation: Activation::Relu, layout: Layout::Nhwc };
    let (y, record) = bn.forward_fused(&x, EXTENTS, &mut y, &fused).unwrap();
    bn.backward_fused(&record, &dy, Some(&mut dx), Some(&mut dz)).unwrap();
    let mean = wide(bn.tensor::<f32>("running_mean").unwrap());
    compare(
        "bf16",
        &HashMap::from([
            ("y", value(y)),
            ("dx", value(&dx)),
            ("dz", value(&dz)),
            ("running_mean", mean),
        ]),
    );
}

#[test]
fn errors_have_the_status_and_the_message() {
    let mut bn = BatchNorm2d::new(3, &Options::default()).unwrap();
    let mut y = [7f32; 3];
    let error = bn.forward(&[1f32, 2.0, 3.0], (1, 1, 1), &mut y).unwrap_err();
    assert_eq!(error.status, raw::BN2D_ERROR_TOO_FEW_VALUES);
    assert_eq!(
        error.message,
        "batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)"
    );
    assert_eq!(y, [7.0; 3]);
    assert!(error.to_string().starts_with("BN2D_ERROR_TOO_FEW_VALUES: batch"));
    assert_eq!(
        bn.forward(&[1f32; 5], (1, 1, 2), &mut [0.0; 6]).unwrap_err().message,
        "x has 5 elements, must have 6"
    );
    assert_eq!(bn.tensor::<f32>("gamma").unwrap_err().status, raw::BN2D_ERROR_NOT_FOUND);
    assert_eq!(bn.tensor::<f64>("weight").unwrap_err().message, "weight is float32, not float64");
    assert_eq!(
        bn.infer(&[1f32; 6], (1, 1, 2), &mut [0.0; 6]).unwrap_err().status,
        raw::BN2D_ERROR_STATE
    );
    let options = Options { momentum: Some(1.5), ..Default::default() };
    assert!(BatchNorm2d::new(3, &options).unwrap_err().message.contains("1.5"));
    let nothing = bn.forward::<f32>(&[], (0, usize::MAX, 1), &mut []).unwrap_err();
    assert_eq!(
        nothing.message,
        "extent H is 18446744073709551615, can be at most 9223372036854775807"
    );
    let endless = BatchNorm2d::new(usize::MAX, &Options::default()).unwrap_err();
    assert!(endless.message.starts_with("num_features is 18446744073709551615"), "{endless}");
    assert_eq!(bn.tensor::<f32>("weight\0zz").unwrap_err().status, raw::BN2D_ERROR_NOT_FOUND);
    let huge = bn.forward(&[1f32; 6], (usize::MAX, 2, 2), &mut [0.0; 6]).unwrap_err();
    assert_eq!(huge.status, raw::BN2D_ERROR_OVERFLOW);
}

/// Of v = x: eval mode on running statistics of 0 and 1.
#[test]
fn each_activation() {
    let x = [-4.0, -1.0, 0.5, 8.0];
    let gelu = [-0.000126685, -0.158655254, 0.345731231, 8.0];
    let mut bn =
        Norm::new(1, &Options { eps: 0.0, dtype: f64::DTYPE, ..Default::default() }).unwrap();
    bn.eval().unwrap();
    let cases: [(Activation, fn(f64) -> f64); 9] = [
        (Activation::None, |v| v),
        (Activation::Relu, |v| v.max(0.0)),
        (Activation::LeakyRelu(2.0), |v| if v > 0.0 { v } else { 2.0 * v }),
        (Activation::Relu6, |v| v.clamp(0.0, 6.0)),
        (Activation::Clamp(2.0), |v| v.clamp(0.0, 2.0)),
        (Activation::Hardswish, |v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0),
        (Activation::Silu, |v| v / (1.0 + (-v).exp())),
        (Activation::Gelu, |_| f64::NAN), // from the table
        (Activation::Sigmoid, |v| 1.0 / (1.0 + (-v).exp())),
    ];
    for (activation, of) in cases {
        let mut y = [0.0; 4];
        let fused = Fused { activation, ..Default::default() };
        bn.infer_fused(&x, (1, 2, 2), &mut y, &fused).unwrap();
        for (i, v) in x.iter().enumerate() {
            let expected = if activation == Activation::Gelu { gelu[i] } else { of(*v) };
            assert!((y[i] - expected).abs() < 1e-8, "{activation:?} of {v}: {}", y[i]);
        }
    }
}

fn gives(mut norm: Norm, x: [f32; 4], (n, w): (usize, usize), expected: [f32; 4]) -> Norm {
    let (mut y, mut dx) = ([0f32; 4], [0f32; 4]);
    let record = norm.forward(&x, (n, 1, w), &mut y).unwrap();
    norm.backward(&record, &x, &mut dx).unwrap();
    drop(record);
    assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{norm}: {y:?}");
    norm
}

/// Group, instance and ghost batch norm, told apart by y.
#[test]
fn other_norms() {
    let (plain, samples, alike) =
        (Options::default(), [0.0, 2.0, 10.0, 12.0], [-1.0, 1.0, -1.0, 1.0]);
    let group = Norm::group(1, 2, &plain).unwrap();
    let group = gives(group, [0.0, 0.0, 2.0, 2.0], (1, 2), [-1.0, -1.0, 1.0, 1.0]);
    assert!(group.to_string().starts_with("GroupNorm(1, 2"), "{group}");
    assert_eq!(group.tensor::<f32>("weight").unwrap(), [1.0, 1.0]);
    let instance = Norm::instance(1, &Options::instance()).unwrap();
    let instance = gives(instance, samples, (2, 2), alike);
    assert_eq!(instance.tensor::<f32>("weight").unwrap_err().status, raw::BN2D_ERROR_NOT_FOUND);
    assert!(Norm::instance(1, &plain).unwrap().tensor::<f32>("running_mean").is_ok());
    let ghost = Norm::new(1, &Options { ghost_batch_size: 1, ..Default::default() }).unwrap();
    let ghost = gives(ghost, samples, (2, 2), alike);
    assert_eq!(ghost.tensor::<i64>("num_batches_tracked").unwrap(), [2]);
    let options = Options { momentum: None, ..Default::default() };
    assert!(Norm::group(1, 2, &options).unwrap_err().message.contains("momentum"));
    assert_eq!(Norm::group(2, 3, &plain).unwrap_err().status, raw::BN2D_ERROR_INVALID_ARGUMENT);
}

/// What is not covered is reached by the raw functions.
#[test]
fn raw_functions_take_the_module() {
    let bn = Norm::new(3, &Options::default()).unwrap();
    assert_eq!(unsafe { raw::bn2d_module_set_momentum(bn.as_ptr(), 0.25) }, raw::BN2D_OK);
    assert!(bn.to_string().contains("momentum=0.25"), "{bn}");
}

#[test]
fn raw_functions_take_the_record() {
    let mut bn = Norm::new(3, &Options::default()).unwrap();
    let (x, mut y) = ([1f32; 6], [0f32; 6]);
    let record = bn.forward(&x, (2, 1, 1), &mut y).unwrap();
    let mut on_batch = 0;
    let status = unsafe { raw::bn2d_record_batch_statistics(record.as_ptr(), &mut on_batch) };
    assert_eq!((status, on_batch), (raw::BN2D_OK, 1));
}

#[test]
fn options_are_the_modules() {
    let options =
        Options { eps: 0.5, momentum: None, bias: false, num_threads: 1, ..Default::default() };
    let bn = BatchNorm2d::new(3, &options).unwrap();
    let text = "BatchNorm2d(3, eps=0.5, momentum=None, affine=True, track_running_stats=True)";
    assert!(bn.to_string().starts_with(&text[..40]), "{bn}");
    assert!(bn.tensor::<f32>("bias").is_err());
}

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn handles_in_any_order_and_on_any_thread_leave_nothing_behind() {
    const FEATURES: usize = 8192; // 0.3 MB of parameters and buffers each
    let x = vec![1f32; 2 * FEATURES];
    let round = || {
        let mut y = vec![0f32; x.len()];
        let mut bn = BatchNorm2d::new(FEATURES, &Options::default()).unwrap();
        let record = bn.forward(&x, (2, 1, 1), &mut y).unwrap();
        std::thread::scope(|scope| drop(scope.spawn(move || drop(bn))));
        drop(record);
    };
    (0..100).for_each(|_| round());
    let before = resident_kilobytes();
    (0..1000).for_each(|_| round());
    // Other tests run meanwhile, with some tens of megabytes.
    assert!(resident_kilobytes() < before + 150_000, "{before} to {} kB", resident_kilobytes());
}

#[test]
fn inference_on_many_threads() {
    let mut bn = BatchNorm2d::new(3, &Options::default()).unwrap();
    bn.eval().unwrap();
    let bn = &bn;
    std::thread::scope(|scope| {
        for i in 0..4 {
            scope.spawn(move || {
                let (x, mut y) = (vec![i as f32; 24], vec![0f32; 24]);
                for _ in 0..100 {
                    bn.infer(&x, (2, 2, 2), &mut y).unwrap();
                    assert!((y[0] - i as f32).abs() < 1e-4);
                }
            });
        }
    });
}
