//! Builds the kernel object (`pbx-ebpf`) and hands its path to the crate as `PBX_FILTER_OBJECT`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .parent()
        .expect("the workspace is one level up")
        .to_path_buf();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let source = root.join("pbx-ebpf");
    println!("cargo::rerun-if-changed={}", source.join("src").display());
    println!("cargo::rerun-if-changed={}", source.join("Cargo.toml").display());
    println!("cargo::rerun-if-env-changed=PBX_TOOLS");

    let tools = env::var_os("PBX_TOOLS").map_or_else(|| root.join("target/tools/bin"), PathBuf::from);
    let mut path = vec![tools];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path).expect("no colon in a tool folder's name");

    // Stable Rust builds core for BPF when told that unstable options are meant.
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args(["build", "--profile", "ebpf", "--bins", "--locked"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"])
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(out.join("ebpf"))
        .env("PATH", path)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", ["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"));
    for inherited in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "the kernel object did not build; `cargo xtask setup` installs what it needs (rust-src, bpf-linker)"
    );
    let objects = out.join("ebpf/bpfel-unknown-none/ebpf");
    println!("cargo::rustc-env=PBX_FILTER_OBJECT={}", objects.join("pbx-filter").display());
}
