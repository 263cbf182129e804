//! Which program a run measured: the record names its commit, or, for one that was given by hand, its bytes.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process::Program;

/// A program under measurement, as a run file has it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MeasuredProgram {
    /// The commit that the verb built it from, "with changes" if the tree had some; `None` of a program that was given by hand.
    commit: Option<String>,
    sha256: String,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Origin {
    #[serde(rename = "built by the run")]
    Built,
    #[serde(rename = "given by hand")]
    GivenByHand,
}

impl MeasuredProgram {
    /// What the verb has built from this tree.
    pub(super) fn built(program: &Path, commit: &str) -> Result<Self> {
        Ok(Self { commit: Some(commit.to_owned()), sha256: sha256(program)?, origin: Origin::Built })
    }

    /// What an option named: nothing here knows which commit it is of.
    pub(super) fn given_by_hand(program: &Path) -> Result<Self> {
        Ok(Self { commit: None, sha256: sha256(program)?, origin: Origin::GivenByHand })
    }

    /// For a line of text.
    pub(super) fn words(&self) -> String {
        match &self.commit {
            Some(commit) => format!("commit {commit}"),
            None => format!("sha256 {}, given by hand", self.sha256),
        }
    }
}

fn sha256(program: &Path) -> Result<String> {
    let printed = Program::new("sha256sum").arg(program).expect_success()?.stdout;
    // A name with a backslash or a newline is escaped, and its line begins with a backslash.
    let digest = printed.trim_start_matches('\\').split_whitespace().next();
    Ok(digest.with_context(|| format!("sha256sum printed nothing of {}", program.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_given_by_hand_is_named_by_its_bytes() {
        let file = std::env::temp_dir().join(format!("xtask-measured-program-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let (given, built) = (MeasuredProgram::given_by_hand(&file), MeasuredProgram::built(&file, "c0ffee"));
        std::fs::remove_file(&file).unwrap();
        let (given, built) = (given.unwrap(), built.unwrap());
        // The digest of "abc" in FIPS 180-2, appendix B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(given.words(), format!("sha256 {digest}, given by hand"));
        assert_eq!(
            serde_json::to_value(&given).unwrap(),
            serde_json::json!({ "commit": null, "sha256": digest, "origin": "given by hand" })
        );
        assert_eq!(built.words(), "commit c0ffee");
        assert!(MeasuredProgram::given_by_hand(&file).is_err(), "it is gone");
    }
}
