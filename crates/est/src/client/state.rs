//! Where a client stands. Each state carries what it has, so that none can lack what it needs.
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

/// Where the client stands.
pub(super) enum State {
    /// The handshake is under way: for a task, or for nothing but its one try.
    Connecting(Option<Task>),
    /// Nothing is asked. The last request is kept to acknowledge repetitions of a separate response.
    Connected(Option<Box<Exchange>>),
    /// A request is under way.
    Asking(Asking),
    /// The server wants the request later; the association stays.
    Waiting {
        at: Instant,
        pursuit: Box<Pursuit>,
        /// The request that was refused, for repetitions of its response.
        exchange: Box<Exchange>,
    },
    /// A try failed; a handshake begins the next one.
    Resting { at: Instant, task: Task },
    /// The association ended while nothing was asked, and the next request begins another one.
    Dormant,
    /// Nothing can be asked any more.
    Over,
}

/// A request under way.
pub(super) struct Asking {
    pub(super) exchange: Box<Exchange>,
    pub(super) expected: Expected,
    /// Nothing where each failure is the caller's to handle.
    pub(super) pursuit: Option<Box<Pursuit>>,
}

/// What a client persists in.
pub(super) enum Task {
    /// An association, and nothing over it yet.
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
            Task::Associate(effort) => effort,
            Task::Request(pursuit) => &pursuit.effort,
        }
    }

    pub(super) fn effort_mut(&mut self) -> &mut Effort {
        match self {
            Task::Associate(effort) => effort,
            Task::Request(pursuit) => &mut pursuit.effort,
        }
    }

    pub(super) fn into_effort(self) -> Effort {
        match self {
            Task::Associate(effort) => *effort,
            Task::Request(pursuit) => pursuit.effort,
        }
    }
}

impl State {
    /// The exchange that messages of the server belong to.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        match self {
            State::Asking(Asking { exchange, .. })
            | State::Waiting { exchange, .. }
            | State::Connected(Some(exchange)) => Some(exchange),
            State::Connected(None) | State::Connecting(_) | State::Resting { .. } | State::Dormant | State::Over => {
                None
            }
        }
    }

    /// The same, to go on with.
    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            State::Asking(Asking { exchange, .. })
            | State::Waiting { exchange, .. }
            | State::Connected(Some(exchange)) => Some(exchange),
            State::Connected(None) | State::Connecting(_) | State::Resting { .. } | State::Dormant | State::Over => {
                None
            }
        }
    }

    /// When the client gives up, if it persists in something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let effort = match self {
            State::Connecting(Some(task)) | State::Resting { task, .. } => task.effort(),
            State::Asking(Asking { pursuit: Some(pursuit), .. }) | State::Waiting { pursuit, .. } => &pursuit.effort,
            State::Connecting(None)
            | State::Asking(Asking { pursuit: None, .. })
            | State::Connected(_)
            | State::Dormant
            | State::Over => return None,
        };
        Some(effort.deadline)
    }

    /// When the next try begins, if one was put off.
    pub(super) const fn next_try(&self) -> Option<Instant> {
        match self {
            State::Waiting { at, .. } | State::Resting { at, .. } => Some(*at),
            State::Connecting(_) | State::Connected(_) | State::Asking(_) | State::Dormant | State::Over => None,
        }
    }
}
