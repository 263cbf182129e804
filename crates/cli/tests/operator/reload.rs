//! SIGHUP, as an operator sends it, and the resulting log lines.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{ChildStderr, Stdio};

use crate::Server;
use crate::common::{Pki, expect_status, loopbacks, stdout};

/// A server whose log is read line by line.
struct Watched {
    server: Server,
    uri: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Watched {
    fn start(pki: &Pki, listen: &str, arguments: &[&str]) -> Self {
        let mut server = Server::start(pki, listen, arguments, Stdio::piped());
        let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
        let uri = Server::told(&mut lines, "listening on ");
        let log = BufReader::new(server.running.0.stderr.take().unwrap()).lines();
        Self { server, uri, log }
    }

    /// Sends SIGHUP; returns the lines up to and including the one with the result.
    fn reload(&mut self) -> Vec<String> {
        self.server.running.signal("HUP");
        self.until("reloaded")
    }

    /// The lines up to and including the first one with this word.
    fn until(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.log.next().expect("the server logs another line").unwrap();
            lines.push(line);
            if lines.last().unwrap().contains(word) {
                return lines;
            }
        }
    }

    /// Sends SIGTERM; returns its exit status.
    fn end(mut self) -> Option<i32> {
        self.server.running.signal("TERM");
        // Read to the end: otherwise the last lines would be lost.
        for line in self.log {
            line.unwrap();
        }
        self.server.ended()
    }
}

#[test]
fn sighup_reads_everything_again_and_names_what_needs_a_restart() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let mut watched = Watched::start(&pki, listen, &[]);
        let file = pki.path("muster.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        // The addresses of the command line are in force, not those of the file, after a reload as at
        // the start.
        let changed =
            text.replace("[[profile]]", "[limits]\nsessions_max = 5000\n[[profile]]").replace("\"365d\"", "\"2h\"");
        assert_ne!(changed, text);
        std::fs::write(&file, changed).unwrap();
        let said = watched.reload();
        assert!(
            said.last().unwrap().contains("INFO") && said.last().unwrap().contains("configuration reloaded"),
            "{said:#?}"
        );
        let restart: Vec<_> = said.iter().filter(|line| line.contains("only after a restart")).collect();
        assert!(restart.len() == 1 && restart[0].contains("key=limits.sessions_max"), "{said:#?}");

        let enrolled =
            pki.device("enroll", &watched.uri).args(["--json", "--out"]).arg(pki.beside("out")).output().unwrap();
        expect_status(&enrolled, 0);
        let json: serde_json::Value = serde_json::from_str(&stdout(&enrolled)).unwrap();
        let line = watched.until("certificate issued").pop().unwrap();
        assert!(line.contains(&format!("not_after={}", json["not_after"].as_str().unwrap())), "{line}");
        assert_eq!(watched.end(), Some(0));
    }
}

#[test]
fn sighup_with_a_faulty_file_changes_nothing_and_logs_every_fault() {
    let pki = Pki::new();
    let mut watched = Watched::start(&pki, loopbacks()[0], &[]);
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let faults = |watched: &mut Watched, words: &[&str]| {
        let said = watched.reload();
        let last = said.last().unwrap();
        assert!(last.contains("ERROR") && last.contains("configuration not reloaded"), "{said:#?}");
        for word in words {
            assert!(
                said.iter().any(|line| line.contains("invalid configuration") && line.contains(word)),
                "{word}: {said:#?}"
            );
        }
        expect_status(&pki.device("crts", &watched.uri).output().unwrap(), 0);
    };
    std::fs::write(&file, text.replace("drain_timeout", "drain_timout").replace("repeat_window =", "repeat_windows ="))
        .unwrap();
    faults(&mut watched, &["key=server.drain_timout", "did you mean `drain_timeout`?", "repeat_window"]);
    std::fs::remove_file(&file).unwrap();
    faults(&mut watched, &["muster.toml"]);
    std::fs::write(&file, &text).unwrap();
    std::fs::remove_file(pki.path("server.key")).unwrap();
    faults(&mut watched, &["server.key"]);
    assert_eq!(watched.end(), Some(0));
}

#[test]
fn e57_each_certificate_has_its_line_and_a_repeat_has_none() {
    for listen in loopbacks() {
        for format in ["human", "json"] {
            let pki = Pki::new();
            let mut watched = Watched::start(&pki, listen, &["--log", format]);
            let uri = watched.uri.clone();
            let mut told = Vec::new();
            let mut issued = Vec::new();
            for number in 0..2 {
                let out = pki.beside(&format!("out{number}"));
                let enrolled = pki.device("enroll", &uri).args(["--json", "--out"]).arg(&out).output().unwrap();
                expect_status(&enrolled, 0);
                issued.push(serde_json::from_str::<serde_json::Value>(&stdout(&enrolled)).unwrap());
                told.push(watched.until("certificate issued").pop().unwrap());
            }
            for (line, json) in told.iter().zip(&issued) {
                let host = uri.trim_start_matches("coaps://").rsplit_once(':').unwrap().0;
                for key in ["serial", "sha256", "subject", "not_after"] {
                    assert!(line.contains(json[key].as_str().unwrap()), "{key} in {line}");
                }
                for word in ["000001", "default", host, "INFO"] {
                    assert!(line.contains(word), "{word} in {line}");
                }
                if format == "json" {
                    let line: serde_json::Value = serde_json::from_str(line).unwrap();
                    for key in ["serial", "digest", "device", "subject", "profile", "peer", "not_after"] {
                        assert!(line[key].is_string(), "{key} in {line}");
                    }
                }
            }
            assert_eq!(watched.end(), Some(0));
        }
    }
}
