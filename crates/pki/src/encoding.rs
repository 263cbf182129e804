//! How strictly the certificates and requests of other parties must follow DER.
//!
//! Burnt-in identities cannot be corrected. [`Encoding::AsIssued`] accepts the few deviations that OpenSSL, GnuTLS and Mbed TLS also
//! accept, and records each; a caller that requires strict encodings checks [`Deviations`]. Muster issues only strict DER.
//!
//! Two things look like deviations but are not, so both modes accept them: a serial number that is negative, zero or longer than 20
//! octets (valid DER; RFC 5280 §4.1.2.2 asks users to handle the first two gracefully, and no decision depends on a foreign serial
//! number), and SHA-256 under a key on P-384 (RFC 5758 §3.2 ties no hash to a curve, and SHA-256 is the hash of all P-256 signatures).

use std::fmt;

/// How the certificates and requests of devices are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Encoding {
    /// Strict DER: each value has one encoding, so that no two parsers can disagree about it.
    #[default]
    Strict,
    /// Also accepts the deviations that [`Deviation`] lists.
    AsIssued,
}

/// One encoding rule that [`Encoding::AsIssued`] does not enforce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deviation {
    /// A DEFAULT value is encoded: `critical FALSE`, `cA FALSE`.
    EncodedDefault,
    /// The elements of a SET OF, such as the attributes of one relative name, are not sorted.
    SetOrder,
    /// A PrintableString contains printable ASCII outside its alphabet, such as `_`, `@` or `*`.
    PrintableString,
    /// The algorithm of an ECDSA signature has NULL parameters.
    NullParameters,
}

impl Deviation {
    const ALL: [Self; 4] = [Self::EncodedDefault, Self::SetOrder, Self::PrintableString, Self::NullParameters];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EncodedDefault => "DEFAULT value encoded (X.690 §11.5)",
            Self::SetOrder => "SET OF not in DER order (X.690 §11.6)",
            Self::PrintableString => "PrintableString with characters outside its alphabet (X.680 §41.4)",
            Self::NullParameters => "NULL parameters of an ECDSA algorithm (RFC 5758 §3.2)",
        })
    }
}

/// The deviations found in one structure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Deviations(u8);

impl Deviations {
    /// Whether the structure is strict DER.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The deviations of both.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Iterates over the deviations.
    pub fn iter(self) -> impl Iterator<Item = Deviation> {
        Deviation::ALL.into_iter().filter(move |deviation| self.0 & deviation.bit() != 0)
    }
}

impl fmt::Display for Deviations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, deviation) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            deviation.fmt(f)?;
        }
        Ok(())
    }
}

/// The state while one structure is read: the accepted and the found deviations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    encoding: Encoding,
    deviations: Deviations,
}

impl Reading {
    pub(crate) const fn new(encoding: Encoding) -> Self {
        Self { encoding, deviations: Deviations(0) }
    }

    /// Whether this deviation is accepted. An accepted deviation is recorded.
    pub(crate) fn lets(&mut self, deviation: Deviation) -> bool {
        let lets = self.encoding == Encoding::AsIssued;
        if lets {
            self.deviations.0 |= deviation.bit();
        }
        lets
    }

    pub(crate) const fn deviations(&self) -> Deviations {
        self.deviations
    }
}
