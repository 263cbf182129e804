//! `muster discover`: which EST resources a server has (`/.well-known/core`, RFC 9148 §4.1), and where servers are.
//!
//! Whoever answers a multicast, or is listed in a directory, chooses what the answer says. It decides where to connect and nothing else:
//! the name that the certificate must contain comes from the command line.

use std::net::IpAddr;

use est::discovery::{COAP_PORT, DirectoryUri, ParsedLink};
use pki::Shown;

use crate::arguments::{Connection, ConnectionOptions, ServerUri};
use crate::connection::Session;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::search::{self, FoundServer};

/// List a server's EST resources, or find servers
#[derive(clap::Args)]
#[command(after_help = "\
Prints one line per resource: its path, its resource type and its Content-Formats. If the server lists no EST resource, \
the command fails (exit 1), because devices cannot enrol there.

With --multicast or --resource-directory it asks over CoAP without DTLS where servers are. Anybody can answer that: with --expect-name, the servers found \
are connected to, and the first one that proves this name is listed; without it, what was answered is printed and nothing of it is proven. \
To enrol at a server that was found, give its name again: muster enroll --server URI --expect-name NAME.

Examples:
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem
  muster discover --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem --json
  muster discover --server coaps://[2001:db8::7] --identity pki/device --trust pki/ca/root.pem --all
  muster discover --multicast --interface eth0
  muster discover --resource-directory coap://rd.example.net --expect-name est.example.net \\
      --identity pki/device --trust pki/ca/root.pem

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    /// The server
    #[arg(long, value_name = "coaps://HOST:PORT[/LABEL]", required_unless_present_any = ["multicast", "resource_directory"])]
    server: Option<ServerUri>,

    /// Ask the servers of the link, or of another multicast group, where they are [default group: ff02::fd]
    #[arg(long, value_name = "GROUP", num_args = 0..=1, require_equals = true, default_missing_value = "ff02::fd",
          conflicts_with_all = ["server", "resource_directory"])]
    multicast: Option<IpAddr>,

    /// The interface that leads to the group
    #[arg(long, value_name = "IF", requires = "multicast")]
    interface: Option<String>,

    /// The port of the group
    #[arg(long, value_name = "PORT", requires = "multicast", default_value_t = COAP_PORT)]
    group_port: u16,

    /// Ask a CoRE Resource Directory (RFC 9176) which servers it lists
    #[arg(long, value_name = "coap://HOST[:PORT]", value_parser = directory_uri, conflicts_with = "server")]
    resource_directory: Option<DirectoryUri>,

    #[command(flatten)]
    pub(crate) options: ConnectionOptions,

    /// List every resource, not only those of EST
    #[arg(long)]
    all: bool,
}

fn directory_uri(text: &str) -> Result<DirectoryUri, String> {
    DirectoryUri::parse(text).ok_or_else(|| format!("`{text}` is not the URI of a directory: write coap://HOST[:PORT]"))
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    if let Some(server) = &arguments.server {
        let connection = Connection { server: server.clone(), options: arguments.options.clone() };
        return list(&connection, arguments.all);
    }
    let (found, asked) = match (&arguments.multicast, &arguments.resource_directory) {
        (Some(group), _) => {
            let timeout = arguments.options.timeout;
            let found = search::group(*group, arguments.group_port, arguments.interface.as_deref(), timeout)?;
            (found, format!("the group {group}"))
        }
        (None, Some(directory)) => (search::directory(directory, arguments.options.timeout)?, directory.to_string()),
        (None, None) => return Err(CommandFault::usage("missing --server, --multicast or --resource-directory")),
    };
    if found.is_empty() {
        let fault = CommandFault::new(Status::NoAnswer, format!("{asked} told of no EST server over coaps"));
        return Err(fault.remedy("check the interface and the group, or the address of the directory; a server answers neither unless its [discovery] says so"));
    }
    if arguments.options.expect_name.is_none() {
        return unproven(&found, arguments.options.json);
    }
    proven(&found, arguments)
}

/// Prints what was answered.
fn unproven(found: &[FoundServer], json: bool) -> CommandResult {
    if json {
        let servers: Vec<_> = found
            .iter()
            .map(|server| serde_json::json!({ "server": server.uri.to_string(), "proven": false, "links": server.links }))
            .collect();
        print_json(serde_json::json!({ "servers": servers }));
    } else {
        for server in found {
            out!("{}", server.uri);
            for link in &server.links {
                out!("  {}", Shown(link));
            }
        }
        say!(
            "muster: whoever answers chooses what it says: nothing of this is proven\n  \
             remedy: add --expect-name NAME, with --trust and --identity, to connect to those that were found and list the one that proves that name"
        );
    }
    Ok(())
}

/// Lists the first server that proves the expected name.
fn proven(found: &[FoundServer], arguments: &Arguments) -> CommandResult {
    let mut last = None;
    for server in found {
        let connection = Connection { server: server.uri.clone(), options: arguments.options.clone() };
        if !connection.json {
            say!("trying {}", server.uri);
        }
        match list(&connection, arguments.all) {
            Ok(()) => return Ok(()),
            // Anybody can put a server of theirs in front: the next one may be ours.
            Err(fault) if matches!(fault.status(), Status::NotTrusted | Status::NoAnswer | Status::Failed) => {
                last = match last {
                    Some(earlier @ CommandFault { .. }) if fault.status() != Status::NotTrusted => Some(earlier),
                    _ => Some(fault),
                };
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(last.unwrap_or_else(|| CommandFault::failed("no server was found")))
}

/// Lists the links of one server.
fn list(connection: &Connection, all: bool) -> CommandResult {
    let mut session = Session::of(connection)?;
    let text = session.links(all)?;
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
        print_json(serde_json::json!({ "server": connection.server.to_string(), "links": all }));
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
