//! Printed commands can be copied into a shell, whatever the folder is called; and a refusal addresses its reader.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Pki, expect_status, muster, stderr, stdout};

/// Folders that a shell splits unless they are quoted.
const NAMES: [&[u8]; 4] = [b"it's a \"folder\"", b"-rf $(touch reboot) `id`;&", b"line\nbreak", b"\xff\xfe4 x"];

/// The words of a command, as bash reads them.
fn words(command: &str) -> Vec<PathBuf> {
    let output = Command::new("bash").args(["-c", &format!("printf '%s\\0' {command}")]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    let mut words: Vec<PathBuf> =
        output.stdout.split(|byte| *byte == 0).map(|word| PathBuf::from(OsString::from_vec(word.to_vec()))).collect();
    assert_eq!(words.pop(), Some(PathBuf::new()));
    words
}

/// The word after an option.
fn after<'w>(words: &'w [PathBuf], option: &str) -> &'w Path {
    let at = words.iter().position(|word| word == Path::new(option)).unwrap_or_else(|| panic!("{option}: {words:?}"));
    &words[at + 1]
}

#[test]
fn the_next_steps_of_init_and_demo_survive_a_shell() {
    for name in NAMES {
        let scratch = tempfile::tempdir().unwrap();
        let there = |command: &mut Command| command.current_dir(scratch.path()).output().unwrap();
        // Relative, so that it begins with a dash.
        let dir = Path::new(OsStr::from_bytes(name));
        let init = there(muster().args(["init", "--"]).arg(dir));
        expect_status(&init, 0);
        let said = stderr(&init);
        let steps: Vec<_> = said.lines().skip_while(|line| *line != "Next:").skip(1).map(words).collect();
        assert_eq!(steps.len(), 3, "{said}");
        let real = |path: &Path| fs::canonicalize(scratch.path().join(path)).unwrap();
        let pki = real(dir);
        assert_eq!(real(&steps[0][2]), pki.join("muster.toml"));
        assert_eq!(real(after(&steps[1], "--config")), pki.join("muster.toml"));
        assert_eq!(real(after(&steps[2], "--identity")), pki.join("device"));
        assert_eq!(real(after(&steps[2], "--trust")), pki.join("ca/root.pem"));
        assert_eq!(real(after(&steps[2], "--out").parent().unwrap()), pki);
        let check = said.lines().skip_while(|line| *line != "Next:").nth(1).unwrap();
        expect_status(&there(Command::new("bash").args(["-c", check])), 0);

        let demo_dir = [b"demo ", name].concat();
        let demo =
            there(muster().args(["demo", "--devices", "3", "--lossy", "0", "--dir"]).arg(OsStr::from_bytes(&demo_dir)));
        expect_status(&demo, 0);
        let said = stdout(&demo);
        let steps: Vec<_> = said.lines().skip_while(|line| *line != "Try next:").skip(1).map(words).collect();
        assert_eq!(steps.len(), 3, "{said}");
        let place = real(Path::new(OsStr::from_bytes(&demo_dir)));
        assert_eq!(real(after(&steps[0], "--config")), place.join("pki/muster.toml"));
        assert_eq!(real(after(&steps[1], "--trust")), place.join("pki/ca/root.pem"));
        assert_eq!(real(after(&steps[2], "--pki")), place.join("pki"));
        assert!(!scratch.path().join("reboot").exists());
    }
}

#[test]
fn the_commands_of_remedies_survive_a_shell() {
    let pki = Pki::new();
    let folder = pki.beside("it's a \"folder\"");
    fs::rename(pki.dir(), &folder).unwrap();
    let remedy = |command: &mut Command, status: i32| {
        let output = command.output().unwrap();
        expect_status(&output, status);
        let said = stderr(&output);
        // PEM labels are between backticks too, in capitals.
        let is_command = |part: &&str| part.starts_with(|c: char| c.is_ascii_lowercase());
        let mut quoted = said.split('`').skip(1).step_by(2);
        let command = quoted.find(is_command).unwrap_or_else(|| panic!("no command in {said}")).to_owned();
        words(&command)
    };
    let key = folder.join("server.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let chmod = remedy(muster().arg("check").arg(folder.join("muster.toml")), 1);
    assert_eq!(chmod, [Path::new("chmod"), Path::new("600"), &key]);

    let encrypted = folder.join("encrypted.key");
    fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    fs::set_permissions(&encrypted, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let device = |key: &Path| {
        let mut command = muster();
        command.args(["crts", "--server", "coaps://127.0.0.1:9", "--cert"]).arg(folder.join("device/idevid.pem"));
        command.arg("--key").arg(key).arg("--trust").arg(folder.join("ca/root.pem"));
        command
    };
    assert_eq!(after(&remedy(&mut device(&encrypted), 1), "-in"), encrypted);

    let absent = folder.join("no such/dir");
    let mkdir = remedy(device(&folder.join("device/idevid.key")).arg("--out").arg(absent.join("out")), 1);
    assert_eq!(mkdir, [Path::new("mkdir"), Path::new("-p"), &absent]);
}

#[test]
fn a_refusal_at_a_terminal_says_what_to_do_on_either_side_and_nothing_of_firmware() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    // A request for another name than the device's own.
    let (key, csr) = (pki.beside("key"), pki.beside("csr"));
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]);
    assert!(request.arg("-keyout").arg(&key).arg("-out").arg(&csr).output().unwrap().status.success());
    let output = pki.device("enroll", server.uri()).arg("--csr").arg(&csr).output().unwrap();
    expect_status(&output, 3);
    let said = stderr(&output);
    assert!(said.contains("; on the server: ") && said.contains("muster explain est.sen.subject_mismatch"), "{said}");
    for firmware in ["Mbed TLS", "Zephyr", "OpenThread"] {
        assert!(!said.contains(firmware), "{said}");
    }
}
