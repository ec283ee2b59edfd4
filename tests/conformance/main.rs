//! What the standards and the phones of this world send, and what the program makes of it.
#![allow(missing_docs, reason = "tests")]

mod notation;
mod phones;
mod properties;
mod rfc4475;
