//! The states of a client. Each state carries the data that it needs.
//!
//! ```text
//!   Connecting ──► Connected ──► Asking ──► Connected
//!       ▲              │            │ later
//!       │              ▼            ├──────► Waiting ──► Asking
//!       │           Dormant         │ association lost
//!       │              │            ▼
//!       └──────────────┴──────── Resting            any ──► Over
//! ```

use std::time::Instant;

use coap::client::Exchange;

use super::answer::Expected;
use super::operation::Operation;
use super::persistence::Effort;
use crate::resources::Packing;

/// The state of the client.
pub(super) enum ClientState {
    /// The handshake is in progress: for a task, or as the client's only try.
    Connecting(Option<Task>),
    /// No request is in progress. The last one is kept to acknowledge duplicates of a separate response.
    Connected(Option<Box<Exchange>>),
    /// A request is in progress.
    Asking(Asking),
    /// The server wants the request later; the association stays open.
    Waiting {
        at: Instant,
        pursuit: Box<Pursuit>,
        /// The refused request, kept to acknowledge duplicates of its response.
        exchange: Box<Exchange>,
    },
    /// A try failed; the next one begins with a handshake.
    Resting { at: Instant, task: Task },
    /// The association ended while no request was in progress; the next request begins another one.
    Dormant,
    /// No further request is possible.
    Over,
}

/// A request in progress.
pub(super) struct Asking {
    pub(super) exchange: Box<Exchange>,
    pub(super) expected: Expected,
    /// `None` if the caller handles each failure.
    pub(super) pursuit: Option<Box<Pursuit>>,
}

/// What a client persists in.
pub(super) enum Task {
    /// An association, without a request yet.
    Associate(Box<Effort>),
    /// The answer to a request.
    Request(Box<Pursuit>),
}

/// A request that is repeated until it is answered.
pub(super) struct Pursuit {
    pub(super) operation: Operation,
    pub(super) accept: Option<Packing>,
    pub(super) expected: Expected,
    pub(super) effort: Effort,
}

impl Task {
    pub(super) fn effort(&self) -> &Effort {
        match self {
            Self::Associate(effort) => effort,
            Self::Request(pursuit) => &pursuit.effort,
        }
    }

    pub(super) fn effort_mut(&mut self) -> &mut Effort {
        match self {
            Self::Associate(effort) => effort,
            Self::Request(pursuit) => &mut pursuit.effort,
        }
    }

    pub(super) fn into_effort(self) -> Effort {
        match self {
            Self::Associate(effort) => *effort,
            Self::Request(pursuit) => pursuit.effort,
        }
    }
}

impl ClientState {
    /// The exchange that messages from the server belong to.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Asking(Asking { exchange, .. })
            | Self::Waiting { exchange, .. }
            | Self::Connected(Some(exchange)) => Some(exchange),
            Self::Connected(None) | Self::Connecting(_) | Self::Resting { .. } | Self::Dormant | Self::Over => None,
        }
    }

    /// The same exchange, mutable.
    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Asking(Asking { exchange, .. })
            | Self::Waiting { exchange, .. }
            | Self::Connected(Some(exchange)) => Some(exchange),
            Self::Connected(None) | Self::Connecting(_) | Self::Resting { .. } | Self::Dormant | Self::Over => None,
        }
    }

    /// When the client gives up, if it persists.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let effort = match self {
            Self::Connecting(Some(task)) | Self::Resting { task, .. } => task.effort(),
            Self::Asking(Asking { pursuit: Some(pursuit), .. }) | Self::Waiting { pursuit, .. } => &pursuit.effort,
            Self::Connecting(None)
            | Self::Asking(Asking { pursuit: None, .. })
            | Self::Connected(_)
            | Self::Dormant
            | Self::Over => return None,
        };
        Some(effort.deadline)
    }

    /// When the next try begins, if one is scheduled.
    pub(super) const fn next_try(&self) -> Option<Instant> {
        match self {
            Self::Waiting { at, .. } | Self::Resting { at, .. } => Some(*at),
            Self::Connecting(_) | Self::Connected(_) | Self::Asking(_) | Self::Dormant | Self::Over => None,
        }
    }
}
