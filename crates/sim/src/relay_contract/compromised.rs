//! Keys of relayed certificates that were marked because the key is compromised (E23).

use authority::{Actor, Function, NewRow, RelayRequest, Relayed, Revocation, Revoked, State};
use pki::Digest;
use pki::issue::RevocationReason;

use super::{RelayDesk, certificate, device, request, utc};

fn compromise(at: u64) -> Revocation {
    Revocation { reason: RevocationReason::KeyCompromise, at: utc(at), actor: Actor::server() }
}

pub(super) fn a_compromised_key_is_asked_for_no_more(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.record(certificate(id, "c", "k"));
    let superseded = Revocation { reason: RevocationReason::Superseded, ..compromise(20) };
    desk.same(desk.mark(Digest::of(b"c"), superseded.clone()), Revoked::Now, "for another reason");
    let again = desk.new_row(request(21, "k"));
    desk.record(certificate(again, "d", "k"));
    desk.is_kind(desk.begin(request(22, "k")), "Repeat");
    desk.same(desk.mark(Digest::of(b"c"), compromise(23)), Revoked::Before(superseded), "the first mark stays");
    for (what, asked) in [
        ("a repeat", request(24, "k")),
        ("a renewal", RelayRequest { function: Function::SimpleReenroll, ..request(24, "k") }),
        ("another profile", RelayRequest { profile: "q".into(), ..request(24, "k") }),
        ("another device", RelayRequest { device: device("e"), ..request(24, "k") }),
        ("a device that waits", RelayRequest { new_row: NewRow::Held, ..request(24, "k") }),
        ("when everything has ended", request(1_000_000_000, "k")),
    ] {
        let begun = desk.begin(asked);
        desk.same(format!("{begun:?}"), "KeyCompromised".to_owned(), what);
    }
    desk.is_kind(desk.begin(request(24, "another key")), "New");
    desk.is_kind(desk.begin(RelayRequest { function: Function::ServerKeygen, spki: None, ..request(24, "k") }), "New");
}

pub(super) fn a_key_that_is_compromised_meanwhile(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.record(certificate(id, "c", "k"));
    let renewal = desk.new_row(RelayRequest { function: Function::SimpleReenroll, ..request(11, "k") });
    desk.same(desk.mark(Digest::of(b"c"), compromise(12)), Revoked::Now, "while the renewal is upstream");
    for _ in 0..2 {
        desk.same(desk.record(certificate(renewal, "d", "k")), Relayed::KeyCompromised, "what came back");
    }
    let state = desk.holder("d").map(|holder| holder.state);
    let is_marked = matches!(&state, Some(State::Revoked(mark)) if mark.reason == RevocationReason::KeyCompromise);
    desk.same(is_marked, true, "it is recorded, and marked");
}
