//! Keys that were made for devices: what has not reached its device when a process ends is revoked by the next start.

use std::sync::Arc;

use authority::{Actor, Function, Intent, Ledger, State};

use super::desk::{Desk, Sample};
use super::revoking::revoke_one;

const PROPERTY: &str = "a certificate whose key was not delivered is revoked by the next start";

pub(super) fn what_was_not_delivered_is_revoked(start: &mut dyn FnMut() -> Arc<dyn Ledger>, turn: &dyn Fn() -> bool) {
    let desk = Desk::new(PROPERTY, start(), turn);
    let samples = [1, 2, 3, 4].map(|number| desk.sample(number));
    let [delivered, lost, revoked, plain] = &samples;
    let made = |of: &Sample| Intent { function: Function::ServerKeygen, ..of.intent() };
    desk.intend(vec![made(delivered), made(lost), made(revoked), plain.intent()]);
    desk.keep(&samples);
    desk.ledger.delivered(vec![delivered.serial]);
    revoke_one(&desk, revoked.locator(), 5);
    desk.flush();
    drop(desk);
    for _ in 0..2 {
        let desk = Desk::new(PROPERTY, start(), turn);
        let actor = |of: &Sample| {
            let row = desk.find_one(of.locator());
            row.and_then(|row| row.revocation).map(|revocation| revocation.actor)
        };
        desk.same(actor(delivered), None, "its device has the key");
        desk.same(actor(lost), Some(Actor::undelivered()), "nobody has the key");
        desk.same(actor(revoked), Some(Actor::server()), "the first revocation stands");
        desk.same(actor(plain), None, "its device has made the key");
        let standing = desk.standing(&[lost]).into_iter().next().and_then(|finding| finding.holder);
        desk.is(standing.is_some_and(|holder| matches!(holder.state, State::Revoked(_))), "it opens nothing");
    }
}
