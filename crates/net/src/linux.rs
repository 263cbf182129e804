//! System calls for which no safe wrapper serves: the one module of the workspace with `unsafe`.
//!
//! [`send_messages`] is `sendmmsg` with control messages of its own for each message: rustix encodes neither a source address nor a segment size,
//! nix gives all messages of a call the same ones, and quinn-udp sends one message a call. The callers are the sockets of [`crate::udp`].

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;
use socket2::SockAddr;

/// Messages of one call. What is built for them on the stack is about 300 bytes each.
pub(crate) const MESSAGES_MAX: usize = 8;

/// What one message of a call sends: a datagram, or several of `segment` bytes to the same peer (UDP_SEGMENT), of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'m> {
    /// The peer.
    pub(crate) to: SocketAddr,
    /// The source address, if the kernel must not choose it.
    pub(crate) from: Option<IpAddr>,
    /// The bytes of each datagram, if there are several.
    pub(crate) segment: Option<u16>,
    /// The UDP payload.
    pub(crate) bytes: &'m [u8],
}

/// Sends at most [`MESSAGES_MAX`] of `messages`, in order, and returns how many the kernel accepted: at least one.
///
/// # Errors
/// The kernel refused the first message, and so none was sent. If it refuses a later one, the call returns the number of those before it, and the next
/// call, which begins with the refused one, returns the error.
#[allow(unsafe_code, reason = "no safe wrapper has sendmmsg with control messages for each message")]
pub(crate) fn send_messages<'m>(
    socket: impl AsFd,
    messages: impl IntoIterator<Item = Message<'m>>,
) -> io::Result<usize> {
    let mut messages = messages.into_iter();
    let envelopes: [Option<Envelope<'m>>; MESSAGES_MAX] = std::array::from_fn(|_| messages.next().map(Envelope::new));
    let mut count: libc::c_uint = 0;
    // SAFETY: a header is integers and pointers, for which zero is a value. The C library may have private fields, so it cannot be written out.
    let mut headers: [libc::mmsghdr; MESSAGES_MAX] = unsafe { std::mem::zeroed() };
    for (header, envelope) in headers.iter_mut().zip(envelopes.iter().flatten()) {
        envelope.describe(&mut header.msg_hdr);
        count += 1;
    }
    loop {
        // SAFETY: the descriptor is open as long as `socket` is borrowed. `headers` has at least `count` initialized headers. Their pointers lead into
        // `envelopes` and to the bytes of the messages, which live until the end of this function and are not moved; the kernel only reads those, and
        // writes the sent lengths to `headers`.
        let result = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count, 0) };
        match usize::try_from(result) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// What the header of a message points to.
struct Envelope<'m> {
    address: SockAddr,
    slice: IoSlice<'m>,
    control: Control,
}

impl<'m> Envelope<'m> {
    fn new(message: Message<'m>) -> Self {
        let mut control = Control { bytes: [0; CONTROL_BYTES_MAX], length: 0 };
        match message.from {
            // `struct in_pktinfo`: interface (any), source address, and a field that only a receive fills.
            Some(IpAddr::V4(from)) => {
                let mut information = [0; 12];
                information[4..8].copy_from_slice(&from.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &information);
            }
            // `struct in6_pktinfo`: source address, interface (any).
            Some(IpAddr::V6(from)) => {
                let mut information = [0; 20];
                information[..16].copy_from_slice(&from.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &information);
            }
            None => {}
        }
        if let Some(segment) = message.segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        Self { address: SockAddr::from(message.to), slice: IoSlice::new(message.bytes), control }
    }

    /// Writes pointers to this envelope; `header` must not be used after it.
    fn describe(&self, header: &mut libc::msghdr) {
        header.msg_name = self.address.as_ptr().cast_mut().cast();
        header.msg_namelen = self.address.len();
        // `IoSlice` has the layout of `iovec`, as its documentation guarantees.
        header.msg_iov = (&raw const self.slice).cast_mut().cast();
        header.msg_iovlen = 1;
        if self.control.length > 0 {
            header.msg_control = (&raw const self.control.bytes).cast_mut().cast();
            header.msg_controllen = self.control.length as _;
        }
    }
}

/// `struct cmsghdr` as the kernel has it: a length of a word, level, type.
const CONTROL_HEADER_BYTES: usize = size_of::<usize>() + 2 * size_of::<c_int>();
/// A source address of IPv6 and a segment size, each with its header.
const CONTROL_BYTES_MAX: usize = control_space(20) + control_space(2);

/// Each control message begins at a multiple of a word.
const fn control_space(value_bytes: usize) -> usize {
    (CONTROL_HEADER_BYTES + value_bytes).next_multiple_of(size_of::<usize>())
}

/// Control messages of one message, back to back.
#[repr(C, align(8))] // that of `struct cmsghdr`
struct Control {
    bytes: [u8; CONTROL_BYTES_MAX],
    length: usize,
}

impl Control {
    fn push(&mut self, level: c_int, kind: c_int, value: &[u8]) {
        let length = CONTROL_HEADER_BYTES + value.len();
        let (word, int) = (size_of::<usize>(), size_of::<c_int>());
        let place = &mut self.bytes[self.length..][..length];
        place[..word].copy_from_slice(&length.to_ne_bytes());
        place[word..][..int].copy_from_slice(&level.to_ne_bytes());
        place[word + int..][..int].copy_from_slice(&kind.to_ne_bytes());
        place[CONTROL_HEADER_BYTES..].copy_from_slice(value);
        self.length += control_space(value.len());
    }
}

/// Makes the kernel stop reading the clock for each datagram that it receives for this socket.
///
/// # Errors
/// The kernel does not know the option, and so does not read the clock.
#[allow(unsafe_code, reason = "neither socket2 nor rustix has SO_TIMESTAMPNS")]
pub(crate) fn stop_timestamps(socket: impl AsFd) -> io::Result<()> {
    let off: c_int = 0;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads an integer from `off`, which is one.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const off).cast(),
            libc::socklen_t::try_from(size_of_val(&off)).unwrap_or(0),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
mod tests;
