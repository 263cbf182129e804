//! One thread of a fleet: sockets, arrivals, deadlines.
//!
//! ```text
//!            schedule.due ──► Device::start ─┐
//!   socket ──► batch ──► Device::receive ────┼──► transmit ──► link ──► socket ──► flush
//!            timers.pop ──► Device::timeout ─┤      └─ delayed ──► in flight ──► socket, Device::receive
//!                                 └──► end: statistics, certificate kept, schedule.finished
//! ```
//!
//! `crew` runs several of these. The clock is read once per turn, and once more after the turn's datagrams have left, for the send lag. `device` decides
//! what the devices send, `sockets` knows whose datagram is whose.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dtls::Now;
use mio::{Events, Poll};
use net::Clock;
use net::udp::{Batch, BindFault};

use crate::addresses::LOOPBACK_DEVICES_MAX;
use crate::device::{Beginning, DeviceEnd, FleetDevice, HeldCertificate, Measuring, RunScript};
use crate::last_start::LastStart;
use crate::link::{Delivery, FleetLink, Heading, InFlight};
use crate::live::{LiveBoard, LiveFigures, PUBLISH_EVERY};
use crate::own_time::ThreadTime;
use crate::part::Part;
use crate::plan::PhasePopulation;
use crate::run::Run;
use crate::samples::{Sample, SampleBuffer};
use crate::schedule::{Schedule, Start};
use crate::sockets::FleetSockets;
use crate::stats::{MeasuredStage, Stats};
use crate::strain::{Load, Strain, StrainMeter};
use crate::timers::Timers;

/// Devices started in one turn: a burst of arrivals must not keep the answers to other devices waiting in the socket.
const STARTS_PER_TURN: usize = 64;
/// Receives in one turn, each of up to a batch: answers must not delay the arrivals either.
const RECEIVES_PER_TURN: usize = 16;
/// The loop publishes its figures and looks at Ctrl-C at least this often.
const TICK: Duration = Duration::from_millis(100);

/// Why a run cannot be played.
#[derive(Debug)]
pub enum FleetFault {
    /// A socket could not be opened.
    Bind(BindFault),
    /// The event loop failed.
    Loop(io::Error),
    /// More devices than there are addresses to play them from.
    TooManyDevices {
        /// How many there are.
        limit: usize,
    },
    /// The client does not accept this configuration.
    Client(String),
    /// The plan has devices that were not made.
    NoIdentity {
        /// The first one.
        device: usize,
    },
}

impl fmt::Display for FleetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(fault) => write!(f, "a device's socket cannot be opened: {fault}"),
            Self::Loop(source) => write!(f, "the event loop failed: {source}"),
            Self::TooManyDevices { limit } => {
                write!(
                    f,
                    "loopback has addresses for {limit} devices, and this run needs more: play fewer, or shorter steps of a search"
                )
            }
            Self::Client(why) => f.write_str(why),
            Self::NoIdentity { device } => write!(f, "device {device} of the plan has no identity"),
        }
    }
}

impl std::error::Error for FleetFault {}

impl From<BindFault> for FleetFault {
    fn from(fault: BindFault) -> Self {
        Self::Bind(fault)
    }
}

impl From<io::Error> for FleetFault {
    fn from(fault: io::Error) -> Self {
        Self::Loop(fault)
    }
}

/// What all threads of a run share.
#[derive(Clone, Copy)]
pub(crate) struct FleetShared<'r> {
    pub(crate) run: &'r Run<'r>,
    pub(crate) script: &'r Arc<RunScript>,
    /// Devices of the whole fleet.
    pub(crate) devices: usize,
    /// The number of the first one.
    pub(crate) first: usize,
    /// The beginning of the run.
    pub(crate) began: Instant,
    pub(crate) board: &'r LiveBoard,
    pub(crate) stop: &'r AtomicBool,
}

/// What a thread leaves behind.
pub(crate) struct FleetRemains {
    pub(crate) stats: Stats,
    pub(crate) starts: LastStart,
    /// From the beginning of the run to the end of this thread.
    pub(crate) took: Duration,
    pub(crate) time: ThreadTime,
    /// By phase.
    pub(crate) strain: Vec<Strain>,
    pub(crate) part: Part,
    /// By slot, if certificates were kept.
    pub(crate) held: Vec<Option<HeldCertificate>>,
    pub(crate) interrupted: bool,
}

/// The devices of one thread.
pub(crate) struct Fleet<'r> {
    shared: FleetShared<'r>,
    thread: usize,
    part: Part,
    poll: Poll,
    events: Events,
    sockets: FleetSockets,
    schedule: Schedule,
    timers: Timers,
    devices: Vec<Option<Box<FleetDevice>>>,
    held: Vec<Option<HeldCertificate>>,
    links: Vec<Option<FleetLink>>,
    in_flight: InFlight,
    stats: Stats,
    samples: SampleBuffer,
    starts: LastStart,
    /// Devices whose first datagram leaves at the end of the turn.
    starting: Vec<Start>,
    /// The turn's receives were used up before the socket was empty: no event reports the rest.
    unread: bool,
    now: Now,
    time: ThreadTime,
    strain: StrainMeter,
    next_publication: Instant,
}

/// An input of a device.
enum Cue<'b> {
    Datagram(&'b mut [u8]),
    Timeout,
}

impl<'r> Fleet<'r> {
    /// The devices of thread number `thread`.
    pub(crate) fn new(shared: FleetShared<'r>, thread: usize) -> Result<Self, FleetFault> {
        let run = shared.run;
        let part = run.segment.thread(thread, run.threads);
        if shared.first.saturating_add(shared.devices) > LOOPBACK_DEVICES_MAX {
            return Err(FleetFault::TooManyDevices { limit: LOOPBACK_DEVICES_MAX });
        }
        let slots = part.count(shared.devices);
        let poll = Poll::new()?;
        let sockets = FleetSockets::new(run.server.address, (part, shared.first), slots, poll.registry())?;
        let phases = &run.plan.phases;
        let links = phases.iter().map(|phase| phase.link.as_ref().map(|spec| FleetLink::new(spec, run.seed, thread)));
        let now = Clock.now();
        Ok(Self {
            shared,
            thread,
            part,
            poll,
            events: Events::with_capacity(1024),
            sockets,
            schedule: Schedule::new(phases, part, run.seed),
            timers: Timers::new(slots),
            devices: std::iter::repeat_with(|| None).take(slots).collect(),
            held: if run.keep || run.plan.has_returning_devices() { vec![None; slots] } else { Vec::new() },
            links: links.collect(),
            in_flight: InFlight::default(),
            stats: Stats::of_phases(phases.len()),
            samples: SampleBuffer::new(run.samples.clone()),
            starts: LastStart::default(),
            starting: Vec::new(),
            unread: false,
            now,
            time: ThreadTime::default(),
            strain: StrainMeter::default(),
            next_publication: now.mono,
        })
    }

    /// Plays the devices of this thread to their end, or until the run is stopped.
    pub(crate) fn play(mut self) -> Result<FleetRemains, FleetFault> {
        let before = ThreadTime::now();
        let mut batch = Batch::new();
        while !self.schedule.is_over() && !self.shared.stop.load(Ordering::Relaxed) {
            self.turn(&mut batch)?;
            self.publish(before);
        }
        self.next_publication = self.now.mono;
        self.publish(before);
        self.stats.counts.link_lost = self.in_flight.crowded_out;
        for link in self.links.iter().flatten() {
            self.stats.counts.link_lost += link.lost();
            self.stats.counts.link_repeated += link.repeated();
        }
        self.sockets.end().count(&mut self.stats.counts);
        Ok(FleetRemains {
            interrupted: !self.schedule.is_over(),
            took: self.shared.began.elapsed(),
            stats: self.stats,
            starts: self.starts,
            time: self.time,
            strain: self.strain.end(),
            part: self.part,
            held: self.held,
        })
    }

    fn elapsed(&self) -> Duration {
        self.now.mono.saturating_duration_since(self.shared.began)
    }

    fn publish(&mut self, before: ThreadTime) {
        if self.now.mono < self.next_publication {
            return;
        }
        self.next_publication = self.now.mono + PUBLISH_EVERY;
        let time = ThreadTime::now().since(before);
        let elapsed = self.elapsed();
        let slice = self.stats.timeline.slice(elapsed);
        slice.cpu_us += crate::stats::micros(time.since(self.time).cpu);
        slice.in_flight = slice.in_flight.max(u64::try_from(self.schedule.at_work()).unwrap_or(u64::MAX));
        self.time = time;
        let load = Load { phase: self.schedule.phase(), arriving: self.schedule.arrives(elapsed) };
        self.strain.note(elapsed, time, load);
        let asked = self.schedule.asked_at(elapsed);
        self.shared.board.publish(self.thread, LiveFigures::of(&self.stats, elapsed, asked, time.cpu));
    }

    fn turn(&mut self, batch: &mut Batch) -> Result<(), FleetFault> {
        self.now = Clock.now();
        let more_to_start = self.start_due()?;
        while let Some(slot) = self.timers.pop(self.now.mono) {
            self.wake(slot)?;
        }
        self.deliver_arrived()?;
        self.flush()?;
        self.note_starts();
        let wait = if more_to_start || self.unread { Duration::ZERO } else { self.wait() };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        self.now = Clock.now();
        self.receive_all(batch)?;
        self.flush()
    }

    /// Starts the devices whose time has come; true if there are more.
    fn start_due(&mut self) -> Result<bool, FleetFault> {
        for _ in 0..STARTS_PER_TURN {
            let Some(start) = self.schedule.due(self.elapsed()) else {
                return Ok(false);
            };
            self.stats.scheduled(start.phase, start.scheduled);
            self.begin(start)?;
        }
        Ok(true)
    }

    fn begin(&mut self, start: Start) -> Result<(), FleetFault> {
        let Start { device: index, phase, scheduled } = start;
        let slot = self.part.slot(index);
        let run = self.shared.run;
        let number = self.shared.first + index;
        let beginning = match run.plan.phases[phase].population {
            PhasePopulation::New => {
                Beginning::New(run.devices.get(number).ok_or(FleetFault::NoIdentity { device: number })?)
            }
            PhasePopulation::Enrolled => match self.held.get(slot).and_then(Option::as_ref) {
                Some(held) if self.devices[slot].is_none() => Beginning::Enrolled(held),
                // It is still at work, or never got a certificate.
                _ => {
                    self.stats.counts.starved += 1;
                    self.schedule.finished();
                    return Ok(());
                }
            },
        };
        match self.sockets.open(slot, self.poll.registry()) {
            // The figures of the others stand.
            Err(fault) if is_exhaustion(&fault.source) => {
                self.give_up_unopened(start, &fault.source);
                return Ok(());
            }
            opened => opened?,
        }
        let due = self.shared.began + scheduled;
        let device = FleetDevice::start(self.shared.script, (index, phase), beginning, due, self.now);
        self.devices[slot] = Some(Box::new(device.map_err(FleetFault::Client)?));
        self.starting.push(start);
        self.after(slot, None)
    }

    /// A device for which the generator has no socket fails in its handshake.
    fn give_up_unopened(&mut self, start: Start, fault: &io::Error) {
        let (stage, ended) = (MeasuredStage::Handshake, self.elapsed());
        self.stats.no_socket(start.phase, fault, ended);
        let device = self.shared.first + start.device;
        self.samples.push(Sample { device, phase: start.phase, stage, failed: true, ended, took: Duration::ZERO });
        self.schedule.finished();
    }

    /// The first datagrams of the devices that started in this turn have left.
    fn note_starts(&mut self) {
        if self.starting.is_empty() {
            return;
        }
        let actual = Clock.now().mono.saturating_duration_since(self.shared.began);
        for Start { phase, scheduled, .. } in self.starting.drain(..) {
            self.stats.started(phase, scheduled, actual.saturating_sub(scheduled));
            self.starts = LastStart { scheduled, actual };
        }
    }

    fn wake(&mut self, slot: usize) -> Result<(), FleetFault> {
        let Some(device) = &self.devices[slot] else { return Ok(()) };
        let deadline = device.poll_timeout();
        if deadline <= self.now.mono {
            return self.tell(slot, Cue::Timeout);
        }
        self.timers.arm(slot, deadline);
        Ok(())
    }

    /// Until the next deadline, arrival, or look at Ctrl-C.
    fn wait(&self) -> Duration {
        let timer = self.timers.next().map(|at| at.saturating_duration_since(self.now.mono));
        let arrival = self.in_flight.next().map(|at| at.saturating_duration_since(self.now.mono));
        let start = self.schedule.next().map(|at| at.saturating_sub(self.elapsed()));
        [timer, arrival, start].into_iter().flatten().fold(TICK, Duration::min)
    }

    fn receive_all(&mut self, batch: &mut Batch) -> Result<(), FleetFault> {
        self.unread = false;
        if !self.sockets.is_per_device() {
            return self.receive(0, batch);
        }
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        ready.into_iter().try_for_each(|token| self.receive(token, batch))
    }

    /// Empties one socket, as far as a turn goes.
    fn receive(&mut self, token: usize, batch: &mut Batch) -> Result<(), FleetFault> {
        let mut receives = 0;
        while receives < RECEIVES_PER_TURN && self.sockets.receive(token, batch)? {
            receives += 1;
            for datagram in batch.datagrams() {
                match self.sockets.addressee(token, datagram.peer, datagram.local) {
                    Some(slot) => self.deliver(slot, datagram.bytes)?,
                    None => self.stats.counts.stray_datagrams += 1,
                }
            }
        }
        self.unread |= receives == RECEIVES_PER_TURN;
        Ok(self.sockets.flush(token, self.poll.registry())?)
    }

    /// Delivers a datagram to its device, over the link.
    fn deliver(&mut self, slot: usize, bytes: &mut [u8]) -> Result<(), FleetFault> {
        let device = self.devices.get(slot).and_then(Option::as_ref);
        let index = self.shared.first + self.part.device(slot);
        let link = device.and_then(|device| self.links[device.phase()].as_mut());
        let fate = link
            .map_or(Delivery::Arrives, |link| link.towards_device(index, self.now.mono, bytes, &mut self.in_flight));
        match fate {
            Delivery::Lost | Delivery::Later => Ok(()),
            Delivery::Arrives => self.tell(slot, Cue::Datagram(bytes)),
            Delivery::Twice => {
                // Records are decrypted in place, so the second copy is made before.
                let mut again = bytes.to_vec();
                self.tell(slot, Cue::Datagram(bytes))?;
                self.tell(slot, Cue::Datagram(&mut again))
            }
        }
    }

    /// Delivers what was in flight until now.
    fn deliver_arrived(&mut self) -> Result<(), FleetFault> {
        while let Some((heading, mut bytes)) = self.in_flight.arrived(self.now.mono) {
            match heading {
                Heading::Device(index) => {
                    let slot = self.part.slot(index - self.shared.first);
                    self.tell(slot, Cue::Datagram(&mut bytes))?;
                }
                Heading::Server(index) => {
                    let slot = self.part.slot(index - self.shared.first);
                    self.sockets.send(slot, &bytes);
                    if self.sockets.is_per_device() {
                        self.sockets.flush(slot, self.poll.registry())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, slot: usize, cue: Cue<'_>) -> Result<(), FleetFault> {
        let Some(device) = self.devices.get_mut(slot).and_then(Option::as_mut) else {
            self.stats.counts.stray_datagrams += 1;
            return Ok(());
        };
        let mut into = Measuring { stats: &mut self.stats, samples: &mut self.samples, began: self.shared.began };
        let end = match cue {
            Cue::Datagram(bytes) => {
                into.stats.traffic.received(bytes.len());
                device.receive(self.now, bytes, &mut into)
            }
            Cue::Timeout => device.timeout(self.now, &mut into),
        };
        self.after(slot, end)
    }

    /// Sends the device's pending datagrams, and either arms its timer or releases the device.
    fn after(&mut self, slot: usize, end: Option<DeviceEnd>) -> Result<(), FleetFault> {
        let Some(device) = self.devices[slot].as_mut() else { return Ok(()) };
        let index = self.shared.first + self.part.device(slot);
        let phase = device.phase();
        while let Some(bytes) = device.poll_transmit() {
            self.stats.traffic.sent(bytes.len());
            let fate = self.links[phase].as_mut().map_or(Delivery::Arrives, |link| {
                link.towards_server(index, self.now.mono, bytes, &mut self.in_flight)
            });
            let copies = match fate {
                Delivery::Lost | Delivery::Later => 0,
                Delivery::Arrives => 1,
                Delivery::Twice => 2,
            };
            (0..copies).for_each(|_| self.sockets.send(slot, bytes));
        }
        match end {
            None => self.timers.arm(slot, device.poll_timeout()),
            Some(end) => self.let_go(slot, end),
        }
        // The socket of one device is flushed immediately; the shared one is flushed once per turn.
        if self.sockets.is_per_device() { Ok(self.sockets.flush(slot, self.poll.registry())?) } else { Ok(()) }
    }

    fn let_go(&mut self, slot: usize, end: DeviceEnd) {
        let Some(device) = self.devices[slot].take() else { return };
        self.sockets.close(slot);
        if let Some(link) = &mut self.links[device.phase()] {
            link.forget(self.shared.first + self.part.device(slot));
        }
        if let DeviceEnd::Done(Some(certificate)) = end {
            let is_new = self.shared.run.plan.phases[device.phase()].population == PhasePopulation::New;
            self.stats.counts.enrolled += u64::from(is_new);
            if let Some(held) = self.held.get_mut(slot) {
                *held = Some(certificate);
            }
        }
        self.schedule.finished();
    }

    /// Sends the datagrams that the shared socket has gathered in this turn.
    fn flush(&mut self) -> Result<(), FleetFault> {
        if self.sockets.is_per_device() { Ok(()) } else { Ok(self.sockets.flush(0, self.poll.registry())?) }
    }
}

/// Whether a socket is missing because there are too many: descriptors, ports (EADDRNOTAVAIL, EAGAIN) or memory. Any other fault is that of each device.
fn is_exhaustion(fault: &io::Error) -> bool {
    use rustix::io::Errno;
    let all = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(fault).is_some_and(|errno| all.contains(&errno))
}

#[cfg(test)]
mod tests;
