//! The kernel half of pbx as plain Rust: the contract with user space (`abi`) and the judgement of a
//! packet (`packet`, `rules`, `rate`, `verdict`), generic over where the bytes and the tables lie.
//!
//! The XDP program (`main.rs`) gives them map memory; the host gives them ordinary memory, so that tests,
//! `pbx firewall test` and a daemon without XDP run the very same code. Nothing here allocates, panics or
//! knows a map type.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

pub mod abi;
pub mod hash;
pub mod packet;
pub mod rate;
pub mod rules;
pub mod tables;
pub mod verdict;
pub mod word;
