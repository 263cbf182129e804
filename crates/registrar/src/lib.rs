//! EST over HTTPS (RFC 7030), at both ends: the client of a Registrar, and the front for devices that are not constrained.
//!
//! It knows no DTLS and no CoAP session. What both ends share is here too: the one table of HTTP status codes and CoAP response codes, and the
//! form of a body (RFC 8951).

mod body;
mod front;
pub mod fuzz;
pub mod relay;
mod status;

pub use body::{BODY_BYTES_MAX, BodyFlaw, decode_body, encode_body};
pub use front::{
    Front, FrontAnswer, FrontClient, FrontEnrolment, FrontIdentity, FrontKey, FrontOperation, FrontRefusal,
    FrontRegistrar, FrontSession, FrontVerdict, HeadVerdict, REQUEST_BYTES_MAX, cipher_bits,
};
pub use status::HttpStatus;
