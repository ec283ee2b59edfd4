//! The rules' tables as a whole: against a naive model, under a writer, after damage, at their limits.

mod capacity;
mod model;
mod naive;
mod repair;
mod steps;
mod universe;
mod writer;
