//! Bytes on the wire and their checked forms. Other modules do not check again what has been parsed here.

mod alert;
mod certificate;
mod client_hello;
mod codec;
mod handshake;
mod hello_verify_request;
mod key_exchange;
mod names;
mod offered;
mod record;
mod record_limit;
mod record_number;
mod registry;
mod server_hello;
mod trusted_authorities;

pub(crate) use alert::parse_alert;
pub use alert::{AlertDescription, AlertLevel};
pub(crate) use certificate::{
    CertificateChain, CertificateRequest, CertificateVerify, ChainFault, NO_CERTIFICATES, encode_certificate,
};
pub(crate) use client_hello::{ClientHello, ClientHelloOffer, HelloHead, takes_later_versions_only};
pub(crate) use codec::{Reader, to_u16};
pub use handshake::HandshakeType;
pub(crate) use handshake::{Fragment, HANDSHAKE_HEADER_BYTES, handshake_header};
pub(crate) use hello_verify_request::{HelloVerifyRequest, encode_hello_verify_request};
pub(crate) use key_exchange::{
    ClientKeyExchange, ServerKeyExchange, ecdhe_parameters_bytes, encode_client_key_exchange, encode_ecdhe_parameters,
    encode_server_key_exchange, server_key_exchange_bytes,
};
pub use offered::Offered;
pub(crate) use record::{ContentType, RECORD_HEADER_BYTES, RecordHeader, put_record_header};
pub use record_limit::{FragmentLength, RecordLimit};
pub(crate) use record_number::{Epoch, RecordNumber, RecordNumbers, SequenceExhausted};
pub(crate) use registry::{DTLS_1_0, DTLS_1_2, UNCOMPRESSED, X509, extension};
pub(crate) use server_hello::{
    RecordLimitAnswer, SERVER_HELLO_BYTES_MAX, ServerExtensions, ServerHello, encode_server_hello,
};
pub use trusted_authorities::AuthorityKeyHash;
