//! Signalling in virtual time: whole exchanges of phones, strangers and routers with the gate and the core, as text.
//! No socket, no clock, no thread; the client side makes its own digests, so that both sides must agree on the RFC.

mod bad_calls;
mod call_properties;
mod calls;
mod digits;
mod early;
mod endings;
mod floor;
mod forks;
mod forwards;
mod guard;
mod handset;
mod holds;
mod lossy_calls;
mod media;
mod moves;
mod overload;
mod phone;
mod pings;
mod properties;
mod proxies;
mod records;
mod refusals;
mod registering;
mod reliable;
mod replays;
mod restarts;
mod robot;
mod routers;
mod scene;
mod sessions;
mod strangers;
mod tenants;
mod transfers;
mod world;
