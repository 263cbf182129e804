//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use authority::{Ledger as _, RowFilter};
use dtls::DropReason;
use link::Tally;
use pki::Digest;
use pki::chain::{self, Anchors};

use super::LIMIT;
use super::field::{PowerField, READY_MAX};
use super::fleet::Fleet;
use super::sent_away::SentAwayTally;
use super::site::{Site, SiteTally};
use crate::clock::VirtualClock;
use crate::crashing::at_once;
use crate::soak::Distribution;

/// Broken promises that a report spells out; it gives the number of all.
const TOLD_MAX: usize = 10;

/// The results of a run.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The field.
    pub field: PowerField,
    /// The seed.
    pub seed: u64,
    /// The virtual time from the return of the power to the end of the run.
    pub elapsed: Duration,
    /// The time from the return of the power to the first datagram, of each device.
    pub ready: Distribution,
    /// The time from the return of the power to the certificate, of each device that has one.
    pub took: Distribution,
    /// Certificates in the ledger.
    pub issued: usize,
    /// The devices that were sent away.
    pub sent_away: SentAwayTally,
    /// Handshakes that devices completed.
    pub handshakes: u64,
    /// Handshakes that devices gave up.
    pub given_up: u64,
    /// Hellos that the server did not begin a handshake with, because it was behind or had no slot.
    pub refused_hellos: u64,
    /// Datagrams that the full receive queue dropped.
    pub dropped: u64,
    /// The totals of the link.
    pub link: Tally,
    /// The time for which the core was busy.
    pub busy: Duration,
    /// The largest number of devices that waited for their certificates at one time.
    pub waiting_max: usize,
    /// The largest number of handshakes in progress at one time.
    pub half_open_max: usize,
    /// The largest number of enrolments that waited for the authority at one time.
    pub pending_max: usize,
    /// The largest number of devices that had a session and no certificate at one time.
    pub in_session_max: usize,
    /// How often the server refused something, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The promises that were broken.
    faults: Vec<String>,
}

impl RestoreReport {
    pub(super) fn of(
        field: &PowerField,
        seed: u64,
        clock: &VirtualClock,
        fleet: &Fleet,
        site: &Site,
        link: Tally,
    ) -> Self {
        let (tally, site_tally) = (fleet.tally(), site.tally().clone());
        let SiteTally { dropped, busy, half_open_max, pending_max, refusals } = site_tally;
        let drops = site.server().drops();
        let turned_away = [DropReason::Behind, DropReason::HalfOpenFull, DropReason::NetworkFull];
        let ready = (1..=field.devices).map(|device| field.ready_after(seed, device)).collect();
        Self {
            field: *field,
            seed,
            elapsed: clock.elapsed(),
            ready: Distribution::new(ready),
            took: Distribution::new(fleet.certificates().iter().map(|it| it.took).collect()),
            issued: site.ledger().issued_count(),
            sent_away: tally.sent_away.clone(),
            handshakes: tally.handshakes,
            given_up: tally.given_up,
            refused_hellos: turned_away.map(|reason| drops.count(reason)).iter().sum(),
            dropped,
            link,
            busy,
            waiting_max: tally.waiting_max,
            half_open_max,
            pending_max,
            in_session_max: tally.in_session_max,
            refusals,
            faults: faults(field, fleet, site),
        }
    }

    /// The promises that were broken: see the module above.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The most devices that became ready within one second.
    fn busiest_second(&self) -> usize {
        let within = |seconds| self.ready.within(Duration::from_secs(seconds));
        (0..READY_MAX.as_secs()).map(|second| within(second + 1) - within(second)).max().unwrap_or(0)
    }
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PowerField { name, devices, link, .. } = &self.field;
        let seconds = |times: &Distribution, of_10_000| times.percentile(of_10_000).as_secs_f64();
        let loss = f64::from(link.loss) / 10.0;
        writeln!(f, "{name}: {devices} devices, {loss} % of the datagrams lost, seed {}", self.seed)?;
        writeln!(
            f,
            "  enrolled {} in {:.1} s, certificates in the ledger {}, broken promises {}",
            self.took.count(),
            self.elapsed.as_secs_f64(),
            self.issued,
            self.faults.len()
        )?;
        for (what, times) in [("ready", &self.ready), ("certificate", &self.took)] {
            let [p50, p90, p99, p999, most] =
                [5_000, 9_000, 9_900, 9_990, 10_000].map(|of_10_000| seconds(times, of_10_000));
            writeln!(
                f,
                "  from the power's return to {what}: p50 {p50:.1} s, p90 {p90:.1} s, p99 {p99:.1} s, p99.9 {p999:.1} s, max {most:.1} s"
            )?;
        }
        writeln!(f, "  ready in the busiest second {}, waiting at most {}", self.busiest_second(), self.waiting_max)?;
        writeln!(
            f,
            "  handshakes completed {}, given up {}; hellos refused {}, at most {} handshakes in progress",
            self.handshakes, self.given_up, self.refused_hellos, self.half_open_max
        )?;
        writeln!(f, "  {}; at most {} waited for the authority", self.sent_away, self.pending_max)?;
        writeln!(f, "  at most {} devices in a session and without a certificate", self.in_session_max)?;
        self.refusals
            .iter()
            .try_for_each(|(reason, count)| writeln!(f, "  refused by the server: {reason}, {count} times"))?;
        let Tally { sent, bytes, lost, .. } = self.link;
        writeln!(
            f,
            "  datagrams {sent} ({bytes} bytes), {lost} lost on links, {} dropped by the receive queue; core busy for {:.1} s",
            self.dropped,
            self.busy.as_secs_f64()
        )?;
        self.faults.iter().take(TOLD_MAX).try_for_each(|fault| writeln!(f, "  not kept: {fault}"))
    }
}

fn faults(field: &PowerField, fleet: &Fleet, site: &Site) -> Vec<String> {
    let mut faults = Vec::new();
    let enrolled = fleet.certificates().len();
    if !fleet.is_done() {
        let without = field.devices as usize - enrolled;
        faults.push(format!("{without} devices have no certificate after {LIMIT:?}"));
    }
    let tally = fleet.tally();
    for (what, who) in [("cut off after its handshake", &tally.cut_off), ("gave up", &tally.failed)] {
        faults.extend(who.iter().map(|who| format!("{what}: {who}")));
    }
    faults.extend(compare(fleet, site));
    faults
}

/// The certificates of the devices and those of the ledger are the same, one of each device; no row is without one.
fn compare(fleet: &Fleet, site: &Site) -> Vec<String> {
    let received = fleet.certificates();
    let mut devices: BTreeMap<Digest, u32> = received.iter().map(|it| (it.digest, it.device)).collect();
    let mut faults = Vec::new();
    if devices.len() < received.len() {
        faults.push(format!("{} devices have the certificate of another one", received.len() - devices.len()));
    }
    let anchors = Anchors::new(vec![Arc::clone(fleet.ca().ca().certificate())]).expect("the issuing CA is an anchor");
    for row in site.ledger().issued() {
        match devices.remove(&row.digest) {
            None => faults.push(format!("a certificate of device {} that it has not received", row.device.id)),
            Some(device) if row.device.id.as_str() != format!("{device:06}") => {
                faults.push(format!("device {device} has the certificate of device {}", row.device.id));
            }
            Some(device) => {
                if let Err(error) = chain::verify_device(&anchors, &[&row.certificate], row.at) {
                    faults.push(format!("device {device}: {error:?}"));
                }
            }
        }
    }
    faults
        .extend(devices.values().map(|device| format!("device {device} has a certificate that is not in the ledger")));
    let rows = at_once(|done| site.ledger().count(RowFilter::default(), done)).unwrap_or_default();
    if rows != received.len() as u64 {
        faults.push(format!("{rows} rows in the ledger for {} certificates", received.len()));
    }
    faults
}
