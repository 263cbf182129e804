//! DTLS 1.2 records, handshakes and many peers on one socket (RFC 6347), sans-I/O.
