//! HTTP/1 for clients that are not trusted: the metrics and the revocation lists, each on a listener of its own.

pub(crate) mod connections;
