//! Requests that wait for the authority.

use std::sync::Arc;
use std::time::Instant;

use authority::{Function, Profile};
use coap::server::{ExchangeId, Owner};
use pki::Digest;

use super::places::WaitingPlace;
use crate::resources::Packing;
use crate::verify::{Authenticated, RequestMark};

/// A request that the authority is working on.
pub(super) struct PendingRequest {
    pub(super) exchange: ExchangeId,
    pub(super) function: Function,
    pub(super) packing: Packing,
    /// Fixed when the request arrived: a new configuration does not change it.
    pub(super) profile: Arc<Profile>,
    pub(super) client: Authenticated,
    pub(super) asker: Asker,
}

/// What a pending enrolment takes, and what is remembered of it when its session is gone.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    /// The owner whose share it takes.
    pub(super) owner: Owner,
    pub(super) place: WaitingPlace,
    /// The certificate of the device, and its request.
    pub(super) certificate: Digest,
    pub(super) request: RequestMark,
    /// How many waited when it began to wait, and since when it does.
    pub(super) ahead: u32,
    pub(super) since: Instant,
}

/// A request whose outcome has come.
pub(super) enum Waited {
    /// Its client waits for the answer.
    Present(PendingRequest),
    /// Its session is gone.
    Orphan(Asker),
}

impl Waited {
    pub(super) fn asker(&self) -> Asker {
        match self {
            Self::Present(waiting) => waiting.asker,
            Self::Orphan(asker) => *asker,
        }
    }
}

/// The requests of a session that the authority is working on: nearly always one.
#[derive(Default)]
pub(super) struct Waiting {
    first: Option<PendingRequest>,
    further: Vec<PendingRequest>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.further.len()
    }

    pub(super) fn push(&mut self, request: PendingRequest) {
        match &mut self.first {
            None => self.first = Some(request),
            Some(_) => self.further.push(request),
        }
    }

    pub(super) fn take(&mut self, exchange: u32) -> Option<PendingRequest> {
        let first = self.first.take_if(|waiting| waiting.exchange.0 == exchange);
        first.or_else(|| {
            let place = self.further.iter().position(|waiting| waiting.exchange.0 == exchange)?;
            Some(self.further.swap_remove(place))
        })
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = PendingRequest> {
        self.first.take().into_iter().chain(self.further.drain(..))
    }
}
