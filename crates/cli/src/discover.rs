//! `muster discover`: which EST resources a server has (`/.well-known/core`, RFC 9148 §4.1).

use est::discovery::ParsedLink;
use pki::Shown;

use crate::arguments::Connection;
use crate::connection::Session;
use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// List a server's EST resources
#[derive(clap::Args)]
#[command(after_help = "\
Prints one line per resource: its path, its resource type and its Content-Formats. If the server lists no EST resource, \
the command fails (exit 1), because devices cannot enrol there.

Examples:
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem --json
  muster discover --server coaps://[2001:db8::7] --identity pki/device --trust pki/ca/root.pem --all

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// List every resource, not only those of EST
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let connection = &arguments.connection;
    let mut session = Session::of(connection)?;
    let text = session.links(arguments.all)?;
    session.close();
    let links = est::discovery::parse_links(&text);
    let serves_est = links.iter().any(offers_est);
    if !connection.json {
        for link in &links {
            out!("{}", line(link));
        }
    }
    // `--all` lists everything; the exit status still depends on whether EST is among it.
    if !serves_est {
        return Err(without_est(connection, &links));
    }
    if connection.json {
        let all: Vec<_> = links
            .iter()
            .map(
                |link| serde_json::json!({ "href": link.target, "rt": link.resource_type, "ct": link.content_formats }),
            )
            .collect();
        print_json(serde_json::json!({ "links": all }));
    }
    Ok(())
}

/// A link as text for people.
fn line(link: &ParsedLink<'_>) -> String {
    let [target, kind, formats] = [link.target, link.resource_type, link.content_formats].map(Shown);
    format!("{target}  rt={kind}  ct={formats}")
}

/// Whether a link leads to a function of EST: `rt` may hold several types (RFC 6690 §3.1).
fn offers_est(link: &ParsedLink<'_>) -> bool {
    link.resource_type.split_whitespace().any(|kind| kind.starts_with("ace.est"))
}

fn without_est(connection: &Connection, links: &[ParsedLink<'_>]) -> CommandFault {
    let server = &connection.server;
    let fault = match links.len() {
        0 => CommandFault::failed(format!("{server} lists no EST resource (no link with rt=ace.est*)")),
        others => CommandFault::failed(format!(
            "{server} lists no EST resource among its {others} links (none has rt=ace.est*)"
        )),
    };
    let others: Vec<_> = links.iter().map(|link| link.target).collect();
    fault.field("other_links", others).remedy(
        "it speaks CoAP, but lists no enrolment under /.well-known/core: check the address and port, or ask its operator for the path of EST",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e58_a_link_of_a_server_forges_no_line_of_the_terminal() {
        let links = est::discovery::parse_links("</est/\u{202e}nes>;rt=\"ace.est.sen\n\u{1b}[2K\";ct=\"281\u{2028}\"");
        assert_eq!(line(&links[0]), r"/est/\u{202e}nes  rt=ace.est.sen\n\u{1b}[2K  ct=281\u{2028}");
    }
}
