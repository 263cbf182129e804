//! The end of sockets: what waits for the kernel is sent, or counted.

use std::io;
use std::time::Instant;

use mio::{Events, Poll, Token};

use super::Socket;
use crate::Clock;

/// A readable and a writable event for each of some sockets.
const EVENTS_MAX: usize = 64;

/// Gives the kernel what `sockets` have to send, and waits until it has taken all of it, at the latest until `until`. The sockets are registered
/// with `poll` by their places. What they are sent meanwhile is not received.
///
/// # Errors
/// What `epoll` says.
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
