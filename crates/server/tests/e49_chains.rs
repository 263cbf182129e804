//! E49, E86: a CA below which no certificate would verify is a fault of the configuration. It is found without the CA's key, and names the file, the
//! rule and the remedy. OpenSSL makes the chains.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and its files are real"
)]

mod support;

use std::fs;
use std::process::Command;

use support::Pki;

/// A folder in which OpenSSL makes CAs, which replace the files of a valid configuration.
struct Chains(Pki);

const ROOT: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const BELOW: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

impl Chains {
    fn new() -> Self {
        let pki = Pki::new();
        // The server's certificate keeps its original root.
        fs::copy(pki.path("root.pem"), pki.path("trust.pem")).unwrap();
        Self(pki)
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.folder.path()).output();
        let output = output.expect("the program `openssl` is needed (Debian: apt-get install openssl)");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.pem` and `NAME.key`, signed by `above` or by itself.
    fn authority(&self, name: &str, above: Option<&str>, extensions: &str) -> &Self {
        self.authority_on("P-256", name, above, extensions)
    }

    fn authority_on(&self, curve: &str, name: &str, above: Option<&str>, extensions: &str) -> &Self {
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, request, pem, config) = (file("key"), file("csr"), file("pem"), file("cnf"));
        fs::write(self.0.path(&config), extensions).unwrap();
        let curve = format!("ec_paramgen_curve:{curve}");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", &key]);
        support::set_mode(&self.0.path(&key), 0o600);
        self.openssl(&["req", "-new", "-key", &key, "-subj", &format!("/CN={name}"), "-out", &request]);
        let mut sign = vec!["x509", "-req", "-in", &request, "-out", &pem, "-days", "3650", "-extfile", &config];
        let above = above.map(|above| (format!("{above}.pem"), format!("{above}.key")));
        match &above {
            Some((certificate, key)) => sign.extend(["-CA", certificate, "-CAkey", key, "-CAcreateserial"]),
            None => sign.extend(["-signkey", &key]),
        }
        self.openssl(&sign);
        self
    }

    /// The configuration of the folder, with these lines added to its profile.
    fn configuration(&self, profile: &str) -> String {
        let text = self.0.configuration(&["127.0.0.1:0"]);
        let text = text.replace("drain_timeout", "trust = [\"trust.pem\"]\ndrain_timeout");
        text.replace("manufacturers = ", &format!("{profile}\nmanufacturers = "))
    }

    fn faults(&self, profile: &str) -> String {
        server::load(&self.0.sources(&self.configuration(profile))).expect_err("it must not load").to_string()
    }

    fn loads(&self, profile: &str) -> server::load::Loaded {
        server::load(&self.0.sources(&self.configuration(profile))).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The faults name this certificate of this file, the rule and the remedy, with the CA's key and without it.
    #[track_caller]
    fn refused(&self, profile: &str, (key, file, rule, remedy): (&str, &str, &str, &str)) {
        let expected =
            format!("{key}: {}, certificate 1 (`CN={}`) {rule}", self.0.path(file).display(), &file[..file.len() - 4]);
        for missing in [false, true] {
            if missing {
                fs::rename(self.0.path("issuing.key"), self.0.path("away.key")).unwrap();
            }
            let text = self.faults(profile);
            assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
            assert!(text.contains(remedy), "{remedy}\nis not in\n{text}");
            assert_eq!(text.contains("ca.main.key: cannot read"), missing, "{text}");
        }
        fs::rename(self.0.path("away.key"), self.0.path("issuing.key")).unwrap();
    }
}

#[test]
fn e49_a_chain_that_openssl_makes_loads() {
    let chains = Chains::new();
    let limited =
        format!("{BELOW}extendedKeyUsage=clientAuth\nnameConstraints=critical,permitted;DNS:meters.example\n");
    chains.authority("root", None, ROOT).authority(
        "issuing",
        Some("root"),
        &limited.replace("CA:TRUE", "CA:TRUE,pathlen:0"),
    );
    let loaded = chains.loads("issue.san = [\"dns\"]");
    // The server's own certificate is of the root of `init`, which this configuration does not publish.
    let others: Vec<_> = loaded.warnings().iter().filter(|it| !it.to_string().contains("server.trust")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn e49_e86_an_issuing_certificate_of_another_root_is_named() {
    let chains = Chains::new();
    chains.authority("root", None, ROOT).authority("issuing", Some("root"), BELOW).authority("root", None, ROOT);
    let rule = "is not signed by the key of the certificate above it";
    chains.refused("", ("ca.main.certificate", "issuing.pem", rule, "use the certificate whose key signed it"));
    chains.authority("other", None, ROOT).authority("issuing", Some("other"), BELOW);
    let rule = "is issued by `CN=other`, and the certificate above it is `CN=root`";
    chains.refused("", ("ca.main.certificate", "issuing.pem", rule, "put the issuing certificate first"));
}

#[test]
fn e49_e86_a_path_length_of_none_above_a_ca_is_named() {
    let chains = Chains::new();
    chains.authority("root", None, &ROOT.replace("CA:TRUE", "CA:TRUE,pathlen:0"));
    chains.authority("issuing", Some("root"), BELOW);
    let rule = "has pathLenConstraint 0 and is above 1 CA certificate (";
    chains.refused("", ("ca.main.certificate", "root.pem", rule, "with a larger pathLenConstraint"));
}

#[test]
fn e49_e86_name_constraints_that_the_profile_violates_are_named() {
    let chains = Chains::new();
    chains.authority(
        "root",
        None,
        &format!("{ROOT}nameConstraints=critical,excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::\n"),
    );
    chains.authority("issuing", Some("root"), BELOW);
    chains.loads("");
    let rule = "has nameConstraints that allow no name of the kind `ip`, which the profile issues";
    chains.refused(
        "issue.san = [\"ip\"]",
        ("profile[0].ca", "root.pem", rule, "remove this kind of name from `issue.san`"),
    );
    let directory = format!("{ROOT}nameConstraints=critical,permitted;dirName:fleet\n[fleet]\nO=Fleet\n");
    chains.authority("root", None, &directory).authority("issuing", Some("root"), BELOW);
    let rule = "has nameConstraints on directory names";
    chains.refused("", ("profile[0].ca", "root.pem", rule, "without nameConstraints on directory names"));
}

#[test]
fn e49_e86_a_wrong_purpose_of_an_intermediate_is_named() {
    let chains = Chains::new();
    chains.authority("root", None, ROOT);
    chains.authority("issuing", Some("root"), &format!("{BELOW}extendedKeyUsage=serverAuth\n"));
    let rule = "has an extKeyUsage without clientAuth";
    chains.refused("", ("ca.main.certificate", "issuing.pem", rule, "without extKeyUsage, or with clientAuth in it"));
}

#[test]
fn e35_a_ca_that_may_not_sign_its_revocation_lists_is_named() {
    let chains = Chains::new();
    chains.authority("root", None, ROOT);
    chains.authority("issuing", Some("root"), &BELOW.replace(",cRLSign", ""));
    chains.loads("");
    let url = "[ca.main]\ncrl_url = \"http://pki.example.net/{shard}.crl\"";
    let load = || server::load(&chains.0.sources(&chains.configuration("").replace("[ca.main]", url)));
    let text = load().expect_err("it must not load").to_string();
    for part in [
        "issuing.pem, certificate 1 (`CN=issuing`) has a keyUsage without cRLSign, so verifiers accept no revocation list of it",
        "have it reissued with cRLSign in its keyUsage, or remove `crl_url`",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    chains.authority("issuing", Some("root"), BELOW);
    assert!(load().is_ok());
}

#[test]
fn e49_a_chain_that_ends_below_its_root_is_a_warning() {
    let chains = Chains::new();
    chains.authority("root", None, ROOT).authority("issuing", Some("root"), BELOW);
    let text = chains.configuration("").replace("root = \"root.pem\"\n", "");
    let loaded = server::load(&chains.0.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let warnings: String = loaded.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.contains("does not reach its root") && warnings.contains("in `root`"), "{warnings}");
}

/// A certificate that cannot be read is skipped if no path needs it. If one does, the chain is as incomplete as without that certificate.
#[test]
fn d100_e49_an_intermediate_that_is_needed_and_cannot_be_read_is_named() {
    let chains = Chains::new();
    chains.authority("root", None, ROOT).authority_on("P-521", "middle", Some("root"), BELOW);
    chains.authority("issuing", Some("middle"), BELOW);
    let middle = fs::read_to_string(chains.0.path("middle.pem")).unwrap();
    let issuing = fs::read_to_string(chains.0.path("issuing.pem")).unwrap();
    fs::write(chains.0.path("issuing.pem"), format!("{issuing}{middle}")).unwrap();
    let faults = chains.faults("");
    for words in ["certificate 2 (`CN=middle`) is ignored", "P-521", "is issued by `CN=middle`"] {
        assert!(faults.contains(words), "{words} is not in {faults}");
    }
}
