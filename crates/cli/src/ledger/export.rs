//! `muster ledger export`: what was issued, given up and revoked, as lines of JSON.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use authority::Cursor;
use ledger::export::{Export, ExportFault, ExportPlace, RelayExport};
use pki::issue::NodePrefix;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;
use server::config::Configuration;

use crate::interrupt::Interrupt;
use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, print_json, say};
use crate::whole_file::WholeFile;

/// How often a command that follows the ledger looks for new rows.
const LOOK_TIME: Duration = Duration::from_millis(250);

/// Print what was issued, given up and revoked, as lines of JSON
#[derive(clap::Args)]
#[command(after_help = "\
Reads the file of the ledger, beside a running server or without one. One line for each certificate that was issued, each reservation that was given up and \
each revocation, in the order of the ledger. The `cursor` of a line is where another export goes on behind it: with --after, no line comes twice and none is \
missing. A certificate that is being made has no line yet, and neither has what is behind it. Names of devices and addresses are in the lines; the key of \
the serial numbers is not. `muster ledger import` reads what is printed.

--relayed prints what a Registrar relayed, as `relay.request` and `relay.certificate` lines: first each request as it is, then each one that has changed \
since, as the audit tells. A request that changes has lines again, and the last ones count; `relay.closed` says that one was forgotten without a certificate.

Without a server, reservations that a crash left are given up first, as a start of the server does.

Examples:
  muster ledger export --out ledger.jsonl
  muster ledger export --follow | my-collector
  muster ledger export --follow --after \"$(tail -n 1 ledger.jsonl | jq -r .cursor)\" >> ledger.jsonl")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Wait for new rows, until Ctrl-C
    #[arg(long, conflicts_with = "out")]
    follow: bool,

    /// Go on behind the line with this cursor
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    after: Option<Cursor>,

    /// Print what a Registrar relayed instead: each request as it is now, and its certificates
    #[arg(long)]
    relayed: bool,

    /// Stop after so many lines
    #[arg(long, value_name = "LINES")]
    limit: Option<u64>,

    /// Write to a file, whole or not at all
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// With --out: print one JSON object about the file
    #[arg(long, requires = "out")]
    pub(crate) json: bool,
}

fn cursor(text: &str) -> Result<Cursor, String> {
    let octets = hex::decode(text).ok().and_then(|octets| <[u8; 16]>::try_from(octets).ok());
    octets.map(Cursor::from_bytes).ok_or_else(|| format!("`{text}` is not a cursor: give that of a line of an export"))
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (config, file) = arguments.operator.read_with_ledger()?;
    let interrupt = Interrupt::install()?;
    if arguments.relayed {
        return relayed(arguments, (&config, &file), &interrupt);
    }
    let export = Export::begin(&file, arguments.after.as_ref()).map_err(faulty)?;
    let mut work = Work { arguments, config: &config, interrupt: &interrupt, export, lines: 0, is_resolved: false };
    let Some(path) = &arguments.out else {
        let mut stdout = BufWriter::new(io::stdout().lock());
        return match work.write(&mut stdout) {
            Err(ExportEnd::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(end) => Err(end.fault("standard output")),
            Ok(()) => Ok(()),
        };
    };
    let name = path.display().to_string();
    let mut out = WholeFile::create(path)?;
    work.write(&mut out).map_err(|end| end.fault(&name))?;
    out.finish()?;
    let (lines, cursor) = (work.lines, hex::encode(work.export.place().cursor().as_bytes()));
    if arguments.json {
        print_json(json!({ "ledger": file.display().to_string(), "file": name, "lines": lines, "cursor": cursor }));
    } else {
        say!("{lines} lines in {name}; another export goes on with --after {cursor}");
    }
    Ok(())
}

/// Prints what a Registrar relayed.
fn relayed(arguments: &Arguments, (config, file): (&Configuration, &Path), interrupt: &Interrupt) -> CommandResult {
    let node = NodePrefix::new(config.server.node);
    let mut export = RelayExport::begin(file, node, arguments.after.as_ref()).map_err(faulty)?;
    let Some(path) = &arguments.out else {
        let mut stdout = BufWriter::new(io::stdout().lock());
        return match write_relayed(arguments, &mut export, interrupt, &mut stdout) {
            Err(ExportEnd::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(end) => Err(end.fault("standard output")),
            Ok(_) => Ok(()),
        };
    };
    let name = path.display().to_string();
    let mut out = WholeFile::create(path)?;
    let lines = write_relayed(arguments, &mut export, interrupt, &mut out).map_err(|end| end.fault(&name))?;
    out.finish()?;
    let cursor = hex::encode(export.cursor().as_bytes());
    if arguments.json {
        print_json(json!({ "ledger": file.display().to_string(), "file": name, "lines": lines, "cursor": cursor }));
    } else {
        say!("{lines} lines in {name}; another export goes on with --after {cursor}");
    }
    Ok(())
}

fn write_relayed(
    arguments: &Arguments,
    export: &mut RelayExport,
    interrupt: &Interrupt,
    out: &mut dyn Write,
) -> Result<u64, ExportEnd> {
    let (mut line, mut lines) = (String::new(), 0);
    while !interrupt.is_set() && arguments.limit.is_none_or(|limit| lines < limit) {
        line.clear();
        if export.next_line(&mut line).map_err(ExportEnd::Ledger)? {
            out.write_all(line.as_bytes()).map_err(ExportEnd::Output)?;
            lines += 1;
            continue;
        }
        out.flush().map_err(ExportEnd::Output)?;
        if !arguments.follow {
            break;
        }
        wait_unless_reader_left(LOOK_TIME).map_err(ExportEnd::Output)?;
    }
    out.flush().map_err(ExportEnd::Output)?;
    if interrupt.is_set() && !arguments.follow {
        return Err(ExportEnd::Command(CommandFault::interrupted()));
    }
    Ok(lines)
}

/// Why an export ended before its time.
enum ExportEnd {
    Ledger(ExportFault),
    Output(io::Error),
    Command(CommandFault),
}

impl ExportEnd {
    fn fault(self, output: &str) -> CommandFault {
        match self {
            Self::Ledger(fault) => faulty(fault),
            Self::Output(error) => CommandFault::failed(format!("cannot write to {output}: {error}")),
            Self::Command(fault) => fault,
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn faulty(fault: ExportFault) -> CommandFault {
    CommandFault::failed(fault.to_string())
}

/// Waits so long, or until nobody reads the standard output any more: without a new row, no write would tell.
fn wait_unless_reader_left(time: Duration) -> io::Result<()> {
    let stdout = io::stdout();
    // A pipe without a reader is an error whatever is asked for.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut asked, Some(&time)) {
        Ok(1..) => Err(ErrorKind::BrokenPipe.into()),
        // A signal: the caller looks at it.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Work<'a> {
    arguments: &'a Arguments,
    config: &'a Configuration,
    interrupt: &'a Interrupt,
    export: Export,
    lines: u64,
    /// Reservations of a crash were given up already.
    is_resolved: bool,
}

impl Work<'_> {
    fn write(&mut self, out: &mut dyn Write) -> Result<(), ExportEnd> {
        let mut line = String::new();
        let mut until = self.end()?;
        while self.arguments.limit.is_none_or(|limit| self.lines < limit) {
            if self.interrupt.is_set() {
                break;
            }
            line.clear();
            if self.export.next_line(until, &mut line).map_err(ExportEnd::Ledger)? {
                out.write_all(line.as_bytes()).map_err(ExportEnd::Output)?;
                self.lines += 1;
                continue;
            }
            out.flush().map_err(ExportEnd::Output)?;
            if self.arguments.follow {
                wait_unless_reader_left(LOOK_TIME).map_err(ExportEnd::Output)?;
                until = self.end()?;
            } else if self.export.place() == until || !self.resolve()? {
                break;
            }
        }
        out.flush().map_err(ExportEnd::Output)?;
        if self.interrupt.is_set() && !self.arguments.follow {
            return Err(ExportEnd::Command(CommandFault::interrupted()));
        }
        if !self.arguments.follow && self.arguments.limit.is_none() && self.export.place() != until {
            say!(
                "a certificate is being made: it and what is behind it are not exported; go on with --after {}",
                hex::encode(self.export.place().cursor().as_bytes())
            );
        }
        Ok(())
    }

    fn end(&self) -> Result<ExportPlace, ExportEnd> {
        self.export.end().map_err(ExportEnd::Ledger)
    }

    /// Gives up what a crash left reserved, if no server runs. Says whether it is worth another look.
    fn resolve(&mut self) -> Result<bool, ExportEnd> {
        if std::mem::replace(&mut self.is_resolved, true) {
            return Ok(false);
        }
        super::give_up_reservations(self.config).map_err(ExportEnd::Command)
    }
}
