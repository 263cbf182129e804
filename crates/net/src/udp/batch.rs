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
    /// The message and the place in it that [`Batch::take_datagram`] comes to next.
    taken: (usize, usize),
}

impl Batch {
    /// Reserves the memory (2 MiB of address space; only pages that are written use real memory).
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: vec![0; BATCH_MAX * SLOT_BYTES].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_MAX],
            filled: 0,
            taken: (0, 0),
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

    /// The next datagram of the last receive, for a caller that does something else before it handles them all.
    pub fn take_datagram(&mut self) -> Option<Received<'_>> {
        let (message, start) = self.next_place()?;
        let meta = &self.metas[message];
        let end = meta.len.min(start + meta.stride.max(1));
        self.taken = if end < meta.len { (message, end) } else { (message + 1, 0) };
        let slot = &mut self.memory[message * SLOT_BYTES..][..SLOT_BYTES];
        Some(Received { peer: meta.addr, local: meta.dst_ip, bytes: &mut slot[start..end] })
    }

    /// Whether all datagrams have been taken ([`Batch::take_datagram`]).
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.next_place().is_none()
    }

    /// Where the next datagram begins. An empty message has none.
    fn next_place(&self) -> Option<(usize, usize)> {
        let (mut message, mut start) = self.taken;
        while message < self.filled && start >= self.metas[message].len {
            (message, start) = (message + 1, 0);
        }
        (message < self.filled).then_some((message, start))
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
        (self.filled, self.taken) = (0, (0, 0));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of messages with so many bytes, each joined from datagrams of this length.
    fn received(messages: &[(usize, usize)]) -> Batch {
        let mut batch = Batch::new();
        let fill = |slots: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]| {
            for (n, (length, stride)) in messages.iter().enumerate() {
                (metas[n].len, metas[n].stride) = (*length, *stride);
                slots[n][..*length].iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
                metas[n].addr = SocketAddr::from(([127, 0, 0, 1], u16::try_from(n).unwrap()));
            }
            Ok(messages.len())
        };
        batch.fill(fill).unwrap();
        batch
    }

    #[test]
    fn datagrams_are_taken_one_by_one_as_they_are_listed() {
        let messages = [(10, 4), (0, 0), (3, 3), (8, 4)];
        let listed: Vec<_> = received(&messages).datagrams().map(|it| (it.peer, it.bytes.to_vec())).collect();
        assert_eq!(listed.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [4, 4, 2, 3, 4, 4]);
        let mut batch = received(&messages);
        assert_eq!(batch.datagram_count(), 6);
        for expected in listed {
            assert!(!batch.is_taken());
            let taken = batch.take_datagram().map(|it| (it.peer, it.bytes.to_vec()));
            assert_eq!(taken, Some(expected));
        }
        assert!(batch.is_taken() && batch.take_datagram().is_none());
        assert!(received(&[]).is_taken() && received(&[(0, 0)]).is_taken());
    }
}
