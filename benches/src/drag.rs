//! A deliberate slow-down of one step, to show that the gate notices it: `cargo xtask bench drag`.
//!
//! It is a loop in the code that measures, never in the product, and is empty unless the environment asks for it.

use std::hint::black_box;

/// The variable that slows a step down: `server_handshake=400,issuance=300`, in turns of a loop.
const VARIABLE: &str = "MUSTER_BENCH_DRAG";

/// The steps that can be slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraggedStep {
    /// The server's side of a handshake.
    ServerHandshake,
    /// The client's side of a handshake.
    ClientHandshake,
    /// From the CSR to the certificate.
    Issuance,
    /// The parsing of one CoAP message.
    CoapParse,
}

impl DraggedStep {
    const fn name(self) -> &'static str {
        match self {
            Self::ServerHandshake => "server_handshake",
            Self::ClientHandshake => "client_handshake",
            Self::Issuance => "issuance",
            Self::CoapParse => "coap_parse",
        }
    }
}

/// By how much a step is slowed down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drag {
    turns: u32,
}

impl Drag {
    /// What the environment asks for this step. It is read while a measurement is prepared.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
    pub fn of(step: DraggedStep) -> Self {
        Self { turns: std::env::var(VARIABLE).map_or(0, |asked| turns(&asked, step)) }
    }

    /// Takes the time.
    #[inline(never)]
    pub fn pull(self) {
        for turn in 0..self.turns {
            black_box(turn);
        }
    }
}

fn turns(asked: &str, step: DraggedStep) -> u32 {
    let mut pairs = asked.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == step.name()).and_then(|(_, turns)| turns.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_step_is_slowed_down() {
        let asked = "server_handshake=400,issuance=300";
        assert_eq!((turns(asked, DraggedStep::Issuance), turns(asked, DraggedStep::ClientHandshake)), (300, 0));
        assert_eq!(turns("", DraggedStep::Issuance), 0);
    }
}
