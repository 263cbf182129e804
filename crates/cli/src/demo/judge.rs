//! Checks that every device of the demo holds what it should: two opinions on each certificate, and the count of the ledger.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loadgen::identities;
use pki::chain::{self, Anchors};
use pki::{Certificate, GeneralNames, SigningKey, UnixTime};
use ring::rand::SystemRandom;

use crate::openssl::{Openssl, OpensslReading};
use crate::outcome::CommandResult;

/// The maximum number of faults that are printed.
pub(crate) const FAULTS_SHOWN: usize = 5;

/// The results of checking the fleet's certificates.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Certificates that are good in every respect.
    pub(crate) good: usize,
    /// Number of different serial numbers among all certificates.
    pub(crate) serials: usize,
    /// Each fault, with the name of its device.
    pub(crate) faults: Vec<String>,
}

/// What a device of the demo should hold.
pub(crate) struct Judge {
    anchors: Anchors,
    issuing: Certificate,
    seed: u64,
    now: UnixTime,
}

/// The demo's profile issues for one year; a certificate is backdated by at most an hour (E28).
const LIFE_SECONDS_MAX: u64 = 366 * 86_400;

impl Judge {
    /// Checks certificates against the PKI of the demo.
    pub(crate) fn new(root: Certificate, issuing: Certificate, seed: u64, now: UnixTime) -> CommandResult<Self> {
        let anchors = Anchors::new(vec![Arc::new(root)]).map_err(|fault| {
            crate::outcome::CommandFault::failed(format!("the demo's root cannot be trusted: {fault}"))
        })?;
        Ok(Self { anchors, issuing, seed, now })
    }

    /// Checks each device's certificate: the chain with webpki; key, subject and profile with our own code.
    pub(crate) fn judge(&self, certificates: &[Option<Box<[u8]>>]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut serials = BTreeSet::new();
        for (index, der) in certificates.iter().enumerate() {
            let judged = match der {
                None => Err("has no certificate".to_owned()),
                Some(der) => self.one(index, der).map(|certificate| {
                    serials.insert(certificate.serial().to_vec());
                }),
            };
            match judged {
                Ok(()) => verdict.good += 1,
                Err(why) => verdict.faults.push(format!("device {index} {why}")),
            }
        }
        verdict.serials = serials.len();
        verdict
    }

    fn one(&self, index: usize, der: &[u8]) -> Result<Arc<Certificate>, String> {
        let leaf = chain::verify_device(&self.anchors, &[der, self.issuing.der()], self.now)
            .map_err(|fault| format!("has a certificate without a chain to the root: {fault}"))?
            .leaf;
        let subject = leaf.subject();
        let named = |oid| subject.attribute(oid).map(str::to_owned);
        if named(pki::oid::COMMON_NAME) != Some(identities::common_name(self.seed, index))
            || named(pki::oid::SERIAL_NUMBER) != Some(identities::serial_number(self.seed, index))
        {
            return Err(format!("has a certificate for another device: {subject}"));
        }
        if !leaf.san().matches(&GeneralNames::empty()) {
            return Err("has a certificate with names that the profile does not allow".to_owned());
        }
        if leaf.spki() != operational_spki(self.seed, index)? {
            return Err("has a certificate for a key that is not its own".to_owned());
        }
        let life = leaf.validity().not_after.as_secs().saturating_sub(leaf.validity().not_before.as_secs());
        if leaf.is_ca() || life > LIFE_SECONDS_MAX {
            return Err(format!("has a certificate that its profile does not issue ({life} s, CA {})", leaf.is_ca()));
        }
        Ok(leaf)
    }

    /// The same with OpenSSL: `files` has one certificate each, `bundle` has all of them, both in the order of the devices.
    pub(crate) fn ask_openssl(
        &self,
        openssl: &Openssl,
        pki: &Path,
        files: &[PathBuf],
        bundle: &Path,
    ) -> CommandResult<Verdict> {
        let mut verdict = Verdict {
            faults: openssl.verify(&pki.join("ca/root.pem"), &pki.join("ca/issuing.pem"), files)?,
            ..Verdict::default()
        };
        let readings = openssl.read(bundle)?;
        if readings.len() != files.len() {
            verdict.faults.push(format!("openssl reads {} certificates of {}", readings.len(), files.len()));
        }
        for (index, reading) in readings.iter().enumerate() {
            match self.reading(index, reading) {
                Ok(()) => verdict.good += 1,
                Err(why) => verdict.faults.push(format!("device {index} {why}")),
            }
        }
        Ok(verdict)
    }

    fn reading(&self, index: usize, reading: &OpensslReading) -> Result<(), String> {
        let (name, serial) = (identities::common_name(self.seed, index), identities::serial_number(self.seed, index));
        let subject = &reading.subject;
        if !subject.contains(&format!("CN={name}")) || !subject.contains(&format!("serialNumber={serial}")) {
            return Err(format!("has another subject according to openssl: {subject}"));
        }
        // The point is the end of the SubjectPublicKeyInfo (RFC 5480 §2).
        if reading.public_key.is_empty() || !operational_spki(self.seed, index)?.ends_with(&reading.public_key) {
            return Err("has another key according to openssl".to_owned());
        }
        let profile = [
            (reading.key_usage == "Digital Signature", &reading.key_usage),
            (
                reading.basic_constraints.is_empty() || reading.basic_constraints == "CA:FALSE",
                &reading.basic_constraints,
            ),
            (
                reading.extended_key_usage.is_empty() || reading.extended_key_usage == "TLS Web Client Authentication",
                &reading.extended_key_usage,
            ),
        ];
        match profile.into_iter().find(|(good, _)| !good) {
            None => Ok(()),
            Some((_, found)) => {
                Err(format!("has an extension that its profile does not issue, according to openssl: `{found}`"))
            }
        }
    }
}

fn operational_spki(seed: u64, index: usize) -> Result<Vec<u8>, String> {
    identities::operational_key(seed, index)
        .and_then(|key| SigningKey::from_pkcs8(key.pkcs8(), &SystemRandom::new()))
        .map(|key| key.spki().to_vec())
        .map_err(|fault| format!("has a key that cannot be derived again: {fault}"))
}
