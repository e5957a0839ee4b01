#!/bin/sh
# capi/rust with rustc alone, and that the compiler refuses what would leave a record without its x.
. "$(dirname "$0")/language.sh"
need rustc pkg-config
binding rust

compile() { rustc --edition 2021 -D warnings -C opt-level=2 -L . -L "native=$lib" "$@"; }
compile --crate-name bn2d --crate-type rlib -l bn2d "$binding/src/lib.rs"
compile --extern bn2d=libbn2d.rlib "$binding/examples/train.rs"
compile --extern bn2d=libbn2d.rlib --test "$binding/tests/vectors.rs"
shown rust examples/train.rs
example ./train
goes_on rust fused.rs examples/train.rs '    Ok(())'
compile --extern bn2d=libbn2d.rlib fused.rs
fused ./fused
./vectors

# The program with rayon, against a crate of that name with the three functions it uses: rayon itself is not to be had
# without a network.
marked rayon.rs rust "$binding/README.md"
rustc --edition 2021 -D warnings --crate-name rayon --crate-type rlib "$(dirname "$0")/rayon.rs"
compile --extern bn2d=libbn2d.rlib --extern rayon=librayon.rlib --crate-name with_rayon rayon.rs
./with_rayon >rayon.txt 2>workers.txt
grep -q '^y -1\.7213 on 2 threads of rayon$' rayon.txt || fail "it printed: $(cat rayon.txt)"
grep -q '^for_each 0\.\.[1-9]' workers.txt || fail "rayon had nothing to do"

# refused ERROR: the program on stdin does not compile, for that reason.
refused() {
  { echo 'use bn2d::*;' && cat; } >refused.rs
  if compile --extern bn2d=libbn2d.rlib refused.rs 2>refused.txt; then fail "the compiler accepts: $(cat refused.rs)"; fi
  grep -q "error\[$1\]" refused.txt || fail "not refused with $1: $(cat refused.txt)"
}
refused E0505 <<'END'
fn main() -> Result<()> {
    let (x, mut y) = (vec![0f32; 6], vec![0f32; 6]);
    let mut bn = BatchNorm2d::new(3, &Options::default())?;
    let record = bn.forward(&x, (1, 1, 2), &mut y)?;
    drop(x); // the record still borrows it
    bn.backward(&record, &[0f32; 6], &mut y)
}
END
refused E0505 <<'END'
fn main() -> Result<()> {
    let (x, z, mut y, mut dx) = (vec![0f32; 6], vec![0f32; 6], vec![0f32; 6], vec![0f32; 6]);
    let mut bn = BatchNorm2d::new(3, &Options::default())?;
    let fused = Fused { z: Some(&z), activation: Activation::Silu, ..Default::default() };
    let (_, record) = bn.forward_fused(&x, (1, 1, 2), &mut y, &fused)?;
    drop(z); // the record of a pointwise activation still borrows it
    bn.backward(&record, &[0f32; 6], &mut dx)
}
END
refused E0502 <<'END'
fn main() -> Result<()> {
    let (x, mut y) = (vec![0f32; 6], vec![0f32; 6]);
    let mut bn = BatchNorm2d::new(3, &Options::default())?;
    let weight = bn.tensor::<f32>("weight")?;
    bn.forward(&x, (1, 1, 2), &mut y)?; // training while the parameters are read
    println!("{}", weight[0]);
    Ok(())
}
END

# build.rs asks for what is there: the shared library, or the static one and what bn2d.pc says it
# needs.
rustc --edition 2021 -D warnings "$binding/build.rs"
asks() {
  BN2D_LIB_DIR=$1 ./build | grep '^cargo:rustc-link-lib=' | sed 's/.*=\(.*=.*\)/\1/' | tr '\n' ' ' >asked.txt
  [ "$(cat asked.txt)" = "$2" ] || fail "build.rs asks for $(cat asked.txt)in $1"
}
asks "$lib" 'dylib=bn2d '
mkdir -p static/pkgconfig
touch static/libbn2d.a
printf 'Name: bn2d\nDescription: static\nVersion: 1\nLibs: -L/nowhere -lbn2d -ltbb -lstdc++\n' >static/pkgconfig/bn2d.pc
asks static 'static=bn2d dylib=tbb dylib=stdc++ '
