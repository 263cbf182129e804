//! What `enroll` and `reenroll` share: the exchange with the server, the check of the answer, the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dtls::SessionFacts;
use est::{Operation, Packing};
use pki::chain::{self, AnchorSet, Anchors, CHAIN_CERTIFICATES_MAX};
use pki::{Certificate, Csr, CsrContents, Encoding, PrivateKey, UnixTime};

use crate::arguments::Connection;
use crate::connection::{Authorities, Session};
use crate::describe;
use crate::files::{self, Access, Durability, Staged};
use crate::identity::{self, Identity};
use crate::interrupt::Interrupt;
use crate::key_decryption::KeyDecryption;
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::pem;
use crate::request::{RequestNames, RequestPlan, RequestedFunction};

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

    /// Fail if the server refuses to say what a request has to contain (/att, RFC 9148 §4.1); by default the request is then made without it
    #[arg(long, conflicts_with = "csr")]
    pub(crate) attributes: bool,

    /// Do not ask the server what a request has to contain: one round trip less
    #[arg(long, conflicts_with_all = ["csr", "attributes"])]
    pub(crate) no_attributes: bool,

    /// Link the request to the session, whether or not the server asks for it: tls-unique in challengePassword (RFC 7030 §3.5)
    #[arg(long, conflicts_with = "csr")]
    pub(crate) link: bool,
}

/// Where the request comes from.
enum RequestSource {
    /// A file that the user made.
    File(Vec<u8>),
    /// A plan for a key of ours.
    Plan(Box<RequestPlan>),
}

/// Runs the command.
pub(crate) fn run(arguments: &EnrolmentArguments, function: RequestedFunction) -> CommandResult {
    run_with(arguments, function, |_| Ok(None))
}

/// The same with a key to which the server encrypts what it makes; `decryption` finds it.
pub(crate) fn run_with(
    arguments: &EnrolmentArguments,
    function: RequestedFunction,
    decryption: impl FnOnce(&Identity) -> CommandResult<Option<KeyDecryption>>,
) -> CommandResult {
    if matches!(function, RequestedFunction::GenerateKey(_)) && arguments.out.is_none() {
        return Err(CommandFault::usage("the key needs a place: --out DIR"));
    }
    let interrupt = Interrupt::install()?;
    let identity = Identity::required(&arguments.connection)?;
    let trust = identity::anchors(&arguments.connection)?;
    if let Some(dir) = &arguments.out {
        files::require_absent_or_empty(dir)?;
    }
    let decryption = decryption(&identity)?.map(Arc::new);
    let file = arguments.csr.as_deref().map(|path| read(path, function)).transpose()?;
    if let Some(csr) = &file {
        check_protection(csr, decryption.as_deref())?;
    }
    let names = RequestNames::of(&identity.leaf, function)?;

    let mut session = Session::open(&arguments.connection, Some(&identity), trust, interrupt.clone())?;
    let authorities = session.authorities()?;
    let source = match file {
        Some(csr) => RequestSource::File(csr),
        None => {
            let plan = RequestPlan::new(names, asked(arguments, &mut session)?, arguments.link)?;
            RequestSource::Plan(Box::new(plan.protecting(decryption.clone())))
        }
    };
    // Accept applies to the enrolment: /crts returns more than the one certificate that 287 can carry.
    session.set_accept(arguments.accept.as_deref().map(packing));
    let packing = arguments.accept.as_deref().map(packing);
    let make = |facts: &SessionFacts| {
        let csr = match &source {
            RequestSource::File(csr) => csr.clone(),
            RequestSource::Plan(plan) => plan.request(facts)?,
        };
        Ok(match function {
            RequestedFunction::Enroll(_) => Operation::Enroll { csr },
            RequestedFunction::Reenroll => Operation::Reenroll { csr },
            RequestedFunction::GenerateKey(_) => {
                Operation::GenerateKey { csr, packing: packing.unwrap_or(Packing::CertsOnly) }
            }
        })
    };
    // Since /crts was answered, these anchors are the ones to trust.
    let explicit: Vec<_> = authorities.certificates.iter().cloned().map(Arc::new).collect();
    let explicit = AnchorSet::sort(&explicit).anchors;
    let (issued, received) = session.certificate(make, |enveloped| match &decryption {
        Some(decryption) => decryption.open(enveloped, &authorities.certificates, &explicit),
        None => Err(CommandFault::failed("the key is encrypted, and no option names the key that opens it")),
    })?;
    session.close();
    interrupt.check()?;

    let leaf = check(&issued, &authorities.certificates)?;
    let key = match source {
        // The key that signed the request was for nothing else.
        _ if received.is_some() => received,
        RequestSource::File(_) => None,
        RequestSource::Plan(plan) => Some(Arc::new(plan.into_key())),
    };
    report(arguments, &leaf, &authorities, key.as_deref())
}

/// What the request has to contain: "EST clients SHOULD use the CSR Attributes request before enrolling" (RFC 7030 §4.5).
fn asked(arguments: &EnrolmentArguments, session: &mut Session) -> CommandResult<Option<Vec<u8>>> {
    match (arguments.no_attributes, arguments.attributes) {
        (true, _) => Ok(None),
        (false, true) => session.csr_attributes(),
        (false, false) => session.csr_attributes_if_any(),
    }
}

/// clap accepts only these two values.
fn packing(format: &str) -> Packing {
    if format == "287" { Packing::Single } else { Packing::CertsOnly }
}

/// A request that the user made.
fn read(path: &Path, function: RequestedFunction) -> CommandResult<Vec<u8>> {
    let csr = pem::read_request(path)?;
    // The server decides whether its encoding is acceptable.
    let encoding = Encoding::AsIssued;
    let read = match function {
        // The server ignores the key and the signature of a request for a key (RFC 9148 §4.8): it need not have a signature that verifies.
        RequestedFunction::GenerateKey(_) => CsrContents::parse_as(csr.clone(), encoding).map(drop),
        RequestedFunction::Enroll(_) | RequestedFunction::Reenroll => {
            Csr::parse_as(csr.clone(), encoding).and_then(Csr::verify).map(drop)
        }
    };
    read.map_err(|fault| CommandFault::failed(format!("{} is not a valid request: {fault}", path.display())))?;
    Ok(csr)
}

/// A request of the user's own names the key that opens the answer, or none if there is none: a key that cannot be opened is lost, and its certificate
/// is not revoked.
fn check_protection(csr: &[u8], decryption: Option<&KeyDecryption>) -> CommandResult {
    let Ok(csr) = CsrContents::parse_as(csr.to_vec(), Encoding::AsIssued) else { return Ok(()) };
    let (named, opens) = (csr.key_protection(), decryption.map(KeyDecryption::protection).unwrap_or_default());
    if (named.decrypt_key_id, named.asymm_decrypt_key_id) == (opens.decrypt_key_id, opens.asymm_decrypt_key_id) {
        return Ok(());
    }
    Err(CommandFault::usage(
        "the request and the options do not name the same key for the encryption of the private key",
    )
    .remedy("give --decrypt-key or --decrypt-with-identity for the key that the request of --csr names"))
}

/// A device keeps a certificate only if it chains to the CA certificates of the server: they are its Explicit trust anchors. Whether the certificate is for
/// the key of the request is checked where the answer is read.
pub(crate) fn check(issued: &Certificate, authorities: &[Certificate]) -> CommandResult<Arc<Certificate>> {
    let not_kept = |why: String| CommandFault::failed(format!("the certificate from the server was not kept: {why}"));
    let authorities: Vec<_> = authorities.iter().cloned().map(Arc::new).collect();
    let AnchorSet { anchors, helpers } = AnchorSet::sort(&authorities);
    let anchors = Anchors::new(anchors).map_err(|fault| not_kept(fault.to_string()))?;
    let path = std::iter::once(issued.der()).chain(helpers.iter().map(|helper| helper.der()));
    let path: Vec<_> = path.take(CHAIN_CERTIFICATES_MAX).collect();
    chain::verify_device(&anchors, &path, UnixTime::now())
        .map(|verified| verified.leaf)
        .map_err(|fault| not_kept(format!("{fault}; it does not chain to the CA certificates of the server (/crts)")))
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
        check(&material.device.certificate, &authorities).unwrap();

        // The next renewal trusts what is written here, whatever else is in the file.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem::encode_chain([&of_lists[..], factory])).unwrap();
        Anchors::new(pem::read_trust(file.path(), "--identity").unwrap()).unwrap();
    }
}
