//! settings: being written.
