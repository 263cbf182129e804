//! Why devices would not trust the server's certificate, found before any device connects.

use std::fmt;

/// What keeps devices from trusting the server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFlaw {
    /// extKeyUsage does not allow serverAuth.
    Purpose,
    /// keyUsage does not allow digitalSignature.
    KeyUsage,
    /// The SAN contains neither a DNS name nor an address.
    Nameless,
    /// Names of `server.names` that the SAN lacks.
    Names {
        /// The names that it lacks.
        lacks: Vec<String>,
        /// The names that it contains.
        bears: Vec<String>,
    },
    /// A certificate of the file did not issue the one before it.
    Link {
        /// Its place in the file, counted from 1.
        number: usize,
        /// Its subject.
        subject: String,
        /// The issuer that the certificate before it names.
        wanted: String,
    },
    /// No CA that devices know has issued the last certificate of the file.
    Root {
        /// The issuer that the last certificate names.
        issuer: String,
        /// The CAs that devices know.
        known: Vec<String>,
    },
    /// Path validation fails for another reason.
    Path(String),
}

impl fmt::Display for ServerFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purpose => f.write_str("its extendedKeyUsage does not allow serverAuth: devices will not trust it"),
            Self::KeyUsage => f.write_str("its keyUsage lacks digitalSignature, which the handshake requires"),
            Self::Nameless => f.write_str(
                "its subjectAltName has no DNS name and no address; devices compare it with the name they connect to",
            ),
            Self::Names { lacks, bears } => {
                write!(
                    f,
                    "devices connect to {}, but its subjectAltName contains only {}",
                    lacks.join(", "),
                    bears.join(", ")
                )
            }
            Self::Link { number, subject, wanted } => {
                write!(
                    f,
                    "its certificate {number} ({subject}) did not issue the one before it, whose issuer is {wanted}"
                )
            }
            Self::Root { issuer, known } if known.contains(issuer) => {
                write!(f, "its issuer {issuer} has the name of a CA that devices know, but another key")
            }
            Self::Root { issuer, known } => write!(
                f,
                "its chain ends at {issuer}, but enrolled devices know only {}: they will not trust this server",
                known.join("; ")
            ),
            Self::Path(why) => write!(f, "devices will not trust it: {why}"),
        }
    }
}

impl ServerFlaw {
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::Purpose => {
                "have it reissued with extendedKeyUsage serverAuth; a device's or a CA's certificate cannot be used as a server certificate"
            }
            Self::KeyUsage => "have it reissued with keyUsage digitalSignature",
            Self::Nameless => "have it reissued with the names that devices connect to in its subjectAltName",
            Self::Names { .. } => "have it reissued with these names, or remove them from `server.names`",
            Self::Link { .. } => {
                "put the server's own certificate first, then its issuer's, and so on; the root may be omitted"
            }
            Self::Root { .. } => {
                "have it issued below a root of [ca], complete `root` there, or add the CA that devices trust for this server to `server.trust`"
            }
            Self::Path(_) => "`openssl verify -x509_strict -CAfile ROOT -untrusted FILE FILE` shows details",
        }
    }
}
