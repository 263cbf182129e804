//! What one line of a journal says: about a row of a CA, or about a request that a Registrar relayed.

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::line::{LineFault, RowEvent, RowLine};
use crate::relay_line::{RELAY_BEGINNING, RelayEvent};

/// What one line says.
#[derive(Clone, Debug)]
pub(crate) enum JournalEvent {
    /// About a row of a CA.
    Row(Box<RowEvent>),
    /// About a relayed request.
    Relay(RelayEvent),
}

impl JournalEvent {
    /// Reads a line, without its newline.
    pub(crate) fn read(line: &str) -> Result<Self, LineFault> {
        if line.starts_with(RELAY_BEGINNING) {
            return RelayEvent::read(line).map(Self::Relay);
        }
        RowLine::read(line).map(|line| Self::Row(Box::new(line.event)))
    }

    /// The latest of the times at which something happened, according to it.
    pub(crate) fn latest(&self) -> UnixTime {
        match self {
            Self::Row(event) => event.latest(),
            Self::Relay(event) => event.latest(),
        }
    }
}

/// What it is about.
impl fmt::Display for JournalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(event) => write!(f, "serial number {}", event.serial()),
            Self::Relay(event) => write!(f, "relayed request {}", event.id().as_u64()),
        }
    }
}
