//! `muster crts`: the CA certificates of a server (`/crts`, RFC 9148 §4.1).

use std::path::PathBuf;

use pki::Certificate;

use crate::arguments::Connection;
use crate::connection::{Authorities, Session};
use crate::describe;
use crate::files::{self, Access, Durability, Staged};
use crate::identity::{self, Identity};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandResult, out, print_json, say};
use crate::pem;

/// Fetch the CA certificates
#[derive(clap::Args)]
#[command(after_help = "\
Prints the certificates as PEM, or writes them to DIR/anchors.pem. With --json, each is in the field `pem` of its object, and unusable certificates are listed in `passed_over`.

Examples:
  muster crts --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem
  muster crts --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem \\
      --trace > /dev/null

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Write anchors.pem to this new folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let interrupt = Interrupt::install()?;
    let connection = &arguments.connection;
    let identity = Identity::of(connection)?;
    let trust = identity::anchors(connection)?;
    if let Some(dir) = &arguments.out {
        files::require_absent_or_empty(dir)?;
    }
    let mut session = Session::open(connection, identity.as_ref(), trust, interrupt.clone())?;
    let Authorities { certificates, passed_over } = session.authorities()?;
    session.close();
    interrupt.check()?;

    let text = pem::encode_chain(certificates.iter().map(Certificate::der));
    if let Some(dir) = &arguments.out {
        let mut staged = Staged::new(dir, Durability::Synced)?;
        staged.add("anchors.pem", text.as_bytes(), Access::Public)?;
        staged.commit()?;
        say!("anchors.pem is in {}", dir.display());
    }
    if connection.json {
        let certificates: Vec<_> = certificates.iter().map(describe::json).collect();
        print_json(serde_json::json!({ "certificates": certificates, "passed_over": passed_over }));
        return Ok(());
    }
    for certificate in &certificates {
        say!("{}", describe::line(certificate));
    }
    if arguments.out.is_none() {
        out!("{}", text.trim_end());
    }
    Ok(())
}
