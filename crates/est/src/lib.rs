//! EST-coaps (RFC 9148): the stack of DTLS, CoAP and resources, server and client, sans-I/O.
