//! Decides and issues: identifies the client, decides whether it may have what it asks for, and orders the
//! steps of one issuance.
//!
//! A shell hands in batches of [`Job`]s with the time; each job ends in exactly one [`Outcome`]. Between them are a [`Ledger`] (the durable
//! record) and a [`Signer`] (which holds the CA's key), both asynchronous and in batches: they may complete immediately or later, on any thread,
//! in any order, or not at all. The crate reads no clock, socket, file or global randomness; it knows neither DTLS nor CoAP, so that a front over
//! HTTPS uses it unchanged.
//!
//! ```text
//!  Job ──verify CSR──► standing ──decide──► Permit ──claim──► prepare ──intend──► sign ──check──► record ──► Outcome
//!        (this thread)  (ledger)            (used up)  │      (serial,  (ledger,  (signer)        (ledger,   (deliver)
//!                                                      │       TBS)      durable)                  durable)
//!                                        identical request in flight: waits for the same outcome
//! ```
//!
//! * [`Authority`] is behind an EST server. [`Profile`] says which devices may enrol at a label and what they are told; whichever authority
//!   answers, the server needs no more. It is made once, by that authority, and immutable.
//! * [`Ca`] is an issuing CA without its key and with a verified chain; [`CaProfile`] is the data that such a CA adds to a profile.
//! * [`probe`](fn@probe) tries a profile on copies of its CA with throw-away keys: the CA's own key signs only certificates that the ledger has
//!   reserved.
//! * [`CaAuthority`] issues in the order above. A failure anywhere is an [`Outcome::Later`], never a lost job and never a
//!   second certificate.
//! * [`MemoryLedger`] and [`RingSigner`] are the first implementations of the two traits.

mod arrival;
mod authority;
mod backdate;
mod batch;
mod ca;
mod ca_authority;
mod ca_profile;
mod checks;
mod cipher;
mod clock_guard;
mod collected;
mod completion;
mod compromised_keys;
mod crl;
mod crl_list;
mod decide;
mod device;
mod entry;
mod executor;
mod function;
mod idempotency;
mod in_flight;
mod intent;
mod issued;
mod issuer;
mod job;
mod job_request;
mod key_protection;
mod ledger;
mod memory;
mod memory_relay;
mod occasion;
mod origin;
mod permit;
mod probe;
mod profile;
mod profile_version;
mod random;
mod refusal;
mod refusal_record;
mod relay;
mod relay_decide;
mod relay_profile;
mod renewal;
mod revocation;
mod san;
mod signer;
mod standing;
mod subject;
mod upstream;
mod vouched;

pub use arrival::Arrival;
pub use authority::Authority;
pub use backdate::BACKDATE;
pub use batch::{Isolate, JobBatch, NextStep};
pub use ca::{Ca, CaFault, ChainRule, RolloverFault, RolloverRule, Urls, VerifySignatures};
pub use ca_authority::CaAuthority;
pub use ca_profile::{
    CERTIFICATES_PER_DEVICE, CERTIFICATES_PER_DEVICE_MAX, CERTIFICATES_PER_DEVICE_MIN, CaProfile, CaProfileFault,
    CaProfileSpec, KeyTypes, Unrecorded, VALIDITY_MIN,
};
pub use clock_guard::{BEHIND_MAX, ClockGuard, JUMP_MAX, ledger_time};
pub use collected::Collected;
pub use completion::Completion;
pub use crl::CrlFault;
pub use crl_list::{
    CRL_ENTRIES_PAGE_MAX, CRL_LISTS_MAX, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery,
    CrlListState, CrlListing, NextCrl,
};
pub use device::{DEVICE_ID_BYTES_MAX, Device, DeviceId, DeviceIdRule, RuleFault, ShownDevice, SubjectAttribute};
pub use entry::{
    Cursor, DiskRoom, LISTING_ROWS_MAX, LedgerEntry, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, Revoke,
    Revoked, RowFilter, RowStage, RowState,
};
pub use executor::{Executor, Inline};
pub use function::Function;
pub use idempotency::{Key, RepeatWindow};
pub use in_flight::{Claim, Flights, Joined, Waiter};
pub use intent::{Adoption, FactoryKeys, Intended, Intent, NewRow, Record, Recorded, Reserve};
pub use issued::Issued;
pub use job::{Deliver, Job, Outcome, TlsUnique};
pub use key_protection::{KeyPackageSigner, MadeKey};
pub use ledger::{INTENT_LIFETIME, Ledger, LedgerFault, LedgerOver};
pub use memory::MemoryLedger;
pub use memory_relay::MemoryRelayLedger;
pub use origin::Origin;
pub use probe::{Probe, ProbeFault, ProbeRule, probe};
pub use profile::{Diagnostics, IssuedNames, Mode, Profile, ProfileFault, ProfileSpec, Published};
pub use profile_version::ProfileVersion;
pub use random::Random;
pub use refusal::{Asked, Busy, KeyProtectionFlaw, Misissue, Mismatch, Refusal};
pub use refusal_record::RefusalRecord;
pub use relay::{
    Begun, CERTIFICATES_PER_RELAY_MAX, RELAY_LIFETIME, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger,
    RelayListing, RelayQuery, RelayRecord, RelayRequest, RelayStage, Relayed, RelayedCertificate,
};
pub use relay_decide::{KnownRelay, MadeRequest, RelayJob, RelayPermit};
pub use relay_profile::{RelayProfile, RelayProfileFault, RelayProfileSpec, RelayedKeys, UpstreamFacts};
pub use renewal::{RenewalCause, RenewalPolicy, RenewalWindow};
pub use revocation::{ACTOR_BYTES_MAX, Actor, Revocation};
pub use san::{SanKind, SanKindFault};
pub use signer::{CaKeyFault, CrlSigner, Custody, RingSigner, Signer, SignerFault, ToSign};
pub use standing::{Finding, Gap, GapTreatment, Inquiry, Registration, Standing, State};
pub use subject::{SubjectRule, SubjectTemplate, TemplateFault};
pub use upstream::{UpstreamAnswerFlaw, UpstreamBusy, UpstreamRefusal};
