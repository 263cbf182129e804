//! `muster reenroll`: a device renews a certificate of this CA with a new key (`/sren`, RFC 9148 §4.1).

use crate::enrolment;
use crate::outcome::CommandResult;
use crate::request::RequestedFunction;

/// Renew: authenticate with the certificate of an earlier enrolment, get another for a new key
#[derive(clap::Args)]
#[command(after_help = "\
The identity is the folder that `enroll --out` wrote; its anchors.pem is trusted unless --trust is given. The result goes to a new \
folder; the old certificate stays valid until it expires.

Examples:
  muster reenroll --server coaps://127.0.0.1:5684 --identity device --out device.new
  muster reenroll --server coaps://est.example.net/meters --identity device --out device.new --wait

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) enrolment: enrolment::EnrolmentArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    enrolment::run(&arguments.enrolment, RequestedFunction::Reenroll)
}
