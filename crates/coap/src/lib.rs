//! CoAP messages, block-wise transfer and exchanges (RFC 7252, 7959, 9175), sans-I/O.
