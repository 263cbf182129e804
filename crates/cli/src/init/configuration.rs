//! The text of the `muster.toml` that `init` writes: every section, with a comment on each value.

/// The text of the file for a server that listens on `listen` and that devices reach under `names`.
pub(crate) fn text(listen: &[&str], names: &[String]) -> String {
    let names = if names.is_empty() {
        "# names = [\"est.example.net\", \"192.0.2.7\"]".to_owned()
    } else {
        format!("names = [{}]", list(names))
    };
    TEMPLATE.replace("@LISTEN@", &list(listen)).replace("@NAMES@", &names)
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

const TEMPLATE: &str = r#"# Configuration of `muster serve`, written by `muster init`.
#
# Relative paths are relative to this file. `muster check muster.toml --print` explains every fault and shows the effective values.
# The environment overrides any key: MUSTER_SERVER__LISTEN="[::]:5684,0.0.0.0:5684" is `listen` in [server]; commas separate the items of a list.

[server]
# Addresses and UDP ports; port 0 lets the system choose. The port of coaps is 5684.
listen = [@LISTEN@]
# The server's certificate, and its key as a URI.
certificate = "server.pem"
key = "file:server.key"
# A key file must be readable by its owner only. With true, files of root that their group can read (0440, 0640) are accepted too, as a secrets manager writes them.
# allow_group_readable_keys = true
# The names that devices use for the server; `check` and `serve` refuse a certificate that lacks one of them.
@NAMES@
# CAs that devices trust for this server, if they are not those of [ca]. A device that follows RFC 9148 §9.1 trusts what /crts lists from then on, and ends
# the session if that does not authenticate this server: list the root in `rollover` of [ca] too.
# trust = ["other/root.pem"]
# A session without traffic for this long is closed.
idle_timeout = "5m"
# Time that enrolments in flight have to finish after SIGTERM.
drain_timeout = "25s"

[dtls]
# In order of preference; RFC 9148 makes CCM_8 mandatory.
suites = ["ECDHE_ECDSA_AES_128_GCM_SHA256", "ECDHE_ECDSA_AES_128_CCM_8"]
# "require" refuses devices without it (RFC 7627); OpenThread and Zephyr do not offer it by default.
extended_master_secret = "prefer"
# false sends an empty list in CertificateRequest, because device buffers are small.
certificate_authorities = false

# [est]
# Where devices reach the server, if it is behind another name or port: discovery lists absolute links with it. Without it, links are absolute where the
# port is not 5684 and the certificate has the name or address that was asked.
# public = "coaps://est.example.net:5690"

# How devices find the server, over CoAP without DTLS: both are off without this section, and both need `public` in [est].
# [discovery]
# Answers questions for links to these groups, on these interfaces. An answer comes within the leisure, and is longer than its question for the hosts of the
# link alone: link-local addresses, and the networks of on_link.
# multicast = ["ff02::fd", "224.0.1.187"]
# interfaces = ["eth0"]
# on_link = ["192.0.2.0/24", "2001:db8::/64"]
# port = 5683
# leisure = "5s"
# Registers the links with a CoRE Resource Directory (RFC 9176), and removes them when the server drains.
# resource_directory = "coap://rd.example.net"
# endpoint = "est.example.net"
# lifetime = "25h"

[ca.main]
# The issuing CA, its key, and the root above it; /crts returns both certificates.
certificate = "ca/issuing.pem"
key = "file:ca/issuing.key"
root = "ca/root.pem"
# While devices change from one root to another: the other root, and what each root has signed for the key of the other (OldWithNew, NewWithOld). /crts
# returns them too (RFC 7030 §4.1.3).
# rollover = "ca/rollover.pem"
# Which signatures are verified before a certificate is released: "external" for those of a token outside the process, "always" for all.
verify_signatures = "external"
# Written into each certificate, if set; cannot be added to a certificate afterwards.
# With {shard} in crl_url there are crl_shards lists, and a certificate names the one that its serial number belongs to. Both are fixed by the first
# start with them, for as long as the CA has this key. [crl] writes the lists.
# crl_url = "http://pki.example.net/main.{shard}.crl"
# crl_shards = 128
# ca_issuers_url = "http://pki.example.net/main.cer"
# ocsp_url = "http://ocsp.example.net"

[[profile]]
name = "default"
# Path segments that select this profile; "" is the path without a label.
labels = [""]
ca = "main"
# CAs whose devices may enrol with their IDevID.
manufacturers = ["manufacturer/ca.pem"]
# How a device is identified in lists, limits, audit and idempotency: by an attribute of its subject, by the whole "idevid:subject", or by
# "idevid:san.hardwareModuleName" if IDevIDs have an empty subject (TYPE:SERIAL, RFC 4108 §5). Names that differ only in case or white space are
# one device, which the log shows in lower case; a name beyond 64 bytes is replaced by its digest ("sha256:...").
device_id = "idevid:subject.serialNumber"
# How strictly the certificates and requests of devices, and the certificates of their manufacturers, must follow DER: "strict", or "as_issued" for burnt-in certificates that cannot be replaced
# (explicit critical FALSE, attributes out of order, `_` in a PrintableString, ECDSA with NULL parameters). Issued certificates are strict DER either way.
identity_encoding = "strict"
# "open": every device of these manufacturers may enrol.
mode = "open"
# "csr": the subject of the request, which must equal the subject of the device's certificate. Or a template: "CN={subject.CN},serialNumber={device_id},O=Example".
issue.subject = "csr"
# Alternative names that a device may request, if its own certificate has them: "dns", "ip", "uri", "email", "hardwareModuleName".
issue.san = []
issue.validity = "365d"
# true: a request must be linked to its session by tls-unique in challengePassword (RFC 7030 §3.5); /att tells devices so, and a session without
# extended master secret gets no certificate. A link that is there is compared either way.
require_linking = false
# true: the server makes keys for devices that ask for one (/skg, /skc). A key is in the answer and nowhere else, protected by DTLS, and
# by CMS if the device asks for that; if the device does not receive it, its certificate is revoked.
server_keys = true
# Keys that the server shares with devices: a device that names one (DecryptKeyIdentifier, `muster skg --decrypt-key`) gets its private key encrypted
# to it. One a line: identifier and AES key (16 or 32 octets), in hex. A device can always have it encrypted to the key of its own certificate.
# server_key_encryption_keys = "file:keks.txt"
# Registrars that may vouch for devices of this profile over HTTPS: names of sections [registrar.NAME]. The profile then has one manufacturer.
# registrars = ["site"]
# A repeat of the same request within this time gets the same certificate.
repeat_window = "24h"
# How long after the end of its certificate the ledger keeps a row at least: `muster ledger prune` refuses a later date.
renew_grace = "0s"
# /ren tells a device when to renew: at a moment of its own within this time from two thirds of the life of its certificate. "0s": it is not told.
renew_spread = "10d"
# Certificates that were issued before this moment are called in, spread over the same time: after a key was lost. Devices ask every six hours.
# renew_now_before = "2027-01-31T12:00:00Z"
# Unexpired certificates that one device may have; more are refused, so that one device cannot fill the ledger.
max_certificates_per_device = 100
# What 4.xx and 5.xx answers tell authenticated devices: "reason" (a code for `muster explain`) or "none".
diagnostics = "reason"

[ledger]
# What was issued: a file of SQLite beside this one. Back it up as you back up the CA. "memory:" forgets everything when the server ends.
url = "sqlite:ledger.db"
# The same once more, a line for each issuance and revocation: it brings back what a restored backup lacks (`muster ledger resume --help`).
# Name a file on another disk, and it outlives this one. About 2.2 kB for a certificate.
journal = "ledger.journal"

# The audit: a chain of what was issued, refused and revoked. Its head is signed about once a minute while something happens, and appended to a file: copy
# that file to another machine, or name one on another disk, so that somebody who changes the ledger cannot change it too.
# [audit]
# The key that signs, which no CA has; the first start makes it. Its public half stands beside it, with .pub behind its name.
# key = "ledger.db.audit.key"
# checkpoints = "ledger.db.checkpoints.jsonl"
# Sends each of them to syslog too: true is /dev/log; or the path of a socket.
# syslog = false

# Revocation lists of the CAs that have a crl_url. A revocation is in the file of its list within a minute.
# [crl]
# The files: main.crl is that of [ca.main], main.007.crl that of its shard 007. Any web server can serve them.
# folder = "crl"
# Serves the files over HTTP, at the paths of crl_url; without it, something else has to.
# listen = "0.0.0.0:80"
# Time until a list ends. Lists are renewed after half of it or a day.
# validity = "7d"
# How often changed lists are written, at most every 30 s: the rest of the minute is for writing.
# interval = "10s"

# EST over HTTPS (RFC 7030), for devices that are not constrained and for Registrars: the same profiles, labels and ledger.
# [https]
# listen = "0.0.0.0:8443"
# Without these, the certificate and the key of [server] are shown.
# certificate = "https.pem"
# key = "file:https.key"

# A Registrar authenticates devices elsewhere and passes on their requests. It is recognized by its client certificate, which chains to one of these
# CAs, has this DNS name or address in subjectAltName, and the purposes id-kp-cmcRA and clientAuth. A profile has to list it.
# [registrar.site]
# trust = ["registrar/ca.pem"]
# name = "ra.example.net"

[metrics]
# Read-only: /metrics, /healthz, /readyz, /readyz/issue.
listen = "127.0.0.1:9684"

[admin]
# The Unix socket of `muster cert` and `muster ledger`, for the server's user and root (mode 0600). Its path has at most 107 bytes.
socket = "admin.sock"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listen_list_is_toml() {
        assert!(text(&["[::]:5684", "0.0.0.0:5684"], &[]).contains("listen = [\"[::]:5684\", \"0.0.0.0:5684\"]\n"));
        assert!(!text(&["127.0.0.1:5684"], &[]).contains('@'));
    }
}
