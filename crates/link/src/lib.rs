//! A bad link, determined by a seed: it loses, duplicates, damages, delays and holds back datagrams.
//!
//! ```text
//!   EmulatedLink::send(now, to, bytes) ──► Weather::judge(length) ──► Lost
//!                                                  │ Once, Twice
//!                                                  ▼
//!                                         queue by time of arrival ──► EmulatedLink::receive(now) ──► (to, bytes)
//! ```
//!
//! [`Weather`] decides the fate of each datagram and moves none; [`EmulatedLink`] is a weather and the queue of datagrams in flight. The simulator drives an
//! `EmulatedLink` in virtual time, `net`'s proxy drives two of them in real time, and the load generator applies a `Weather` to its own datagrams. This crate knows
//! no sockets, protocols or clock: time is an argument.
//!
//! The fate of the n-th datagram depends only on the seed, n, its length and the rate of each fault: each fault reads its own random stream at the
//! datagram's place. A changed rate therefore does not reshuffle the other faults, and a higher loss rate loses the same datagrams as a lower one,
//! and more.

mod conditions;
mod queue;
mod stream;
mod weather;

pub use conditions::{Conditions, Delay};
pub use queue::{EmulatedLink, IN_FLIGHT_BYTES_MAX};
pub use weather::{Fate, Flip, Passage, Tally, Weather};
