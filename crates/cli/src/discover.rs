//! `muster discover`: which EST resources a server has (`/.well-known/core`, RFC 9148 §4.1).

use crate::arguments::Connection;
use crate::connection::Session;
use crate::identity::{self, Identity};
use crate::interrupt::Interrupt;
use crate::outcome::{Outcome, out};

/// Ask a server which EST resources it has
#[derive(clap::Args)]
#[command(after_help = "\
Prints a line per resource: its path, its resource type and the Content-Formats that it answers with.

Examples:
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem --json
  muster discover --server coaps://[2001:db8::7] --identity pki/device --trust pki/ca/root.pem --all

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,

    /// Every resource, not only those of EST
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let interrupt = Interrupt::install()?;
    let connection = &arguments.connection;
    let identity = Identity::of(connection)?;
    let trust = identity::anchors(connection)?;
    let mut session = Session::open(connection, identity.as_ref(), trust, interrupt)?;
    let text = session.links(arguments.all)?;
    session.close();
    let links = est::discovery::parse_links(&text);
    if connection.json {
        let all: Vec<_> = links
            .iter()
            .map(
                |link| serde_json::json!({ "href": link.target, "rt": link.resource_type, "ct": link.content_formats }),
            )
            .collect();
        out!("{}", serde_json::Value::from(all));
        return Ok(());
    }
    for link in links {
        out!("{}  rt={}  ct={}", link.target, link.resource_type, link.content_formats);
    }
    Ok(())
}
