//! `muster att`: what a server wants to find in a request (`/att`, RFC 9148 §4.1).

use pki::csr_attributes::{CsrAttributes, KeyRequirement, LinkingAttribute, SignatureRequirement};
use pki::{Oid, Shown, oid};

use crate::arguments::Connection;
use crate::connection::Session;
use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// Show the CSR attributes: what a server wants to find in a request
#[derive(clap::Args)]
#[command(after_help = "\
Prints one line per requirement. If the answer has a template (RFC 9908), only the template counts. With --json, the whole answer is in the field `der`, \
in hexadecimal; it is null if the server asks for nothing. `muster enroll` asks for it by itself and makes a request of this kind.

Examples:
  muster att --server coaps://127.0.0.1:5684 --identity pki/device --trust pki/ca/root.pem
  muster att --server coaps://127.0.0.1:5684/meters --identity pki/device --trust pki/ca/root.pem --json

Exit status: 0 done, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let connection = &arguments.connection;
    let mut session = Session::of(connection)?;
    let der = session.csr_attributes()?;
    session.close();
    let attributes = der.as_deref().map(CsrAttributes::parse).transpose();
    let attributes = attributes.map_err(|fault| CommandFault::failed(fault.to_string()))?.unwrap_or_default();
    let lines = lines(&attributes);
    if connection.json {
        let requirements: Vec<_> =
            lines.iter().map(|(what, wanted)| serde_json::json!({ "what": what, "wanted": wanted })).collect();
        print_json(serde_json::json!({ "requirements": requirements, "der": der.map(hex::encode) }));
        return Ok(());
    }
    if lines.is_empty() {
        out!("the server asks for nothing in particular");
    }
    for (what, wanted) in lines {
        out!("{what}: {wanted}");
    }
    Ok(())
}

/// Each requirement: the part of the request, and what it has to be.
fn lines(attributes: &CsrAttributes<'_>) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match attributes.key {
        None => {}
        Some(KeyRequirement::Ec(None)) => lines.push(("key", "elliptic curve".to_owned())),
        Some(KeyRequirement::Ec(Some(curve))) => lines.push(("key", curve.to_string())),
        Some(KeyRequirement::Unsupported { algorithm, .. }) => {
            lines.push(("key", format!("{algorithm} (not supported here)")));
        }
    }
    match attributes.signature {
        None => {}
        Some(SignatureRequirement::Supported(algorithm)) => lines.push(("signature", algorithm.to_string())),
        Some(SignatureRequirement::Unsupported(id)) => lines.push(("signature", format!("{id} (not supported here)"))),
    }
    for attribute in &attributes.subject {
        let kind = name(attribute.kind);
        lines.push(("subject", attribute.value.map_or(kind.clone(), |value| format!("{kind}={}", Shown(value)))));
    }
    for extension in &attributes.extensions {
        let critical = if extension.critical { ", critical" } else { "" };
        let value = extension.value.map_or(String::new(), |value| format!(" = {}", hex::encode(value)));
        lines.push(("extension", format!("{}{critical}{value}", extension.id)));
    }
    match attributes.linking {
        None => {}
        Some(LinkingAttribute::ChallengePassword) => {
            lines.push(("link to the session", "challengePassword".to_owned()));
        }
        Some(LinkingAttribute::EstIdentityLinking) => {
            lines.push(("link to the session", "estIdentityLinking".to_owned()));
        }
    }
    for other in &attributes.others {
        let values = if other.values.is_empty() { String::new() } else { format!(" = {}", hex::encode(other.values)) };
        lines.push(("attribute", format!("{}{values}", other.id)));
    }
    lines
}

fn name(kind: Oid<'_>) -> String {
    oid::attribute_name(kind).map_or_else(|| kind.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use pki::csr_attributes::RequiredAttribute;

    use super::*;

    #[test]
    fn e58_a_value_of_a_server_forges_no_line_of_the_terminal() {
        let value = Some("a\n\u{1b}[2K");
        let subject = vec![RequiredAttribute { kind: oid::ORGANIZATION, value }];
        let lines = lines(&CsrAttributes { subject, ..CsrAttributes::default() });
        assert_eq!(lines, [("subject", r"O=a\n\u{1b}[2K".to_owned())]);
    }
}
