//! rule: being written.
