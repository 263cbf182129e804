//! `muster`: the one binary. It parses the command line and passes each verb to its module; it decides nothing itself.
//!
//! Results go to stdout, progress and errors to stderr; the exit status is one of [`outcome::Status`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line: printing is its business")]
#![allow(clippy::disallowed_methods, reason = "a shell: files, clocks, sockets and threads enter here")]

mod arguments;
mod att;
mod cert;
mod check;
mod connection;
mod crts;
mod demo;
mod describe;
mod discover;
mod enroll;
mod enrolment;
mod explain;
mod files;
mod identity;
mod init;
mod inspect;
mod interrupt;
mod key_decryption;
mod ledger;
mod link;
mod load;
mod openssl;
mod operator;
mod outcome;
mod pem;
mod question;
mod reenroll;
mod renew;
mod request;
mod search;
mod serve;
mod skg;
mod whole_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use outcome::{CommandResult, Status, out};

/// Enrols fleets of constrained devices: EST over secure CoAP (RFC 9148)
#[derive(Parser)]
#[command(name = "muster", version, max_term_width = 120, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Begin with:
  muster demo                                run a server and a fleet, with nothing to set up
  muster init pki                            create a PKI, a device identity and a configuration
  muster serve --config pki/muster.toml      run the server
  muster enroll --server coaps://127.0.0.1:5684 --identity pki/device \\
      --trust pki/ca/root.pem --out device

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later, 5 no answer, 6 the server is not trusted, \
7 a run of `muster load` is void, 8 the hook of `muster renew` failed, 9 a criterion of `muster load --fail-if` is met, 130 interrupted";

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Arguments),
    Init(init::Arguments),
    Serve(serve::Arguments),
    Check(check::Arguments),
    Crts(crts::Arguments),
    Att(att::Arguments),
    Enroll(enroll::Arguments),
    Reenroll(reenroll::Arguments),
    Renew(renew::Arguments),
    Skg(skg::Arguments),
    Discover(discover::Arguments),
    Explain(explain::Arguments),
    Inspect(inspect::Arguments),
    Cert(cert::Arguments),
    Ledger(ledger::Arguments),
    Load(Box<load::Arguments>),
    Link(link::Arguments),
}

impl Verb {
    /// Whether standard output carries one JSON object, however the verb ends.
    fn prints_json(&self) -> bool {
        match self {
            Self::Init(arguments) => arguments.json,
            Self::Check(arguments) => arguments.json,
            Self::Crts(arguments) => arguments.connection.json,
            Self::Att(arguments) => arguments.connection.json,
            Self::Enroll(arguments) => arguments.enrolment.connection.json,
            Self::Reenroll(arguments) => arguments.enrolment.connection.json,
            Self::Renew(arguments) => arguments.connection.json,
            Self::Skg(arguments) => arguments.enrolment.connection.json,
            Self::Discover(arguments) => arguments.options.json,
            Self::Explain(arguments) => arguments.json,
            Self::Inspect(arguments) => arguments.json,
            Self::Cert(arguments) => arguments.prints_json(),
            Self::Ledger(arguments) => arguments.prints_json(),
            Self::Link(arguments) => arguments.json,
            Self::Load(arguments) => arguments.prints_json(),
            Self::Demo(_) | Self::Serve(_) => false,
        }
    }

    fn run(self) -> CommandResult {
        match self {
            Self::Demo(arguments) => demo::run(&arguments),
            Self::Init(arguments) => init::run(&arguments),
            Self::Serve(arguments) => serve::run(&arguments),
            Self::Check(arguments) => check::run(&arguments),
            Self::Crts(arguments) => crts::run(&arguments),
            Self::Att(arguments) => att::run(&arguments),
            Self::Enroll(arguments) => enroll::run(&arguments),
            Self::Reenroll(arguments) => reenroll::run(&arguments),
            Self::Renew(arguments) => renew::run(&arguments),
            Self::Skg(arguments) => skg::run(&arguments),
            Self::Discover(arguments) => discover::run(&arguments),
            Self::Explain(arguments) => explain::run(&arguments),
            Self::Inspect(arguments) => inspect::run(&arguments),
            Self::Cert(arguments) => cert::run(&arguments),
            Self::Ledger(arguments) => ledger::run(&arguments),
            Self::Load(arguments) => load::run(&arguments),
            Self::Link(arguments) => link::run(&arguments),
        }
    }
}

fn main() -> ExitCode {
    // A write beyond a file size limit (`ulimit -f`) then fails like one on a full disk, and incomplete output is removed. By default the signal would end
    // the process immediately. An error means that this system does not have the signal.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(error) => return refuse(&error),
    };
    let json = verb.prints_json();
    match verb.run() {
        Ok(()) => Status::Done.into(),
        Err(fault) => {
            fault.say();
            if json {
                out!("{}", fault.json());
            }
            fault.status().into()
        }
    }
}

/// A command line that is invalid or asks for help: clap's text on clap's stream, and the JSON object if `--json` was given.
fn refuse(error: &clap::Error) -> ExitCode {
    // There is nowhere left to report an error.
    let _ = error.print();
    let refused = error.exit_code() != 0;
    let words: Vec<_> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    if refused && asks_for_json(&words) {
        out!("{}", as_fault(error).json());
    }
    if refused { Status::Usage.into() } else { Status::Done.into() }
}

/// clap's message, in the form of our other usage errors.
fn as_fault(error: &clap::Error) -> outcome::CommandFault {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let remedy = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: "));
    outcome::CommandFault::usage(message).remedy(remedy.unwrap_or("see `muster help`, or `muster COMMAND --help`"))
}

/// Whether a command line that failed to parse asks for JSON on stdout: `--json`, for `load` with `-`.
fn asks_for_json(words: &[std::ffi::OsString]) -> bool {
    let Some(at) = words.iter().position(|word| word == "--json" || word == "--json=-") else { return false };
    let verb = words.iter().find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    verb.is_none_or(|verb| verb != "load") || words[at] == "--json=-" || words.get(at + 1).is_some_and(|to| to == "-")
}
