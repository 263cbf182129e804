//! The kinds of subject alternative name that a profile may list.

use std::fmt;
use std::str::FromStr;

use pki::GeneralName;

/// A kind of subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// dNSName
    Dns,
    /// iPAddress
    Ip,
    /// uniformResourceIdentifier
    Uri,
    /// rfc822Name
    Email,
    /// otherName that is a hardwareModuleName (RFC 4108 §5)
    HardwareModule,
    /// Any other kind: never listed, always refused.
    Other,
}

impl SanKind {
    pub(crate) fn of(name: &GeneralName) -> Self {
        match name {
            GeneralName::Dns(_) => Self::Dns,
            GeneralName::Ip(_) => Self::Ip,
            GeneralName::Uri(_) => Self::Uri,
            GeneralName::Email(_) => Self::Email,
            _ if name.hardware_module().is_some() => Self::HardwareModule,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for SanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "dns",
            Self::Ip => "ip",
            Self::Uri => "uri",
            Self::Email => "email",
            Self::HardwareModule => "hardwareModuleName",
            Self::Other => "other",
        })
    }
}

impl FromStr for SanKind {
    type Err = SanKindFault;

    fn from_str(text: &str) -> Result<Self, SanKindFault> {
        [Self::Dns, Self::Ip, Self::Uri, Self::Email, Self::HardwareModule]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| SanKindFault(text.to_owned()))
    }
}

/// `issue.san` names an unknown kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanKindFault(String);

impl fmt::Display for SanKindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(f, "`issue.san` names unknown kind `{text}`: known are dns, ip, uri, email, hardwareModuleName")
    }
}

impl std::error::Error for SanKindFault {}
