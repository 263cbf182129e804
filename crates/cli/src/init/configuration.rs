//! The text of the `muster.toml` that `init` writes: every section, each value with what it does.

/// The file, listening on `listen`, dialled by `names`.
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
# Relative paths count from this file. `muster check muster.toml --print` explains every fault and shows the effective values.
# Any key can be overridden by environment: MUSTER_SERVER__LISTEN="[::]:5684,0.0.0.0:5684" is listen in [server], a list with commas.

[server]
# Addresses and UDP ports; port 0 lets the system choose. coaps is 5684.
listen = [@LISTEN@]
# The server's certificate, and its key as a URI.
certificate = "server.pem"
key = "file:server.key"
# Keys are read if their owner alone can read them. true: also those of root that the group reads (0440, 0640), as a secrets manager writes them.
# allow_group_readable_keys = true
# How devices dial the server: `check` and `serve` refuse a certificate without one of these names.
@NAMES@
# CAs that devices know the server by, where that is not one of [ca]'s.
# trust = ["other/root.pem"]
# A session that says nothing for so long is closed.
idle_timeout = "5m"
# After SIGTERM, enrolments in flight have so long to finish.
drain_timeout = "25s"

[dtls]
# In the server's order of preference; RFC 9148 makes CCM_8 mandatory.
suites = ["ECDHE_ECDSA_AES_128_GCM_SHA256", "ECDHE_ECDSA_AES_128_CCM_8"]
# "require" refuses devices without it (RFC 7627); OpenThread and Zephyr do not offer it by default.
extended_master_secret = "prefer"
# false sends an empty list in CertificateRequest: device buffers are small.
certificate_authorities = false

[ca.main]
# The issuing CA, its key, and the root above it; /crts answers both certificates.
certificate = "ca/issuing.pem"
key = "file:ca/issuing.key"
root = "ca/root.pem"
# Check signatures before release: "external" those of a token outside the process, "always" all.
verify_signatures = "external"
# In each certificate, if given; cannot be added to a certificate afterwards.
# crl_url = "http://pki.example.net/main.crl"
# ca_issuers_url = "http://pki.example.net/main.cer"
# ocsp_url = "http://ocsp.example.net"

[[profile]]
name = "default"
# Path segments that choose this profile; "" is the path without a label.
labels = [""]
ca = "main"
# The CAs whose IDevIDs may enrol.
manufacturers = ["manufacturer/ca.pem"]
# Who a device is: the key of lists, limits, audit and idempotency. An attribute of its subject, the whole "idevid:subject", or
# "idevid:san.hardwareModuleName" where IDevIDs have an empty subject (TYPE:SERIAL, RFC 4108 §5). Names that differ only in case or white space are
# one device, which the log writes in lower case; beyond 64 bytes it is known by a digest ("sha256:...").
device_id = "idevid:subject.serialNumber"
# How closely the certificates and requests of devices, and the certificates of their manufacturers, keep to DER: "strict", or "as_issued" for burnt-in certificates that cannot be mended
# (critical FALSE written out, attributes out of order, `_` in a PrintableString, ECDSA with NULL parameters). What is issued is strict either way.
identity_encoding = "strict"
# "open": every device of these manufacturers.
mode = "open"
# "csr": as the request says, which must equal the subject of the certificate that the device shows. Or a template: "CN={subject.CN},serialNumber={device_id},O=Example".
issue.subject = "csr"
# Alternative names that a device may ask for, if its own certificate has them: "dns", "ip", "uri", "email", "hardwareModuleName".
issue.san = []
issue.validity = "365d"
# The same request again within this time gets the same certificate again.
repeat_window = "24h"
# Certificates that one device may hold before they expire; more are refused, so that one device cannot fill the ledger.
max_certificates_per_device = 100
# What 4.xx and 5.xx answers say to authenticated devices: "reason" (a code for `muster explain`) or "none".
diagnostics = "reason"

[ledger]
# "memory:" forgets what was issued when the server ends.
url = "memory:"

[metrics]
# Read-only: /metrics, /healthz, /readyz.
listen = "127.0.0.1:9684"
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
