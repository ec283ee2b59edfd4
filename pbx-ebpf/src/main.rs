//! The XDP program: maps and glue; the judgement is `pbx_ebpf::verdict`. On the host this is an empty stub,
//! so that workspace builds pass over it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program;
