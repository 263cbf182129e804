//! `muster link`: a UDP proxy that simulates a bad link to a real device or server. `net` has the proxy; the simulator has the model of the link.

use std::net::SocketAddr;
use std::time::Duration;

use net::proxy::{CLIENTS_MAX, Conditions, Delay, IDLE, Proxy, ProxyCounters, Settings, Summary};

use crate::arguments::{destination, duration, endpoint, time_limit};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};

/// Simulate a bad link: a UDP proxy that drops, duplicates, delays, reorders and corrupts datagrams
#[derive(clap::Args)]
#[command(after_help = "\
Prints `forwarding ADDR:PORT -> ADDR:PORT` once it is ready, with the real port if 0 was requested, and a summary when it ends (exit 0): on Ctrl-C, on \
SIGTERM, or after the time of --for. The server sees one peer per client. Each percentage applies to both directions. Runs with the same seed treat \
the same datagrams in the same order alike; changing the percentage of one fault does not change the others.

A path of --mtu 256 is narrower than what either end starts with. A Muster server adapts within some seconds of lost flights; \
a Muster device needs --mtu 256, and a client that cannot split its flights (libcoap's) never gets through. \
An enrolment with --block 64 over the link of the first example takes a minute or two.

Examples:
  muster link --listen 127.0.0.1:15684 --to 127.0.0.1:5684 --loss 10% --delay 400ms \\
      --reorder 5% --duplicate 5% --mtu 256 --seed 7
  muster enroll --server coaps://127.0.0.1:15684 --mtu 256 --block 64 \\
      --identity pki/device --trust pki/ca/root.pem --out device
  muster link --listen '[::]:15684' --to '[fe80::1%eth1]:5684' --loss 10%
  muster link --listen 127.0.0.1:15684 --to 127.0.0.1:5684 --corrupt 0.5% --for 60s --json")]
pub(crate) struct Arguments {
    /// Address that devices use instead of the server's
    #[arg(long, value_name = "ADDR:PORT", value_parser = endpoint)]
    listen: SocketAddr,

    /// The server
    #[arg(long, value_name = "ADDR:PORT", value_parser = destination)]
    to: SocketAddr,

    /// Datagrams lost
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = loadgen::per_mille)]
    loss: u16,

    /// Datagrams duplicated
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = loadgen::per_mille)]
    duplicate: u16,

    /// Datagrams reordered: held back for up to ten delays (at least 50 ms, at most 2 s), so that later ones overtake them
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = loadgen::per_mille)]
    reorder: u16,

    /// Datagrams corrupted by one changed bit
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = loadgen::per_mille)]
    corrupt: u16,

    /// Delay of each datagram
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = delay)]
    delay: Duration,

    /// Random extra delay, at most
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = delay)]
    jitter: Duration,

    /// Largest UDP payload in bytes, 64 or more; longer datagrams are dropped
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..))]
    mtu: Option<u16>,

    /// Seed that decides which datagrams are affected
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = time_limit)]
    at_most: Option<Duration>,

    /// Print the counts as one JSON object; the line with the listening address then goes to stderr
    #[arg(long)]
    pub(crate) json: bool,
}

/// A delay of a datagram. Beyond the longest timer of a retransmission it is a loss, as in a scenario of `muster load`.
fn delay(text: &str) -> Result<Duration, String> {
    const DELAY_MAX: Duration = Duration::from_secs(600);
    let delay = duration(text)?;
    if delay > DELAY_MAX { Err(format!("`{text}` is too long: write at most 10m, or --loss")) } else { Ok(delay) }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let interrupt = Interrupt::install()?;
    if arguments.listen == arguments.to {
        return Err(CommandFault::usage(format!("{} would forward to itself", arguments.to))
            .remedy("--to is the server's address, --listen another port for the devices"));
    }
    let mut proxy = Proxy::bind(settings(arguments)).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    // With --json, stdout carries only the one object, so this line goes to stderr.
    if arguments.json {
        say!("forwarding {} -> {}", proxy.local_address(), arguments.to);
    } else {
        out!("forwarding {} -> {}", proxy.local_address(), arguments.to);
    }
    let ended = proxy.run(&interrupt.flag(), arguments.at_most);
    let summary = proxy.summary();
    if arguments.json {
        print_json(json(&summary));
    } else {
        out!("{}", table(&summary));
    }
    ended.map_err(|error| CommandFault::failed(format!("the link failed: {error}")))
}

fn settings(arguments: &Arguments) -> Settings {
    let conditions = Conditions {
        loss: arguments.loss,
        duplication: arguments.duplicate,
        corruption: arguments.corrupt,
        reordering: arguments.reorder,
        delay: Delay { least: arguments.delay, most: arguments.delay.saturating_add(arguments.jitter) },
        mtu: arguments.mtu.map_or(usize::MAX, usize::from),
    };
    let (listen, to, seed) = (arguments.listen, arguments.to, arguments.seed);
    Settings { listen, to, conditions, seed, clients_max: CLIENTS_MAX, idle: IDLE }
}

/// The counts, and the name of each in both output formats.
fn counts(traffic: &ProxyCounters) -> [(&'static str, u64); 11] {
    let link = &traffic.link;
    [
        ("sent", link.sent),
        ("bytes", link.bytes),
        ("delivered", traffic.delivered),
        ("lost", link.lost - link.too_long - link.crowded_out),
        ("too_long", link.too_long),
        ("crowded_out", link.crowded_out),
        ("duplicated", link.duplicated),
        ("held_back", link.held_back),
        ("corrupted", link.corrupted),
        ("in_flight", traffic.in_flight),
        ("not_sent", traffic.not_sent + traffic.stale),
    ]
}

fn table(summary: &Summary) -> String {
    let line = |name: &str, traffic: &ProxyCounters| {
        // Zero counts are omitted, except for those that are always of interest.
        let shown = counts(traffic).into_iter().enumerate().filter(|(at, (_, count))| *at < 4 || *count > 0);
        let shown: Vec<String> =
            shown.map(|(_, (what, count))| format!("{count} {}", what.replace('_', " "))).collect();
        format!("{name}: {}", shown.join(", "))
    };
    let mut text = [
        line("towards the server ", &summary.towards_server),
        line("towards the clients", &summary.towards_clients),
        format!("clients: {}", summary.clients),
    ]
    .join("\n");
    if summary.turned_away > 0 {
        text += &format!(", and {} datagrams of further clients, refused for lack of room", summary.turned_away);
    }
    if summary.unreachable > 0 {
        text += &format!("\nthe server's address was unreachable {} times", summary.unreachable);
    }
    text
}

fn json(summary: &Summary) -> serde_json::Value {
    let direction = |traffic: &ProxyCounters| -> serde_json::Map<String, serde_json::Value> {
        counts(traffic).into_iter().map(|(what, count)| (what.to_owned(), count.into())).collect()
    };
    serde_json::json!({
        "schema": "muster-link/1",
        "towards_server": direction(&summary.towards_server),
        "towards_clients": direction(&summary.towards_clients),
        "clients": summary.clients,
        "turned_away": summary.turned_away,
        "unreachable": summary.unreachable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_nothing_is_left_out_of_the_table_and_stands_in_the_json() {
        let mut summary = Summary { clients: 1, ..Summary::default() };
        summary.towards_server.link.sent = 5;
        summary.towards_server.link.lost = 3;
        summary.towards_server.link.too_long = 2;
        let text = table(&summary);
        assert!(
            text.contains("5 sent") && text.contains("1 lost, 2 too long") && !text.contains("corrupted"),
            "{text}"
        );
        let json = json(&summary);
        assert_eq!((&json["towards_server"]["lost"], &json["towards_clients"]["corrupted"]), (&1.into(), &0.into()));
    }
}
