//! The required result of a walk, computed from the letters that reached the server, without any code of the engine.
//!
//! A handshake is the honest path when the messages whose numbers follow the ClientHello's are, by number, the client's own Certificate,
//! its ClientKeyExchange, its CertificateVerify by the right key over this transcript, and its Finished over this transcript under keys;
//! and when a ChangeCipherSpec has arrived. It completes when the last of these has arrived, and never before.
//!
//! Harmless detours, which DTLS allows and which must not prevent completion:
//!
//! - records without a message number: warning alerts, application data before its time, a handshake message in the wrong epoch (dropped,
//!   RFC 6347 §4.1, §4.1.2.7);
//! - repetitions: of two messages with the same number the first one counts (RFC 6347 §4.2.4, retransmission);
//! - order of arrival: messages are handled by their numbers, and ChangeCipherSpec, which has none, may arrive at any time after the
//!   ClientHello (RFC 6347 §4.2.2, case D55);
//! - anything after the Finished;
//! - an earlier handshake of the same client that was refused.

use super::letter::Letter;

/// What reached the server, as its sender meant it. Anything that is not listed here has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The ClientHello of a handshake that the client begins: its first one, or one after a fatal alert.
    Begin { message_seq: u16 },
    /// A handshake message.
    Message { letter: Letter, message_seq: u16 },
    /// ChangeCipherSpec.
    ChangeCipherSpec,
    /// Application data under the client's keys.
    Data,
}

/// The messages that follow the ClientHello on the honest path.
const HONEST: [Letter; 4] = [Letter::Certificate, Letter::KeyExchange, Letter::Verify, Letter::Finished];

/// Takes arrivals, and says what they must result in.
#[derive(Debug, Default)]
pub struct Oracle {
    handshake: Option<Handshake>,
    completes: bool,
    data: usize,
}

#[derive(Debug)]
struct Handshake {
    hello: u16,
    /// The messages after the hello, by their distance from it: the first one of each number.
    messages: [Option<Letter>; HONEST.len()],
    changed_cipher_spec: bool,
}

impl Oracle {
    pub fn note(&mut self, arrival: Arrival) {
        match (arrival, &mut self.handshake) {
            (Arrival::Begin { message_seq }, handshake) => {
                *handshake =
                    Some(Handshake { hello: message_seq, messages: [None; HONEST.len()], changed_cipher_spec: false });
            }
            (Arrival::Message { letter, message_seq }, Some(handshake)) => {
                let after = message_seq.checked_sub(handshake.hello).and_then(|distance| distance.checked_sub(1));
                if let Some(place) = after.and_then(|at| handshake.messages.get_mut(usize::from(at))) {
                    place.get_or_insert(letter);
                }
            }
            (Arrival::ChangeCipherSpec, Some(handshake)) => handshake.changed_cipher_spec = true,
            (Arrival::Data, _) => self.data += usize::from(self.completes),
            (Arrival::Message { .. } | Arrival::ChangeCipherSpec, None) => {}
        }
        self.completes |= self.handshake.as_ref().is_some_and(Handshake::is_honest);
    }

    /// Whether the handshake must have completed by now; if not, it must not have completed.
    pub const fn completes(&self) -> bool {
        self.completes
    }

    /// The exact number of application data records that must have been delivered by now.
    pub const fn data(&self) -> usize {
        self.data
    }
}

impl Handshake {
    fn is_honest(&self) -> bool {
        self.changed_cipher_spec && self.messages.iter().zip(HONEST).all(|(came, honest)| *came == Some(honest))
    }
}
