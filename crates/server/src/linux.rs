//! What is Linux's: which core a shard runs on, and how many datagrams a full socket dropped.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of one shard, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Where the scheduler wants it.
    Anywhere,
    /// The n-th of the cores that this process may use.
    Core(usize),
}

impl Placement {
    /// With one shard per core, each shard stays on its core, so its sessions stay in that core's caches. A configured number of shards is left to
    /// the scheduler.
    pub(crate) fn of(configured_shards: u32, shard: u16) -> Self {
        if configured_shards == 0 { Self::Core(usize::from(shard)) } else { Self::Anywhere }
    }

    /// Applies to the calling thread. A system that refuses (a container without the right) serves as well, a little slower.
    pub(crate) fn apply(self) {
        let Self::Core(wanted) = self else { return };
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let Some(core) = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).nth(wanted) else { return };
        let mut one = CpuSet::new();
        one.set(core);
        if let Err(error) = sched_setaffinity(None, &one) {
            tracing::debug!(%error, core, "cannot pin this shard to a core; it runs on any");
        }
    }
}

/// `SK_MEMINFO_DROPS` of linux/sock_diag.h, and the number of fields up to it.
const DROPS_FIELD: usize = 8;
const MEMORY_FIELDS: usize = DROPS_FIELD + 1;

/// The datagrams that the kernel has dropped since the socket was made, because its receive buffer was full. The count wraps.
///
/// # Errors
/// The kernel does not know the option (before Linux 4.12).
#[allow(unsafe_code, reason = "no safe wrapper has SO_MEMINFO")]
pub(crate) fn receive_drops(socket: impl AsFd) -> io::Result<u32> {
    let mut fields = [0_u32; MEMORY_FIELDS];
    let mut length = libc::socklen_t::try_from(size_of_val(&fields)).unwrap_or(0);
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel writes at most `length` bytes to `fields`, which has that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(fields[DROPS_FIELD]) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn a_full_socket_says_how_many_it_dropped() {
        let full = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&full, 4_096).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(receive_drops(&full).unwrap(), 0);
        for _ in 0..100 {
            sender.send_to(&[0; 200], full.local_addr().unwrap()).unwrap();
        }
        let dropped = receive_drops(&full).unwrap();
        full.set_nonblocking(true).unwrap();
        let received = std::iter::from_fn(|| full.recv(&mut [0; 256]).ok()).count();
        assert!(dropped > 0);
        assert_eq!(usize::try_from(dropped).unwrap() + received, 100);
    }
}
