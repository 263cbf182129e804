"""A device on Mbed TLS: handshakes with a client certificate, each followed by CoAP requests. Prints the negotiated parameters as one line of JSON.

Each run is a new association: a GET of a whole resource; with --requests also a POST of RUN.csr from that folder to
/.well-known/est/sen, whose answer is written to RUN.p7. Exits with 0 after {"runs": [...], "payload_hex": ...}; every failure names its
run, which --first RUN --count 1 repeats alone.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import socket
import sys
import time

import wire
from mbedtls import pk, tls, x509

# The time to wait for a datagram before asking Mbed TLS whether its own timer has expired.
TICK_SECONDS = 0.25
# ACK_TIMEOUT of RFC 7252 section 4.8, without the random part: this connection has only one client.
ACK_TIMEOUT_SECONDS = 2.0
# A handshake or an exchange that takes longer than this has failed.
STEP_SECONDS_MAX = 15.0
# Loopback could carry longer datagrams; a device's link could not.
DATAGRAM_BYTES_MAX = 1200
FRAGMENT_LENGTHS = {
    0: tls.MaxFragmentLength.NONE,
    512: tls.MaxFragmentLength.MFL_512K,  # so the binding spells MBEDTLS_SSL_MAX_FRAG_LEN_512
    1024: tls.MaxFragmentLength.MFL_1024K,
}
# Exponents of block sizes. Resources are requested in the largest blocks: the server must reduce them to fit its records.
LARGEST_BLOCKS, SMALL_BLOCKS = 6, 2
SIMPLE_ENROLL = "/.well-known/est/sen"
# application/pkcs10 (RFC 9148 section 8.1).
PKCS10 = 286


def main() -> int:
    options = parse_options()
    configuration = configure(options)
    runs, payload = [], None
    for run in range(options.first, options.first + options.count):
        try:
            report, got = one_run(options, configuration, run)
            if payload is not None and got != payload:
                raise wire.Broken(f"{options.path} answers otherwise than before: {got.hex()}")
        except Exception as error:
            raise SystemExit(f"run {run} at [{options.host}]:{options.port}: {type(error).__name__}: {error}") from error
        payload = got
        runs.append(report)
    print(json.dumps({"runs": runs, "payload_hex": (payload or b"").hex()}))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["host", "name", "cert", "key", "trust", "suite", "path"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--fragment", type=int, default=0, choices=FRAGMENT_LENGTHS, help="max_fragment_length to ask for")
    parser.add_argument("--requests", type=pathlib.Path, help="folder of RUN.csr")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    return parser.parse_args()


def configure(options: argparse.Namespace) -> tls.DTLSConfiguration:
    certificate = x509.CRT.from_PEM(pathlib.Path(options.cert).read_text("ascii"))
    private_key = pk.ECC.from_PEM(pathlib.Path(options.key).read_text("ascii"))
    return tls.DTLSConfiguration(
        trust_store=tls.TrustStore.from_pem_file(options.trust),
        certificate_chain=((certificate,), private_key),
        ciphers=(options.suite,),
        lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
        highest_supported_version=tls.DTLSVersion.DTLSv1_2,
        validate_certificates=True,
        max_fragmentation_length=FRAGMENT_LENGTHS[options.fragment],
    )


def one_run(options: argparse.Namespace, configuration: tls.DTLSConfiguration, run: int) -> tuple[dict, bytes]:
    association = Association(options, configuration)
    try:
        association.handshake()
        requests = wire.Requests(next_id=(run * 64) & 0xFFFF)
        got = wire.fetch(association.ask, requests, wire.GET, options.path, LARGEST_BLOCKS, b"", 0)
        report = association.report() | {"run": run, "get": told(got)}
        if options.requests:
            csr = (options.requests / f"{run}.csr").read_bytes()
            posted = wire.fetch(association.ask, requests, wire.POST, SIMPLE_ENROLL, SMALL_BLOCKS, csr, PKCS10)
            (options.requests / f"{run}.p7").write_bytes(posted.payload)
            report["enroll"] = told(posted)
        # Records after the handshake count as well.
        report |= association.seen()
        association.close()
        return report, got.payload
    finally:
        association.socket.close()


def told(answer: wire.Answer) -> dict:
    return {
        "code": answer.message.dotted(),
        "content_format": answer.message.format(),
        "bytes": len(answer.payload),
        "blocks_up": answer.blocks_up,
        "blocks_down": answer.blocks_down,
    }


class Association:
    def __init__(self, options: argparse.Namespace, configuration: tls.DTLSConfiguration) -> None:
        # Mbed TLS 2.28 compares this name with the dNSNames of the certificate (and sends it as SNI). It does not support
        # iPAddress names, so the socket uses the address and this is the name.
        self.buffer = tls.ClientContext(configuration).wrap_buffers(options.name)
        self.buffer.setmtu(DATAGRAM_BYTES_MAX)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(TICK_SECONDS)
        self.socket.connect((options.host, options.port))
        self.overhead = wire.CCM8_OVERHEAD_BYTES if options.suite.endswith("CCM-8") else wire.GCM_OVERHEAD_BYTES
        self.fragment_agreed: str | None = None
        self.records = 0
        self.plaintext_longest = 0
        self.datagram_longest = 0

    def handshake(self) -> None:
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while self.buffer._handshake_state is not tls.HandshakeStep.HANDSHAKE_OVER:
            if time.monotonic() > deadline:
                raise wire.Broken(f"the handshake stands at {self.buffer._handshake_state.name}")
            try:
                self.buffer.do_handshake()
            except tls.WantReadError:
                self.send_pending()
                self.receive()
            except tls.WantWriteError:
                self.send_pending()
        self.send_pending()

    def ask(self, request: wire.Message) -> wire.Message:
        """A confirmable exchange, whose answer may be piggybacked on the acknowledgement or separate (RFC 7252 section 5.2)."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        again = 0.0
        while time.monotonic() < deadline:
            if time.monotonic() >= again:
                self.send(request)
                again = time.monotonic() + ACK_TIMEOUT_SECONDS
            self.receive()
            answer = self.take(request)
            if answer is not None:
                return answer
        raise wire.Broken(f"no answer to {request.bytes().hex()}")

    def take(self, request: wire.Message) -> wire.Message | None:
        while plaintext := self.read():
            message = wire.Message.parse(plaintext)
            if message.kind == wire.RST:
                raise wire.Broken("the request was reset")
            if message.kind == wire.ACK and message.message_id != request.message_id:
                continue
            if message.code == 0:
                continue
            if message.kind == wire.CON:
                self.send(wire.Message(wire.ACK, 0, message.message_id, b"", (), b""))
            if message.token == request.token:
                return message
        return None

    def read(self) -> bytes:
        try:
            return self.buffer.read(65535)
        except tls.WantReadError:
            return b""

    def send(self, message: wire.Message) -> None:
        self.buffer.write(message.bytes())
        self.send_pending()

    def send_pending(self) -> None:
        """Sends the pending flight, which the binding returns as one run of bytes."""
        run = b""
        while piece := self.buffer.peek_outgoing(65535):
            self.buffer.consume_outgoing(len(piece))
            run += piece
        for datagram in wire.datagrams(run, DATAGRAM_BYTES_MAX):
            self.socket.send(datagram)

    def receive(self) -> None:
        try:
            datagram = self.socket.recv(65535)
        except TimeoutError:
            return
        self.note(datagram)
        self.buffer.receive_from_network(datagram)

    def note(self, datagram: bytes) -> None:
        self.datagram_longest = max(self.datagram_longest, len(datagram))
        for record in wire.records(datagram):
            self.records += 1
            plaintext = len(record.payload) - (self.overhead if record.epoch else 0)
            self.plaintext_longest = max(self.plaintext_longest, plaintext)
            extensions = wire.hello_extensions(record)
            if extensions is not None:
                agreed = extensions.get(wire.MAX_FRAGMENT_LENGTH_EXTENSION)
                self.fragment_agreed = None if agreed is None else agreed.hex()

    def report(self) -> dict:
        cipher = self.buffer.cipher()
        name = cipher[0] if isinstance(cipher, tuple) else cipher
        return {
            "suite": name.decode() if isinstance(name, bytes) else str(name),
            "version": self.buffer.negotiated_tls_version().name,
            "fragment_agreed": self.fragment_agreed,
            "local_port": self.socket.getsockname()[1],
        }

    def seen(self) -> dict:
        """The counts and sizes of the server's records, from their headers."""
        longest = {"plaintext_longest": self.plaintext_longest, "datagram_longest": self.datagram_longest}
        return longest | {"records": self.records}

    def close(self) -> None:
        self.buffer.shutdown()
        self.send_pending()


if __name__ == "__main__":
    sys.exit(main())
