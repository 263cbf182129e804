//! Where an export goes on, as each of its lines says.

use authority::Cursor;

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportPlace {
    /// The place of the last row.
    pub row: i64,
    /// The last revocation.
    pub revocation: i64,
}

impl ExportPlace {
    /// As a line has it.
    #[must_use]
    pub fn cursor(self) -> Cursor {
        let part = |number: i64| u128::try_from(number).unwrap_or(0);
        Cursor::from_bytes((part(self.revocation) << 64 | part(self.row)).to_be_bytes())
    }

    /// What a cursor means; nothing if no export has made it.
    #[must_use]
    pub fn of(cursor: &Cursor) -> Option<Self> {
        let whole = u128::from_be_bytes(*cursor.as_bytes());
        let part = |number: u128| i64::try_from(number).ok();
        Some(Self { row: part(whole & u128::from(u64::MAX))?, revocation: part(whole >> 64)? })
    }
}
