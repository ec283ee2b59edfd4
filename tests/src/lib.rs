//! Harness of the tests on real parts.
