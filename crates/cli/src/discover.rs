//! `muster discover`: which EST resources a server has (`/.well-known/core`, RFC 9148 §4.1), and where servers are.
//!
//! Whoever answers a multicast, or is listed in a directory, chooses what the answer says. It decides where to connect and nothing else:
//! the name that the certificate must contain comes from the command line, or the certificate is one of a registration authority of the device's
//! own CA (RFC 7030 §3.6.1).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use est::AnchorDatabase;
use est::discovery::{COAP_PORT, DirectoryUri, ParsedLink};
use pki::Shown;

use crate::arguments::{Connection, ConnectionOptions, ServerUri};
use crate::connection::Session;
use crate::identity::{self, Identity, Trust};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::search::{self, FoundServer};

/// List a server's EST resources, or find servers
#[derive(clap::Args)]
#[command(after_help = "\
Prints one line per resource: its path, its resource type and its Content-Formats. If the server lists no EST resource, \
the command fails (exit 1), because devices cannot enrol there.

With --multicast or --resource-directory it asks over CoAP without DTLS where servers are. Anybody can answer that: with --expect-name, the servers found \
are connected to, and the first one that proves this name is listed. A device that has enrolled (anchors.pem in the folder of --identity) takes a \
registration authority of its own CA (id-kp-cmcRA) without a name. Otherwise what was answered is printed, and nothing of it is proven. A server that refuses \
or does not answer does not end the search; --timeout is the time for all of them together. To enrol at a server that was found, give its name again: muster enroll --server URI --expect-name NAME.

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
    #[arg(long, value_name = "PORT", requires = "multicast", default_value_t = COAP_PORT, value_parser = clap::value_parser!(u16).range(1..))]
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
    let interrupt = Interrupt::install()?;
    if let Some(server) = &arguments.server {
        let connection = Connection::well_known(server.clone(), arguments.options.clone());
        let trust = identity::anchors(&connection)?;
        return list(&connection, trust, &interrupt, arguments.all);
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
    interrupt.check()?;
    // Without a name, only the anchors of the device's own CA say who is one of it.
    let is_enrolled = || {
        identity::anchors(&candidate(&found[0], arguments))
            .is_ok_and(|trust| trust.database() == AnchorDatabase::Explicit)
    };
    if arguments.options.expect_name.is_none() && !is_enrolled() {
        return unproven(&found, arguments.options.json);
    }
    proven(&found, arguments, &interrupt)
}

fn candidate(server: &FoundServer, arguments: &Arguments) -> Connection {
    Connection::well_known(server.uri.clone(), arguments.options.clone())
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

/// The shortest time for one candidate: a handshake with one lost flight, on a slow link.
const CANDIDATE_MIN: Duration = Duration::from_secs(10);
/// The longest time: a server that is there has answered by then, or it will not.
const CANDIDATE_MAX: Duration = Duration::from_secs(60);

/// Lists the first server that proves what is expected. Anybody can put servers of theirs in front, which refuse, or never answer: each costs a share of
/// the time, and the next one may be ours.
fn proven(found: &[FoundServer], arguments: &Arguments, interrupt: &Interrupt) -> CommandResult {
    let end = Instant::now() + arguments.options.timeout;
    let mut worst: Option<CommandFault> = None;
    for (left, server) in (1..=found.len()).rev().zip(found) {
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            break;
        }
        let mut connection = candidate(server, arguments);
        connection.options.timeout = share(rest, left);
        if !connection.json {
            say!("trying {}", server.uri);
        }
        let trust = identity::anchors(&connection)?.of_found_server();
        match list(&connection, trust, interrupt, arguments.all) {
            Ok(()) => return Ok(()),
            Err(fault) if matches!(fault.status(), Status::Interrupted | Status::Usage) => return Err(fault),
            Err(fault) => {
                if !connection.json {
                    say!("muster: {fault}");
                }
                // One that is not trusted says the most: somebody is there who should not be.
                let says_more = fault.status() == Status::NotTrusted;
                if says_more || worst.is_none() {
                    worst = Some(fault);
                }
            }
        }
    }
    let none =
        || CommandFault::new(Status::NoAnswer, format!("no server answered within {:?}", arguments.options.timeout));
    let fault = worst.unwrap_or_else(none);
    Err(if fault.status() == Status::NotTrusted && arguments.options.expect_name.is_none() {
        fault.remedy(
            "without --expect-name NAME, only a registration authority of the device's own CA is taken (id-kp-cmcRA)",
        )
    } else {
        fault
    })
}

/// The time of a candidate: an equal share of the rest, within bounds.
fn share(rest: Duration, left: usize) -> Duration {
    let equal = rest / u32::try_from(left).unwrap_or(u32::MAX).max(1);
    equal.clamp(CANDIDATE_MIN, CANDIDATE_MAX).min(rest)
}

/// Lists the links of one server.
fn list(connection: &Connection, trust: Trust, interrupt: &Interrupt, all: bool) -> CommandResult {
    let identity = Identity::of(connection)?;
    let mut session = Session::open(connection, identity.as_ref(), trust, interrupt.clone())?;
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
    fn candidates_share_the_time_and_the_whole_is_bounded() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(300), 64), CANDIDATE_MIN);
        assert_eq!(share(seconds(300), 1), CANDIDATE_MAX);
        assert_eq!(share(seconds(3), 2), seconds(3), "never more than the rest");
        let mut rest = seconds(300);
        let tried = (1..=64).rev().take_while(|&left| {
            let part = share(rest, left);
            rest -= part;
            !part.is_zero()
        });
        assert_eq!(tried.count(), 30, "nobody is tried after the end");
    }

    #[test]
    fn e58_a_link_of_a_server_forges_no_line_of_the_terminal() {
        let links = est::discovery::parse_links("</est/\u{202e}nes>;rt=\"ace.est.sen\n\u{1b}[2K\";ct=\"281\u{2028}\"");
        assert_eq!(line(&links[0]), r"/est/\u{202e}nes  rt=ace.est.sen\n\u{1b}[2K  ct=281\u{2028}");
    }
}
