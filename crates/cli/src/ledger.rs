//! Makes the ledger that a configuration names. The server takes it from outside, so that it knows none of the kinds.

use std::sync::{Arc, mpsc};

use authority::{Ledger, MemoryLedger, RowFilter, RowState};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use pki::UnixTime;
use ring::rand::{SecureRandom, SystemRandom};
use server::Loaded;

use crate::outcome::{CommandFault, CommandResult};

/// Opens the ledger of `[ledger]`. One in memory is complete from now on; one in a file from its first start on.
pub(crate) fn open(loaded: &Loaded) -> CommandResult<Arc<dyn Ledger>> {
    let config = loaded.config();
    let Some(file) = config.ledger_file() else {
        let rows_max = usize::try_from(config.ledger.rows_max).unwrap_or(usize::MAX);
        return Ok(Arc::new(MemoryLedger::new(rows_max).since(UnixTime::now())));
    };
    let mut fresh = Fresh { serial_key: [0; 16] };
    SystemRandom::new()
        .fill(&mut fresh.serial_key)
        .map_err(|_| CommandFault::failed("the system has no randomness for the key of the serial numbers"))?;
    let ledger =
        SqliteLedger::open(&file, fresh, UnixTime::now()).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    Ok(Arc::new(ledger))
}

/// How many certificates the ledger has.
pub(crate) fn issued_count(ledger: &dyn Ledger) -> CommandResult<u64> {
    let (sender, answer) = mpsc::channel();
    let issued = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
    ledger.count(
        issued,
        Box::new(move |count| {
            let _nobody_waits_any_more = sender.send(count);
        }),
    );
    match answer.recv() {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(fault)) => Err(CommandFault::failed(format!("the ledger cannot be read: {fault}"))),
        Err(_) => Err(CommandFault::failed("the ledger did not answer")),
    }
}
