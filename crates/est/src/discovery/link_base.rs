//! What precedes the path of an absolute link: `coaps://est.example.net:5690`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The port of coaps (RFC 7252 §12.8): a link to it names no port.
pub const COAPS_PORT: u16 = 5684;

const SCHEME: &str = "coaps://";

/// RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;

/// The scheme, host and port at which devices reach a server: the base of its links.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkBase {
    text: Box<str>,
}

/// Why a text is not a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkBaseFlaw {
    /// It does not begin with `coaps://`.
    Scheme,
    /// Its host is neither a DNS name, an IPv4 address, nor an IPv6 address in brackets and without a zone.
    Host,
    /// Its port is not a number from 1 to 65535.
    Port,
    /// Something follows the port: a base has no path.
    Path,
}

impl LinkBase {
    /// Reads `coaps://HOST[:PORT]`.
    ///
    /// # Errors
    /// [`LinkBaseFlaw`].
    pub fn parse(text: &str) -> Result<Self, LinkBaseFlaw> {
        let authority = text.strip_prefix(SCHEME).ok_or(LinkBaseFlaw::Scheme)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(LinkBaseFlaw::Path);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (address, after) = inner.split_once(']').ok_or(LinkBaseFlaw::Host)?;
                // A zone has a meaning on one machine alone (RFC 6874 §1).
                let address: Ipv6Addr = address.parse().map_err(|_| LinkBaseFlaw::Host)?;
                let port =
                    if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(LinkBaseFlaw::Port)?) };
                (format!("[{address}]"), port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (authority.to_owned(), None),
            },
        };
        if !host.starts_with('[') && !is_name(&host) {
            return Err(LinkBaseFlaw::Host);
        }
        let port = port.map_or(Ok(COAPS_PORT), |port| port.parse().map_err(|_| LinkBaseFlaw::Port))?;
        if port == 0 { Err(LinkBaseFlaw::Port) } else { Ok(Self::written(&host, port)) }
    }

    /// The base for an address.
    #[must_use]
    pub fn of_address(address: IpAddr, port: u16) -> Self {
        match address {
            IpAddr::V4(address) => Self::written(&address.to_string(), port),
            IpAddr::V6(address) => Self::written(&format!("[{address}]"), port),
        }
    }

    /// The base for a DNS name; `None` if the text is not one.
    #[must_use]
    pub fn of_name(name: &str, port: u16) -> Option<Self> {
        is_name(name).then(|| Self::written(&name.to_ascii_lowercase(), port))
    }

    fn written(host: &str, port: u16) -> Self {
        let text = if port == COAPS_PORT { format!("{SCHEME}{host}") } else { format!("{SCHEME}{host}:{port}") };
        Self { text: text.into() }
    }

    /// Its host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.text.strip_prefix(SCHEME).unwrap_or(&self.text);
        match authority.strip_prefix('[') {
            Some(inner) => inner.split(']').next().unwrap_or(inner),
            None => authority.split(':').next().unwrap_or(authority),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let after = self.text.rsplit_once(':').map_or("", |(_, port)| port);
        after.parse().unwrap_or(COAPS_PORT)
    }

    /// As it precedes a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for LinkBase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Display for LinkBaseFlaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Scheme => "it does not begin with coaps://",
            Self::Host => {
                "its host is neither a DNS name, an IPv4 address, nor an IPv6 address in brackets without a zone"
            }
            Self::Port => "its port is not a number from 1 to 65535",
            Self::Path => "it has more than a scheme, a host and a port",
        })
    }
}

/// Whether a link can carry the host without escapes: letters, digits, hyphens and dots.
fn is_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !host.is_empty() && host.len() <= NAME_BYTES_MAX && host.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_read_back() {
        for (text, host, port) in [
            ("coaps://est.example.net", "est.example.net", 5684),
            ("coaps://est.example.net:5690", "est.example.net", 5690),
            ("coaps://[2001:db8::7777]", "2001:db8::7777", 5684),
            ("coaps://[2001:db8::7]:61617", "2001:db8::7", 61617),
        ] {
            let base = LinkBase::parse(text).unwrap();
            assert_eq!((base.host(), base.port()), (host, port));
        }
    }

    #[test]
    fn a_base_is_a_scheme_a_host_and_a_port() {
        for (text, written) in [
            ("coaps://est.example.net", "coaps://est.example.net"),
            ("coaps://est.example.net:5684/", "coaps://est.example.net"),
            ("coaps://192.0.2.7:5690", "coaps://192.0.2.7:5690"),
            ("coaps://[2001:DB8::7]:61617", "coaps://[2001:db8::7]:61617"),
        ] {
            assert_eq!(LinkBase::parse(text).unwrap().as_str(), written);
        }
        for (text, flaw) in [
            ("coap://est.example.net", LinkBaseFlaw::Scheme),
            ("coaps://", LinkBaseFlaw::Host),
            ("coaps://a b", LinkBaseFlaw::Host),
            ("coaps://a>;rt=x", LinkBaseFlaw::Host),
            ("coaps://[fe80::1%eth0]", LinkBaseFlaw::Host),
            ("coaps://h:0", LinkBaseFlaw::Port),
            ("coaps://h:65536", LinkBaseFlaw::Port),
            ("coaps://[::1]5684", LinkBaseFlaw::Port),
            ("coaps://h/est", LinkBaseFlaw::Path),
        ] {
            assert_eq!(LinkBase::parse(text), Err(flaw), "{text}");
        }
    }
}
