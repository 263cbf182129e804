//! Stories of the DTLS engine, one file per subject. `walk.rs` and `rtc_dtls.rs` are separate programs: the first is built once more for each
//! seam, the second with a third-party stack.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod allocations;
mod authentication;
mod behind;
mod conversation;
mod cookies;
mod established;
mod flood;
mod fragmented_hello;
mod handshake;
mod hello;
mod limits;
mod narrow_paths;
mod one_cookie;
mod order;
mod population;
mod pressure;
mod records;
mod restart;
mod retransmission;
mod small_devices;
#[path = "../support/mod.rs"]
mod support;
mod together;
mod trusted_authorities;
