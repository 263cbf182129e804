//! Places between two steps of an issuance at which the server can be made to crash, for `cargo xtask crash`.
//!
//! A Registrar passes the same steps, but for `drawn`: its intent is the row of a request that is about to be sent, and `signed` is the certificate that came
//! back.
//!
//! A debug build ends itself at the n-th passage of the step that the variable `CRASH_AT` names (`signed:3`), without a last word to anybody, as a
//! power switch would. In a release build the functions are empty and the variable is not read: a server that is shipped cannot be told to crash.

#[cfg(debug_assertions)]
mod armed;
#[cfg(not(debug_assertions))]
mod empty;

#[cfg(debug_assertions)]
pub use armed::{begun, passed, passed_if_begun};
#[cfg(not(debug_assertions))]
pub use empty::{begun, passed, passed_if_begun};

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// What has just been done when the server crashes, in the order of an issuance.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All steps.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// The name in `CRASH_AT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }
    };
}

steps! {
    /// A serial number was drawn; the ledger knows nothing of it.
    Drawn = "drawn",
    /// An intent waits for the writer.
    IntentQueued = "intent-queued",
    /// An intent was written, in a transaction that is not committed.
    IntentWritten = "intent-written",
    /// An intent is durable, and nobody was told.
    IntentDurable = "intent-durable",
    /// A certificate was signed and checked, and is nowhere but in memory.
    Signed = "signed",
    /// A certificate waits for the writer.
    RecordQueued = "record-queued",
    /// A certificate was written, in a transaction that is not committed.
    RecordWritten = "record-written",
    /// A batch is in the journal, and its transaction is not committed.
    Journaled = "journaled",
    /// A certificate is durable, and nobody was told.
    RecordDurable = "record-durable",
    /// A certificate was handed to the network.
    Answered = "answered",
    /// A key that was made for a device has reached it, and the ledger has not noted that.
    KeyDelivered = "key-delivered",
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
    }
}
