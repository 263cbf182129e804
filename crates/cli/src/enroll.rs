//! `muster enroll`: a device gets its first certificate from this CA (`/sen`, RFC 9148 §4.1).

use crate::enrolment;
use crate::outcome::CommandResult;
use crate::request::{AlternativeNames, RequestedFunction};

/// Enrol: authenticate with an identity, get a certificate for a new key
#[derive(clap::Args)]
#[command(after_help = "\
Connects over DTLS with the device's identity, verifies the server, fetches the CA certificates, asks what a request has to contain (/att), and requests a certificate for the identity's subject, \
or for its alternative names if the subject is empty (--san). The certificate is kept only if it is for the new key and chains to a trusted CA. With --csr and without --out it is printed, as PEM or in the field `pem` of \
the --json output.

A server whose address is not known is found in two steps: `muster discover` with --multicast or --resource-directory prints its URI, and --server takes that URI \
here, with --expect-name for the name that its certificate must contain. --discover is another thing: it asks the server of --server where its functions are.

Examples:
  muster enroll --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device
  muster enroll --server coaps://est.example.net/meters --identity pki/device --trust root.pem \\
      --out device --block 64 --suite ccm8 --trace
  muster enroll --server coaps://est.example.net --discover --identity pki/device --trust root.pem --out device
  muster discover --multicast --interface eth0     # prints, say, coaps://[fe80::7%2]:5684
  muster enroll --server 'coaps://[fe80::7%2]:5684' --expect-name est.example.net --identity pki/device \\
      --trust root.pem --out device
  muster enroll --server coaps://127.0.0.1:5684 --cert idevid.pem --key idevid.key \\
      --trust root.pem --csr device.csr > device.pem

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
    enrolment::run(&arguments.enrolment, RequestedFunction::Enroll(arguments.san))
}
