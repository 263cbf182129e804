//! `muster check`: validates a configuration and the files it names, without starting anything.

use crate::outcome::{Fault, Outcome, out, say};
use server::config::Sources;
use std::path::PathBuf;

/// Validate a configuration and everything it names
#[derive(clap::Args)]
#[command(after_help = "\
Every fault is explained, all at once, with its line; an unknown key names the nearest known one. With --print, each effective value with \
where it comes from, and the size of each handshake message that the server sends: device stacks reassemble into buffers of 768, 900 \
or 1,024 bytes.

Examples:
  muster check pki/muster.toml
  muster check pki/muster.toml --print")]
pub(crate) struct Arguments {
    /// The configuration
    file: PathBuf,

    /// Print the effective configuration and the sizes of the server's handshake messages
    #[arg(long)]
    print: bool,
}

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let file = arguments.file.display();
    let sources = Sources::of(&arguments.file).map_err(|faults| Fault::failed(faults.to_string()))?;
    let loaded = server::load(&sources).map_err(|faults| Fault::failed(faults.to_string()))?;
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
    say!("{file} is good");
    Ok(())
}
