//! Option numbers and their definitions (RFC 7252 §5.10, 7959 §2.1, 9175 §3.2.1, 7641, 7967, 9177).

use std::fmt;

/// The number of an option. Odd numbers are critical (RFC 7252 §5.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u16);

impl Number {
    /// If-Match
    pub const IF_MATCH: Self = Self(1);
    /// Uri-Host
    pub const URI_HOST: Self = Self(3);
    /// ETag
    pub const ETAG: Self = Self(4);
    /// If-None-Match
    pub const IF_NONE_MATCH: Self = Self(5);
    /// Observe (RFC 7641)
    pub const OBSERVE: Self = Self(6);
    /// Uri-Port
    pub const URI_PORT: Self = Self(7);
    /// Location-Path
    pub const LOCATION_PATH: Self = Self(8);
    /// OSCORE (RFC 8613)
    pub const OSCORE: Self = Self(9);
    /// Uri-Path
    pub const URI_PATH: Self = Self(11);
    /// Content-Format
    pub const CONTENT_FORMAT: Self = Self(12);
    /// Max-Age, in seconds
    pub const MAX_AGE: Self = Self(14);
    /// Uri-Query
    pub const URI_QUERY: Self = Self(15);
    /// Hop-Limit (RFC 8768)
    pub const HOP_LIMIT: Self = Self(16);
    /// Accept
    pub const ACCEPT: Self = Self(17);
    /// Q-Block1 (RFC 9177)
    pub const Q_BLOCK1: Self = Self(19);
    /// Location-Query
    pub const LOCATION_QUERY: Self = Self(20);
    /// Block2 (RFC 7959)
    pub const BLOCK2: Self = Self(23);
    /// Block1 (RFC 7959)
    pub const BLOCK1: Self = Self(27);
    /// Size2 (RFC 7959)
    pub const SIZE2: Self = Self(28);
    /// Q-Block2 (RFC 9177)
    pub const Q_BLOCK2: Self = Self(31);
    /// Proxy-Uri
    pub const PROXY_URI: Self = Self(35);
    /// Proxy-Scheme
    pub const PROXY_SCHEME: Self = Self(39);
    /// Size1
    pub const SIZE1: Self = Self(60);
    /// Echo (RFC 9175)
    pub const ECHO: Self = Self(252);
    /// No-Response (RFC 7967)
    pub const NO_RESPONSE: Self = Self(258);
    /// Request-Tag (RFC 9175)
    pub const REQUEST_TAG: Self = Self(292);

    /// An endpoint that does not know a critical option must not process the message (RFC 7252 §5.4.1).
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 == 1
    }

    /// The registered name; `None` if it is not known here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::IF_MATCH => "If-Match",
            Self::URI_HOST => "Uri-Host",
            Self::ETAG => "ETag",
            Self::IF_NONE_MATCH => "If-None-Match",
            Self::OBSERVE => "Observe",
            Self::URI_PORT => "Uri-Port",
            Self::LOCATION_PATH => "Location-Path",
            Self::OSCORE => "OSCORE",
            Self::URI_PATH => "Uri-Path",
            Self::CONTENT_FORMAT => "Content-Format",
            Self::MAX_AGE => "Max-Age",
            Self::URI_QUERY => "Uri-Query",
            Self::HOP_LIMIT => "Hop-Limit",
            Self::ACCEPT => "Accept",
            Self::Q_BLOCK1 => "Q-Block1",
            Self::LOCATION_QUERY => "Location-Query",
            Self::BLOCK2 => "Block2",
            Self::BLOCK1 => "Block1",
            Self::SIZE2 => "Size2",
            Self::Q_BLOCK2 => "Q-Block2",
            Self::PROXY_URI => "Proxy-Uri",
            Self::PROXY_SCHEME => "Proxy-Scheme",
            Self::SIZE1 => "Size1",
            Self::ECHO => "Echo",
            Self::NO_RESPONSE => "No-Response",
            Self::REQUEST_TAG => "Request-Tag",
            _ => return None,
        })
    }

    /// The definition of an option that is understood in a request; `None` for any other.
    ///
    /// Some options have a name here but are not understood: If-Match, If-None-Match (no resource has a state to
    /// compare), OSCORE, Q-Block1 and Q-Block2. All of them are critical, so they are refused.
    pub(crate) const fn request_definition(self) -> Option<Definition> {
        Some(match self {
            Self::URI_HOST => Definition::once(1, 255),
            Self::URI_PORT | Self::CONTENT_FORMAT | Self::ACCEPT => Definition::once(0, 2),
            Self::URI_PATH | Self::URI_QUERY => Definition::repeatable(0, 255),
            Self::BLOCK1 | Self::BLOCK2 => Definition::once(0, 3),
            Self::SIZE1 | Self::SIZE2 => Definition::once(0, 4),
            Self::PROXY_URI => Definition::once(1, 1034),
            Self::PROXY_SCHEME => Definition::once(1, 255),
            Self::REQUEST_TAG => Definition::repeatable(0, 8),
            _ => return None,
        })
    }

    /// The definition of an option that is understood in a response; `None` for any other.
    pub(crate) const fn response_definition(self) -> Option<Definition> {
        Some(match self {
            Self::CONTENT_FORMAT => Definition::once(0, 2),
            Self::ETAG => Definition::once(1, 8),
            Self::MAX_AGE | Self::SIZE1 | Self::SIZE2 => Definition::once(0, 4),
            Self::BLOCK1 | Self::BLOCK2 => Definition::once(0, 3),
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
    const fn once(bytes_min: usize, bytes_max: usize) -> Self {
        Self { repeatable: false, bytes_min, bytes_max }
    }

    const fn repeatable(bytes_min: usize, bytes_max: usize) -> Self {
        Self { repeatable: true, bytes_min, bytes_max }
    }
}
