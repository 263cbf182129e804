//! Locations: the root of the work tree, its files, the target directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Program;

/// The root of the work tree.
pub(crate) fn root() -> PathBuf {
    // crates/xtask -> crates -> root
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Cargo's target directory, as cargo itself reports it.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of our own installations; `cargo clean` removes it.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The Python environment of the peers.
pub(crate) fn python() -> PathBuf {
    target().join("peers/venv/bin/python")
}

/// A file of the work tree as text.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = root().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, and creates the folder above it if it is missing.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Text for a cell of a table in Markdown.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The files that git would commit (tracked, or new and not ignored), relative to the root, with one of these
/// endings.
pub(crate) fn files(endings: &[&str]) -> Result<Vec<String>> {
    let listed =
        Program::line("git ls-files --cached --others --exclude-standard").directory(&root()).expect_success()?;
    let mut files: Vec<String> = listed
        .stdout
        .lines()
        .filter(|file| endings.iter().any(|ending| file.ends_with(ending)))
        .filter(|file| root().join(file).is_file())
        .map(str::to_owned)
        .collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Finds a program on the PATH, or among our own tools.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let own = std::iter::once(tools().join("bin"));
    own.chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The version of a package in Cargo.lock.
pub(crate) fn locked_version(package: &str) -> Result<String> {
    let lock = read("Cargo.lock")?;
    let name = format!("name = \"{package}\"");
    lock.split("[[package]]")
        .filter(|entry| entry.lines().any(|line| line == name))
        .find_map(|entry| entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')))
        .map(str::to_owned)
        .with_context(|| format!("{package} is not in Cargo.lock"))
}

/// Appends a line to a committed file of results.
pub(crate) fn append(results: &str, line: &str) -> Result<()> {
    let before = read(results).unwrap_or_default();
    write(&root().join(results), &(before + line))?;
    println!("   written: {results}");
    Ok(())
}

/// A note if the last line of a committed file of results, each with `commit ID`, is older than the code that it covers.
pub(crate) fn older_than_code(results: &str, code: &[&str]) -> Result<Option<String>> {
    let text = read(results).unwrap_or_default();
    let commit = text.lines().rev().find_map(|line| line.split_once("commit ")?.1.split([',', ' ']).next());
    let Some(commit) = commit else { return Ok(Some(format!("{results} has no result"))) };
    let log = Program::line("git log --oneline -1").arg(format!("{commit}..HEAD")).arg("--").args(code);
    let ended = log.directory(&root()).output()?;
    Ok(match (ended.status.success(), ended.stdout.trim()) {
        (true, "") => None,
        (true, newer) => {
            Some(format!("{results} is of commit {commit}, and the code that it covers is newer: {newer}"))
        }
        (false, _) => Some(format!("{results} is of commit {commit}, which is not in this repository")),
    })
}

/// Makes a new folder under the target directory; an earlier one with that name is removed.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = target().join("scratch").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("crates/xtask/Cargo.toml").is_file());
    }

    #[test]
    fn the_lock_file_tells_versions() {
        assert!(locked_version("gungraun").unwrap().starts_with("0."));
        assert!(locked_version("no-such-package").is_err());
    }
}
