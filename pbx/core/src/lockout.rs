//! lockout: being written.
