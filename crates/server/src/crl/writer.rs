//! Writes the revocation lists that are due, and tries again until it succeeds.
//!
//! The thread belongs to the lists alone: it reads the ledger, hashes megabytes and waits for the disk. It has one list in memory at a time. What it
//! cannot write holds up no enrolment.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use authority::{
    Ca, Completion, CrlEntryQuery, CrlFault, CrlLayout, CrlListFilter, CrlListQuery, CrlListState, Ledger, LedgerFault,
    NextCrl,
};
use pki::AnchorId;
use pki::issue::crl::{Crl, CrlBuilder, CrlScope, CrlSpec, CrlUrl, PublishedCrl};
use rustls_pki_types::UnixTime;

use super::folder::CrlFolder;
use super::plan::{CrlPlan, file_name};
use super::status::CrlStatuses;

/// Lists that get their numbers in one step, which is one sync of the ledger.
const BATCH_LISTS: usize = 64;

/// The ledger answers a page within milliseconds; after this time its disk hangs.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(60);

/// A revocation is in its list after this time.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);

type Plan = Box<dyn Fn() -> Arc<CrlPlan> + Send>;
type Clock = Box<dyn Fn() -> UnixTime + Send>;

/// What a writer works with.
pub(crate) struct CrlWriterParts {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) folder: PathBuf,
    /// The plan in force.
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    pub(crate) statuses: Arc<CrlStatuses>,
}

/// See the module.
pub(crate) struct CrlWriter {
    ledger: Arc<dyn Ledger>,
    folder: CrlFolder,
    plan: Plan,
    clock: Clock,
    statuses: Arc<CrlStatuses>,
    /// By the name of the CA.
    known: HashMap<String, CaLists>,
    /// The CAs whose lists cannot be written, each with the reason that was logged.
    failing: HashMap<String, String>,
}

/// The lists of one CA, as they are in the folder.
struct CaLists {
    ca: AnchorId,
    url: CrlUrl,
    lists: Vec<ListFile>,
}

/// The file of one list.
#[derive(Clone, Copy, Default)]
struct ListFile {
    /// `None` if it is absent or another one.
    published: Option<PublishedCrl>,
    /// A newer number was given out and no file has it yet.
    is_behind: bool,
}

impl ListFile {
    fn is_due(&self, now: UnixTime, renewal: Duration) -> bool {
        self.is_behind
            || self.published.is_none_or(|published| {
                let age = now.as_secs().checked_sub(published.this_update.as_secs());
                // A list that seems to be of the future was made by a wrong clock.
                age.is_none_or(|age| age >= renewal.as_secs()) || published.next_update <= now
            })
    }
}

impl CrlWriter {
    pub(crate) fn new(parts: CrlWriterParts) -> Self {
        let CrlWriterParts { ledger, folder, plan, clock, statuses } = parts;
        let folder = CrlFolder::new(folder);
        Self { ledger, folder, plan, clock, statuses, known: HashMap::new(), failing: HashMap::new() }
    }

    /// Runs until the sender is dropped.
    pub(crate) fn run(mut self, stop: &Receiver<()>) {
        loop {
            self.turn(stop);
            match stop.recv_timeout((self.plan)().interval) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Writes what is due.
    pub(super) fn turn(&mut self, stop: &Receiver<()>) {
        let plan = (self.plan)();
        let names: Vec<&str> = plan.cas.iter().map(|ca| ca.name()).collect();
        self.statuses.keep(&names, plan.validity);
        self.known.retain(|name, _| names.contains(&name.as_str()));
        for ca in &plan.cas {
            let started = Instant::now();
            match self.write_due(&plan, ca, stop) {
                Ok(0) => {
                    self.failing.remove(ca.name());
                }
                Ok(lists) => {
                    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(ca = ca.name(), lists, milliseconds, folder = %self.folder.path().display(), "revocation lists written");
                    self.failing.remove(ca.name());
                    if started.elapsed() + plan.interval > PUBLISHED_WITHIN {
                        tracing::warn!(
                            ca = ca.name(),
                            milliseconds,
                            remedy =
                                "choose a shorter `interval` in [crl], a faster disk, or more shards for the next CA",
                            "writing the revocation lists took so long that a revocation may be published later than after a minute"
                        );
                    }
                }
                Err(fault) => self.failed(ca.name(), &fault),
            }
        }
    }

    /// Logged when it begins, and when the reason changes.
    fn failed(&mut self, ca: &str, fault: &WriteFault) {
        self.statuses.failed(ca);
        let why = fault.to_string();
        if self.failing.get(ca) != Some(&why) {
            tracing::error!(
                ca,
                folder = %self.folder.path().display(),
                remedy = fault.remedy(),
                "revocation lists cannot be written: {why}. Enrolment goes on; the lists are tried again"
            );
            self.failing.insert(ca.to_owned(), why);
        }
    }

    fn write_due(&mut self, plan: &CrlPlan, ca: &Arc<Ca>, stop: &Receiver<()>) -> Result<u64, WriteFault> {
        let Some(url) = ca.crl_url() else { return Ok(0) };
        self.know(ca, url)?;
        let mut written = BTreeSet::new();
        // Each list is written once in a turn: under a stream of revocations the others have their turn too.
        loop {
            let now = self.now();
            let due = self.due(ca, (now, plan.renewal()), &written)?;
            if due.is_empty() || matches!(stop.try_recv(), Err(TryRecvError::Disconnected)) {
                break;
            }
            let batch: Vec<u32> = due.into_iter().take(BATCH_LISTS).collect();
            self.write_batch(plan, (ca, url), &batch, now)?;
            written.extend(batch);
        }
        let lists = self.known.get(ca.name()).map_or(&[][..], |known| &known.lists);
        let ends = lists.iter().map(|list| list.published.map(|published| published.next_update));
        let next_update = ends.min_by_key(|end| end.map_or(0, |end| end.as_secs())).flatten();
        self.statuses.looked(ca.name(), 0, next_update);
        Ok(u64::try_from(written.len()).unwrap_or(u64::MAX))
    }

    /// The time of the ledger, which a clock that is behind does not set back.
    fn now(&self) -> UnixTime {
        let now = (self.clock)();
        self.ledger.time().map_or(now, |latest| latest.max(now))
    }

    /// Reads the folder once, and again after the CA or its URL has changed.
    fn know(&mut self, ca: &Ca, url: &CrlUrl) -> Result<(), WriteFault> {
        let anchor = ca.certificate().anchor_id();
        if self.known.get(ca.name()).is_some_and(|known| known.ca == anchor && known.url == *url) {
            return Ok(());
        }
        let wanted = CrlLayout::of(url);
        let fixed =
            ask(&*self.ledger, LEDGER_TIMEOUT, |ledger, done| ledger.fix_crl_layout(anchor, wanted.clone(), done))?;
        if fixed != wanted {
            return Err(WriteFault::Layout(fixed));
        }
        let read = |scope: CrlScope<'_>| {
            let der = self.folder.read(&file_name(ca.name(), scope))?;
            PublishedCrl::read(&der, ca.issuer(), scope)
        };
        let mut lists: Vec<ListFile> =
            url.scopes().map(|scope| ListFile { published: read(scope), is_behind: false }).collect();
        for CrlListState { list, number, .. } in self.lists(anchor, CrlListFilter::Known)? {
            if let Some(file) = lists.get_mut(usize::try_from(list).unwrap_or(usize::MAX)) {
                // A crash came between the number and the file.
                file.is_behind = file.published.is_some_and(|published| published.number < number);
            }
        }
        self.known.insert(ca.name().to_owned(), CaLists { ca: anchor, url: url.clone(), lists });
        Ok(())
    }

    /// The lists that are due and not among those that were written in this turn: first those that lack a revocation.
    fn due(
        &self,
        ca: &Ca,
        (now, renewal): (UnixTime, Duration),
        written: &BTreeSet<u32>,
    ) -> Result<Vec<u32>, WriteFault> {
        let outdated = self.lists(ca.certificate().anchor_id(), CrlListFilter::Outdated)?;
        let mut due: Vec<u32> = outdated.into_iter().map(|it| it.list).collect();
        let files = self.known.get(ca.name()).map_or(&[][..], |known| &known.lists);
        let others = (0..).zip(files).filter(|(_, file)| file.is_due(now, renewal)).map(|(list, _)| list);
        let outdated: BTreeSet<u32> = due.iter().copied().collect();
        due.extend(others.filter(|list| !outdated.contains(list)));
        self.statuses.due(ca.name(), due.iter().filter(|list| !written.contains(list)).count());
        due.retain(|list| !written.contains(list));
        Ok(due)
    }

    fn lists(&self, ca: AnchorId, which: CrlListFilter) -> Result<Vec<CrlListState>, LedgerFault> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let query = CrlListQuery { ca, which, after };
            let page = ask(&*self.ledger, LEDGER_TIMEOUT, |ledger, done| ledger.crl_lists(query, done))?;
            all.extend(page.lists);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    fn write_batch(
        &mut self,
        plan: &CrlPlan,
        (ca, url): (&Arc<Ca>, &CrlUrl),
        batch: &[u32],
        now: UnixTime,
    ) -> Result<(), WriteFault> {
        self.folder.prepare().map_err(|error| WriteFault::Folder { error, file: None })?;
        let anchor = ca.certificate().anchor_id();
        let next: Vec<NextCrl> = batch
            .iter()
            .map(|&list| NextCrl {
                ca: anchor,
                list,
                // It grows with the time, so that it also grows after the ledger was restored from a backup.
                number_min: self.number_min(ca, list, now),
                expired_before: self.file(ca, list).and_then(|file| file.published).map(|it| it.this_update),
            })
            .collect();
        for &list in batch {
            self.change(ca, list, |file| file.is_behind = true);
        }
        let numbers = ask(&*self.ledger, LEDGER_TIMEOUT, |ledger, done| ledger.number_crls(next, done))?;
        for (&list, number) in batch.iter().zip(numbers) {
            let Some(scope) = url.scope(list) else { continue };
            let next_update = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + plan.validity);
            let spec = CrlSpec { scope, number, this_update: now, next_update };
            let crl = self.sign(plan, ca, &spec)?;
            let name = file_name(ca.name(), scope);
            self.folder
                .replace(&name, crl.der())
                .map_err(|error| WriteFault::Folder { error, file: Some(self.folder.path().join(&name)) })?;
            let published = PublishedCrl { number, this_update: now, next_update };
            self.change(ca, list, |file| *file = ListFile { published: Some(published), is_behind: false });
        }
        self.folder.sync().map_err(|error| WriteFault::Folder { error, file: None })?;
        self.statuses.written(ca.name(), now);
        Ok(())
    }

    fn number_min(&self, ca: &Ca, list: u32, now: UnixTime) -> u64 {
        let published = self.file(ca, list).and_then(|file| file.published);
        published.map_or(0, |published| published.number.saturating_add(1)).max(now.as_secs())
    }

    fn file(&self, ca: &Ca, list: u32) -> Option<&ListFile> {
        self.known.get(ca.name())?.lists.get(usize::try_from(list).ok()?)
    }

    fn change(&mut self, ca: &Ca, list: u32, change: impl FnOnce(&mut ListFile)) {
        let known = self.known.get_mut(ca.name());
        let index = usize::try_from(list).unwrap_or(usize::MAX);
        if let Some(file) = known.and_then(|known| known.lists.get_mut(index)) {
            change(file);
        }
    }

    fn sign(&self, plan: &CrlPlan, ca: &Arc<Ca>, spec: &CrlSpec<'_>) -> Result<Crl, WriteFault> {
        let mut builder = CrlBuilder::new(Arc::clone(ca.issuer()), spec).map_err(CrlFault::List)?;
        let (list, anchor) = (spec.scope.shard().map_or(0, |shard| shard.index()), ca.certificate().anchor_id());
        let mut after = None;
        loop {
            let query = CrlEntryQuery { ca: anchor, list, after };
            let page = ask(&*self.ledger, LEDGER_TIMEOUT, |ledger, done| ledger.crl_entries(query, done))?;
            for entry in &page.entries {
                builder.push(entry).map_err(CrlFault::List)?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let list = builder.finish().map_err(CrlFault::List)?;
        Ok(ca.sign_crl(&*plan.signer, list)?)
    }
}

/// Asks the ledger and waits, no longer than this.
pub(crate) fn ask<T: Send + 'static>(
    ledger: &dyn Ledger,
    timeout: Duration,
    call: impl FnOnce(&dyn Ledger, Completion<Result<T, LedgerFault>>),
) -> Result<T, LedgerFault> {
    let (sender, answer) = mpsc::channel();
    // Nobody waits after the timeout.
    call(ledger, Box::new(move |answer| drop(sender.send(answer))));
    answer.recv_timeout(timeout).unwrap_or(Err(LedgerFault::Unavailable))
}

/// Why a list was not written.
#[derive(Debug)]
enum WriteFault {
    Ledger(LedgerFault),
    /// The ledger holds another layout.
    Layout(CrlLayout),
    Sign(CrlFault),
    Folder {
        error: io::Error,
        file: Option<PathBuf>,
    },
}

impl From<LedgerFault> for WriteFault {
    fn from(fault: LedgerFault) -> Self {
        Self::Ledger(fault)
    }
}

impl From<CrlFault> for WriteFault {
    fn from(fault: CrlFault) -> Self {
        Self::Sign(fault)
    }
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(fault) => write!(f, "the ledger is {fault}"),
            Self::Layout(fixed) => write!(f, "the certificates of this CA name {}", layout_words(fixed)),
            Self::Sign(fault) => fault.fmt(f),
            Self::Folder { error, file: Some(file) } => write!(f, "{}: {error}", file.display()),
            Self::Folder { error, file: None } => write!(f, "the folder cannot be written: {error}"),
        }
    }
}

/// What certificates name, in words.
pub(crate) fn layout_words(layout: &CrlLayout) -> String {
    match layout {
        CrlLayout::Whole => "one list, without `{shard}`".to_owned(),
        CrlLayout::Sharded { shards, url } => format!("{} shards at {url}", shards.count()),
    }
}

impl WriteFault {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Ledger(LedgerFault::NeedsMigration) => "run `muster ledger migrate`; the server can go on running",
            Self::Ledger(_) => "see what the log says about the ledger",
            Self::Layout(_) => "write the `crl_url` and `crl_shards` that this CA began with",
            Self::Sign(_) => "see the CA's certificate and key",
            Self::Folder { error, .. } => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk of this folder",
                _ => "let the user of the server create files in this folder, or choose another `folder` in [crl]",
            },
        }
    }
}

#[cfg(test)]
mod tests;
