//! One system call's worth of received datagrams.
//!
//! The kernel may join datagrams of one peer into one buffer (GRO); [`Batch::datagrams`] separates them again.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::RecvMeta;

/// Messages per receive: what `quinn-udp` requests with one `recvmmsg`. With GRO each message may hold up to 64 datagrams of one peer, so one batch
/// is at most 2,048 datagrams; the kernel joins only datagrams that one peer sent back to back.
pub const BATCH_MAX: usize = 32;
/// The longest message: a UDP datagram, or several joined by GRO, is at most 65,535 bytes. Pages that are never touched cost nothing.
const SLOT_BYTES: usize = 1 << 16;

const _: () = assert!(BATCH_MAX == quinn_udp::BATCH_SIZE, "the receive would leave slots unused, or overrun them");

/// One datagram as received, to be decrypted in place.
#[derive(Debug)]
pub struct Received<'b> {
    /// The sender.
    pub peer: SocketAddr,
    /// The address that it was sent to: the answer leaves from there.
    pub local: Option<IpAddr>,
    /// The UDP payload.
    pub bytes: &'b mut [u8],
}

/// Memory for one receive, reused for every receive; one per thread.
pub struct Batch {
    memory: Box<[u8]>,
    metas: [RecvMeta; BATCH_MAX],
    filled: usize,
}

impl Batch {
    /// Reserves the memory (2 MiB of address space; only pages that are written use real memory).
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: vec![0; BATCH_MAX * SLOT_BYTES].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_MAX],
            filled: 0,
        }
    }

    /// The datagrams of the last receive, in the order of their arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        let metas = self.metas[..self.filled].iter();
        metas.zip(self.memory.chunks_exact_mut(SLOT_BYTES)).flat_map(|(meta, slot)| {
            // An empty datagram has stride 0 and yields nothing: it contains no record.
            slot[..meta.len].chunks_mut(meta.stride.max(1)).map(|bytes| Received {
                peer: meta.addr,
                local: meta.dst_ip,
                bytes,
            })
        })
    }

    /// Whether the last receive filled every message: more datagrams may wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filled == BATCH_MAX
    }

    pub(super) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.filled = 0;
        let mut slots = self.memory.chunks_exact_mut(SLOT_BYTES);
        let mut buffers: [IoSliceMut<'_>; BATCH_MAX] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("the memory is BATCH_MAX slots")));
        self.filled = receive(&mut buffers, &mut self.metas)?;
        Ok(())
    }

    pub(super) fn datagram_count(&self) -> u64 {
        self.metas[..self.filled].iter().map(|meta| meta.len.div_ceil(meta.stride.max(1)) as u64).sum()
    }

    pub(super) fn byte_count(&self) -> u64 {
        self.metas[..self.filled].iter().map(|meta| meta.len as u64).sum()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("filled", &self.filled).finish_non_exhaustive()
    }
}
