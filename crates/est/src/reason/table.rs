//! The table itself. One row a reason: variant, code, stage, what the peer sees, what it means, what to do on the device,
//! what to do on the server.
//!
//! The remedies name the settings of Mbed TLS, Zephyr, OpenThread and OpenSSL if these have one;
//! `tests/stories/remedies.rs` states this for each reason, and checks every such name.

#[macro_use]
mod handshake;
#[macro_use]
mod request;
#[macro_use]
mod upstream;

use coap::Code;
use dtls::AlertDescription as Alert;

use super::{Entry, Stage, Wire};

/// Generates the enum, the list of all reasons and the match from reason to row from one list, so that none can be
/// missing.
macro_rules! reasons {
    ($($variant:ident: $code:literal, $stage:ident, $wire:expr;
        $meaning:literal;
        $device:literal;
        $server:literal;)+) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the steps of an enrolment.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// Its row of the table.
            #[must_use]
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Reason::$variant => const {
                        &Entry {
                            code: $code,
                            stage: Stage::$stage,
                            wire: $wire,
                            meaning: $meaning,
                            device: $device,
                            server: $server,
                        }
                    },)+
                }
            }
        }
    };
}

const BAD_REQUEST: Wire = Wire::Response(Code::BAD_REQUEST);
const BAD_OPTION: Wire = Wire::Response(Code::BAD_OPTION);
const FORBIDDEN: Wire = Wire::Response(Code::FORBIDDEN);
const NOT_FOUND: Wire = Wire::Response(Code::NOT_FOUND);
const NOT_ACCEPTABLE: Wire = Wire::Response(Code::NOT_ACCEPTABLE);
const TOO_MANY_REQUESTS: Wire = Wire::Response(Code::TOO_MANY_REQUESTS);
const INCOMPLETE: Wire = Wire::Response(Code::REQUEST_ENTITY_INCOMPLETE);
const BAD_GATEWAY: Wire = Wire::Response(Code::BAD_GATEWAY);
const UNAVAILABLE: Wire = Wire::Response(Code::SERVICE_UNAVAILABLE);

handshake_rows!(request_rows);
