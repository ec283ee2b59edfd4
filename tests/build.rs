//! Builds the kernel side of the bench (`bench/driver`) when the feature `bench` is on, and hands its path to
//! `pbx-bench` as `PBX_BENCH_OBJECT`. Built like the filter itself, see `pbx/xdp/build.rs`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bench/driver");
    println!("cargo::rerun-if-env-changed=PBX_TOOLS");
    if env::var_os("CARGO_FEATURE_BENCH").is_none() {
        return;
    }
    let tests = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = tests.parent().expect("the workspace is one level up");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));

    let tools = env::var_os("PBX_TOOLS").map_or_else(|| root.join("target/tools/bin"), PathBuf::from);
    let mut path = vec![tools];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path).expect("no colon in a tool folder's name");

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args(["build", "--profile", "ebpf", "--locked"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"])
        .arg("--manifest-path")
        .arg(tests.join("bench/driver/Cargo.toml"))
        .arg("--target-dir")
        .arg(out.join("ebpf"))
        .env("PATH", path)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3");
    for inherited in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "the bench's kernel object did not build; `cargo xtask setup` installs what it needs (rust-src, bpf-linker)"
    );
    let object = out.join("ebpf/bpfel-unknown-none/ebpf/pbx-bench-driver");
    println!("cargo::rustc-env=PBX_BENCH_OBJECT={}", object.display());
}
