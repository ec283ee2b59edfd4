//! time: being written.
