// SPDX-License-Identifier: MIT
use bn2d::{BatchNorm2d, Options};

fn main() -> bn2d::Result<()> {
    let extents = (8, 32, 32); // N, H, W; contiguous (8, 64, 32, 32)
    let x: Vec<f32> = (0..8 * 64 * 32 * 32).map(|i| (i % 251) as f32 / 100.0).collect();
    let dy = vec![0.5f32; x.len()];
    let (mut y, mut dx) = (vec![0f32; x.len()], vec![0f32; x.len()]);

    let mut bn = BatchNorm2d::new(64, &Options::default())?;
    let record = bn.forward(&x, extents, &mut y)?; // training; borrows x
    bn.backward(&record, &dy, &mut dx)?; // adds to weight.grad and bias.grad
    bn.eval()?;
    bn.infer(&x, extents, &mut y)?; // running statistics
    let grad = bn.tensor::<f32>("bias.grad")?[0];
    println!("{bn}: bias.grad {grad}, y {:.4}", y[0]);
    Ok(())
} // record and bn give their handles back
