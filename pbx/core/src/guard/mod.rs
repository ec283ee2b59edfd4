//! The guard: what sources do becomes blocks, each with its reason. After the gate, which sees what they do; before the
//! filter, which drops them.

pub mod agents;
mod detector;

pub use detector::Detector;
