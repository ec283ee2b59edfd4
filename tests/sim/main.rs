//! Signalling in virtual time: whole exchanges of phones, strangers and routers with the gate and the core, as text.
//! No socket, no clock, no thread; the client side makes its own digests, so that both sides must agree on the RFC.

mod calls;
mod endings;
mod forks;
mod handset;
mod holds;
mod media;
mod overload;
mod phone;
mod pings;
mod properties;
mod refusals;
mod registering;
mod replays;
mod restarts;
mod routers;
mod scene;
mod strangers;
mod tenants;
mod transfers;
