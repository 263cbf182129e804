//! Certificate revocation lists (RFC 5280 §5): one for a whole CA, or one for each of its shards.
//!
//! ```text
//! crl_url --CrlUrl::new--> CrlUrl --of(serial)--> the URL in a certificate: `{shard}` replaced by `shard_of(serial)`
//! ```
//!
//! This module decides nothing, holds no key and reads no list: the server does not check the revocation lists of other authorities.

mod shard;
mod url;

pub(super) use shard::ShardDigits;
pub use shard::{CrlShard, CrlShards, shard_of};
pub(super) use url::distribution_point;
pub use url::{CrlScope, CrlUrl, CrlUrlError, ShardScope};
