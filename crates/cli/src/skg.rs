//! `muster skg`: a device gets a certificate and its key, which the server makes (`/skg`, `/skc`, RFC 9148 §4.8).

use std::path::PathBuf;

use crate::enrolment;
use crate::key_decryption::KeyDecryption;
use crate::outcome::CommandResult;
use crate::request::{AlternativeNames, RequestedFunction};

/// Enrol with a key that the server makes: for a device without a good source of randomness
#[derive(clap::Args)]
#[command(after_help = "\
Like `enroll`, or like `reenroll` if the identity is a certificate of this CA, but the private key comes from the server: \
device.key is what the server made. DTLS protects it, and with --decrypt-key or --decrypt-with-identity the server also encrypts it to a key of the device (CMS, RFC 7030 §4.4.2), so that nothing \
between the two can read it. Encryption that the server cannot give is refused. Key and certificate are kept only if they belong together. A key that was lost cannot be fetched again; the \
server revokes its certificate.

Examples:
  muster skg --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device
  muster skg --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device --accept 287
  muster skg --server coaps://127.0.0.1:5684 --identity pki/device \
      --trust pki/ca/root.pem --out device --decrypt-with-identity

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) enrolment: enrolment::EnrolmentArguments,

    /// Request the identity's subjectAltName, or none [default: the identity's if its subject is empty]
    #[arg(long, value_name = "WHICH", conflicts_with = "csr")]
    san: Option<AlternativeNames>,

    /// Have the private key encrypted to the key in this file, which the server shares: identifier and AES key, in hex, in one line; for its owner only
    #[arg(long, value_name = "FILE", conflicts_with = "decrypt_with_identity")]
    decrypt_key: Option<PathBuf>,

    /// Have the private key encrypted to the key of the identity's certificate, if its keyUsage allows keyAgreement
    #[arg(long)]
    decrypt_with_identity: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    enrolment::run_with(
        &arguments.enrolment,
        RequestedFunction::GenerateKey(arguments.san),
        |identity| match &arguments.decrypt_key {
            Some(file) => KeyDecryption::shared(file).map(Some),
            None if arguments.decrypt_with_identity => KeyDecryption::identity(identity).map(Some),
            None => Ok(None),
        },
    )
}
