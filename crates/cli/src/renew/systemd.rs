//! The units of `muster renew --print-systemd`.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum as _;
use est::ClientConfig;
use server::shell;

use super::Arguments;
use crate::arguments::{Connection, ConnectionOptions, PathSegments};
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

/// The options that differ from their defaults. Each field is named: a new option is written here, or refused beside --print-systemd where it is declared.
fn connection_options(arguments: &Arguments) -> Vec<String> {
    let Connection { server: _, discover, path, options } = &arguments.connection;
    let ConnectionOptions {
        expect_name,
        // The folder of --dir has it, and --dir refuses these three.
        identity: _,
        cert: _,
        key: _,
        trust: _,
        block,
        mtu,
        non,
        suite,
        trace,
        // Files with secrets, and a wait that a timer makes unnecessary: --print-systemd refuses these three.
        keylog: _,
        pcap: _,
        wait: _,
        timeout,
        json,
    } = options;
    let name_of = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let mut written = Vec::new();
    if let Some(name) = expect_name {
        written.push(format!("--expect-name {}", shell::word(name)));
    }
    if *path != PathSegments(ClientConfig::default().path) {
        written.push(format!("--path {}", shell::word(path.to_string())));
    }
    if *timeout != Duration::from_secs(300) {
        written.push(format!("--timeout {}ms", timeout.as_millis()));
    }
    if *mtu != 1_232 {
        written.push(format!("--mtu {mtu}"));
    }
    if block.size().bytes() != 512 {
        written.push(format!("--block {}", block.size().bytes()));
    }
    written
        .extend(suite.iter().filter_map(|suite| name_of(suite.to_possible_value())).map(|it| format!("--suite {it}")));
    written.extend(trace.and_then(|style| name_of(style.to_possible_value())).map(|it| format!("--trace={it}")));
    let flags =
        [("--discover", *discover), ("--own-schedule", arguments.own_schedule), ("--non", *non), ("--json", *json)];
    written.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_owned()));
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// A value of each option that has one; one of another kind than the default.
    const VALUES: [(&str, &str); 17] = [
        ("at", "40%"),
        ("block", "64"),
        ("cert", "c.pem"),
        ("every", "2h"),
        ("expect-name", "est"),
        ("hook", "true"),
        ("identity", "i"),
        ("idevid", "birth"),
        ("key", "c.key"),
        ("keylog", "k"),
        ("mtu", "256"),
        ("path", "a%20b/est"),
        ("pcap", "p"),
        ("suite", "gcm"),
        ("timeout", "9s"),
        ("trace", "hex"),
        ("trust", "t.pem"),
    ];

    /// What a unit has no use for; `cert`, `key` and `identity` are refused beside --dir.
    const REFUSED: [&str; 10] =
        ["cert", "dry-run", "every", "force", "identity", "key", "keylog", "pcap", "wait", "watch"];

    /// Every option of the verb is in the unit, or is refused beside --print-systemd.
    #[test]
    fn no_option_is_dropped() {
        let verb = || Arguments::augment_args(Command::new("renew"));
        let mut refused = Vec::new();
        for argument in verb().get_arguments() {
            let name = argument.get_long().expect("an option");
            if ["dir", "server", "print-systemd"].contains(&name) {
                continue;
            }
            let mut line = vec!["renew", "--dir", "d", "--server", "coaps://h", "--print-systemd"];
            let value = VALUES.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
            let option = match value {
                None => format!("--{name}"),
                Some(value) => format!("--{name}={value}"),
            };
            line.push(&option);
            let Ok(matches) = verb().try_get_matches_from(&line) else {
                refused.push(name.to_owned());
                continue;
            };
            let unit = units(&Arguments::from_arg_matches(&matches).unwrap()).unwrap();
            let command = unit.split("ExecStart=").nth(1).and_then(|rest| rest.split("\n# ").next()).unwrap();
            let written = command.contains(&format!("--{name}"));
            assert!(written, "{option} is neither refused nor in the unit:\n{command}");
            let value = value.unwrap_or_default().replace('%', "%%").replace("9s", "9000ms");
            assert!(command.contains(&value), "{option}: {command}");
        }
        refused.sort_unstable();
        assert_eq!(refused, REFUSED);
    }
}
