//! One revocation list: entries go in one after the other, and the bytes to sign come out.
//!
//! A list may have millions of entries, so there is one buffer and no second copy of any entry: they are encoded as they come, after a gap that
//! has room for everything that precedes them. Their total length is known at the end, and then the gap is filled from its end to its beginning.
//!
//! ```text
//! gap  CertificateList header | TBSCertList header | version .. nextUpdate | revokedCertificates header || entries | extensions | signature
//!                                                                                   <-- written last    push -->
//! ```

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::lint::{CrlFlaw, CrlValues};
use super::shard::CrlShard;
use super::spec::CrlSpec;
use crate::algorithm::AlgorithmError;
use crate::der::{Reader, Tag, Writer, element_len, length_octets};
use crate::digest::Digest;
use crate::issue::{IssuerCertificate, RevocationReason, Serial};
use crate::key::Signature;
use crate::pem::{self, Label};
use crate::time::NO_WELL_DEFINED_EXPIRATION;

/// The most entries of one list, about half a gigabyte. A CA that revokes more needs shards, and no verifier reads such a list anyway.
pub const CRL_ENTRIES_MAX: usize = 10_000_000;

/// An entry with GeneralizedTime and a reason.
const ENTRY_BYTES_MAX: usize = 2 + 21 + 17 + REASON.len() + 1;

/// Identifier and length of an element of less than 4 GiB.
const HEADER_BYTES_MAX: usize = 6;

const _: () =
    assert!(CRL_ENTRIES_MAX * ENTRY_BYTES_MAX < u32::MAX as usize / 2, "lengths of a list have at most four octets");

/// Room for an AlgorithmIdentifier and a BIT STRING with an ECDSA signature.
const SIGNATURE_ROOM: usize = 128;

/// `version INTEGER { v2(1) }`: RFC 5280 §5.1.2.1 demands it, because there are extensions.
const VERSION: &[u8] = &[0x02, 0x01, 0x01];

/// The extensions of an entry with only a reasonCode (RFC 5280 §5.3.1), without its last octet, the reason.
const REASON: [u8; 13] = [0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01];

/// A revoked certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrlEntry {
    /// The serial number of the certificate.
    pub serial: Serial,
    /// When it was revoked.
    pub at: UnixTime,
    /// Why.
    pub reason: RevocationReason,
}

/// Builds a revocation list, one entry at a time.
pub struct CrlBuilder {
    issuer: Arc<IssuerCertificate>,
    values: CrlValues,
    shard: Option<CrlShard>,
    /// Version, algorithm, issuer and times: what precedes the entries.
    before: Vec<u8>,
    /// The gap and the entries.
    out: Writer,
    gap: usize,
    entries: usize,
}

impl CrlBuilder {
    /// A list without entries.
    ///
    /// # Errors
    /// [`CrlError::NoCrlSign`]: the issuer may not sign revocation lists. [`CrlError::Updates`]: `next_update` is not after `this_update`,
    /// or after the year 9999.
    pub fn new(issuer: Arc<IssuerCertificate>, spec: &CrlSpec<'_>) -> Result<Self, CrlError> {
        if !issuer.may_sign_crls() {
            return Err(CrlError::NoCrlSign);
        }
        if spec.next_update <= spec.this_update || spec.next_update > NO_WELL_DEFINED_EXPIRATION {
            return Err(CrlError::Updates);
        }
        let mut before = Writer::default();
        before.raw(VERSION);
        before.raw(issuer.algorithm().identifier());
        // RFC 5280 §5.1.2.3 wants the name of the CA. Octets equal to its subject suit verifiers that compare octets.
        before.raw(issuer.certificate().subject().der());
        before.time(spec.this_update);
        before.time(spec.next_update);
        let before = before.into_vec();
        let gap = 3 * HEADER_BYTES_MAX + before.len();
        let mut out = Writer::with_capacity(4_096);
        out.raw(&vec![0; gap]);
        let values = CrlValues::new(&issuer, spec);
        Ok(Self { issuer, values, shard: spec.scope.shard(), before, out, gap, entries: 0 })
    }

    /// Makes room for so many more entries, which saves the buffer from growing in steps. The room is bounded by [`CRL_ENTRIES_MAX`].
    pub fn reserve(&mut self, entries: usize) {
        let entries = entries.min(CRL_ENTRIES_MAX - self.entries);
        self.out.reserve(entries * ENTRY_BYTES_MAX + self.values.extensions().len() + SIGNATURE_ROOM);
    }

    /// Adds a revoked certificate. The list keeps the order of the calls, and does not notice a certificate that is added twice.
    ///
    /// # Errors
    /// [`CrlError::OtherShard`]: verifiers of this certificate read another list. [`CrlError::TooManyEntries`]: the list is full.
    pub fn push(&mut self, entry: &CrlEntry) -> Result<(), CrlError> {
        if self.entries == CRL_ENTRIES_MAX {
            return Err(CrlError::TooManyEntries);
        }
        if self.shard.is_some_and(|shard| !shard.covers(&entry.serial)) {
            return Err(CrlError::OtherShard(entry.serial));
        }
        let at = crate::time::encode(entry.at);
        // RFC 5280 §5.3.1: "the reason code CRL entry extension SHOULD be absent instead of using the unspecified (0) reasonCode value".
        let reason = entry.reason != RevocationReason::Unspecified;
        let contents = element_len(entry.serial.as_bytes().len())
            + element_len(at.contents().len())
            + if reason { REASON.len() + 1 } else { 0 };
        self.out.header(Tag::SEQUENCE, contents);
        self.out.element(Tag::INTEGER, entry.serial.as_bytes());
        self.out.element(at.tag, at.contents());
        if reason {
            self.out.raw(&REASON);
            self.out.raw(&[entry.reason.code()]);
        }
        self.entries += 1;
        Ok(())
    }

    /// How many entries were added.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    #[cfg(test)]
    pub(super) fn pretend_full_but(&mut self, entries: usize) {
        self.entries = CRL_ENTRIES_MAX - entries;
    }

    /// The list, ready to sign.
    ///
    /// # Errors
    /// [`CrlError::Lint`]: the bytes differ from what was asked for. This is a bug of ours.
    pub fn finish(self) -> Result<CrlToBeSigned, CrlError> {
        let extensions = self.values.extensions();
        let mut bytes = self.out.into_vec();
        let entries_len = bytes.len() - self.gap;
        bytes.reserve_exact(extensions.len() + SIGNATURE_ROOM);
        bytes.extend_from_slice(extensions);
        let mut start = self.gap;
        // RFC 5280 §5.1.2.6: "When there are no revoked certificates, the revoked certificates list MUST be absent."
        if entries_len > 0 {
            put_header_before(&mut bytes, &mut start, entries_len);
        }
        put_before(&mut bytes, &mut start, &self.before);
        let contents = bytes.len() - start;
        put_header_before(&mut bytes, &mut start, contents);
        self.values.check(&self.issuer, self.entries, &bytes[start..]).map_err(CrlError::Lint)?;
        Ok(CrlToBeSigned { bytes, start, issuer: self.issuer, entries: self.entries })
    }
}

impl fmt::Debug for CrlBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrlBuilder").field("shard", &self.shard).field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Writes `octets` so that they end at `start`, which then points to their beginning.
fn put_before(bytes: &mut [u8], start: &mut usize, octets: &[u8]) {
    let end = *start;
    *start -= octets.len();
    bytes[*start..end].copy_from_slice(octets);
}

/// Writes the header of a SEQUENCE with `length` octets of contents, which begin at `start`.
fn put_header_before(bytes: &mut [u8], start: &mut usize, length: usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = Tag::SEQUENCE.octet();
    let mut len = 1;
    // The bound on the entries leaves no longer length.
    for octet in length_octets(length).take(HEADER_BYTES_MAX - 1) {
        header[len] = octet;
        len += 1;
    }
    put_before(bytes, start, &header[..len]);
}

/// A checked TBSCertList without its signature.
#[derive(Clone)]
pub struct CrlToBeSigned {
    /// The bytes to sign begin at `start`, after room for the header of the whole list.
    bytes: Vec<u8>,
    start: usize,
    issuer: Arc<IssuerCertificate>,
    entries: usize,
}

impl CrlToBeSigned {
    /// The list with these entries, ready to sign.
    ///
    /// # Errors
    /// As [`CrlBuilder::new`], [`CrlBuilder::push`] and [`CrlBuilder::finish`].
    pub fn new(
        issuer: Arc<IssuerCertificate>,
        spec: &CrlSpec<'_>,
        entries: impl IntoIterator<Item = CrlEntry>,
    ) -> Result<Self, CrlError> {
        let mut builder = CrlBuilder::new(issuer, spec)?;
        let mut entries = entries.into_iter();
        builder.reserve(entries.size_hint().0);
        entries.try_for_each(|entry| builder.push(&entry))?;
        builder.finish()
    }

    /// The bytes to sign.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// SHA-256 of the bytes to sign.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.der())
    }

    /// The authority that must sign.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<IssuerCertificate> {
        &self.issuer
    }

    /// How many entries it has.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Checks that the issuer's key made this signature.
    ///
    /// # Errors
    /// [`CrlError::Signature`]: another key made the signature.
    pub fn verify_signature(&self, signature: &Signature) -> Result<(), CrlError> {
        let key = self.issuer.certificate().public_key();
        key.verify(self.der(), signature.as_bytes()).map_err(CrlError::Signature)
    }

    /// Assembles the list from these bytes, the algorithm and the signature. The bytes are not copied.
    ///
    /// # Errors
    /// [`CrlError::Lint`]: the assembled list differs from the bytes to sign. This is a bug of ours.
    pub fn assemble(self, signature: &Signature) -> Result<Crl, CrlError> {
        let Self { mut bytes, mut start, issuer, entries } = self;
        let (signed_from, signed_to) = (start, bytes.len());
        let algorithm = issuer.algorithm().identifier();
        let mut end = Writer::with_capacity(SIGNATURE_ROOM);
        end.raw(algorithm);
        end.bit_string(signature.as_bytes());
        bytes.extend_from_slice(&end.into_vec());
        let contents = bytes.len() - start;
        put_header_before(&mut bytes, &mut start, contents);
        let mut list = Reader::sequence(&bytes[start..]).map_err(|error| CrlError::Lint(CrlFlaw::Der(error)))?;
        let parts =
            (list.expect_element(Tag::SEQUENCE), list.expect_element(Tag::SEQUENCE), list.octets_of_bit_string());
        match parts {
            (Ok(signed), Ok(named), Ok(octets))
                if signed.whole.len() == signed_to - signed_from
                    && named.whole == algorithm
                    && octets == signature.as_bytes()
                    && list.is_empty() =>
            {
                Ok(Crl { bytes, start, entries })
            }
            _ => Err(CrlError::Lint(CrlFlaw::Assembled)),
        }
    }
}

impl fmt::Debug for CrlToBeSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.der().len();
        f.debug_struct("CrlToBeSigned").field("octets", &octets).field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// A signed revocation list.
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    bytes: Vec<u8>,
    start: usize,
    entries: usize,
}

impl Crl {
    /// The DER, as RFC 5280 §4.2.1.13 wants it at an HTTP URL.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The PEM (RFC 7468 §6).
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(Label::RevocationList, self.der())
    }

    /// How many entries it has.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({} bytes, {} entries)", self.der().len(), self.entries)
    }
}

/// Why there is no revocation list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrlError {
    /// The issuer's certificate has a keyUsage without cRLSign.
    NoCrlSign,
    /// nextUpdate is not after thisUpdate, or after the year 9999.
    Updates,
    /// The certificate with this serial number belongs to another shard.
    OtherShard(Serial),
    /// More than [`CRL_ENTRIES_MAX`] entries.
    TooManyEntries,
    /// The signature does not verify.
    Signature(AlgorithmError),
    /// The encoded bytes differ from what was asked for: a bug of ours, caught before release.
    Lint(CrlFlaw),
}

impl fmt::Display for CrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCrlSign => f.write_str(
                "the CA's certificate has a keyUsage without cRLSign, so its key may not sign revocation lists",
            ),
            Self::Updates => {
                f.write_str("nextUpdate of a revocation list has to be after thisUpdate, and before the year 10000")
            }
            Self::OtherShard(serial) => write!(f, "the certificate {serial} belongs to another shard"),
            Self::TooManyEntries => {
                write!(
                    f,
                    "a revocation list has at most {CRL_ENTRIES_MAX} entries; a CA with more needs `{{shard}}` in `crl_url`"
                )
            }
            Self::Signature(error) => error.fmt(f),
            Self::Lint(flaw) => write!(f, "the revocation list differs from what was decided: {flaw}"),
        }
    }
}

impl std::error::Error for CrlError {}
