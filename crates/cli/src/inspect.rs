//! `muster inspect`: shows what a file contains, and what a server of Muster makes of it.
//!
//! ```text
//!   bytes ──input──► content (request, certificate) ─┐
//!            ├─────► message ──(payload)──► content ─┼──► Inspection ──► text or JSON
//!            └─────► capture ──(datagram)─► message ─┘
//!                             --against: dry_run
//! ```

mod capture;
mod certificate;
mod content;
mod dry_run;
mod input;
mod inspection;
mod message;
mod request;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use pki::UnixTime;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::outcome::{CommandFault, CommandResult, Status, out, print_json};
use dry_run::DryRun;
use input::{InspectionTerms, Recognised};
use inspection::Inspection;

/// A capture of a whole day of a small fleet; a larger file is the wrong file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Show what a file contains, and why a server would refuse it
#[derive(clap::Args)]
#[command(after_help = "\
FILE is recognised by its bytes, as PEM, DER, hex or base64: a certification request (PKCS #10), a certificate or a chain, certs-only CMS (281), CSR \
attributes (285), multipart-core (62), a private key (its value is never shown), a CoAP message, a DTLS datagram, a capture (pcapng or pcap). \
Encrypted records of a capture are counted and not decrypted: `--trace` of the device commands shows the messages inside.

REFUSED marks what a server refuses under the default settings of a profile, with the field, the rule, the reason code (`muster explain CODE`) and the remedy.

--against runs the decision of an enrolment without a server: the configuration is loaded as `muster check` does, the chain of --as is verified as in a \
handshake, and the request is decided by the code of the server. Nothing is signed and nothing is written, and the ledger is not asked: what only the ledger \
knows (revocation, denied devices, earlier certificates) is not in the answer. For a Registrar it says what would be sent to which upstream CA, and sends nothing. With a certificate as FILE it says whether a handshake would accept it.

Examples:
  muster inspect request.csr
  muster inspect chain.pem --json | jq '.inspection.parts[].remarks'
  echo '44 02 12 34 ...' | muster inspect -
  muster inspect device.pcapng --limit 50
  muster inspect request.csr --against muster.toml --as idevid.pem
  muster inspect request.csr --against muster.toml --profile meters --as device.pem --function sren
  muster inspect idevid.pem --against muster.toml

Exit status: 0 shown, or would be issued or sent upstream; 1 unreadable; 2 usage; 3 a server would refuse it")]
pub(crate) struct Arguments {
    /// The file; - is standard input
    file: PathBuf,

    /// Decide by this configuration what a server would do with the request
    #[arg(long, value_name = "CONFIG")]
    against: Option<PathBuf>,

    /// The profile that decides [default: the only one]
    #[arg(long, value_name = "NAME", requires = "against", conflicts_with = "label")]
    profile: Option<String>,

    /// The profile that decides, by the label of its path
    #[arg(long, requires = "against")]
    label: Option<String>,

    /// The certificates that the device presents, its own first
    #[arg(long = "as", value_name = "PEM", requires = "against")]
    identity: Option<PathBuf>,

    /// The function that the device asks for
    #[arg(long, value_enum, default_value = "sen", requires = "against")]
    function: FunctionName,

    /// Packets of a capture to show
    #[arg(long, value_name = "PACKETS", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A function of EST, as on a path.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FunctionName {
    /// Simple enrolment
    Sen,
    /// Simple re-enrolment
    Sren,
    /// A key that the server makes
    Skg,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let bytes = read(&arguments.file)?;
    let terms = InspectionTerms { packets_max: arguments.limit.into(), utc: UnixTime::now() };
    let recognised = input::recognise(&bytes, terms).map_err(|what| {
        CommandFault::failed(format!("{} is not recognised: {what}", arguments.file.display()))
            .remedy("`muster inspect --help` lists what is recognised")
    })?;
    match &arguments.against {
        Some(config) => decide(arguments, config, &recognised, terms.utc),
        None => show(arguments, &recognised.shown),
    }
}

fn show(arguments: &Arguments, shown: &Inspection) -> CommandResult {
    let refusal = shown.first_refusal();
    if !arguments.json {
        out!("{}", shown.to_string().trim_end());
    }
    match refusal {
        None => {
            if arguments.json {
                print_json(json!({ "inspection": shown.json() }));
            }
            Ok(())
        }
        Some(refusal) => {
            let message = format!("{}: {refusal}", arguments.file.display());
            Err(CommandFault::new(Status::Refused, message)
                .remedy("see the line REFUSED above it; `muster explain CODE` explains its code")
                .field("inspection", shown.json()))
        }
    }
}

fn decide(arguments: &Arguments, config: &Path, recognised: &Recognised, utc: UnixTime) -> CommandResult {
    let run = DryRun::load(config, (arguments.profile.as_deref(), arguments.label.as_deref()), utc)?;
    let decision = match (&recognised.request, &arguments.identity) {
        (Some(csr), Some(identity)) => {
            run.request(csr.clone(), &crate::pem::read_list(identity)?, arguments.function.into())
        }
        (Some(_), None) => {
            return Err(CommandFault::usage("missing --as: which certificate does the device present?").remedy(
                "add --as FILE, such as device/idevid.pem, with the certificates above it if the device sends them",
            ));
        }
        (None, None) if !recognised.certificates.is_empty() => run.handshake(&recognised.certificates),
        (None, _) => {
            return Err(CommandFault::usage(format!("{} contains no request to decide", arguments.file.display()))
                .remedy("give a PKCS #10 request with --as, or the certificates of a device without it"));
        }
    };
    let fields: Value = json!({ "inspection": recognised.shown.json(), "decision": decision.shown.json() });
    if !arguments.json {
        out!("{}\n\n{}", recognised.shown.to_string().trim_end(), decision.shown.to_string().trim_end());
    }
    match decision.refusal {
        None => {
            if arguments.json {
                print_json(fields);
            }
            Ok(())
        }
        Some(fault) => Err(fault.fields(fields)),
    }
}

/// Reads a file, or standard input; it may hold a private key.
fn read(path: &Path) -> CommandResult<Zeroizing<Vec<u8>>> {
    if path != Path::new("-") {
        return crate::files::read_up_to(path, FILE_BYTES_MAX).map(Zeroizing::new);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(CommandFault::failed(format!("standard input is longer than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(CommandFault::failed(format!("cannot read standard input: {error}"))),
    }
}
