//! Certificate revocation lists (RFC 5280 §5): one for a whole CA, or one for each of its shards.
//!
//! ```text
//! crl_url --CrlUrl::new--> CrlUrl --of(serial)--> the URL in a certificate: `{shard}` replaced by `shard_of(serial)`
//!                             | scopes()
//!                             v
//! CrlSpec { scope, number, times } + CrlEntry, CrlEntry, .. --CrlBuilder--> CrlToBeSigned   (linted: every field is what was asked for)
//!                                                                                 | a signer, in this process or outside
//!                                                                                 v
//!                                                        Crl <--assemble(Signature)-- (linted: exactly these bytes)
//! ```
//!
//! This module decides nothing, holds no key and reads no list: the server does not check the revocation lists of other authorities.

mod lint;
mod list;
mod published;
mod shard;
mod spec;
mod url;

pub use lint::CrlFlaw;
pub use list::{CRL_ENTRIES_MAX, Crl, CrlBuilder, CrlEntry, CrlError, CrlToBeSigned};
pub use published::{PublishedCrl, updates_of};
pub(super) use shard::ShardDigits;
pub use shard::{CrlShard, CrlShards, shard_of};
pub use spec::CrlSpec;
pub(super) use url::distribution_point;
pub use url::{CrlScope, CrlUrl, CrlUrlError, ShardScope};

#[cfg(test)]
mod tests;
