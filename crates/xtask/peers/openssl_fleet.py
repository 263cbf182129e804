"""A fleet on OpenSSL 4.0, through pyOpenSSL: devices enrol, so many at once, each as soon as one before it is done.

It shares nothing with the server that it asks: handshakes and records are OpenSSL's, CoAP is `wire.py`'s. Each device has a socket of its own. Its life
is a handshake with its certificate, GET /crts, POST /sen, close_notify. The devices with their certificates, requests and connections are made
before the first handshake, and what they got is judged after the last, so that the time between belongs to the sessions.

Exits with 0 after it has written --report, which has the names that the report of `muster load` has. The first failure ends it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import pathlib
import select
import socket
import sys
import time
from dataclasses import dataclass

import dtls_context
import wire
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

# The largest datagram, without IP and UDP.
DATAGRAM_BYTES_MAX = 1200
# ACK_TIMEOUT of RFC 7252 section 4.8.
ACK_TIMEOUT_SECONDS = 2.0
# How often sessions are asked whether a timer of theirs has ended.
TICK_SECONDS = 0.25
# Two repeated hellos and two repeated requests take less.
SESSION_SECONDS_MAX = 20.0
CA_CERTIFICATES, SIMPLE_ENROLL = "/.well-known/est/crts", "/.well-known/est/sen"
# application/pkcs10 and application/pkcs7-mime; smime-type=certs-only (RFC 9148 section 8.1).
PKCS10, CERTS_ONLY = 286, 281
# As `muster load` has it: a client that used more of its core was the one that was slow.
RESERVES_GONE = 0.95
NOT_BEFORE = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
# IEEE 802.1AR: an IDevID does not expire.
NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)


@dataclass
class Device:
    number: int
    name: str
    connection: SSL.Connection | None
    requested: ec.EllipticCurvePublicKey
    csr: bytes
    authorities: bytes = b""
    issued: bytes = b""

    def address(self) -> str:
        """On loopback each device has an address of its own. With one for all of them a device would now and then get the port of one that has just
        left, and a server begins one handshake with an address in a while."""
        return f"127.200.{self.number >> 8 & 255}.{self.number & 255}"


class Factory:
    """The manufacturer: `--issuer` is the folder of its ca.pem and ca.key."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.certificate = x509.load_pem_x509_certificate((options.issuer / "ca.pem").read_bytes())
        self.key = serialization.load_pem_private_key((options.issuer / "ca.key").read_bytes(), None)
        self.context = dtls_context.of_client(options.suite, options.trust)
        self.server_name = options.name.encode()

    def device(self, number: int, name: str) -> Device:
        key, wanted = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"load-{name}"), x509.NameAttribute(NameOID.SERIAL_NUMBER, name)]
        )
        usages = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"],
            False,
        )
        builder = x509.CertificateBuilder(self.certificate.subject, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
        builder = builder.add_extension(x509.KeyUsage(digital_signature=True, key_agreement=True, **usages), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        csr = x509.CertificateSigningRequestBuilder(subject).sign(wanted, hashes.SHA256())
        connection = self.connection(certificate, key)
        return Device(number, name, connection, wanted.public_key(), csr.public_bytes(serialization.Encoding.DER))

    def connection(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        connection.use_certificate(certificate)
        connection.use_privatekey(key)
        connection.set_connect_state()
        connection.set_tlsext_host_name(self.server_name)
        connection.set_ciphertext_mtu(DATAGRAM_BYTES_MAX)
        return connection


@dataclass
class Traffic:
    datagrams_sent: int = 0
    bytes_sent: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0


class Session:
    """One device, from its first hello to its close_notify."""

    def __init__(self, options: argparse.Namespace, device: Device, traffic: Traffic) -> None:
        self.device = device
        # It ends with the session: all of them at once would be in the way of the memory caches.
        self.connection, device.connection = device.connection, None
        self.traffic = traffic
        self.began = time.perf_counter()
        self.connected = 0.0
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        if options.host == "127.0.0.1":
            self.socket.bind((device.address(), 0))
        self.socket.connect((options.host, options.port))
        self.socket.setblocking(False)
        self.steps = enrolment(device, options.block.bit_length() - 5)
        self.request: wire.Message | None = None
        self.request_again = 0.0
        self.done = False
        self.handshake()

    def receive(self) -> None:
        try:
            datagram = self.socket.recv(65535)
        except BlockingIOError:
            return
        self.traffic.datagrams_received += 1
        self.traffic.bytes_received += len(datagram)
        # One at a time: the memory BIO would join two datagrams.
        self.connection.bio_write(datagram)
        if self.request is None:
            self.handshake()
        else:
            self.read()

    def handshake(self) -> None:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self.send_pending()
            return
        self.connected = time.perf_counter()
        self.send_pending()
        self.ask(next(self.steps))

    def ask(self, request: wire.Message) -> None:
        self.request = request
        self.send(request)
        self.request_again = time.perf_counter() + ACK_TIMEOUT_SECONDS

    def read(self) -> None:
        while not self.done:
            try:
                message = wire.Message.parse(self.connection.recv(65535))
            except SSL.WantReadError:
                # OpenSSL answers a repeated flight of the server with its own last one.
                self.send_pending()
                return
            if message.kind == wire.CON:
                self.send(wire.Message(wire.ACK, 0, message.message_id, b"", (), b""))
            if message.kind == wire.RST:
                raise wire.Broken("the request was reset")
            if message.code == 0 or message.token != self.request.token:
                continue
            try:
                self.ask(self.steps.send(message))
            except StopIteration:
                self.done = True

    def timers(self, now: float) -> None:
        if now - self.began > SESSION_SECONDS_MAX:
            raise wire.Broken(f"unfinished after {SESSION_SECONDS_MAX} s in {self.connection.get_state_string()!r}")
        if self.request is None:
            if self.connection.DTLSv1_handle_timeout():
                self.send_pending()
        elif now >= self.request_again:
            self.ask(self.request)

    def send(self, message: wire.Message) -> None:
        self.connection.send(message.bytes())
        self.send_pending()

    def send_pending(self) -> None:
        for datagram in wire.datagrams(dtls_context.pending(self.connection), DATAGRAM_BYTES_MAX):
            self.socket.send(datagram)
            self.traffic.datagrams_sent += 1
            self.traffic.bytes_sent += len(datagram)

    def close(self) -> None:
        self.connection.shutdown()
        self.send_pending()
        self.socket.close()


def enrolment(device: Device, exponent: int) -> wire.Exchanges:
    """What a device asks for after its handshake."""
    requests = wire.Requests(next_id=int.from_bytes(device.csr[-2:], "big"))
    authorities = yield from wire.exchanges(requests, wire.GET, CA_CERTIFICATES, exponent, b"", 0)
    expect(authorities, "2.05")
    device.authorities = authorities.payload
    issued = yield from wire.exchanges(requests, wire.POST, SIMPLE_ENROLL, exponent, device.csr, PKCS10)
    expect(issued, "2.04")
    device.issued = issued.payload
    return issued


def expect(answer: wire.Answer, code: str) -> None:
    message = answer.message
    if message.dotted() != code or message.format() != CERTS_ONLY:
        raise wire.Broken(f"not {code} with certificates: {message.dotted()} {message.format()} {answer.payload[:80]!r}")


def play(options: argparse.Namespace, devices: list[Device]) -> dict:
    """Plays all devices; the report."""
    traffic, poll, running = Traffic(), select.epoll(), {}
    waiting = iter(devices)
    handshakes, totals = [], []

    def begin() -> None:
        device = next(waiting, None)
        if device is not None:
            session = Session(options, device, traffic)
            running[session.socket.fileno()] = session
            poll.register(session.socket, select.EPOLLIN)

    began, cpu_before = time.perf_counter(), time.process_time()
    for _ in range(options.at_once):
        begin()
    tick = began + TICK_SECONDS
    while running:
        for number, _ in poll.poll(TICK_SECONDS):
            session = running[number]
            guarded(session, session.receive)
            if session.done:
                handshakes.append(session.connected - session.began)
                totals.append(time.perf_counter() - session.began)
                # A closed socket leaves the epoll by itself.
                del running[number]
                session.close()
                begin()
        if (now := time.perf_counter()) >= tick:
            tick = now + TICK_SECONDS
            for session in running.values():
                guarded(session, lambda session=session: session.timers(now))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_before
    stages = [stage("handshake", handshakes), stage("total", totals)]
    return report_of(len(totals), seconds, cpu, stages) | {"traffic": vars(traffic)}


def guarded(session: Session, step) -> None:
    try:
        step()
    except (wire.Broken, SSL.Error, OSError) as error:
        raise SystemExit(f"device {session.device.name}: {type(error).__name__}: {error}") from error


def report_of(enrolled: int, seconds: float, cpu: float, stages: list[dict]) -> dict:
    share = cpu / seconds
    spoiled = [f"its only thread used {share:.0%} of a core"] if share >= RESERVES_GONE else []
    return {
        "openssl": SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode(),
        "enrolled": enrolled,
        "failed": 0,
        "seconds": seconds,
        "enrolled_per_second": enrolled / seconds,
        "stages": stages,
        "generator": {"cpu_seconds": cpu, "busiest_thread_share": share, "spoiled_by": spoiled},
    }


def stage(name: str, seconds: list[float]) -> dict:
    in_order = sorted(seconds)
    percentile = lambda share: round(in_order[min(int(len(in_order) * share), len(in_order) - 1)] * 1e6)
    return {"stage": name, "p50_us": percentile(0.5), "p99_us": percentile(0.99)}


def judge(devices: list[Device]) -> None:
    """Each device has a certificate for its key, by an authority that the server named, and no two have the same."""
    serial_numbers = set()
    for device in devices:
        authorities = pkcs7.load_der_pkcs7_certificates(device.authorities)
        certificate = next((it for it in pkcs7.load_der_pkcs7_certificates(device.issued) if it.public_key() == device.requested), None)
        if certificate is None:
            raise SystemExit(f"device {device.name} got no certificate for its key")
        issuer = next((it for it in authorities if it.subject == certificate.issuer), None)
        if issuer is None:
            raise SystemExit(f"the certificate of device {device.name} is by nobody of /crts")
        certificate.verify_directly_issued_by(issuer)
        serial_numbers.add(certificate.serial_number)
    if len(serial_numbers) != len(devices):
        raise SystemExit(f"{len(devices)} devices have {len(serial_numbers)} certificates")


def main() -> int:
    options = parse_options()
    factory = Factory(options)
    devices = [factory.device(number, f"{options.prefix}-{number:07}") for number in range(options.devices)]
    # What was made so far lives to the end: it is not to be looked through again and again.
    gc.freeze()
    report = play(options, devices)
    judge(devices)
    options.report.write_text(json.dumps(report), "ascii")
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["host", "name", "trust", "suite", "prefix"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--issuer", required=True, type=pathlib.Path)
    parser.add_argument("--devices", required=True, type=int)
    parser.add_argument("--at-once", required=True, type=int)
    parser.add_argument("--block", required=True, type=int)
    parser.add_argument("--report", required=True, type=pathlib.Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
