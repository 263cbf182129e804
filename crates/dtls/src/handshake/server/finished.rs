//! The last steps: `ExpectChangeCipherSpec`, `ExpectFinished`.

use super::context::ServerContext;
use crate::crypto::{MasterSecret, VerifyData, WhoseFinished};
use crate::handshake::established::{Bindings, Established, FinalFlight};
use crate::handshake::flight::Flight;
use crate::handshake::reassembly::HandshakeMessage;
use crate::refusal::HandshakeRefusal;
use crate::verify::VerifyPeer;
use crate::wire::HandshakeType;

pub(super) struct ExpectChangeCipherSpec<P> {
    pub(super) proven: P,
    pub(super) master_secret: MasterSecret,
    pub(super) extended_master_secret: bool,
}

impl<P> ExpectChangeCipherSpec<P> {
    pub(super) fn handle(self) -> ExpectFinished<P> {
        ExpectFinished(self)
    }

    pub(super) const fn proven(&self) -> &P {
        &self.proven
    }
}

pub(super) struct ExpectFinished<P>(pub(super) ExpectChangeCipherSpec<P>);

/// Its number in RFC 6347 §4.2.4, Figure 1.
const FINISHED_FLIGHT: u8 = 6;

impl<P> ExpectFinished<P> {
    pub(super) const fn proven(&self) -> &P {
        &self.0.proven
    }

    pub(super) fn handle<V: VerifyPeer<Proven = P>>(
        self,
        message: &HandshakeMessage,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<Box<Established<P>>, HandshakeRefusal> {
        let Self(ExpectChangeCipherSpec { proven, master_secret, extended_master_secret }) = self;
        let conversation = &mut *context.conversation;
        let transcript = conversation.transcript.hash();
        #[cfg(not(muster_seam = "finished"))]
        if !master_secret.finished_matches(WhoseFinished::Client, &transcript, &message.body) {
            context.account.claimed = context.config.verifier.claimed_by(&proven);
            return Err(HandshakeRefusal::BadFinished);
        }
        let tls_unique = VerifyData::try_from(message.body.as_slice()).map_err(|_| HandshakeRefusal::BadFinished)?;
        conversation.hash_received(message);
        let verify_data = master_secret.verify_data(WhoseFinished::Server, &conversation.transcript.hash());
        let mut flight = Flight::new(FINISHED_FLIGHT);
        flight.change_cipher_spec();
        conversation.prepare(&mut flight, HandshakeType::FINISHED, &verify_data);
        conversation.send_flight(flight, context.port)?;
        let final_flight = FinalFlight {
            verify_data,
            message_seq: conversation.last_sent_seq(),
            answers_message_seq: conversation.last_received_seq(),
        };
        let bindings = Bindings { tls_unique, extended_master_secret, final_flight: Some(final_flight) };
        let secured = conversation.secure(bindings).ok_or(HandshakeRefusal::Internal)?;
        Ok(Box::new(Established { proven, secured }))
    }
}
