//! `muster check`: checks a configuration and the files that it names, without starting anything.

use std::path::PathBuf;

use serde_json::{Value, json};
use server::Loaded;
use server::config::{ConfigurationFaults, Sources};

use crate::outcome::{CommandFault, CommandResult, out, print_json, say};

/// Check a configuration and every file it refers to
#[derive(clap::Args)]
#[command(after_help = "\
Reports every fault at once, with its line and what to do; for an unknown key it suggests the nearest known one. --print shows each effective value \
with its origin, and the size of each handshake message that the server sends: device stacks reassemble into buffers of 768, 900 \
or 1,024 bytes.

Warnings are about problems that do not keep the server from starting: certificates that expire within 30 days, CAs and manufacturers that have expired, no profile with the label \"\". --strict \
makes them fail the check. Devices of an expired CA are told to retry later (5.03); the others enrol.

Examples:
  muster check pki/muster.toml
  muster check pki/muster.toml --print
  muster check pki/muster.toml --strict || mail -s 'muster: look here' operator
  muster check pki/muster.toml --json | jq -r '.faults[]?.problem'")]
pub(crate) struct Arguments {
    /// The configuration
    file: PathBuf,

    /// Print the effective configuration and the sizes of the server's handshake messages
    #[arg(long)]
    print: bool,

    /// Fail on warnings too, such as a certificate that expires soon
    #[arg(long)]
    strict: bool,

    /// Print one JSON object: warnings, effective values and sizes, or every fault
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let file = arguments.file.display();
    let sources = Sources::of(&arguments.file).map_err(|faults| failed(&faults))?;
    let loaded = server::load(&sources).map_err(|faults| failed(&faults))?;
    if arguments.strict && !loaded.warnings().is_empty() {
        let text: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
        let message = format!("{file} is valid, with warnings\n{}", text.join("\n"));
        return Err(CommandFault::failed(message).field("warnings", text));
    }
    if arguments.json {
        print_json(json(&file.to_string(), &loaded));
        return Ok(());
    }
    for warning in loaded.warnings() {
        say!("warning: {warning}");
    }
    if arguments.print {
        for value in loaded.effective() {
            out!("{value}");
        }
        out!("");
        for size in loaded.handshake_sizes().iter() {
            match size.warning() {
                None => out!("{}: {} bytes", size.message, size.bytes),
                Some(warning) => out!("{}: {} bytes; {warning}", size.message, size.bytes),
            }
        }
    }
    say!("{file} is valid");
    Ok(())
}

/// The faults as text for people, and as a list for programs.
fn failed(faults: &ConfigurationFaults) -> CommandFault {
    let one = |fault: &server::config::ConfigurationFault| {
        json!({
            "place": fault.place.to_string(),
            "key": fault.key,
            "problem": fault.problem.to_string(),
            "remedy": fault.problem.remedy(),
        })
    };
    CommandFault::failed(faults.to_string()).field("faults", faults.0.iter().map(one).collect::<Vec<_>>())
}

fn json(file: &str, loaded: &Loaded) -> Value {
    let warnings: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
    let value = |value: &server::config::Effective| json!({ "key": value.key, "value": value.value, "origin": value.origin.to_string() });
    let size = |size: &server::load::HandshakeSize| json!({ "message": size.message.to_string(), "bytes": size.bytes, "warning": size.warning().map(|it| it.to_string()) });
    json!({
        "file": file,
        "warnings": warnings,
        "values": loaded.effective().iter().map(value).collect::<Vec<_>>(),
        "handshake": loaded.handshake_sizes().iter().map(size).collect::<Vec<_>>(),
    })
}
