//! `muster cert`: the certificates that were issued, as the ledger has them, and their revocation.

mod close_relayed;
mod list;
mod pages;
mod relayed;
mod revoke;
mod revoke_relayed;
mod revoking;
mod show;

use std::path::Path;

use authority::Locator;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Subcommand;
use server::admin::protocol::{RowName, serial_number};

use crate::outcome::{CommandFault, CommandResult};
use crate::pem;

/// List, show and revoke issued certificates
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: CertVerb,
}

#[derive(Subcommand)]
enum CertVerb {
    List(list::Arguments),
    Show(show::Arguments),
    Relayed(relayed::Arguments),
    Revoke(revoke::Arguments),
    RevokeRelayed(revoke_relayed::Arguments),
    CloseRelayed(close_relayed::Arguments),
}

impl Arguments {
    /// Whether standard output carries JSON.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.verb {
            CertVerb::List(arguments) => arguments.json,
            CertVerb::Show(arguments) => arguments.json,
            CertVerb::Relayed(arguments) => arguments.json,
            CertVerb::Revoke(arguments) => arguments.revoking.json,
            CertVerb::RevokeRelayed(arguments) => arguments.revoking.json,
            CertVerb::CloseRelayed(arguments) => arguments.json,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match &arguments.verb {
        CertVerb::List(arguments) => list::run(arguments),
        CertVerb::Show(arguments) => show::run(arguments),
        CertVerb::Relayed(arguments) => relayed::run(arguments),
        CertVerb::Revoke(arguments) => revoke::run(arguments),
        CertVerb::RevokeRelayed(arguments) => revoke_relayed::run(arguments),
        CertVerb::CloseRelayed(arguments) => close_relayed::run(arguments),
    }
}

/// The row that an argument means: a serial number, or the file of a certificate.
fn row_name(argument: &Path) -> CommandResult<RowName> {
    let text = argument.to_str().unwrap_or_default();
    let not_a_serial = match serial_number(text) {
        Ok(serial) => return Ok(RowName::Serial(serial.to_string())),
        Err(fault) => fault,
    };
    let looks_like_a_serial = text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    if looks_like_a_serial && !argument.exists() {
        return Err(CommandFault::usage(not_a_serial)
            .remedy("`muster cert list` prints serial numbers; or give the file of the certificate"));
    }
    let certificate = pem::read_certificate(argument)?;
    if Locator::of(&certificate).is_none() {
        let serial = hex::encode(certificate.serial());
        return Err(CommandFault::failed(format!(
            "{}: Muster did not issue this certificate: its serial number is {serial}",
            argument.display()
        ))
        .remedy("give a certificate that a device received from this server, or its serial number; `muster cert revoke-relayed` takes what a Registrar relayed"));
    }
    Ok(RowName::Certificate(BASE64.encode(certificate.der())))
}
