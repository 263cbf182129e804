//! `muster serve`: starts the server of a configuration file and runs until the server has drained.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::capture::{Addresses, KeyLog, OnlyPeer, Pcapng, Tee, TracePrinter};
use server::config::{ConfigurationFaults, ExpiredServer, Sources};
use server::daemon::ObserverFactory;
use server::logging::{Format, LogGuard};
use server::{Handle, StartOptions};

use crate::arguments::endpoint;
use crate::ledger::{self, OpenedLedger};
use crate::outcome::{self, CommandFault, CommandResult};

/// Run the server
#[derive(clap::Args)]
#[command(after_help = "\
Prints `listening on coaps://ADDR:PORT` for each address once it is ready and `https on https://ADDR:PORT`, `metrics on http://ADDR:PORT/metrics` and `revocation lists on http://ADDR:PORT`, with the real port if 0 was \
requested. The log goes to stderr; MUSTER_LOG=debug gives more detail.

SIGTERM and Ctrl-C drain: new handshakes are refused, enrolments in flight are finished, the other sessions are closed, exit 0. A second signal stops immediately.

SIGHUP reloads the configuration and every file it names: server certificate, CAs, manufacturers, profiles. Sessions and enrolments in flight continue. If anything \
is invalid, nothing changes and the log lists each fault. Addresses, threads and limits need a restart; the log names each such key.

Examples:
  muster serve --config pki/muster.toml
  muster serve --config pki/muster.toml --listen 127.0.0.1:0 --log json
  muster serve --config pki/muster.toml --trace peer=192.0.2.7
  MUSTER_METRICS__LISTEN=127.0.0.1:0 muster serve --config pki/muster.toml")]
pub(crate) struct Arguments {
    /// The configuration file, as written by `muster init`
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,

    /// Listen on this address instead of the file's; can be repeated
    #[arg(long, value_name = "ADDR:PORT", num_args = 1.., value_parser = endpoint)]
    listen: Vec<SocketAddr>,

    /// Print the conversation with one device, decrypted, on stderr: peer=ADDR
    #[arg(long, value_name = "peer=ADDR", value_parser = peer)]
    trace: Option<IpAddr>,

    /// Append the secrets of all sessions to a file (NSS key log); refused without --insecure-keylog
    #[arg(long, value_name = "FILE", requires = "insecure_keylog")]
    keylog: Option<PathBuf>,

    /// Write all datagrams, and the secrets that decrypt them, to a capture file (pcapng); refused without --insecure-keylog
    #[arg(long, value_name = "FILE", requires = "insecure_keylog")]
    pcap: Option<PathBuf>,

    /// Confirm that secrets which decrypt every device's session are written to a file
    #[arg(long)]
    insecure_keylog: bool,

    /// Start even if the server certificate has expired; devices that check dates will not trust this server
    #[arg(long)]
    allow_expired_server_certificate: bool,

    /// Format of the log on stderr
    #[arg(long, value_enum, default_value_t = Log::Human)]
    log: Log,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Log {
    /// For a person.
    Human,
    /// One JSON object per line.
    Json,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let log = server::logging::init(match arguments.log {
        Log::Human => Format::Human,
        Log::Json => Format::Json,
    });
    let log = log.map_err(|source| CommandFault::failed(format!("cannot write the log: {source}")))?;
    // Why it ends goes the way of the log: nothing waits for a stuck stderr, and what is queued is written when the guard is dropped.
    serve(arguments, &log).map_err(|fault| fault.said_to(log.lines()))
}

fn serve(arguments: &Arguments, log: &LogGuard) -> CommandResult {
    let read = sources(arguments);
    let loaded =
        read().and_then(|sources| server::load(&sources)).map_err(|faults| CommandFault::failed(faults.to_string()))?;
    let printer =
        arguments.trace.map(|peer| (peer, Arc::new(TracePrinter::new(est::trace::Style::Text, Box::new(log.lines())))));
    let OpenedLedger { ledger, relayed } = ledger::open(loaded.config())?;
    let options = StartOptions { observer: observer(arguments, printer.clone()), relayed: Some(relayed) };
    let handle = server::start(loaded, ledger, options).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let _obeying = server::signals::obey(&handle, read)
        .map_err(|source| CommandFault::failed(format!("cannot handle signals: {source}")))?;
    announce(&handle, log.lines())?;
    let ended = handle.join();
    if let Some((_, printer)) = printer {
        printer.finish();
    }
    ended.map(|_| ()).map_err(|fault| CommandFault::failed(format!("the server failed: {fault}")))
}

/// What is read at the start and on each SIGHUP: the file as it is at that time, with the addresses of the command line.
fn sources(arguments: &Arguments) -> impl Fn() -> Result<Sources, ConfigurationFaults> + Send + 'static {
    let (config, listen) = (arguments.config.clone(), arguments.listen.clone());
    let expired_server =
        if arguments.allow_expired_server_certificate { ExpiredServer::Served } else { ExpiredServer::Refused };
    move || {
        let mut sources = Sources { expired_server, ..Sources::of(&config)? };
        if !listen.is_empty() {
            sources.listen = Some(listen.clone());
        }
        Ok(sources)
    }
}

/// Written in one call, so that a reader of the first line also gets the rest. A standard output that is closed, full or stuck does not stop the server: a
/// thread of its own waits for it, and nothing waits for that thread.
fn announce(handle: &Handle, mut log: impl Write + Send + 'static) -> CommandResult {
    let listening = handle.addresses().iter().map(|address| format!("listening on coaps://{address}"));
    let metrics = handle.metrics_address().map(|address| format!("metrics on http://{address}/metrics"));
    let crls = handle.crl_address().map(|address| format!("revocation lists on http://{address}"));
    let https = handle.https_address().map(|address| format!("https on https://{address}"));
    let lines: Vec<String> = listening.chain(https).chain(metrics).chain(crls).collect();
    let announcing = std::thread::Builder::new().name("muster-announce".into()).spawn(move || {
        if let Err(error) = outcome::try_stdout(format_args!("{}", lines.join("\n"))) {
            let said = format!("muster: cannot write to standard output ({error}); {}\n", lines.join(", "));
            // The log takes every line, or counts it.
            let _ = log.write_all(said.as_bytes());
        }
    });
    announcing.map(drop).map_err(|source| CommandFault::failed(format!("cannot start a thread: {source}")))
}

fn observer(arguments: &Arguments, printer: Option<(IpAddr, Arc<TracePrinter>)>) -> Option<ObserverFactory> {
    let (keylog, pcap) = (arguments.keylog.clone(), arguments.pcap.clone());
    if printer.is_none() && keylog.is_none() && pcap.is_none() {
        return None;
    }
    Some(Box::new(move |bound| {
        let mut observers: Vec<Arc<dyn dtls::Observer>> = Vec::new();
        if let Some((peer, printer)) = printer {
            observers.push(Arc::new(OnlyPeer::new(peer, printer)));
        }
        if let Some(path) = keylog {
            observers.push(Arc::new(KeyLog::open(&path).map_err(|source| named(&path, &source))?));
        }
        if let Some(path) = pcap {
            let unknown = SocketAddr::from(([0; 4], 0));
            let addresses = Addresses {
                local: bound.first().copied().unwrap_or(unknown),
                peer: unknown,
                ports: bound.iter().map(SocketAddr::port).collect(),
            };
            observers.push(Arc::new(Pcapng::create(&path, addresses).map_err(|source| named(&path, &source))?));
        }
        Ok(Tee::of(observers))
    }))
}

/// The same error with the file's path.
fn named(path: &Path, source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("{}: {source}", path.display()))
}

fn peer(text: &str) -> Result<IpAddr, String> {
    let address =
        text.strip_prefix("peer=").ok_or_else(|| format!("write peer={text}; one device is traced at a time"))?;
    address.parse().map_err(|_| format!("`{address}` is not a valid IP address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_is_traced() {
        assert_eq!(peer("peer=::1"), Ok("::1".parse().unwrap()));
        assert!(peer("::1").unwrap_err().contains("peer=::1"));
        assert!(peer("peer=host").is_err());
    }
}
