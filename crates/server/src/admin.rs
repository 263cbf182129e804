//! The operator's desk: what an operator asks of the ledger, on a running server over a Unix socket, or without one.
//!
//! ```text
//!   muster cert, muster ledger ──► AdminClient ──Unix socket──► listener ──► AdminDesk ──► Ledger     a server runs
//!                              └────────────────────────────────────────► AdminDesk ──► Ledger     no server runs
//! ```
//!
//! [`protocol`] is the schema of what goes over the socket. [`AdminDesk`] answers a request; both ways go through it, so that an answer does not depend on
//! whether a server runs. The daemon runs the listener as a service of its runtime.

mod client;
mod connections;
mod desk;
pub mod protocol;
mod row;
mod socket;
mod user;

pub use client::{AdminClient, AdminClientFault};
pub(crate) use connections::AdminListener;
pub use desk::AdminDesk;
pub use socket::SocketFault;
pub(crate) use socket::SocketFile;
pub use user::actor_of;
