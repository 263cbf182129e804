//! The units of `muster renew --print-systemd`.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum as _;
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
        format!("{program} renew --at {} --server {}", arguments.at, arguments.connection.server),
        format!("--dir {}", shell::path(&dir)),
    ];
    for (option, path) in [("--trust", &arguments.connection.trust), ("--idevid", &arguments.idevid)] {
        if let Some(path) = path {
            command.push(format!("{option} {}", shell::path(&absolute(path)?)));
        }
    }
    command.extend(connection_options(arguments));
    if let Some(hook) = &arguments.hook {
        command.push(format!("--hook {}", shell::word(hook)));
    }
    // A percent sign begins a specifier in a unit (systemd.unit(5)), and a dollar sign a variable (systemd.service(5)).
    let command = command.join(" \\\n    ").replace('%', "%%").replace('$', "$$");
    let folder = dir.display().to_string().replace('%', "%%");
    Ok(UNITS.replace("@COMMAND@", &command).replace("@FOLDER@", &folder))
}

/// The options that differ from their defaults and are of use to a service.
fn connection_options(arguments: &Arguments) -> Vec<String> {
    let options = &arguments.connection.options;
    let mut written = Vec::new();
    if let Some(name) = &options.expect_name {
        written.push(format!("--expect-name {}", shell::word(name)));
    }
    if arguments.connection.discover {
        written.push("--discover".to_owned());
    }
    if arguments.own_schedule {
        written.push("--own-schedule".to_owned());
    }
    if options.timeout != Duration::from_secs(300) {
        written.push(format!("--timeout {}ms", options.timeout.as_millis()));
    }
    if options.mtu != 1_232 {
        written.push(format!("--mtu {}", options.mtu));
    }
    if options.block.size().bytes() != 512 {
        written.push(format!("--block {}", options.block.size().bytes()));
    }
    for suite in &options.suite {
        let name = suite.to_possible_value().map(|value| value.get_name().to_owned());
        written.extend(name.map(|name| format!("--suite {name}")));
    }
    if options.non {
        written.push("--non".to_owned());
    }
    if options.json {
        written.push("--json".to_owned());
    }
    written
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
# 4: the server said later, and the request waits in renew.pending; 5: it did not answer. The timer tries again.
SuccessExitStatus=4 5
TimeoutStartSec=1h
ProtectSystem=strict
ReadWritePaths=@FOLDER@
PrivateTmp=yes

# /etc/systemd/system/muster-renew.timer
[Unit]
Description=Look whether this device's certificate is due

[Timer]
# The server is asked when to renew as often as it wants; between these times, a certificate that is not due costs no message.
OnBootSec=5min
OnUnitActiveSec=1h
# Devices that were switched on together do not ask together.
RandomizedDelaySec=20min

[Install]
WantedBy=timers.target

# systemctl daemon-reload && systemctl enable --now muster-renew.timer";
