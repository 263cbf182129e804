//! `muster cert show`: one row of the ledger with every field.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use server::admin::protocol::{AdminAnswer, AdminRequest, CertificateRow};

use super::row_name;
use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// Show everything that the ledger has about one certificate
#[derive(clap::Args)]
#[command(after_help = "\
Asks the server that runs, over its admin socket; if none runs, reads the ledger.

Examples:
  muster cert show 010000a1b2c3d4e5f60718293a4b5c6d7e8f90
  muster cert show device/device.pem
  muster cert show 010000a1b2c3d4e5f60718293a4b5c6d7e8f90 --pem | openssl x509 -noout -text
  muster cert show device/device.pem --json | jq -r .revocation.reason")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The serial number, 38 hexadecimal digits, or the file of the certificate
    #[arg(value_name = "SERIAL|FILE")]
    row: PathBuf,

    /// Print only the certificate, as PEM
    #[arg(long, conflicts_with = "json")]
    pem: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let row = row_name(&arguments.row)?;
    let operator = Operator::of(&arguments.operator)?;
    let answered = operator.ask(AdminRequest::CertificateShow { row }, None)?;
    let Some(AdminAnswer::Row(row)) = answered.lines.into_iter().next() else {
        return Err(CommandFault::failed("the answer has no row: a defect in the server"));
    };
    if arguments.pem {
        let text = pem_of(&row)?.ok_or_else(|| {
            CommandFault::failed(format!("the row of {} is {} and has no certificate", row.serial, row.state))
        })?;
        out!("{}", text.trim_end());
        return Ok(());
    }
    let mut object = serde_json::to_value(&*row).unwrap_or_default();
    if arguments.json {
        object["certificate"] = pem_of(&row)?.into();
        print_json(object);
        return Ok(());
    }
    for (name, value) in fields(&row) {
        if let Some(value) = value {
            out!("{name:20} {}", pki::Shown(&value));
        }
    }
    Ok(())
}

fn pem_of(row: &CertificateRow) -> CommandResult<Option<String>> {
    let Some(text) = &row.certificate else { return Ok(None) };
    let der = BASE64
        .decode(text)
        .map_err(|error| CommandFault::failed(format!("the certificate in the answer is not base64: {error}")))?;
    Ok(Some(pki::pem::encode(pki::pem::Label::Certificate, &der)))
}

/// Every field with its name, in the order of a row's life.
fn fields(row: &CertificateRow) -> Vec<(&'static str, Option<String>)> {
    let some = |text: &str| Some(text.to_owned());
    let revocation = row.revocation.as_ref();
    vec![
        ("serial", some(&row.serial)),
        ("state", some(&row.state)),
        ("revoked at", revocation.map(|revocation| revocation.at.clone())),
        ("revocation reason", revocation.map(|revocation| revocation.reason.clone())),
        ("revoked by", revocation.map(|revocation| revocation.actor.clone())),
        ("device", some(&row.device)),
        ("manufacturer", some(&row.manufacturer)),
        ("subject", some(&row.subject)),
        ("not before", some(&row.not_before)),
        ("not after", some(&row.not_after)),
        ("profile", some(&row.profile)),
        ("profile version", some(&row.profile_version)),
        ("function", some(&row.function)),
        ("vouched by", some(&row.vouched_by)),
        ("peer", some(&row.peer)),
        ("requested at", some(&row.requested_at)),
        ("issued at", row.issued_at.clone()),
        ("repeats until", row.repeats_until.clone()),
        ("CA", some(&row.ca)),
        ("anchor", some(&row.anchor)),
        ("certificate SHA-256", row.certificate_sha256.clone()),
        ("client SHA-256", some(&row.client_sha256)),
        ("factory key SHA-256", row.factory_key_sha256.clone()),
        ("CSR SHA-256", some(&row.csr_sha256)),
        ("key SHA-256", some(&row.key_sha256)),
        ("names SHA-256", some(&row.names_sha256)),
        ("TBS SHA-256", some(&row.to_be_signed_sha256)),
        ("request", some(&row.request)),
    ]
}
