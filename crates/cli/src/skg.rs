//! `muster skg`: a device gets a certificate and its key, which the server makes (`/skg`, `/skc`, RFC 9148 §4.8).

use crate::enrolment;
use crate::outcome::CommandResult;
use crate::request::{AlternativeNames, RequestedFunction};

/// Enrol with a key that the server makes: for a device without a good source of randomness
#[derive(clap::Args)]
#[command(after_help = "\
Like `enroll`, or like `reenroll` if the identity is a certificate of this CA, but the private key comes from the server, protected by DTLS alone: \
device.key is what the server made. Key and certificate are kept only if they belong together. A key that was lost cannot be fetched again; the \
server revokes its certificate.

Examples:
  muster skg --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device
  muster skg --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device --accept 287

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) enrolment: enrolment::EnrolmentArguments,

    /// Request the identity's subjectAltName, or none [default: the identity's if its subject is empty]
    #[arg(long, value_name = "WHICH", conflicts_with = "csr")]
    san: Option<AlternativeNames>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    enrolment::run(&arguments.enrolment, RequestedFunction::GenerateKey(arguments.san))
}
