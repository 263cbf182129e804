//! The built binary, run as an operator types it: outputs, files, exit statuses.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure panics, files and processes are what is tested"
)]

mod anchors;
mod audit;
mod cert;
mod common;
mod durable;
mod enrolment;
mod finding;
mod foreign;
mod https;
mod inspect;
mod json;
mod ledger;
mod link;
mod load;
mod pruning;
mod renew;
mod restore;
mod revoking;
mod server_keys;
mod sockets;
mod strangers;
mod usage;
mod waiting;
