//! `muster explain`: what a reason code means and what to change on the device or on the server.
//!
//! The codes and their texts are in one table of `est`; this module only looks them up and prints them.

use est::Reason;

use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// Explain a reason code, and what to change on the device or the server
#[derive(clap::Args)]
#[command(after_help = "\
Reason codes appear in the server's log, in the label `reason` of its metrics, in the payload of its 4.xx and 5.xx answers, and in the output of the \
device commands. Without a code, all of them are listed.

Examples:
  muster explain est.sen.subject_mismatch
  muster explain
  muster explain --json | jq -r '.reasons[].code'")]
pub(crate) struct Arguments {
    /// The code, such as est.sen.subject_mismatch [default: list all codes]
    reason: Option<String>,

    /// Print JSON: one object with all entries in `reasons`, or the requested entry
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match &arguments.reason {
        None if arguments.json => {
            let all: Vec<_> = Reason::ALL.iter().map(|reason| json(*reason)).collect();
            print_json(serde_json::json!({ "reasons": all }));
        }
        None => list(),
        Some(code) => {
            let reason = Reason::from_code(code).ok_or_else(|| unknown(code))?;
            if arguments.json {
                print_json(json(reason));
            } else {
                out!("{}", reason.explain().trim_end());
            }
        }
    }
    Ok(())
}

fn list() {
    let width = Reason::ALL.iter().map(|reason| reason.code().len()).max().unwrap_or(0);
    for reason in Reason::ALL {
        let meaning = reason.entry().meaning;
        let first = meaning.split_inclusive(". ").next().unwrap_or(meaning).trim_end();
        out!("{:width$}  {first}", reason.code());
    }
}

fn json(reason: Reason) -> serde_json::Value {
    let entry = reason.entry();
    serde_json::json!({
        "code": entry.code,
        "stage": entry.stage.name(),
        "on_the_wire": entry.wire.to_string(),
        "meaning": entry.meaning,
        "device": entry.device,
        "server": entry.server,
    })
}

fn unknown(code: &str) -> CommandFault {
    let nearest = Reason::ALL
        .iter()
        .map(|reason| (strsim::normalized_damerau_levenshtein(code, reason.code()), reason.code()))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map_or("", |(_, code)| code);
    CommandFault::usage(format!("unknown reason `{code}`; did you mean `{nearest}`?"))
        .remedy(format!("`muster explain {nearest}`, or `muster explain` for all of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_code_names_the_nearest() {
        let right = Reason::ALL[0].code();
        let fault = unknown(&right.replace('e', "ee"));
        assert!(fault.to_string().contains(right), "{fault}");
    }
}
