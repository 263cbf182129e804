//! The units of `muster renew --print-systemd`.

use std::path::Path;

use server::shell;

use super::Arguments;
use crate::outcome::{CommandFault, CommandResult};

/// A service that runs once with these arguments, and the timer that starts it.
pub(super) fn units(arguments: &Arguments) -> CommandResult<String> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| CommandFault::failed(format!("no absolute path of the folder: {error}")))
    };
    let program = std::env::current_exe().map_or_else(|_| "/usr/bin/muster".into(), |path| shell::path(&path));
    let dir = absolute(&arguments.dir)?;
    let mut command = vec![
        format!("{program} renew --wait --at {} --server {}", arguments.at, arguments.connection.server),
        format!("--dir {}", shell::path(&dir)),
    ];
    for (option, path) in [("--trust", &arguments.connection.trust), ("--idevid", &arguments.idevid)] {
        if let Some(path) = path {
            command.push(format!("{option} {}", shell::path(&absolute(path)?)));
        }
    }
    if let Some(hook) = &arguments.hook {
        command.push(format!("--hook {}", shell::word(hook)));
    }
    // A percent sign begins a specifier in a unit (systemd.unit(5)), and a dollar sign a variable (systemd.service(5)).
    let command = command.join(" \\\n    ").replace('%', "%%").replace('$', "$$");
    let folder = dir.display().to_string().replace('%', "%%");
    Ok(UNITS.replace("@COMMAND@", &command).replace("@FOLDER@", &folder))
}

const UNITS: &str = "\
# /etc/systemd/system/muster-renew.service
[Unit]
Description=Renew this device's certificate (EST-coaps, RFC 9148)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=@COMMAND@
# 4: the server said later; 5: it did not answer. The timer tries again.
SuccessExitStatus=4 5
TimeoutStartSec=1h
ProtectSystem=strict
ReadWritePaths=@FOLDER@
PrivateTmp=yes

# /etc/systemd/system/muster-renew.timer
[Unit]
Description=Look whether this device's certificate is due

[Timer]
# A certificate that is not due costs no message: only a due one asks the server.
OnBootSec=5min
OnUnitActiveSec=1h
# Devices that were switched on together do not ask together.
RandomizedDelaySec=20min

[Install]
WantedBy=timers.target

# systemctl daemon-reload && systemctl enable --now muster-renew.timer";
