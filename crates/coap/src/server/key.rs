//! How blocks and requests of one client are recognised as parts of one operation.

use crate::hash::Hash64;
use crate::{Message, Number};

/// Domain of the hashes that name uploads; see [`Hash64::new`].
const PURPOSE_KEY: u64 = 1;

/// What makes requests of one client one block-wise operation: method, path, queries and Request-Tag (RFC 7959 §2.4,
/// §2.5; RFC 9175 §3.3), never the token. Stored as a hash; see [`Hash64`] for why that is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestKey(u64);

impl RequestKey {
    pub(super) fn of(message: &Message<'_>) -> Self {
        let mut hash = Hash64::new(PURPOSE_KEY).number(message.code().byte().into());
        for option in message.options() {
            if matches!(option.number, Number::URI_PATH | Number::URI_QUERY | Number::REQUEST_TAG) {
                hash = hash.number(option.number.0.into()).field(option.value);
            }
        }
        Self(hash.finish())
    }
}
