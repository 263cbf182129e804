//! Why devices would not trust the server's certificate, found before one of them has to find it.

use std::fmt;

/// What keeps devices from trusting the server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFlaw {
    /// extKeyUsage does not allow serverAuth.
    Purpose,
    /// keyUsage does not allow digitalSignature.
    KeyUsage,
    /// The SAN names no host and no address.
    Nameless,
    /// Names of `server.names` that the SAN lacks.
    Names {
        /// Those that it lacks.
        lacks: Vec<String>,
        /// Those that it bears.
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
    /// Path validation says something else.
    Path(String),
}

impl fmt::Display for ServerFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purpose => f.write_str("its extendedKeyUsage does not allow serverAuth: devices will not trust it"),
            Self::KeyUsage => f.write_str("its keyUsage lacks digitalSignature, which the handshake needs of its key"),
            Self::Nameless => {
                f.write_str("its subjectAltName has no DNS name and no address; devices compare what they dial with it")
            }
            Self::Names { lacks, bears } => {
                write!(f, "devices dial {}, and its subjectAltName has only {}", lacks.join(", "), bears.join(", "))
            }
            Self::Link { number, subject, wanted } => {
                write!(
                    f,
                    "its certificate {number} ({subject}) did not issue the one before it, whose issuer is {wanted}"
                )
            }
            Self::Root { issuer, known } if known.contains(issuer) => {
                write!(f, "it leads to a CA that is called {issuer} and has another key than the one that devices know")
            }
            Self::Root { issuer, known } => write!(
                f,
                "it leads to {issuer}, and devices that enrolled know only {}: they will not trust this server",
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
                "have it issued anew with extendedKeyUsage serverAuth; a device's or a CA's certificate is no server's"
            }
            Self::KeyUsage => "have it issued anew with keyUsage digitalSignature",
            Self::Nameless => "have it issued anew with the names that devices dial in its subjectAltName",
            Self::Names { .. } => "have it issued anew with these names, or take them out of `server.names`",
            Self::Link { .. } => {
                "put the server's own certificate first, then the one that issued it, and so on; the root may be left out"
            }
            Self::Root { .. } => {
                "have it issued below a root of [ca], complete `root` there, or name the CA that devices know it by in `server.trust`"
            }
            Self::Path(_) => "`openssl verify -x509_strict -CAfile ROOT -untrusted FILE FILE` says more",
        }
    }
}
