//! The command that runs after a renewal, so that the device's software reads the new certificate.

use std::fs;
use std::process::{Command, Stdio};

use super::folder::{ANCHORS, CERTIFICATE, DeviceFolder, KEY};
use crate::files::unwritable;
use crate::outcome::{CommandFault, CommandResult, Status};

/// There while the hook is due: after the process was killed, or the hook failed, the next run makes it up.
const DUE: &str = "hook.due";

/// Notes that the hook is due. The file is there before the new certificate is.
pub(super) fn note(folder: &DeviceFolder) -> CommandResult {
    let path = folder.path(DUE);
    fs::write(&path, "").map_err(|source| unwritable(&path, &source))
}

/// Whether the hook of an earlier renewal is due.
pub(super) fn is_due(folder: &DeviceFolder) -> bool {
    folder.path(DUE).exists()
}

/// Forgets that the hook was due.
pub(super) fn forget(folder: &DeviceFolder) {
    let _ = fs::remove_file(folder.path(DUE));
}

/// Runs the hook by the shell. Its output goes to stderr: stdout belongs to the result of the verb.
pub(super) fn run(folder: &DeviceFolder, hook: &str) -> CommandResult {
    let absolute = |name: &str| std::path::absolute(folder.path(name)).unwrap_or_else(|_| folder.path(name));
    let mut command = Command::new("sh");
    command.args(["-c", hook]).stdin(Stdio::null()).stdout(std::io::stderr());
    command.env("RENEWED_DIR", absolute("")).env("RENEWED_CERTIFICATE", absolute(CERTIFICATE));
    command.env("RENEWED_KEY", absolute(KEY)).env("RENEWED_ANCHORS", absolute(ANCHORS));
    let why = match command.status() {
        Ok(status) if status.success() => {
            forget(folder);
            return Ok(());
        }
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(CommandFault::new(Status::HookFailed, format!("the new certificate is installed, and the hook failed: {why}"))
        .remedy("the next run repeats the hook; it does not renew again for it")
        .field("renewed", true))
}
