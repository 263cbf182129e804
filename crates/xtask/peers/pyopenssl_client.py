"""A device on OpenSSL 4.0, through pyOpenSSL: tests the loss, duplication and reordering of one datagram of a handshake or CoAP exchange.

OpenSSL uses a memory BIO, so this program sends the datagrams. Each one, in each direction, is dropped once, doubled once, and swapped
once with the next one of its direction, however late that comes. There are two packings of flights: a datagram for each record, on a small
MTU that makes OpenSSL fragment, and a datagram for each flight. An undisturbed run first counts the datagrams. All cases run in parallel,
because OpenSSL's first timer is a second.

Exits with 0 after one line {"packings": .., "cases": [..], "handshakes": ..}; "handshakes" includes those of the counting runs. A case that
does not complete, or whose datagram was never sent, is a failure: its name is printed to stderr, and --only NAME runs it alone.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Iterable

import dtls_context
import wire
from OpenSSL import SSL

# The largest datagram of each packing, without IP and UDP.
DATAGRAM_BYTES_MAX = {"records": 256, "flights": 1200}
KINDS = ["drop", "double", "swap"]
# A handshake that takes longer has not recovered: one loss costs a second, and so does a swap without a following datagram.
CASE_SECONDS_MAX = 20.0
# ACK_TIMEOUT of RFC 7252 section 4.8 is two seconds; one keeps the run short.
ACK_TIMEOUT_SECONDS = 1.0
# Cases in parallel: enough to wait for all timers at once, and few enough that a socket's queue can hold the burst.
CASES_AT_ONCE = 64
# Attempts to count an undisturbed run: if the machine was so busy that a timer expired, the run was disturbed and is repeated.
COUNTINGS_MAX = 20
# The server's first timer is a second: in less, it has repeated nothing.
UNDISTURBED_MILLISECONDS_MAX = 900
# The longest wait between two looks at the timers.
SELECT_SECONDS_MAX = 0.5
RESOURCE = "/.well-known/core"


@dataclass(frozen=True)
class Fault:
    """A fault and the datagram that it affects."""

    direction: str
    index: int
    kind: str


@dataclass(frozen=True)
class Plan:
    packing: str
    fault: Fault | None

    def name(self) -> str:
        fault = self.fault
        return self.packing if fault is None else f"{self.packing}:{fault.direction}:{fault.index}:{fault.kind}"


class Lane:
    """The datagrams of one direction, in the order in which they were sent."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.carried = 0
        self.held: bytes | None = None
        self.struck = fault is None

    def carry(self, datagram: bytes) -> list[bytes]:
        """The datagrams that arrive after this one has been sent."""
        index, self.carried = self.carried, self.carried + 1
        if self.held is not None:
            late, self.held, self.struck = self.held, None, True
            return [datagram, late]
        if self.fault is None or index != self.fault.index:
            return [datagram]
        if self.fault.kind == "swap":
            self.held = datagram
            return []
        self.struck = True
        return [datagram, datagram] if self.fault.kind == "double" else []


class Case:
    """One association: a handshake, one request, its answer."""

    def __init__(self, options: argparse.Namespace, context: SSL.Context, plan: Plan) -> None:
        self.plan = plan
        self.began = time.monotonic()
        faults = {direction: None for direction in DIRECTIONS}
        if plan.fault is not None:
            faults[plan.fault.direction] = plan.fault
        self.lanes = {direction: Lane(fault) for direction, fault in faults.items()}
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((options.host, options.port))
        self.socket.setblocking(False)
        self.connection = SSL.Connection(context, None)
        self.connection.set_connect_state()
        self.connection.set_tlsext_host_name(options.name.encode())
        self.connection.set_ciphertext_mtu(DATAGRAM_BYTES_MAX[plan.packing])
        self.request: wire.Message | None = None
        self.request_again = 0.0
        self.answers: dict[int, bytes] = {}
        self.answer: wire.Message | None = None
        self.timeouts = 0
        self.advance()

    @property
    def done(self) -> bool:
        return self.answer is not None

    def wake_at(self) -> float:
        """The time at which this case needs a turn even without a datagram."""
        if self.request is not None:
            return self.request_again
        timeout = self.connection.DTLSv1_get_timeout()
        return time.monotonic() + (SELECT_SECONDS_MAX if timeout is None else timeout)

    def timers(self) -> None:
        if self.request is None:
            if self.connection.DTLSv1_handle_timeout():
                self.timeouts += 1
                self.send_pending()
        elif time.monotonic() >= self.request_again:
            self.timeouts += 1
            self.ask()

    def receive(self) -> None:
        while not self.done:
            try:
                datagram = self.socket.recv(65535)
            except BlockingIOError:
                return
            parts = [datagram]
            if self.plan.packing == "records":
                parts = [record.raw for record in wire.records(datagram)]
            for part in parts:
                for arrived in self.lanes["to-client"].carry(part):
                    # One at a time: the memory BIO would join two datagrams.
                    self.connection.bio_write(arrived)
                    self.advance()

    def advance(self) -> None:
        if self.request is None:
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                self.send_pending()
                return
            self.send_pending()
            segments = wire.Requests(next_id=0x4D54)
            self.request = segments.make(wire.GET, RESOURCE, [])
            self.ask()
        self.read()

    def ask(self) -> None:
        self.request_again = time.monotonic() + ACK_TIMEOUT_SECONDS
        self.connection.send(self.request.bytes())
        self.send_pending()

    def read(self) -> None:
        while True:
            try:
                plaintext = self.connection.recv(65535)
            except SSL.WantReadError:
                # OpenSSL answers a repeated flight of the server with its own last one.
                self.send_pending()
                return
            message = wire.Message.parse(plaintext)
            # RFC 7252 section 4.5: a repeated request gets the same answer as the first one.
            if self.answers.setdefault(message.message_id, plaintext) != plaintext:
                raise wire.Broken(f"two answers to one message id: {plaintext.hex()}")
            if (message.kind, message.message_id) == (wire.ACK, self.request.message_id) and message.code != 0:
                self.answer = message

    def send_pending(self) -> None:
        run = dtls_context.pending(self.connection)
        if self.plan.packing == "records":
            parts = [record.raw for record in wire.records(run)]
        else:
            parts = wire.datagrams(run, DATAGRAM_BYTES_MAX[self.plan.packing])
        for part in parts:
            for datagram in self.lanes["to-server"].carry(part):
                self.socket.send(datagram)

    def finish(self) -> dict:
        """Judges the case, and closes the session without the lanes: the server would have to wait for a session that is left open."""
        for lane in self.lanes.values():
            if not lane.struck:
                raise wire.Broken(f"the datagram was not reached: {lane.carried} went {lane.fault.direction}")
        answer = self.answer
        if answer.dotted() != "2.05" or answer.token != self.request.token or b"ace.est.sen" not in answer.payload:
            raise wire.Broken(f"GET {RESOURCE} was answered {answer}")
        if not self.connection.get_verified_chain():
            raise wire.Broken("the server's certificate was not verified")
        self.connection.shutdown()
        self.socket.send(self.connection.bio_read(65535))
        return {
            "case": self.plan.name(),
            "local_port": self.socket.getsockname()[1],
            "suite": self.connection.get_cipher_name(),
            "version": self.connection.get_protocol_version_name(),
            "timeouts": self.timeouts,
            "milliseconds": round((time.monotonic() - self.began) * 1000),
        }

    def standing(self) -> str:
        went = ", ".join(f"{lane.carried} {direction}" for direction, lane in self.lanes.items())
        doing = "handshake" if self.request is None else "request"
        return f"{doing} unfinished after {CASE_SECONDS_MAX} s in {self.connection.get_state_string()!r}; datagrams: {went}"


DIRECTIONS = ["to-server", "to-client"]


def main() -> int:
    options = parse_options()
    context = make_context(options)
    counts, countings = {}, 0
    for packing in DATAGRAM_BYTES_MAX:
        counts[packing], played = count(options, context, packing)
        countings += played
    plans = [
        Plan(packing, Fault(direction, index, kind))
        for packing, datagrams in counts.items()
        for direction in DIRECTIONS
        for index in range(datagrams[direction])
        for kind in KINDS
    ]
    if options.only:
        plans = [plan_of(options.only)]
    cases, failures = play(options, context, plans)
    for name, error in failures:
        print(f"[{options.host}]:{options.port} --only {name}: {error}", file=sys.stderr)
    report = {"openssl": SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode(), "packings": counts, "cases": cases}
    print(json.dumps(report | {"handshakes": countings + len(cases)}))
    return 1 if failures else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["host", "name", "cert", "key", "trust", "suite"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--only", help="one case, as a failure names it: records:to-server:3:drop")
    return parser.parse_args()


def plan_of(name: str) -> Plan:
    packing, direction, index, kind = name.split(":")
    if packing not in DATAGRAM_BYTES_MAX or direction not in DIRECTIONS or kind not in KINDS:
        raise SystemExit(f"no such case: {name}")
    return Plan(packing, Fault(direction, int(index), kind))


def make_context(options: argparse.Namespace) -> SSL.Context:
    context = dtls_context.of_client(options.suite, options.trust)
    context.use_certificate_file(options.cert)
    context.use_privatekey_file(options.key)
    return context


def count(options: argparse.Namespace, context: SSL.Context, packing: str) -> tuple[dict[str, int], int]:
    """The number of datagrams of an undisturbed run in each direction, and the number of runs that were needed to count them."""
    for played in range(1, COUNTINGS_MAX + 1):
        done: list[Case] = []
        reports, failures = play(options, context, [Plan(packing, None)], done)
        for _, error in failures:
            raise SystemExit(f"an undisturbed run at [{options.host}]:{options.port} failed: {error}")
        if done[0].timeouts == 0 and reports[0]["milliseconds"] < UNDISTURBED_MILLISECONDS_MAX:
            return {direction: lane.carried for direction, lane in done[0].lanes.items()}, played
    raise SystemExit("no run was quick enough to be counted")


def play(
    options: argparse.Namespace, context: SSL.Context, plans: Iterable[Plan], done: list[Case] | None = None
) -> tuple[list[dict], list[tuple[str, str]]]:
    """Plays these cases in parallel; the report of each, and the failures."""
    reports: list[dict] = []
    failures: list[tuple[str, str]] = []
    waiting = list(reversed(list(plans)))
    selector = selectors.DefaultSelector()
    running: set[Case] = set()
    while waiting or running:
        while waiting and len(running) < CASES_AT_ONCE:
            case = Case(options, context, waiting.pop())
            running.add(case)
            selector.register(case.socket, selectors.EVENT_READ, case)
        wake = min(case.wake_at() for case in running)
        wait = min(max(wake - time.monotonic(), 0.0), SELECT_SECONDS_MAX)
        ready = {key.data for key, _ in selector.select(wait)}
        for case in list(running):
            try:
                if case in ready:
                    case.receive()
                if not case.done:
                    case.timers()
                if case.done:
                    reports.append(case.finish())
                elif time.monotonic() - case.began > CASE_SECONDS_MAX:
                    raise wire.Broken(case.standing())
                else:
                    continue
            except (wire.Broken, SSL.Error, OSError) as error:
                failures.append((case.plan.name(), f"{type(error).__name__}: {error}"))
            running.remove(case)
            selector.unregister(case.socket)
            case.socket.close()
            if done is not None:
                done.append(case)
    return reports, failures


if __name__ == "__main__":
    sys.exit(main())
