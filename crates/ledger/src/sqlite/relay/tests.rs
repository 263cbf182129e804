use authority::RelayRequest;

pub(crate) use sim::relay_contract::certificate;

/// A request at this time for this key, to an upstream whose name has to be escaped.
pub(crate) fn request(at: u64, key: &str) -> RelayRequest {
    RelayRequest { upstream: "a \"quoted\" one".into(), ..sim::relay_contract::request(at, key) }
}
