//! The revocation lists that the server publishes: written to a folder by a thread of their own, and served over HTTP on a listener of their own.
//!
//! ```text
//!   ledger ──outdated lists──► writer ──number (durable)──► entries ──► signer ──► FILE.new, fsync, rename, fsync of the folder
//!                                                                                        │
//!                                                          listener ◄──────GET /main.crl─┘
//! ```
//!
//! A list is due when something is revoked, when its file is absent or another one, and after half of its validity or a day. The lists that are due
//! are written every `[crl] interval`: revocations that come between two looks share one list. Expired certificates leave a list once a list that was
//! made after their notAfter has been published (RFC 5280 §3.3).

mod folder;
mod page;
mod plan;
mod status;
mod writer;

pub(crate) use page::{CrlListener, CrlPage};
pub(crate) use plan::CrlPlan;
pub(crate) use status::{CrlStatus, CrlStatuses};
pub(crate) use writer::{CrlWriter, CrlWriterParts, ask, layout_words};
