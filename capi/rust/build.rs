// SPDX-License-Identifier: MIT
//! Where libbn2d is: in BN2D_LIB_DIR, else where pkg-config says, else where the linker looks anyway.
use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=BN2D_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let folder = env::var("BN2D_LIB_DIR").ok().or_else(|| {
        let asked = Command::new("pkg-config").args(["--variable=libdir", "bn2d"]).output().ok()?;
        asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_string())
    });
    if let Some(folder) = folder {
        println!("cargo:rustc-link-search=native={folder}");
    }
    println!("cargo:rustc-link-lib=dylib=bn2d");
}
