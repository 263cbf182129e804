//! How large a block may be so that its message fits one DTLS record.

use coap::BlockSize;

/// What surrounds a block in a request: header and token, the options of the longest path that we make, and the payload
/// marker.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 96;

/// What surrounds a block in a response: header, token, Content-Format, ETag, Block1, Block2, Size2 and the payload marker.
pub(crate) const RESPONSE_OVERHEAD_BYTES: usize = 4 + 8 + 3 + 9 + 4 + 4 + 5 + 1;

/// The largest block that leaves room for the rest of its message. If none does, the result is the smallest block: a
/// message that is too long is not sent.
pub(crate) fn block_within(plaintext_bytes_max: usize, overhead_bytes: usize) -> BlockSize {
    let room = plaintext_bytes_max.saturating_sub(overhead_bytes);
    BlockSize::ALL.into_iter().rev().find(|size| size.bytes() <= room).unwrap_or(BlockSize::B16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_and_what_surrounds_it_fit_the_record() {
        for overhead in [REQUEST_OVERHEAD_BYTES, RESPONSE_OVERHEAD_BYTES] {
            for size in BlockSize::ALL {
                assert_eq!(block_within(size.bytes() + overhead, overhead), size);
                let smaller = block_within(size.bytes() + overhead - 1, overhead);
                assert!(smaller < size || size == BlockSize::B16, "{smaller:?} for one byte less than {size:?}");
            }
            assert_eq!(block_within(0, overhead), BlockSize::B16);
        }
    }
}
