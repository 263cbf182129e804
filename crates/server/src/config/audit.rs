//! `[audit]`: where the audit of the ledger keeps its key and its checkpoints, and which syslog gets them too.

use std::path::{Component, Path, PathBuf};

use super::document::Node;
use super::fault::{Problem, from_file};
use super::model::{AuditSection, AuditSyslog, Configuration, LedgerSection, LedgerUrl};
use super::reader::{Effective, Read, Section, SectionReader, ValueOrigin};
use super::value::{FromText as _, Value};

/// What stands behind the name of the ledger in the names of the files beside it.
const KEY_SUFFIX: &str = ".audit.key";
const CHECKPOINTS_SUFFIX: &str = ".checkpoints.jsonl";
const PUBLIC_SUFFIX: &str = ".pub";

/// Files that SQLite and the server keep beside the ledger.
const LEDGER_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", ".lock"];

pub(super) fn audit(
    reader: &mut SectionReader,
    root: &mut Section<'_>,
    ledger: Option<&LedgerSection>,
) -> AuditSection {
    let mut section = reader.section(root, "audit");
    let file = ledger.and_then(|ledger| match &ledger.url.value {
        LedgerUrl::Memory => None,
        LedgerUrl::Sqlite(file) => Some(file.as_path()),
    });
    let key = beside(reader, &mut section, "key", file.map(|file| with_suffix(file, KEY_SUFFIX)));
    let checkpoints =
        beside(reader, &mut section, "checkpoints", file.map(|file| with_suffix(file, CHECKPOINTS_SUFFIX)));
    let syslog = reader.or(&mut section, "syslog", AuditSyslog::Unused).value;
    reader.finish(&section);
    let section = AuditSection { key, checkpoints, syslog };
    if let (Some(file), Some(ledger)) = (file, ledger) {
        check(reader, &section, file, ledger.journal.as_ref());
    }
    section
}

/// A file whose default is beside the ledger; one in memory has no audit.
fn beside(
    reader: &mut SectionReader,
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<PathBuf>,
) -> Option<Read<PathBuf>> {
    let is_written = section.has(key);
    let written = reader.optional(section, key);
    if let (Some(default), false) = (default, is_written) {
        let key = section.dotted(key);
        reader.effective.push(Effective { key, value: default.show(), origin: ValueOrigin::Default });
    }
    written
}

/// Whether each file is one of its own: what writes one of them would destroy another.
fn check(reader: &mut SectionReader, section: &AuditSection, ledger: &Path, journal: Option<&Read<PathBuf>>) {
    let or_beside =
        |read: Option<&Read<PathBuf>>, suffix| read.map_or_else(|| with_suffix(ledger, suffix), |it| it.value.clone());
    let key = or_beside(section.key.as_ref(), KEY_SUFFIX);
    let mut taken = vec![(key.clone(), "the key"), (with_suffix(&key, PUBLIC_SUFFIX), "the public key")];
    taken.extend(LEDGER_SUFFIXES.map(|suffix| (with_suffix(ledger, suffix), "a file of the ledger")));
    taken.extend(journal.map(|journal| (journal.value.clone(), "the journal")));
    let is_one = |one: &Path, other: &Path| plain(&reader.file, one) == plain(&reader.file, other);
    let mut faults = Vec::new();
    let mut judge = |read: Option<&Read<PathBuf>>, name: &str, taken: &[(PathBuf, &str)], remedy| {
        let Some(read) = read else { return };
        let what = if read.value.file_name().is_none() {
            Some(format!("{} is not a file", read.value.display()))
        } else {
            let other = taken.iter().find(|(path, _)| is_one(path, &read.value));
            other.map(|(_, other)| format!("{name} and {other} are one file"))
        };
        faults.extend(what.map(|what| read.fault(Problem::Conflict { what, remedy })));
    };
    let remedy = "name a file of its own, such as `checkpoints = \"/mnt/other/checkpoints.jsonl\"`";
    judge(section.checkpoints.as_ref(), "the file of the checkpoints", &taken, remedy);
    judge(section.key.as_ref(), "the key", &taken[2..], "name a file of its own, such as `key = \"audit.key\"`");
    if section.checkpoints.is_none() {
        // The default can only collide with a key that was written.
        let checkpoints = [(with_suffix(ledger, CHECKPOINTS_SUFFIX), "the file of the checkpoints")];
        judge(section.key.as_ref(), "the key", &checkpoints, "name a file of its own, such as `key = \"audit.key\"`");
    }
    reader.faults.extend(faults);
}

/// A path from the configuration's folder, without steps that stay where they are.
fn plain(file: &Path, path: &Path) -> PathBuf {
    from_file(file, path).components().filter(|step| !matches!(step, Component::CurDir)).collect()
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Value for AuditSyslog {
    fn read(node: &Node) -> Result<Self, Problem> {
        match node {
            Node::Text(text) => PathBuf::from_text(text).map(Self::Socket),
            Node::Raw(text) if !matches!(text.as_str(), "true" | "false") => PathBuf::from_text(text).map(Self::Socket),
            Node::Raw(_) | Node::Boolean(_) => {
                bool::read(node).map(|is_used| if is_used { Self::Local } else { Self::Unused })
            }
            other => Err(Problem::Type { wanted: "`true`, `false` or the path of a socket", found: other.type_name() }),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Unused => false.show(),
            Self::Local => true.show(),
            Self::Socket(path) => path.show(),
        }
    }
}

impl Configuration {
    /// The file of the key that signs the checkpoints of the audit; `None` if the ledger is in memory.
    #[must_use]
    pub fn audit_key(&self) -> Option<PathBuf> {
        self.audit_file(self.audit.key.as_ref(), KEY_SUFFIX)
    }

    /// The file of the checkpoints of the audit; `None` if the ledger is in memory.
    #[must_use]
    pub fn audit_checkpoints(&self) -> Option<PathBuf> {
        self.audit_file(self.audit.checkpoints.as_ref(), CHECKPOINTS_SUFFIX)
    }

    fn audit_file(&self, written: Option<&Read<PathBuf>>, suffix: &str) -> Option<PathBuf> {
        let ledger = self.ledger_file()?;
        Some(written.map_or_else(|| with_suffix(&ledger, suffix), |path| from_file(&self.file, &path.value)))
    }
}
