//! `muster renew` with a running server: when it renews, by which identity, what it leaves, and what it says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::anchors::{configure, disown_server, made};
use crate::common::{Pki, Serving, expect_status, muster, stderr, stdout};
use crate::enrolment::{same_key, verify_with_openssl};

/// A folder that `enroll --out` wrote.
fn enrolled(pki: &Pki, server: &Serving, name: &str) -> PathBuf {
    let dir = pki.beside(name);
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&dir).output().unwrap(), 0);
    dir
}

fn renew(dir: &Path, uri: &str) -> Command {
    let mut command = muster();
    command.args(["renew", "--server", uri, "--dir"]).arg(dir);
    command
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// What the folder shows to the device's software and to the next renewal, each file by name and contents.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = ["device.pem", "device.key", "anchors.pem"];
    names.iter().map(|name| ((*name).to_owned(), read(&dir.join(name)))).collect()
}

#[test]
fn a_certificate_that_is_not_due_is_left_alone_even_if_no_server_answers() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    drop(server);
    // Nothing listens there.
    let look = renew(&dir, "coaps://127.0.0.1:9").arg("--json").output().unwrap();
    expect_status(&look, 0);
    let object = json(&look);
    assert_eq!((&object["renewed"], &object["outcome"]), (&false.into(), &"done".into()));
    // Two thirds of 365 days, and at most a tenth of them later.
    let due = object["due"].as_str().unwrap();
    assert!(due.ends_with('Z'), "{due}");
}

#[test]
fn a_due_certificate_is_renewed_and_the_old_pair_is_kept() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let old = contents(&dir);
    let dry = renew(&dir, server.uri()).args(["--force", "--dry-run", "--json"]).output().unwrap();
    expect_status(&dry, 0);
    assert_eq!((json(&dry)["renewed"].as_bool(), json(&dry)["would_use"].as_str()), (Some(false), Some("sren")));
    assert_eq!(contents(&dir), old);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3, "a dry run writes nothing, not even a lock");

    let first = renew(&dir, server.uri()).args(["--force", "--json"]).output().unwrap();
    expect_status(&first, 0);
    assert_eq!((json(&first)["renewed"].as_bool(), json(&first)["function"].as_str()), (Some(true), Some("sren")));
    verify_with_openssl(&pki, &dir.join("device.pem"));
    same_key(&dir.join("device.pem"), &dir.join("device.key"));
    assert_ne!(contents(&dir)[..2], old[..2]);
    assert_eq!(read(&dir.join("device.pem.previous")), old[0].1);
    assert_eq!(read(&dir.join("device.key.previous")), old[1].1);

    // And once more, from the links that the first renewal made.
    let second = contents(&dir);
    expect_status(&renew(&dir, server.uri()).arg("--force").output().unwrap(), 0);
    same_key(&dir.join("device.pem"), &dir.join("device.key"));
    assert_eq!(read(&dir.join("device.pem.previous")), second[0].1);
    let generations = std::fs::read_dir(&dir).unwrap().flatten();
    let generations = generations.filter(|it| it.file_name().to_string_lossy().starts_with("identity.")).count();
    assert_eq!(generations, 2, "the current one and the previous one");
}

#[test]
fn a_new_device_enrols_first_and_its_anchors_replace_trust() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = pki.path("device");
    let without = renew(&dir, server.uri()).output().unwrap();
    expect_status(&without, 2);
    assert!(stderr(&without).contains("missing --trust"), "{}", stderr(&without));
    let first = renew(&dir, server.uri()).arg("--trust").arg(pki.path("ca/root.pem")).arg("--json").output().unwrap();
    expect_status(&first, 0);
    assert_eq!(json(&first)["function"], "sen");
    verify_with_openssl(&pki, &dir.join("device.pem"));
    // From now on the anchors are those of /crts, and no other CA counts, whatever --trust says.
    drop(server);
    disown_server(&pki);
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let again = renew(&dir, server.uri()).arg("--trust").arg(pki.path("outside.pem")).arg("--force").output().unwrap();
    expect_status(&again, 6);
    assert!(stderr(&again).contains("--trust is not used"), "{}", stderr(&again));
}

#[test]
fn new_anchors_that_do_not_authenticate_their_server_leave_a_way_back() {
    let pki = Pki::new();
    disown_server(&pki);
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = pki.path("device");
    std::fs::copy(pki.path("outside.pem"), dir.join("anchors.pem")).unwrap();
    let look = renew(&dir, server.uri()).arg("--json").output().unwrap();
    expect_status(&look, 6);
    assert_eq!(json(&look)["outcome"], "not trusted");
    let said = stderr(&look);
    assert!(said.contains("do not authenticate the server itself"), "{said}");
    assert!(said.contains("anchors.pem.previous") && said.contains("brings the anchors before back"), "{said}");
    assert_eq!(read(&dir.join("anchors.pem.previous")), read(&pki.path("outside.pem")));
    assert!(!dir.join("device.pem").exists());
    // The new ones count, without a way around them: the server is refused in the handshake.
    let look = renew(&dir, server.uri()).output().unwrap();
    expect_status(&look, 6);
    std::fs::rename(dir.join("anchors.pem.previous"), dir.join("anchors.pem")).unwrap();
    let look = renew(&dir, server.uri()).output().unwrap();
    assert!(stderr(&look).contains("do not authenticate the server itself"), "as at first: {}", stderr(&look));
}

#[test]
fn a_certificate_that_the_server_refuses_is_replaced_by_the_idevid() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let shown = crate::common::openssl(["x509", "-noout", "-serial", "-in", dir.join("device.pem").to_str().unwrap()]);
    let serial = stdout(&shown).trim().trim_start_matches("serial=").to_lowercase();
    let mut revoke = muster();
    revoke.args(["cert", "revoke", "--config"]).arg(pki.path("muster.toml")).args([
        &serial,
        "--reason",
        "superseded",
        "--yes",
    ]);
    let revoked = revoke.output().unwrap();
    expect_status(&revoked, 0);

    let alone = renew(&dir, server.uri()).arg("--force").output().unwrap();
    expect_status(&alone, 3);
    let old = contents(&dir);
    let helped =
        renew(&dir, server.uri()).args(["--force", "--json", "--idevid"]).arg(pki.path("device")).output().unwrap();
    expect_status(&helped, 0);
    assert_eq!(json(&helped)["function"], "sen", "{}", stderr(&helped));
    assert!(stderr(&helped).contains("enrols again with its IDevID"), "{}", stderr(&helped));
    verify_with_openssl(&pki, &dir.join("device.pem"));
    assert_ne!(contents(&dir)[0], old[0]);
}

#[test]
fn an_expired_certificate_is_replaced_by_the_idevid_without_being_shown() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    // An expired certificate for the same key, which no server would take.
    let made = |arguments: &str| made(&pki, arguments);
    let [key, pem] = ["device.key", "device.pem"].map(|name| dir.join(name).display().to_string());
    made(&format!("req -new -key {key} -subj /CN=device-000001 -out expired.csr"));
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=number\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
                  x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nkeyUsage=critical,digitalSignature\n";
    for (name, text) in [("expired.cnf", config), ("index.txt", ""), ("number", "1234567890\n")] {
        std::fs::write(pki.path(name), text).unwrap();
    }
    made(&format!(
        "ca -batch -notext -config expired.cnf -cert ca/issuing.pem -keyfile ca/issuing.key -startdate 20250101000000Z \
         -enddate 20250201000000Z -in expired.csr -out {pem}"
    ));
    let alone = renew(&dir, server.uri()).output().unwrap();
    expect_status(&alone, 1);
    assert!(stderr(&alone).contains("no IDevID to enrol with"), "{}", stderr(&alone));
    let dry = renew(&dir, server.uri()).args(["--dry-run", "--json"]).output().unwrap();
    assert_eq!(json(&dry)["would_use"], "sen");
    let helped = renew(&dir, server.uri()).arg("--idevid").arg(pki.path("device")).output().unwrap();
    expect_status(&helped, 0);
    verify_with_openssl(&pki, &dir.join("device.pem"));
    let (_, log) = server.terminate();
    assert!(!log.contains("certificate.expired"), "{log}");
}

#[test]
fn a_hook_gets_the_paths_and_its_failure_undoes_nothing_and_is_made_up_for() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let old = contents(&dir);
    let failed =
        renew(&dir, server.uri()).args(["--force", "--json", "--hook", "echo from the hook; exit 3"]).output().unwrap();
    expect_status(&failed, 8);
    assert_eq!(
        (json(&failed)["outcome"].as_str(), json(&failed)["renewed"].as_bool()),
        (Some("hook failed"), Some(true))
    );
    assert!(stderr(&failed).contains("from the hook"), "stdout belongs to the object: {}", stdout(&failed));
    assert_ne!(contents(&dir)[0], old[0], "the new certificate stays");

    // A hook that keeps failing is told each time, and does not keep the certificate from being looked at and renewed.
    let looked = renew(&dir, server.uri()).args(["--hook", "exit 3"]).output().unwrap();
    expect_status(&looked, 8);
    let before = contents(&dir);
    expect_status(&renew(&dir, server.uri()).args(["--force", "--hook", "exit 3"]).output().unwrap(), 8);
    assert_ne!(contents(&dir)[0], before[0], "renewed nevertheless");

    // Not due any more, and the hook is.
    let seen = pki.beside("seen");
    let hook = format!(
        "printf '%s\\n' \"$RENEWED_DIR\" \"$RENEWED_CERTIFICATE\" \"$RENEWED_KEY\" \"$RENEWED_ANCHORS\" >> {}",
        seen.display()
    );
    let after = contents(&dir);
    for _ in 0..2 {
        expect_status(&renew(&dir, server.uri()).args(["--hook", &hook]).output().unwrap(), 0);
    }
    assert_eq!(contents(&dir), after, "nothing was renewed for it");
    let lines = String::from_utf8(read(&seen)).unwrap();
    let lines: Vec<_> = lines.lines().map(PathBuf::from).collect();
    assert_eq!(lines.len(), 4, "once: {lines:?}");
    for (line, name) in lines[1..].iter().zip(["device.pem", "device.key", "anchors.pem"]) {
        assert!(line.is_absolute() && line.ends_with(name) && line.exists(), "{}", line.display());
    }
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let old = contents(&dir);
    // Files may have no octet at all: the key cannot be written.
    let limited = format!("ulimit -f 0; exec \"$0\" renew --force --server {} --dir {}", server.uri(), dir.display());
    let output = Command::new("sh").args(["-c", &limited, env!("CARGO_BIN_EXE_muster")]).output().unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert_eq!(contents(&dir), old);
    same_key(&dir.join("device.pem"), &dir.join("device.key"));
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left.len(), 4, "three files and the lock: {left:?}");
    let (_, log) = server.terminate();
    assert_eq!(
        log.matches("certificate issued").count(),
        1,
        "the first enrolment; nothing was asked for without a place for it: {log}"
    );
}

/// "Clients SHOULD request an up-to-date response before stored information has expired" (RFC 7030 §4.1.2).
#[test]
fn ca_certificates_are_fetched_before_one_of_them_expires_although_nothing_else_is_due() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let listed = read(&dir.join("anchors.pem"));
    // A CA certificate at the end of its life, which the server does not list any more.
    made(&pki, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out aged.key");
    made(&pki, "req -new -key aged.key -subj /CN=aged -out aged.csr");
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=number\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
                  x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=critical,CA:TRUE\n\
                  keyUsage=critical,keyCertSign,cRLSign\n";
    for (name, text) in [("aged.cnf", config), ("index.txt", ""), ("number", "1234567890\n")] {
        std::fs::write(pki.path(name), text).unwrap();
    }
    let date = |when: &str| {
        let output = Command::new("date").args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"]).output().unwrap();
        stdout(&output).trim().to_owned()
    };
    let (begin, end) = (date("-900 days"), date("+20 days"));
    made(
        &pki,
        &format!(
            "ca -batch -notext -selfsign -config aged.cnf -keyfile aged.key -startdate {begin} -enddate {end} -in aged.csr \
             -out aged.pem"
        ),
    );
    std::fs::write(dir.join("anchors.pem"), [&listed[..], &read(&pki.path("aged.pem"))].concat()).unwrap();
    let with_aged = contents(&dir);

    let dry = renew(&dir, server.uri()).args(["--dry-run", "--own-schedule"]).output().unwrap();
    expect_status(&dry, 0);
    assert!(stderr(&dry).contains("/crts would be asked"), "{}", stderr(&dry));
    assert_eq!(contents(&dir), with_aged);

    let look = renew(&dir, server.uri()).args(["--own-schedule", "--json"]).output().unwrap();
    expect_status(&look, 0);
    assert_eq!((&json(&look)["renewed"], &json(&look)["anchors_fetched"]), (&false.into(), &true.into()));
    assert_eq!(read(&dir.join("anchors.pem")), listed);
    assert_eq!(read(&dir.join("anchors.pem.previous")), with_aged[2].1);
    assert_eq!(contents(&dir)[..2], with_aged[..2], "the device's own certificate is not due");
    let again = renew(&dir, server.uri()).args(["--own-schedule", "--json"]).output().unwrap();
    assert_eq!(json(&again)["anchors_fetched"], false);

    // A server that does not answer changes nothing, and is asked again the next day.
    std::fs::write(dir.join("anchors.pem"), &with_aged[2].1).unwrap();
    std::fs::remove_file(dir.join("anchors.json")).unwrap();
    drop(server);
    let silent = renew(&dir, "coaps://127.0.0.1:9").arg("--own-schedule").output().unwrap();
    expect_status(&silent, 0);
    assert!(stderr(&silent).contains("/crts was not fetched"), "{}", stderr(&silent));
    assert_eq!(contents(&dir), with_aged);
    let quiet = renew(&dir, "coaps://127.0.0.1:9").arg("--own-schedule").output().unwrap();
    assert!(!stderr(&quiet).contains("/crts"), "{}", stderr(&quiet));
}

/// What a renewal has left in its folder, from its first step to its last one.
fn progress(dir: &Path, old: &Path) -> usize {
    let names: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|it| it.path()).collect();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let staged = names.iter().find(|path| name(path).starts_with(".muster-") && path.is_dir());
    let generations = names.iter().filter(|path| name(path).starts_with("identity.")).count();
    let current = std::fs::read_link(dir.join("current")).unwrap_or_default();
    let is_new = !current.as_os_str().is_empty() && current != old;
    match staged {
        _ if is_new => 5,
        _ if std::fs::read_link(dir.join("previous")).is_ok_and(|previous| previous == old) => 4,
        _ if generations > 2 => 3,
        Some(staged) if staged.join("device.pem").exists() => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// How many renewals are killed: three at each step, and more of them until the steps were met.
const ROUNDS_MIN: usize = 15;
const ROUNDS_MAX: usize = 60;

#[test]
fn a_renewal_that_is_killed_at_any_step_leaves_a_pair_that_works() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    // From the links that renewals make: two generations.
    for _ in 0..2 {
        expect_status(&renew(&dir, server.uri()).arg("--force").output().unwrap(), 0);
    }
    let mut killed_at = [0_u32; 6];
    // Before the answer, and at another step. On a busy machine a renewal may be over before the loop below has its next turn.
    let is_met =
        |killed_at: &[u32; 6]| killed_at[1] > 0 && killed_at[1..].iter().filter(|count| **count > 0).count() > 1;
    for (round, step) in [1, 2, 3, 4, 5].into_iter().cycle().enumerate().take(ROUNDS_MAX) {
        if round >= ROUNDS_MIN && is_met(&killed_at) {
            break;
        }
        let old = std::fs::read_link(dir.join("current")).unwrap();
        let mut command = renew(&dir, server.uri());
        command.arg("--force").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while progress(&dir, &old) < step && child.try_wait().unwrap().is_none() {}
        // SIGKILL: nothing of the process runs after it.
        child.kill().unwrap();
        child.wait().unwrap();
        killed_at[progress(&dir, &old)] += 1;
        same_key(&dir.join("device.pem"), &dir.join("device.key"));
        verify_with_openssl(&pki, &dir.join("device.pem"));
        // What is there renews, by itself.
        let next = renew(&dir, server.uri()).args(["--force", "--json"]).output().unwrap();
        expect_status(&next, 0);
        assert_eq!(json(&next)["function"], "sren", "killed at step {step}: {}", stderr(&next));
        let hidden = std::fs::read_dir(&dir).unwrap().flatten();
        let hidden = hidden.filter(|it| it.file_name().to_string_lossy().starts_with(".muster-")).count();
        assert_eq!(hidden, 0, "what the killed process left is removed");
    }
    assert!(is_met(&killed_at), "some were killed before the answer, and others at other steps: {killed_at:?}");
}

/// A server without room says "later", and nothing more comes of it.
fn full_server(pki: &Pki) -> Serving {
    let environment = [("MUSTER_LEDGER__URL", "memory:"), ("MUSTER_LEDGER__ROWS_MAX", "1")];
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &environment);
    let out = pki.beside("the-one-row");
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&out).output().unwrap(), 0);
    server
}

#[test]
fn a_request_that_is_answered_later_is_sent_again_by_the_next_runs_and_not_before_its_time() {
    use std::os::unix::fs::PermissionsExt as _;

    let pki = Pki::new();
    let server = full_server(&pki);
    let (dir, pending) = (pki.path("device"), pki.path("device/renew.pending"));
    let renew = |uri: &str| {
        let mut command = renew(&dir, uri);
        command.arg("--trust").arg(pki.path("ca/root.pem")).output().unwrap()
    };
    let parts = || {
        let text = String::from_utf8(read(&pending)).unwrap();
        let (line, key) = text.split_once('\n').unwrap();
        (serde_json::from_str::<serde_json::Value>(line).unwrap(), key.to_owned())
    };
    let due_now = || {
        let (mut object, key) = parts();
        object["ask_at"] = 1.into();
        std::fs::write(&pending, format!("{object}\n{key}")).unwrap();
    };
    expect_status(&renew(server.uri()), 4);
    assert_eq!(std::fs::metadata(&pending).unwrap().permissions().mode() & 0o777, 0o600);
    let first = parts();
    // Nothing is sent before the time that the server asked for: nothing listens there.
    let early = renew("coaps://127.0.0.1:9");
    expect_status(&early, 4);
    assert!(stderr(&early).contains("is asked again in"), "{}", stderr(&early));

    due_now();
    expect_status(&renew(server.uri()), 4);
    let second = parts();
    assert_eq!((&second.0["csr"], &second.0["made_at"], &second.1), (&first.0["csr"], &first.0["made_at"], &first.1));
    assert!(second.0["csr"].is_string() && second.0["ask_at"].as_u64() > Some(1), "{}", second.0);

    drop(server);
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    due_now();
    expect_status(&renew(server.uri()), 0);
    assert_eq!(
        String::from_utf8(read(&dir.join("device.key"))).unwrap().trim(),
        first.1.trim(),
        "the key of that request"
    );
    verify_with_openssl(&pki, &dir.join("device.pem"));
    assert!(!pending.exists(), "it has its answer");
}

#[test]
fn an_interrupted_renewal_says_what_stays_and_what_the_next_run_does() {
    let pki = Pki::new();
    let dir = pki.path("device");
    let started = |uri: &str| {
        let mut command = renew(&dir, uri);
        command.arg("--trust").arg(pki.path("ca/root.pem")).arg("--wait");
        crate::common::Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let waiting = started(&format!("coaps://{}", silent.local_addr().unwrap()));
    silent.recv_from(&mut [0; 2_000]).unwrap();
    waiting.signal("INT");
    let (status, said) = waiting.rest();
    assert_eq!(status, Some(130), "{said}");
    assert!(said.contains("as they were") && said.contains("the next run begins anew"), "{said}");

    let server = full_server(&pki);
    let pending = dir.join("renew.pending");
    let waiting = started(server.uri());
    let begun = std::time::Instant::now();
    while !pending.exists() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the server never said later");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    waiting.signal("INT");
    let (status, said) = waiting.rest();
    assert_eq!(status, Some(130), "{said}");
    assert!(pending.exists() && said.contains("renew.pending with its key"), "{said}");
    assert!(said.contains("the next run sends the same request") && !said.contains("nothing was kept"), "{said}");
}

#[test]
fn a_service_waits_as_long_as_the_server_asks_for() {
    let pki = Pki::new();
    let server = full_server(&pki);
    let mut command = renew(&pki.path("device"), server.uri());
    command.arg("--trust").arg(pki.path("ca/root.pem")).args(["--watch", "--every", "1s"]);
    let service = crate::common::Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    // Max-Age is 300 seconds or more; --every would have it asked again within 1.5 s.
    std::thread::sleep(std::time::Duration::from_secs(8));
    service.signal("TERM");
    let (status, said) = service.rest();
    assert_eq!((status, said.matches("muster: ").count()), (Some(0), 1), "{said}");
}

#[test]
fn a_service_renews_and_ends_cleanly() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = pki.path("device");
    let mut command = renew(&dir, server.uri());
    command.arg("--trust").arg(pki.path("ca/root.pem")).args(["--watch", "--every", "1s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let service = crate::common::Running(child);
    let begun = std::time::Instant::now();
    while !dir.join("device.pem").exists() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it enrols by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The lock is free while it sleeps, and taken while it works.
    let other = loop {
        let other = renew(&dir, server.uri()).output().unwrap();
        if other.status.success() {
            break other;
        }
        assert!(stderr(&other).contains("another renewal"), "{}", stderr(&other));
    };
    assert!(stdout(&other).contains("not due before"), "{}", stdout(&other));
    service.signal("TERM");
    let (status, said) = service.rest();
    assert_eq!(status, Some(0), "{said}");
    verify_with_openssl(&pki, &dir.join("device.pem"));
}

#[test]
fn the_units_of_systemd_run_this_command_line_and_know_the_statuses() {
    let mut command = muster();
    command.args([
        "renew",
        "--dir",
        "/var/lib/muster/a b",
        "--server",
        "coaps://est.example.net/meters",
        "--at",
        "50%",
    ]);
    command.args(["--expect-name", "est", "--own-schedule", "--timeout", "9s", "--mtu", "1000", "--block", "64"]);
    command.args(["--suite", "gcm", "--non", "--path", "est"]);
    let units = command.args(["--hook", "logger $RENEWED_DIR", "--print-systemd"]).output().unwrap();
    expect_status(&units, 0);
    let text = stdout(&units);
    for part in [
        "renew --at 50%% --server coaps://est.example.net:5684/meters",
        "--dir '/var/lib/muster/a b'",
        "--hook 'logger $$RENEWED_DIR'",
        "--expect-name est",
        "--own-schedule",
        "--timeout 9000ms",
        "--mtu 1000",
        "--block 64",
        "--suite gcm",
        "--path est",
        "--non",
        "[Timer]",
        "OnUnitActiveSec=",
        "SuccessExitStatus=4 5",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // A server may say "later" for hours: the run ends with status 4, renew.pending keeps the request, and the timer runs it again.
    assert!(!text.contains("--wait"), "{text}");
    expect_status(&muster().arg("renew").output().unwrap(), 2);
}

#[test]
fn a_fleet_is_called_in_by_the_server() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let dir = enrolled(&pki, &server, "device");
    let look = renew(&dir, server.uri()).arg("--json").output().unwrap();
    expect_status(&look, 0);
    // The window of the server begins where that of the device's own schedule does; it is another one.
    let own = renew(&dir, server.uri()).args(["--json", "--own-schedule"]).output().unwrap();
    assert_ne!(json(&look)["due"], json(&own)["due"], "the spread of the server is ten days");
    let old = contents(&dir);
    drop(server);

    configure(&pki, "# renew_now_before = \"2027-01-31T12:00:00Z\"", "renew_now_before = \"tomorrow\"");
    let check = muster().arg("check").arg(pki.path("muster.toml")).output().unwrap();
    expect_status(&check, 1);
    assert!(stderr(&check).contains("renew_now_before"), "{}{}", stdout(&check), stderr(&check));

    // Backdating makes a certificate look older than it is: the call is for later than that.
    let now = Command::new("date").args(["-u", "-d", "+1 hour", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    configure(&pki, "\"tomorrow\"", &format!("\"{}\"", stdout(&now).trim()));
    configure(&pki, "renew_spread = \"10d\"", "renew_spread = \"0s\"");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    // It has been told, and does not ask again before its time.
    let look = renew(&dir, server.uri()).output().unwrap();
    assert!(stdout(&look).contains("not due before"), "{}", stdout(&look));
    std::fs::remove_file(dir.join("renew.json")).unwrap();
    let look = renew(&dir, server.uri()).arg("--json").output().unwrap();
    expect_status(&look, 0);
    let due = json(&look)["due"].as_str().unwrap().to_owned();
    assert_eq!(due, stdout(&now).trim(), "at the moment of the call, without a spread");
    assert_eq!(contents(&dir), old);

    // The moment has passed.
    let told = std::fs::read_to_string(dir.join("renew.json")).unwrap();
    let mut told: serde_json::Value = serde_json::from_str(&told).unwrap();
    (told["start"], told["end"]) = (1.into(), 1.into());
    std::fs::write(dir.join("renew.json"), told.to_string()).unwrap();
    let renewed = renew(&dir, server.uri()).arg("--json").output().unwrap();
    expect_status(&renewed, 0);
    assert_eq!(json(&renewed)["renewed"], true);
    assert!(stderr(&renewed).contains("calls this certificate in"), "{}", stderr(&renewed));
    verify_with_openssl(&pki, &dir.join("device.pem"));
}

#[test]
fn the_label_ren_is_refused_by_name() {
    let pki = Pki::new();
    configure(&pki, "labels = [\"\"]", "labels = [\"ren\"]");
    let check = muster().arg("check").arg(pki.path("muster.toml")).output().unwrap();
    expect_status(&check, 1);
    let said = format!("{}{}", stdout(&check), stderr(&check));
    assert!(said.contains("profile") && said.contains("ren"), "{said}");
}
