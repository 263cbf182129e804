"""An upstream CA that speaks EST over HTTPS (RFC 7030) and does what the name of a device asks for: it is slow, fails, or lies.

The common name of a request is ACT-ANYTHING. It prints `serving on ADDR:PORT`, `resetting on ADDR:PORT` (a port where every connection
is reset before its handshake) and one JSON object for each POST. Its clients need a certificate of --clients with id-kp-cmcRA.
"""

import argparse
import base64
import datetime
import hashlib
import json
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
ID_KP_CMC_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
# Longer than the Registrar waits for an answer.
SILENCE_SECONDS = 12
SECRET = b"SECRET OF THE UPSTREAM"
# What is done with the first POST of a device alone; the second one gets its certificate.
ONCE = ("later", "busy", "reset", "cut", "silent")


class Upstream:
    def __init__(self, arguments):
        self.issuing = x509.load_pem_x509_certificate(read(arguments.issuing))
        self.key = serialization.load_pem_private_key(read(arguments.issuing_key), None)
        self.root = x509.load_pem_x509_certificate(read(arguments.root))
        self.other_key = ec.generate_private_key(ec.SECP256R1())
        self.lock = threading.Lock()
        self.posts = {}

    def is_first(self, device):
        with self.lock:
            self.posts[device] = self.posts.get(device, 0) + 1
            return self.posts[device] == 1

    def issue(self, request, public_key=None, key=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        public_key = public_key or request.public_key()
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only"), False)
        certificate = x509.CertificateBuilder().subject_name(request.subject).issuer_name(self.issuing.subject)
        certificate = certificate.public_key(public_key).serial_number(x509.random_serial_number())
        certificate = certificate.not_valid_before(now - datetime.timedelta(minutes=5))
        certificate = certificate.not_valid_after(now + datetime.timedelta(days=30))
        certificate = certificate.add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        certificate = certificate.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        certificate = certificate.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        identifier = self.issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        of_issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        certificate = certificate.add_extension(of_issuer, False)
        return certificate.sign(key or self.key, hashes.SHA256())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A client that has gone does not keep its thread.
    timeout = 30

    def log_message(self, *_):
        pass

    def do_GET(self):
        upstream = self.server.upstream
        if self.path.endswith("/cacerts"):
            self.answer(200, CERTS_ONLY, base64.encodebytes(certs_only([upstream.issuing, upstream.root])))
        elif self.path.endswith("/csrattrs"):
            self.answer(204, None, b"")
        else:
            self.answer(404, "text/plain", b"")

    def do_POST(self):
        upstream = self.server.upstream
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = x509.load_der_x509_csr(base64.b64decode(body))
        device = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        act = device.split("-")[0]
        client = x509.load_der_x509_certificate(self.connection.getpeercert(True))
        usages = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        first = upstream.is_first(device)
        said = {"device": device, "path": self.path, "csr": hashlib.sha256(base64.b64decode(body)).hexdigest(),
                "type": self.headers["Content-Type"], "is_registrar": ID_KP_CMC_RA in usages}
        say(json.dumps(said))
        if act in ONCE and not first:
            act = "honest"
        getattr(self, "act_" + act, self.act_status)(request, act)

    def answer(self, status, media_type, body, *headers):
        self.send_response(status)
        if media_type is not None:
            self.send_header("Content-Type", media_type)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def certificates(self, *certificates, media_type=CERTS_ONLY):
        self.answer(200, media_type, base64.b64encode(certs_only(certificates)))

    def act_honest(self, request, _):
        """As a server before RFC 8951 does it: in lines, in chunks, with a Content-Transfer-Encoding that says something else."""
        body = base64.encodebytes(certs_only([self.server.upstream.issue(request)]))
        self.send_response(200)
        self.send_header("content-type", "Application/PKCS7-MIME; smime-type=certs-only")
        self.send_header("Content-Transfer-Encoding", "8bit")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in (body[:37], body[37:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def act_later(self, _, __):
        self.answer(202, "text/plain", SECRET, ("Retry-After", "1"))

    def act_busy(self, _, __):
        self.answer(503, "text/plain", SECRET, ("Retry-After", "1"))

    def act_reset(self, _, __):
        reset(self.connection)
        self.close_connection = True

    def act_cut(self, request, _):
        body = base64.b64encode(certs_only([self.server.upstream.issue(request)]))
        self.send_response(200)
        self.send_header("Content-Type", CERTS_ONLY)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:50])
        self.close_connection = True

    def act_silent(self, request, act):
        time.sleep(SILENCE_SECONDS)
        self.act_honest(request, act)

    def act_otherkey(self, request, _):
        other = self.server.upstream.other_key.public_key()
        self.certificates(self.server.upstream.issue(request, public_key=other))

    def act_otherca(self, request, _):
        self.certificates(self.server.upstream.issue(request, key=self.server.upstream.other_key))

    def act_two(self, request, _):
        self.certificates(self.server.upstream.issue(request), self.server.upstream.issuing)

    def act_type(self, request, _):
        self.certificates(self.server.upstream.issue(request), media_type="text/html")

    def act_nonsense(self, _, __):
        self.answer(200, CERTS_ONLY, SECRET)

    def act_redirect(self, _, __):
        self.answer(302, "text/plain", SECRET, ("Location", "https://127.0.0.1/elsewhere"))

    def act_status(self, _, act):
        self.answer(int(act), "text/plain", SECRET)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # All devices of the story may connect before one of them is accepted; by default five can wait.
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # Connections that end early are part of the script.
        say("closed: %r" % sys.exc_info()[1])


def certs_only(certificates):
    return pkcs7.serialize_certificates(list(certificates), serialization.Encoding.DER)


def reset(connection):
    """Closes with a RST instead of a FIN, and without close_notify."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # `ssl` keeps the descriptor open until the last reference is gone.
    socket.close(connection.detach())


def reset_all(listener):
    while True:
        reset(listener.accept()[0])


SAYING = threading.Lock()


def say(line):
    """One line of output, whole: `print` writes a line and its end apart, and the lines of two connections would become one."""
    with SAYING:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser()
    for name in ("cert", "key", "clients", "issuing", "issuing-key", "root"):
        parser.add_argument("--" + name, required=True)
    arguments = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    context.load_verify_locations(arguments.clients)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.upstream = Upstream(arguments)
    # The handshake belongs to the thread of its connection: it begins with the first read.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    resetting = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=reset_all, args=(resetting,), daemon=True).start()
    say("resetting on 127.0.0.1:%d" % resetting.getsockname()[1])
    say("serving on 127.0.0.1:%d" % server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
