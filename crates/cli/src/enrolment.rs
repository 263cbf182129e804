//! What `enroll` and `reenroll` share: the key and the request, the exchange with the server, the check of the answer, the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use est::{Operation, Packing};
use pki::chain::{self, Anchors};
use pki::make::{self, CsrSpec};
use pki::{Certificate, Csr, Curve, Encoding, GeneralNames, PrivateKey, SigningKey, UnixTime};
use ring::rand::SystemRandom;

use crate::arguments::Connection;
use crate::connection::{Authorities, Session};
use crate::describe;
use crate::files::{self, Access, Durability, Staged};
use crate::identity::{self, Identity};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::pem;

/// The EST function that is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestedFunction {
    /// `/sen`, with any identity that the profile accepts; the request contains these alternative names if the user chose them.
    Enroll(Option<AlternativeNames>),
    /// `/sren`, with a certificate that this CA has issued.
    Reenroll,
}

/// The subjectAltName of a first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AlternativeNames {
    /// The subjectAltName of the identity.
    Identity,
    /// No subjectAltName.
    None,
}

/// Arguments of `enroll` and `reenroll` in addition to those of the connection.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EnrolmentArguments {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Write device.pem, device.key and anchors.pem to this new folder; on failure, none of them is left
    #[arg(long, value_name = "DIR", required_unless_present = "csr")]
    pub(crate) out: Option<PathBuf>,

    /// Send this request (PKCS#10, PEM or DER; /dev/stdin for a pipe) instead of generating a key and a request
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,

    /// Content-Format to request: 281 (PKCS#7, certs-only) or 287 (the certificate alone) [default: the server's choice]
    #[arg(long, value_name = "FORMAT", value_parser = ["281", "287"])]
    pub(crate) accept: Option<String>,
}

/// A request and, if it was made here, its key.
struct CsrWithKey {
    csr: Vec<u8>,
    key: Option<PrivateKey>,
}

/// Runs the command.
pub(crate) fn run(arguments: &EnrolmentArguments, function: RequestedFunction) -> CommandResult {
    let interrupt = Interrupt::install()?;
    let identity = Identity::required(&arguments.connection)?;
    let trust = identity::anchors(&arguments.connection)?;
    if let Some(dir) = &arguments.out {
        files::require_absent_or_empty(dir)?;
    }
    let request = match &arguments.csr {
        Some(path) => CsrWithKey::read(path)?,
        None => CsrWithKey::make(&identity, function)?,
    };

    let mut session = Session::open(&arguments.connection, Some(&identity), trust.clone(), interrupt.clone())?;
    let authorities = session.authorities()?;
    // Accept applies to the enrolment: /crts returns more than the one certificate that 287 can carry.
    session.set_accept(arguments.accept.as_deref().map(packing));
    let csr = request.csr.clone();
    let issued = session.certificate(&match function {
        RequestedFunction::Enroll(_) => Operation::Enroll { csr },
        RequestedFunction::Reenroll => Operation::Reenroll { csr },
    })?;
    session.close();
    interrupt.check()?;

    let leaf = check(&issued, &authorities.certificates, trust)?;
    report(arguments, &leaf, &authorities, request.key.as_ref())
}

/// clap accepts only these two values.
fn packing(format: &str) -> Packing {
    if format == "287" { Packing::Single } else { Packing::CertsOnly }
}

impl CsrWithKey {
    fn read(path: &Path) -> CommandResult<Self> {
        let csr = pem::read_request(path)?;
        let wrong =
            |fault: pki::CsrError| CommandFault::failed(format!("{} is not a valid request: {fault}", path.display()));
        // The server decides whether its encoding is acceptable.
        Csr::parse_as(csr.clone(), Encoding::AsIssued).and_then(Csr::verify).map_err(wrong)?;
        Ok(Self { csr, key: None })
    }

    /// A new key, and a request for the name of the device.
    fn make(identity: &Identity, function: RequestedFunction) -> CommandResult<Self> {
        let random = SystemRandom::new();
        let cannot = |why: String| CommandFault::failed(format!("cannot make a request: {why}"));
        let key = PrivateKey::generate(Curve::P256, &random).map_err(|fault| cannot(fault.to_string()))?;
        let signing = SigningKey::from_pkcs8(key.pkcs8(), &random).map_err(|fault| cannot(fault.to_string()))?;
        let own = &identity.leaf;
        let none = GeneralNames::empty();
        let san = match function {
            RequestedFunction::Enroll(Some(AlternativeNames::Identity)) if own.san().is_empty() => {
                return Err(cannot("the identity has no subjectAltName".into()).remedy("omit --san"));
            }
            RequestedFunction::Enroll(Some(AlternativeNames::Identity)) => own.san(),
            // Without a subject, the alternative names are all that the request says about the device (RFC 5280 §4.1.2.6). With a subject they are
            // left to the profile, which by default lists no kind of name and refuses a request for others.
            RequestedFunction::Enroll(None) if own.subject().is_empty() => own.san(),
            RequestedFunction::Enroll(_) => &none,
            // "the Subject field and SubjectAltName extension MUST be identical to the corresponding fields in the certificate being
            // renewed/rekeyed" (RFC 7030 §4.2.2).
            RequestedFunction::Reenroll => own.san(),
        };
        let spec = CsrSpec { subject: own.subject(), san, challenge_password: None };
        let csr = make::csr(&spec, &signing, &random).map_err(|fault| cannot(fault.to_string()))?;
        Ok(Self { csr, key: Some(key) })
    }
}

/// A device keeps a certificate only if its issuer is a trust anchor or was named by a trusted server. Whether the certificate is for the key of the
/// request is checked where the answer is read.
fn check(
    issued: &Certificate,
    authorities: &[Certificate],
    trust: Vec<Arc<Certificate>>,
) -> CommandResult<Arc<Certificate>> {
    let not_kept = |why: String| CommandFault::failed(format!("the certificate from the server was not kept: {why}"));
    let (tops, others): (Vec<_>, Vec<_>) = authorities.iter().partition(|ca| is_top(ca, authorities));
    let anchors = trust.into_iter().chain(tops.into_iter().cloned().map(Arc::new));
    let anchors = Anchors::new(anchors.collect()).map_err(|fault| not_kept(fault.to_string()))?;
    let path: Vec<_> = std::iter::once(issued).chain(others).map(Certificate::der).collect();
    chain::verify_device(&anchors, &path, UnixTime::now())
        .map(|verified| verified.leaf)
        .map_err(|fault| not_kept(format!("{fault}; the CA certificates of the server do not chain to what you trust")))
}

/// Whether the path ends with this authority: it issued itself, or its issuer is not in the list, such as a root with an RSA key that was skipped.
fn is_top(certificate: &Certificate, authorities: &[Certificate]) -> bool {
    let issued_it = |other: &Certificate| certificate.issuer().matches(other.subject());
    let another = authorities.iter().any(|other| other.digest() != certificate.digest() && issued_it(other));
    certificate.is_ca() && (issued_it(certificate) || !another)
}

fn report(
    arguments: &EnrolmentArguments,
    leaf: &Certificate,
    authorities: &Authorities,
    key: Option<&PrivateKey>,
) -> CommandResult {
    let device = pem::encode_chain([leaf.der()]);
    if let Some(dir) = &arguments.out {
        let mut staged = Staged::new(dir, Durability::Synced)?;
        staged.add("device.pem", device.as_bytes(), Access::Public)?;
        if let Some(key) = key {
            staged.add("device.key", pki::pem::encode_private_key(key).as_bytes(), Access::Secret)?;
        }
        // Every usable certificate of `/crts`, the issuing CA included: the root may be one that was skipped.
        staged.add(
            "anchors.pem",
            pem::encode_chain(authorities.certificates.iter().map(Certificate::der)).as_bytes(),
            Access::Public,
        )?;
        staged.commit()?;
    }
    if arguments.connection.json {
        let mut json = describe::json(leaf);
        json["passed_over"] = authorities.passed_over.clone().into();
        json["folder"] = arguments.out.as_ref().map(|dir| dir.display().to_string()).into();
        print_json(json);
        return Ok(());
    }
    match &arguments.out {
        Some(dir) => {
            out!("{}", describe::line(leaf));
            let key = if key.is_some() { ", device.key" } else { "" };
            say!("device.pem{key} and anchors.pem are in {}", dir.display());
        }
        None => {
            say!("{}", describe::line(leaf));
            out!("{}", device.trim_end());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pki::ServerName;
    use pki::chain::Listed;

    use super::*;
    use crate::init::Material;

    /// keyCertSign and cRLSign in a keyUsage; a key without keyCertSign signs CRLs only.
    const USAGE: [u8; 4] = [3, 2, 1, 0b0000_0110];

    #[test]
    fn e66_an_authority_that_signs_no_certificates_costs_nobody_the_one_that_was_issued() {
        let now = UnixTime::now();
        let material = Material::make(&[ServerName::try_from("localhost").unwrap()], now).unwrap();
        let factory = material.manufacturer.certificate.der();
        let mut of_lists = factory.to_vec();
        let usage = factory.windows(4).position(|window| window == USAGE).unwrap();
        of_lists[usage + 3] = 0b0000_0010;

        let listed = Listed::anchors(&[&of_lists, factory], Encoding::Strict).unwrap();
        let authorities: Vec<_> = listed.certificates().iter().map(|it| Certificate::clone(it)).collect();
        let trust = vec![Arc::new(material.root.certificate.clone())];
        check(&material.device.certificate, &authorities, trust).unwrap();

        // The next renewal trusts what is written here, whatever else is in the file.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem::encode_chain([&of_lists[..], factory])).unwrap();
        Anchors::new(pem::read_trust(file.path(), "--identity").unwrap()).unwrap();
    }
}
