//! Finishes sockets: waiting datagrams are sent, or counted as dropped.

use std::io;
use std::time::Instant;

use mio::{Events, Poll, Token};

use super::Socket;
use crate::Clock;

/// A readable and a writable event for each of several sockets.
const EVENTS_MAX: usize = 64;

/// Sends what `sockets` still have to send, and waits until the kernel has accepted all of it, at the latest until `until`. The tokens of the sockets
/// in `poll` are their positions. Datagrams that arrive in the meantime are not received.
///
/// # Errors
/// The error of `epoll`.
pub fn finish(sockets: &mut [Socket], poll: &mut Poll, until: Instant) -> io::Result<()> {
    loop {
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.flush();
            socket.update_interest(poll.registry(), Token(index))?;
        }
        if !sockets.iter().any(Socket::wants_write) {
            return Ok(());
        }
        let left = until.saturating_duration_since(Clock.now().mono);
        if left.is_zero() {
            return Ok(());
        }
        match poll.poll(&mut Events::with_capacity(EVENTS_MAX), Some(left)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
    }
}
