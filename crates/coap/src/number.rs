//! Option numbers and their definitions (RFC 7252 §5.10, 7959 §2.1, 9175 §3.2.1, 7641, 7967, 9177).

use std::fmt;

/// The number of an option. Odd numbers are critical (RFC 7252 §5.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u16);

impl Number {
    /// If-Match
    pub const IF_MATCH: Number = Number(1);
    /// Uri-Host
    pub const URI_HOST: Number = Number(3);
    /// ETag
    pub const ETAG: Number = Number(4);
    /// If-None-Match
    pub const IF_NONE_MATCH: Number = Number(5);
    /// Observe (RFC 7641)
    pub const OBSERVE: Number = Number(6);
    /// Uri-Port
    pub const URI_PORT: Number = Number(7);
    /// Location-Path
    pub const LOCATION_PATH: Number = Number(8);
    /// OSCORE (RFC 8613)
    pub const OSCORE: Number = Number(9);
    /// Uri-Path
    pub const URI_PATH: Number = Number(11);
    /// Content-Format
    pub const CONTENT_FORMAT: Number = Number(12);
    /// Max-Age, in seconds
    pub const MAX_AGE: Number = Number(14);
    /// Uri-Query
    pub const URI_QUERY: Number = Number(15);
    /// Hop-Limit (RFC 8768)
    pub const HOP_LIMIT: Number = Number(16);
    /// Accept
    pub const ACCEPT: Number = Number(17);
    /// Q-Block1 (RFC 9177)
    pub const Q_BLOCK1: Number = Number(19);
    /// Location-Query
    pub const LOCATION_QUERY: Number = Number(20);
    /// Block2 (RFC 7959)
    pub const BLOCK2: Number = Number(23);
    /// Block1 (RFC 7959)
    pub const BLOCK1: Number = Number(27);
    /// Size2 (RFC 7959)
    pub const SIZE2: Number = Number(28);
    /// Q-Block2 (RFC 9177)
    pub const Q_BLOCK2: Number = Number(31);
    /// Proxy-Uri
    pub const PROXY_URI: Number = Number(35);
    /// Proxy-Scheme
    pub const PROXY_SCHEME: Number = Number(39);
    /// Size1
    pub const SIZE1: Number = Number(60);
    /// Echo (RFC 9175)
    pub const ECHO: Number = Number(252);
    /// No-Response (RFC 7967)
    pub const NO_RESPONSE: Number = Number(258);
    /// Request-Tag (RFC 9175)
    pub const REQUEST_TAG: Number = Number(292);

    /// An endpoint that does not know a critical option must not process the message (RFC 7252 §5.4.1).
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 == 1
    }

    /// The registered name; `None` if it is not known here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Number::IF_MATCH => "If-Match",
            Number::URI_HOST => "Uri-Host",
            Number::ETAG => "ETag",
            Number::IF_NONE_MATCH => "If-None-Match",
            Number::OBSERVE => "Observe",
            Number::URI_PORT => "Uri-Port",
            Number::LOCATION_PATH => "Location-Path",
            Number::OSCORE => "OSCORE",
            Number::URI_PATH => "Uri-Path",
            Number::CONTENT_FORMAT => "Content-Format",
            Number::MAX_AGE => "Max-Age",
            Number::URI_QUERY => "Uri-Query",
            Number::HOP_LIMIT => "Hop-Limit",
            Number::ACCEPT => "Accept",
            Number::Q_BLOCK1 => "Q-Block1",
            Number::LOCATION_QUERY => "Location-Query",
            Number::BLOCK2 => "Block2",
            Number::BLOCK1 => "Block1",
            Number::SIZE2 => "Size2",
            Number::Q_BLOCK2 => "Q-Block2",
            Number::PROXY_URI => "Proxy-Uri",
            Number::PROXY_SCHEME => "Proxy-Scheme",
            Number::SIZE1 => "Size1",
            Number::ECHO => "Echo",
            Number::NO_RESPONSE => "No-Response",
            Number::REQUEST_TAG => "Request-Tag",
            _ => return None,
        })
    }

    /// The definition of an option that is understood in a request; `None` for any other.
    ///
    /// Some options have a name here but are not understood: If-Match, If-None-Match (no resource has a state to
    /// compare), OSCORE, Q-Block1 and Q-Block2. All of them are critical, so they are refused.
    pub(crate) const fn request_definition(self) -> Option<Definition> {
        Some(match self {
            Number::URI_HOST => Definition::once(1, 255),
            Number::URI_PORT | Number::CONTENT_FORMAT | Number::ACCEPT => Definition::once(0, 2),
            Number::URI_PATH | Number::URI_QUERY => Definition::repeatable(0, 255),
            Number::BLOCK1 | Number::BLOCK2 => Definition::once(0, 3),
            Number::SIZE1 | Number::SIZE2 => Definition::once(0, 4),
            Number::PROXY_URI => Definition::once(1, 1034),
            Number::PROXY_SCHEME => Definition::once(1, 255),
            Number::REQUEST_TAG => Definition::repeatable(0, 8),
            _ => return None,
        })
    }

    /// The definition of an option that is understood in a response; `None` for any other.
    pub(crate) const fn response_definition(self) -> Option<Definition> {
        Some(match self {
            Number::CONTENT_FORMAT => Definition::once(0, 2),
            Number::ETAG => Definition::once(1, 8),
            Number::MAX_AGE | Number::SIZE1 | Number::SIZE2 => Definition::once(0, 4),
            Number::BLOCK1 | Number::BLOCK2 => Definition::once(0, 3),
            _ => return None,
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "option {}", self.0),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One line of the registry: whether an option may be repeated in a message and how long its value may be.
#[derive(Clone, Copy)]
pub(crate) struct Definition {
    pub(crate) repeatable: bool,
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
}

impl Definition {
    const fn once(bytes_min: usize, bytes_max: usize) -> Definition {
        Definition { repeatable: false, bytes_min, bytes_max }
    }

    const fn repeatable(bytes_min: usize, bytes_max: usize) -> Definition {
        Definition { repeatable: true, bytes_min, bytes_max }
    }
}
