//! The filter by itself: what it says of every packet, the kernel program and the host code side by side.
//! Nothing is attached; the time is injected. Everything that needs interfaces is in `e2e/`.

mod blocks;
mod dice;
mod object;
mod pair;
mod rates;
mod rules;
mod samples;
mod verdicts;
