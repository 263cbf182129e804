//! How a handshake advances, at either end: each message, once complete, is handled by the state that expects it.

use super::conversation::Conversation;
use super::established::Established;
use super::reassembly::HandshakeMessage;
use crate::port::Port;
use crate::refusal::HandshakeRefusal;

/// What a handshake needs from its owner.
pub(crate) enum Progress<P, W> {
    /// The next datagram, or the next timeout.
    Waiting,
    /// A public-key step.
    Work(W),
    /// Nothing more: it is complete.
    Established(Box<Established<P>>),
}

/// What the state of an end waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A handshake message.
    Message,
    /// The peer's ChangeCipherSpec, which is not a handshake message.
    ChangeCipherSpec,
    /// Nothing from the peer: a public-key step is running, or the handshake is over.
    Nothing,
}

/// The states of one end.
pub(super) trait States {
    /// What the end knows about the peer, once the peer has proven itself.
    type Proven;
    /// Public-key steps that can run elsewhere.
    type Work;

    fn awaited(&self) -> Awaited;

    fn conversation(&mut self) -> &mut Conversation;

    /// The expected ChangeCipherSpec has arrived.
    fn change_cipher_spec(&mut self);

    /// Hands the next message to the state that expects it. `Waiting`: for the message after it.
    fn handle_message(
        &mut self,
        message: &HandshakeMessage,
        port: &mut Port<'_>,
    ) -> Result<Progress<Self::Proven, Self::Work>, HandshakeRefusal>;
}

/// Handles all that has arrived, until something is missing.
pub(super) fn advance<S: States>(
    states: &mut S,
    port: &mut Port<'_>,
) -> Result<Progress<S::Proven, S::Work>, HandshakeRefusal> {
    loop {
        match states.awaited() {
            Awaited::Nothing => return Ok(Progress::Waiting),
            Awaited::ChangeCipherSpec => {
                if !states.conversation().take_change_cipher_spec() {
                    return Ok(Progress::Waiting);
                }
                states.change_cipher_spec();
            }
            Awaited::Message => {}
        }
        let Some(message) = states.conversation().next_message(port) else { return Ok(Progress::Waiting) };
        match states.handle_message(&message, port)? {
            Progress::Waiting => {}
            Progress::Work(work) => {
                states.conversation().pause_timer();
                return Ok(Progress::Work(work));
            }
            Progress::Established(established) => return Ok(Progress::Established(established)),
        }
    }
}
