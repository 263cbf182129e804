//! Builds the shim and starts this program again under it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Says what the program is to do when it runs under the shim.
pub(crate) const ERRAND: &str = "MUSTER_SHIM_ERRAND";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/power/shim.c");

/// A folder in memory where there is one: the kernel's own syncs are of no interest to a test that decides itself what is lost.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("muster-ledger-").tempdir_in(above).unwrap()
}

/// The shim, built once for each process with the compiler that also builds SQLite.
fn library() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_folder, library) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("shim.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut build = Command::new(compiler);
        build.args(["-O1", "-fPIC", "-shared", "-o"]).arg(&library).args([SOURCE, "-ldl", "-lpthread"]);
        let ended = build.output().unwrap();
        assert!(ended.status.success(), "the shim does not build:\n{}", String::from_utf8_lossy(&ended.stderr));
        (folder, library)
    });
    library
}

/// This program again, under the shim, for the files below `folder`.
pub(crate) fn run(errand: &str, folder: &Path, trace: Option<&Path>, arguments: &[&str]) -> Output {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(arguments).env(ERRAND, errand).env("LD_PRELOAD", library()).env("MUSTER_SHIM_FOLDER", folder);
    if let Some(trace) = trace {
        program.env("MUSTER_SHIM_TRACE", trace);
    }
    program.output().unwrap()
}

/// The folder that the shim watches, in a program under it.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("MUSTER_SHIM_FOLDER").unwrap().into()
}

/// A file beside the folder: the shim takes what is written to it.
pub(crate) fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Writes until the disk is full.
#[allow(dead_code, reason = "the tests of a disk that is full use it, those of power losses do not")]
pub(crate) fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).unwrap();
    for bytes in [1 << 20, 4_096, 1] {
        let chunk = vec![0xa5; bytes];
        while file.write_all(&chunk).is_ok() {}
    }
}
