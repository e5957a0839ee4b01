// SPDX-License-Identifier: MIT
//! Where libbn2d is: in BN2D_LIB_DIR, else where pkg-config says, else where the linker looks
//! anyway. Where there is only a static library, bn2d.pc says what goes with it.
use std::env;
use std::path::Path;
use std::process::Command;

/// What pkg-config says of bn2d; that of BN2D_LIB_DIR goes first.
fn pkg_config(arguments: &[&str], folder: &Option<String>) -> Option<String> {
    let mut command = Command::new("pkg-config");
    if let Some(folder) = folder {
        let others = env::var("PKG_CONFIG_PATH").unwrap_or_default();
        command.env("PKG_CONFIG_PATH", format!("{folder}/pkgconfig:{others}"));
    }
    let asked = command.args(arguments).arg("bn2d").output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_string())
}

fn main() {
    println!("cargo:rerun-if-env-changed=BN2D_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let named = env::var("BN2D_LIB_DIR").ok();
    let folder = named.clone().or_else(|| pkg_config(&["--variable=libdir"], &None));
    if let Some(folder) = &folder {
        println!("cargo:rustc-link-search=native={folder}");
        let has = |file: &str| Path::new(folder).join(file).exists();
        if has("libbn2d.a") && !has("libbn2d.so") {
            println!("cargo:rustc-link-lib=static=bn2d");
            let words = pkg_config(&["--libs", "--static"], &named)
                .unwrap_or_else(|| "-ltbb -lstdc++ -lm -ldl -lpthread".into());
            for word in words.split_whitespace().filter(|word| *word != "-lbn2d") {
                if let Some(library) = word.strip_prefix("-l") {
                    println!("cargo:rustc-link-lib=dylib={library}");
                } else if let Some(path) = word.strip_prefix("-L") {
                    println!("cargo:rustc-link-search=native={path}");
                }
            }
            return;
        }
    }
    println!("cargo:rustc-link-lib=dylib=bn2d");
}
