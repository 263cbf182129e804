//! A ledger as lines of JSON, and back.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: it looks at files")]

mod exporting;
mod importing;
#[allow(dead_code, reason = "several tests share it")]
#[path = "../common/maker.rs"]
mod maker;
mod relaying;

use std::path::Path;

use authority::{Cursor, Ledger, Locator, RowStage};
use ledger::SqliteLedger;
use ledger::export::Export;
use ledger::line::RowLine;
use ledger::sqlite::Fresh;
use pki::issue::{NodePrefix, Serial};

use crate::maker::{Maker, START, ask, revoke, utc};

fn open(file: &Path, key: u8) -> SqliteLedger {
    SqliteLedger::open(file, Fresh { serial_key: [key; 16] }, utc(START)).unwrap()
}

/// The lines behind this cursor.
fn lines(file: &Path, after: Option<&Cursor>) -> Vec<String> {
    let mut export = Export::begin(file, after).unwrap();
    let (end, mut lines) = (export.end().unwrap(), Vec::new());
    loop {
        let mut line = String::new();
        if !export.next_line(end, &mut line).unwrap() {
            return lines;
        }
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        lines.push(line);
    }
}

fn cursor(line: &str) -> Cursor {
    RowLine::read(line.trim_end()).unwrap().cursor.unwrap()
}

/// A ledger with certificates, revocations between them, and reservations that were given up.
fn filled(file: &Path, maker: &Maker, rows: u64) -> Vec<Serial> {
    let ledger = open(file, 7);
    let mut serials = Vec::new();
    for number in 1..=rows {
        let at = START + number;
        if number % 7 == 0 {
            let serial = ledger.draw(NodePrefix::new(0), [5; 16]);
            let (reserve, _) = maker.row(number, serial, at);
            ask(|done| ledger.intend(vec![reserve], done));
            ledger.abandon(vec![serial]);
            serials.push(serial);
        } else {
            serials.push(maker.issue(&ledger, number, at));
        }
        if number % 5 == 0 {
            // Not the latest row, and in the order of neither numbers nor times.
            revoke(&ledger, serials[usize::try_from(number / 2).unwrap()], at + number % 3);
        }
    }
    ask(|done| ledger.flush(done));
    serials
}

/// The stage of the row of this serial number, in a word; and whether it is revoked.
fn state(ledger: &SqliteLedger, serial: Serial) -> Option<(&'static str, bool)> {
    let row = ask(|done| ledger.find(vec![Locator::Serial(serial)], done)).remove(0)?;
    let stage = match row.stage {
        RowStage::Reserved => "reserved",
        RowStage::Abandoned => "abandoned",
        RowStage::Issued(_) => "issued",
    };
    Some((stage, row.revocation.is_some()))
}
