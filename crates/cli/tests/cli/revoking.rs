//! E36: Ctrl-C in the midst of `muster cert revoke` and `muster cert revoke-relayed`. What was done before stays done and is reported, and nothing is
//! half-written.
//!
//! ```text
//!   muster ──► admin.sock: a door, at which Ctrl-C comes ──► behind.sock: the server
//! ```

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Pki, Running, Serving, expect_done, expect_status, muster, stderr, stdout};

/// Two batches of a command: one of a hundred, and the rest.
const ROWS: usize = 130;
/// How long the door waits for the next request, and a command for its server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another opinion on the ledger: SQLite's own program.
fn sqlite(pki: &Pki, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(pki.path("ledger.db")).arg(sql).output().unwrap();
    expect_status(&output, 0);
    stdout(&output)
}

/// One of the two commands.
struct Verb {
    word: &'static str,
    /// What it calls a row that is done, and one that an earlier command did.
    done: &'static str,
    noted: &'static str,
    /// The names of the rows that are done, in the ledger.
    marked: &'static str,
    /// How the audit calls one.
    audited: &'static str,
}

const REVOKE: Verb = Verb {
    word: "revoke",
    done: "revoked",
    noted: "revoked",
    marked: "SELECT lower(hex(serial)) FROM intent JOIN revocation USING (number)",
    audited: "\"revoked\"",
};
const REVOKE_RELAYED: Verb = Verb {
    word: "revoke-relayed",
    done: "refused",
    noted: "marked",
    marked: "SELECT lower(hex(digest)) FROM relay_certificate WHERE revoked_at IS NOT NULL",
    audited: "\"relay.revoked\"",
};

impl Verb {
    /// The command for these rows, which runs. Its answer goes to `answer`: a pipe that nobody reads takes a few hundred lines.
    fn start(&self, pki: &Pki, names: &[String], answer: Stdio) -> Running {
        let mut command = muster();
        command.args(["cert", self.word, "--reason", "superseded", "--yes", "--config"]).arg(pki.path("muster.toml"));
        Running(command.args(names).stdout(answer).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The rows that are done: each with one line in the audit, or they are half-written.
    #[track_caller]
    fn marked(&self, pki: &Pki) -> Vec<String> {
        let mut marked: Vec<String> = sqlite(pki, self.marked).lines().map(str::to_owned).collect();
        marked.sort();
        let audit = sqlite(pki, "SELECT body FROM audit");
        let type_of = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string();
        let audited = audit.lines().filter(|line| type_of(line) == self.audited);
        assert_eq!(audited.count(), marked.len(), "a revocation and its line in the audit are written together");
        marked
    }
}

/// Where the command is when Ctrl-C comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The server has not read the request.
    Unread,
    /// The server has done it and the command does not know.
    Unanswered,
}

/// What a command connects to instead of its server.
struct Door<'a> {
    pki: &'a Pki,
    listener: UnixListener,
}

impl<'a> Door<'a> {
    fn new(pki: &'a Pki) -> Self {
        let listener = UnixListener::bind(pki.path("admin.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { pki, listener }
    }

    /// Lets requests through, and interrupts the command at this one of those that change something. How it ends, and what it says.
    fn interrupt(&self, command: Running, request: usize, moment: Moment) -> (Option<i32>, String) {
        let mut changing = 0;
        loop {
            let mut stream = self.next();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            // A command looks first whether a server listens.
            if line.is_empty() {
                continue;
            }
            let is_dry = serde_json::from_str::<serde_json::Value>(&line).unwrap()["dry_run"] == true;
            changing += usize::from(!is_dry);
            if changing < request {
                let answer = self.ask(&line);
                stream.write_all(answer.as_bytes()).unwrap();
                continue;
            }
            if matches!(moment, Moment::Unanswered) {
                self.ask(&line);
            }
            command.signal("INT");
            return command.rest();
        }
    }

    /// Lets every request through until the command ends.
    fn pass(&self, mut command: Running) -> (Option<i32>, String) {
        while command.0.try_wait().unwrap().is_none() {
            let Ok((mut stream, _)) = self.listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            if !line.is_empty() {
                stream.write_all(self.ask(&line).as_bytes()).unwrap();
            }
        }
        command.rest()
    }

    fn next(&self) -> UnixStream {
        let began = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    return stream;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("no request came: {error}"),
            }
        }
    }

    /// The whole answer of the server.
    fn ask(&self, line: &str) -> String {
        let began = Instant::now();
        // The server may open its admin socket a moment after it listens.
        let mut server = loop {
            match UnixStream::connect(self.pki.path("behind.sock")) {
                Ok(server) => break server,
                Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("the server has no admin socket: {error}"),
            }
        };
        server.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        for line in BufReader::new(server).lines() {
            let line = line.unwrap();
            answer.push_str(&line);
            answer.push('\n');
            if line.starts_with("{\"done\"") || line.starts_with("{\"error\"") {
                break;
            }
        }
        answer
    }
}

/// A server with another admin socket than the one that commands find. It logs no revocations: nobody reads its log, and a full pipe would stop it.
fn behind_a_door(pki: &Pki) -> Serving {
    let environment = [("MUSTER_ADMIN__SOCKET", "behind.sock"), ("MUSTER_LOG", "error")];
    pki.serve_with(&["--listen", "127.0.0.1:0"], &environment)
}

/// Certificates that this server issues, by serial number.
fn issued(pki: &Pki, server: &Serving, seed: &str) -> Vec<String> {
    let before: Vec<String> = serials(pki);
    let mut load = muster();
    load.args([
        "load",
        "--server",
        server.uri(),
        "--devices",
        &ROWS.to_string(),
        "--seed",
        seed,
        "--json",
        "-",
        "--pki",
    ]);
    expect_done(&load.arg(pki.dir()).output().unwrap(), ROWS);
    serials(pki).split_off(before.len())
}

fn serials(pki: &Pki) -> Vec<String> {
    let listed = sqlite(pki, "SELECT lower(hex(serial)) FROM intent JOIN certificate USING (number) ORDER BY number");
    listed.lines().map(str::to_owned).collect()
}

/// Certificates of this many devices as a Registrar leaves them in its ledger, by SHA-256.
fn relayed(pki: &Pki, first: usize, rows: usize) -> Vec<String> {
    let digests: Vec<String> = (first..first + rows).map(|row| format!("{row:064x}")).collect();
    let lines = digests.iter().zip(first..).map(|(digest, id)| {
        format!(
            "INSERT INTO relay_request VALUES ({id}, 1800000000, 1800000000, 1, 3, 1, 'meters', zeroblob(32), '{id:06}', zeroblob(32), 1, zeroblob(32), \
             zeroblob(32), NULL, zeroblob(32), 'plant', '192.0.2.1:5684', 1800086400, 4);
INSERT INTO relay_certificate VALUES ({id}, 0, 1800000001, 1800086400, 1800000000, 1900000000, x'00ab', zeroblob(32), x'{digest}', x'30', NULL, NULL, NULL);"
        )
    });
    let sql: String = ["BEGIN;".to_owned()].into_iter().chain(lines).chain(["COMMIT;".to_owned()]).collect();
    let file = pki.beside("relayed.sql");
    std::fs::write(&file, sql).unwrap();
    sqlite(pki, &format!(".read '{}'", file.display()));
    digests
}

/// Ctrl-C at each batch, before the server has done it and afterwards.
#[track_caller]
fn is_interrupted_well(verb: &Verb, pki: &Pki, mut rows: impl FnMut(usize) -> Vec<String>) {
    let door = Door::new(pki);
    let mut all_marked = Vec::new();
    let moments = [(1, Moment::Unread), (1, Moment::Unanswered), (2, Moment::Unread), (2, Moment::Unanswered)];
    for (round, (batch, moment)) in moments.into_iter().enumerate() {
        let names = rows(round);
        let (status, said) = door.interrupt(verb.start(pki, &names, Stdio::piped()), batch, moment);
        assert_eq!(status, Some(130), "{batch} {moment:?}: {said}");
        let (reported, asked) = if batch == 1 { (0, 100) } else { (100, ROWS - 100) };
        let done = if matches!(moment, Moment::Unread) { reported } else { reported + asked };
        all_marked.extend_from_slice(&names[..done]);
        all_marked.sort();
        assert_eq!(verb.marked(pki), all_marked, "{batch} {moment:?}: {said}");

        let Verb { done: word, noted, .. } = verb;
        let lines = said.lines().filter(|line| line.ends_with(&format!(" is {word}"))).count();
        assert_eq!(lines, reported, "{batch} {moment:?}: each row that is known to be done is reported: {said}");
        let end = format!(
            "{reported} of {ROWS} are {word}, then: interrupted before the answer about {asked} more, which may be {word}"
        );
        assert!(said.contains(&end) && !said.contains("nothing"), "{batch} {moment:?}: {said}");

        // What is done stays as it is, and the rest follows.
        let mut again = verb.start(pki, &names, Stdio::piped());
        let mut output = again.0.stdout.take().unwrap();
        let (status, said) = door.pass(again);
        assert_eq!(status, Some(0), "{said}");
        let mut words = String::new();
        output.read_to_string(&mut words).unwrap();
        let before =
            words.lines().filter(|line| line.contains(&format!(" was {noted} before: superseded at "))).count();
        assert_eq!((before, words.lines().count()), (done, ROWS), "{words}");
        all_marked.extend_from_slice(&names[done..]);
        all_marked.sort();
        assert_eq!(verb.marked(pki), all_marked);
    }
}

#[test]
fn e36_an_interrupted_revocation_reports_what_is_done_and_leaves_nothing_in_parts() {
    let pki = Pki::new();
    let server = behind_a_door(&pki);
    is_interrupted_well(&REVOKE, &pki, |round| issued(&pki, &server, &(round + 1).to_string()));
    assert_eq!(server.terminate().0, Some(0));
    let verified = muster().args(["ledger", "verify", "--config"]).arg(pki.path("muster.toml")).output().unwrap();
    expect_status(&verified, 0);
}

#[test]
fn e36_an_interrupted_refusal_of_relayed_certificates_reports_what_is_done_and_leaves_nothing_in_parts() {
    let pki = Pki::new();
    let server = behind_a_door(&pki);
    is_interrupted_well(&REVOKE_RELAYED, &pki, |round| relayed(&pki, 1 + round * ROWS, ROWS));
    assert_eq!(server.terminate().0, Some(0));
}

/// Without a server the command writes the ledger itself: Ctrl-C comes between two batches.
#[test]
fn e36_a_refusal_of_relayed_certificates_without_a_server_ends_between_two_batches() {
    let pki = Pki::new();
    assert_eq!(behind_a_door(&pki).terminate().0, Some(0));
    let names = relayed(&pki, 1, 16_000);
    let mut command = REVOKE_RELAYED.start(&pki, &names, Stdio::null());
    let mut words = BufReader::new(command.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.ends_with("100 of 16000\n") {
        assert_ne!(words.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let id = rustix::process::Pid::from_child(&command.0);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    said.clear();
    words.read_to_string(&mut said).unwrap();
    assert_eq!(command.0.wait().unwrap().code(), Some(130), "{said}");
    let marked = REVOKE_RELAYED.marked(&pki);
    assert!(!marked.is_empty() && marked.len() < names.len() && marked.len().is_multiple_of(100), "{}", marked.len());
    assert_eq!(marked[..], names[..marked.len()]);
    let end = format!("{} of 16000 are refused, then: interrupted\n", marked.len());
    assert!(said.contains(&end) && !said.contains("nothing"), "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(" is refused")).count(), marked.len());
    // Whoever comes next opens the ledger.
    let again = muster().args(["ledger", "status", "--config"]).arg(pki.path("muster.toml")).output().unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
}
