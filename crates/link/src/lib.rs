//! A bad link, decided by a seed: what it loses, doubles, damages, delays and holds back.
//!
//! ```text
//!   Link::send(now, to, bytes) ──► Weather::judge(length) ──► Lost
//!                                          │ Once, Twice
//!                                          ▼
//!                                 queue by time of arrival ──► Link::receive(now) ──► (to, bytes)
//! ```
//!
//! [`Weather`] decides what becomes of each datagram and moves none; [`EmulatedLink`] is a weather and the queue of datagrams in flight. The simulator drives a
//! `EmulatedLink` in virtual time, `net`'s proxy drives two of them in real time, and the load generator asks a `Weather` on the way of its own datagrams. It knows
//! neither sockets nor protocols, and no clock: time is an argument.
//!
//! What happens to the n-th datagram depends on the seed, on n, on its length and on the share of the fault alone: each fault has a stream of
//! randomness of its own, read at the place of the datagram. So a rate that is changed does not reshuffle the other faults, and a higher loss loses
//! what a lower one lost, and more.

mod conditions;
mod queue;
mod stream;
mod weather;

pub use conditions::{Conditions, Delay};
pub use queue::{EmulatedLink, IN_FLIGHT_BYTES_MAX};
pub use weather::{Fate, Flip, Passage, Tally, Weather};
