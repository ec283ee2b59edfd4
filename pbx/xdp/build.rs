//! Builds the kernel object (`pbx-ebpf`) and hands its path to the crate as `PBX_FILTER_OBJECT`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .ancestors()
        .nth(2)
        .expect("the workspace is two levels up")
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
    let built = out.join("ebpf/bpfel-unknown-none/ebpf/pbx-filter");
    let mut object = std::fs::read(&built).expect("cargo built it");
    name_unions(&mut object);
    let object_path = out.join("pbx-filter.o");
    std::fs::write(&object_path, object).expect("OUT_DIR is writable");
    println!("cargo::rustc-env=PBX_FILTER_OBJECT={}", object_path.display());
}

/// The linker spells the generic names of structs in characters that the kernel takes, but not those of
/// unions; one bad name and the kernel refuses the object's whole BTF.
fn name_unions(object: &mut [u8]) {
    const UNION: &[u8] = b"MaybeUninit<";
    let mut at = 0;
    while at + UNION.len() < object.len() {
        if object[at..].starts_with(UNION) {
            for byte in object[at..].iter_mut().take_while(|b| **b != 0) {
                if !byte.is_ascii_alphanumeric() {
                    *byte = b'_';
                }
            }
        }
        at += 1;
    }
}
