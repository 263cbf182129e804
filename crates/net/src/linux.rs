//! System calls for which no safe wrapper serves: the one module of the workspace with `unsafe`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

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
mod tests;
