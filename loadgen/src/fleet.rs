//! The fleet's one thread: sockets, arrivals, deadlines.
//!
//! ```text
//!            schedule.due ──► Device::start ─┐
//!   socket ──► batch ──► Device::receive ────┼──► transmit ──► link ──► socket ──► flush
//!            timers.pop ──► Device::timeout ─┘
//!                                 └──► end: statistics, certificate kept, schedule.finished
//! ```
//!
//! On loopback one socket plays all devices, distinguished by source address; elsewhere each device has its own socket (`addresses`). The clock
//! is read once per turn. `device` decides what the devices send.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dtls::Now;
use mio::{Events, Poll, Token};
use net::Clock;
use net::udp::{Batch, BindFault, Socket, SocketOptions, is_report};
use pki::PrivateKey;

use crate::addresses::{AddressPlan, LOOPBACK_DEVICES_MAX};
use crate::device::{DeviceEnd, FleetDevice, HeldCertificate, RunScript};
use crate::link::{Delivery, FleetLink};
use crate::progress::ProgressDisplay;
use crate::report::{LinkRow, LoadReport, RunFacts};
use crate::run::Run;
use crate::schedule::{LastStart, Schedule};
use crate::stats::Stats;
use crate::timers::Timers;

/// Devices started in one turn: a burst of arrivals must not keep the answers to other devices waiting in the socket.
const STARTS_PER_TURN: usize = 64;
/// Receives in one turn, each of up to a batch: answers must not delay the arrivals either.
const RECEIVES_PER_TURN: usize = 16;
/// The loop looks at the progress bar and at Ctrl-C at least this often.
const TICK: Duration = Duration::from_millis(100);

/// The result of a run.
#[derive(Debug)]
pub struct Finished {
    /// The measurements.
    pub report: LoadReport,
    /// By device, if they were to be kept: the certificate's DER.
    pub certificates: Vec<Option<Box<[u8]>>>,
    /// By device, if they were to be kept: the key of the certificate, if the server has made it.
    pub keys: Vec<Option<Arc<PrivateKey>>>,
    /// The run was stopped before its end.
    pub interrupted: bool,
}

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
}

impl fmt::Display for FleetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(fault) => write!(f, "a device's socket cannot be opened: {fault}"),
            Self::Loop(source) => write!(f, "the event loop failed: {source}"),
            Self::TooManyDevices { limit } => write!(f, "this machine can run at most {limit} devices"),
            Self::Client(why) => f.write_str(why),
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

/// Plays a run to its end, or until `stop` is set.
///
/// # Errors
/// [`FleetFault`]; what happens to single devices is in the report instead.
pub fn play(run: &Run<'_>, progress: &mut ProgressDisplay, stop: &AtomicBool) -> Result<Finished, FleetFault> {
    let mut fleet = Fleet::new(run)?;
    let cpu = thread_cpu();
    let began = fleet.began;
    let mut batch = Batch::new();
    while !fleet.schedule.is_over() && !stop.load(Ordering::Relaxed) {
        fleet.turn(&mut batch)?;
        progress.set(fleet.over(), Instant::now());
    }
    let facts = RunFacts {
        server: run.uri.clone(),
        devices: run.devices.len(),
        arrivals: run.arrivals,
        block: u16::try_from(run.block.bytes()).unwrap_or(u16::MAX),
        suite: run.suite.name().to_owned(),
        seed: run.seed,
        took: began.elapsed(),
        cpu: thread_cpu().saturating_sub(cpu),
        starts: fleet.starts,
        link: fleet.link.as_ref().map(|link| LinkRow { lost: link.lost(), repeated: link.repeated() }),
    };
    Ok(Finished {
        report: LoadReport::new(facts, &fleet.stats),
        interrupted: !fleet.schedule.is_over(),
        certificates: fleet.certificates,
        keys: fleet.keys,
    })
}

struct Fleet<'r> {
    run: &'r Run<'r>,
    script: Arc<RunScript>,
    plan: AddressPlan,
    poll: Poll,
    events: Events,
    sockets: Sockets,
    schedule: Schedule,
    timers: Timers,
    devices: Vec<Option<Box<FleetDevice>>>,
    certificates: Vec<Option<Box<[u8]>>>,
    keys: Vec<Option<Arc<PrivateKey>>>,
    link: Option<FleetLink>,
    stats: Stats,
    starts: LastStart,
    /// The turn's receives were used up before the socket was empty: no event reports the rest.
    unread: bool,
    began: Instant,
    now: Now,
}

/// One socket for all devices, or one for each device at work.
enum Sockets {
    Shared(Box<Socket>),
    PerDevice(Vec<Option<Box<Socket>>>),
}

/// An input of a device.
enum Cue<'b> {
    Datagram(&'b mut [u8]),
    Timeout,
}

impl<'r> Fleet<'r> {
    fn new(run: &'r Run<'r>) -> Result<Self, FleetFault> {
        let plan = AddressPlan::towards(run.server);
        let count = run.devices.len();
        let poll = Poll::new()?;
        let sockets = match plan {
            AddressPlan::Loopback => {
                if count > LOOPBACK_DEVICES_MAX {
                    return Err(FleetFault::TooManyDevices { limit: LOOPBACK_DEVICES_MAX });
                }
                let mut socket = Socket::bind(SocketAddr::from(([0; 4], 0)), &SocketOptions::default())?;
                socket.register(poll.registry(), Token(0))?;
                Sockets::Shared(Box::new(socket))
            }
            AddressPlan::Ports => {
                raise_file_limit();
                Sockets::PerDevice(std::iter::repeat_with(|| None).take(count).collect())
            }
        };
        let now = Clock.now();
        Ok(Self {
            run,
            script: Arc::new(RunScript::new(run).map_err(FleetFault::Client)?),
            plan,
            poll,
            events: Events::with_capacity(1024),
            sockets,
            schedule: Schedule::new(run.arrivals, count, run.seed),
            timers: Timers::new(count),
            devices: std::iter::repeat_with(|| None).take(count).collect(),
            certificates: if run.keep { vec![None; count] } else { Vec::new() },
            keys: if run.keep { vec![None; count] } else { Vec::new() },
            link: run.link.as_ref().map(|spec| FleetLink::new(spec, run.seed)),
            stats: Stats::default(),
            starts: LastStart::default(),
            unread: false,
            began: now.mono,
            now,
        })
    }

    fn over(&self) -> usize {
        usize::try_from(self.stats.enrolled + self.stats.failed).unwrap_or(usize::MAX)
    }

    fn turn(&mut self, batch: &mut Batch) -> Result<(), FleetFault> {
        self.now = Clock.now();
        let more_to_start = self.start_due()?;
        while let Some(index) = self.timers.pop(self.now.mono) {
            self.wake(index)?;
        }
        self.flush()?;
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
            let Some(start) = self.schedule.due(self.now.mono.saturating_duration_since(self.began)) else {
                return Ok(false);
            };
            let scheduled = self.began + start.scheduled;
            self.stats.record_send_lag(self.now.mono.saturating_duration_since(scheduled));
            self.starts =
                LastStart { scheduled: start.scheduled, actual: self.now.mono.saturating_duration_since(self.began) };
            if let Sockets::PerDevice(sockets) = &mut self.sockets {
                let mut socket = Socket::connect(self.run.server, None, &DEVICE_SOCKET)?;
                socket.register(self.poll.registry(), Token(start.device))?;
                sockets[start.device] = Some(Box::new(socket));
            }
            let identity = &self.run.devices[start.device];
            match FleetDevice::start(&self.script, start.device, identity, scheduled, self.now) {
                Ok(device) => {
                    self.devices[start.device] = Some(Box::new(device));
                    self.after(start.device, None)?;
                }
                Err(why) => return Err(FleetFault::Client(why)),
            }
        }
        Ok(true)
    }

    fn wake(&mut self, index: usize) -> Result<(), FleetFault> {
        let Some(device) = &self.devices[index] else { return Ok(()) };
        let deadline = device.poll_timeout();
        if deadline <= self.now.mono {
            return self.tell(index, Cue::Timeout);
        }
        self.timers.arm(index, deadline);
        Ok(())
    }

    /// Until the next deadline, arrival or look at the progress bar.
    fn wait(&self) -> Duration {
        let timer = self.timers.next().map(|at| at.saturating_duration_since(self.now.mono));
        let arrival = self.schedule.next().map(|at| (self.began + at).saturating_duration_since(self.now.mono));
        [timer, arrival].into_iter().flatten().fold(TICK, Duration::min)
    }

    fn receive_all(&mut self, batch: &mut Batch) -> Result<(), FleetFault> {
        self.unread = false;
        match self.plan {
            AddressPlan::Loopback => self.receive(0, batch),
            AddressPlan::Ports => {
                let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
                ready.into_iter().try_for_each(|token| self.receive(token, batch))
            }
        }
    }

    /// Empties one socket, as far as a turn goes.
    fn receive(&mut self, token: usize, batch: &mut Batch) -> Result<(), FleetFault> {
        let mut emptied = false;
        for _ in 0..RECEIVES_PER_TURN {
            let Some(socket) = self.sockets.get(token) else { return Ok(()) };
            match socket.receive(batch) {
                Ok(()) => {}
                // Nothing listens there yet, or a router has no route at the moment: the devices retransmit.
                Err(fault) if is_report(&fault) => continue,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    emptied = true;
                    break;
                }
                Err(fault) => return Err(fault.into()),
            }
            for datagram in batch.datagrams() {
                let device = match self.plan {
                    AddressPlan::Loopback if datagram.peer == self.run.server => self.plan.device(datagram.local),
                    AddressPlan::Loopback => None,
                    AddressPlan::Ports => Some(token),
                };
                match device {
                    Some(index) => self.deliver(index, datagram.bytes)?,
                    None => self.stats.stray_datagrams += 1,
                }
            }
        }
        self.unread |= !emptied;
        self.flush_one(token)
    }

    /// Delivers a datagram to its device, over the link.
    fn deliver(&mut self, index: usize, bytes: &mut [u8]) -> Result<(), FleetFault> {
        let fate = self.link.as_mut().map_or(Delivery::Arrives, |link| link.towards_device(index, bytes.len()));
        match fate {
            Delivery::Lost => Ok(()),
            Delivery::Arrives => self.tell(index, Cue::Datagram(bytes)),
            Delivery::Twice => {
                // Records are decrypted in place, so the second copy is made before.
                let mut again = bytes.to_vec();
                self.tell(index, Cue::Datagram(bytes))?;
                self.tell(index, Cue::Datagram(&mut again))
            }
        }
    }

    fn tell(&mut self, index: usize, cue: Cue<'_>) -> Result<(), FleetFault> {
        let Some(device) = self.devices.get_mut(index).and_then(Option::as_mut) else {
            self.stats.stray_datagrams += 1;
            return Ok(());
        };
        let end = match cue {
            Cue::Datagram(bytes) => {
                self.stats.traffic.received(bytes.len());
                device.receive(self.now, bytes, &mut self.stats)
            }
            Cue::Timeout => device.timeout(self.now, &mut self.stats),
        };
        self.after(index, end)
    }

    /// Sends the device's pending datagrams, and either arms its timer or releases the device.
    fn after(&mut self, index: usize, end: Option<DeviceEnd>) -> Result<(), FleetFault> {
        let Some(device) = self.devices[index].as_mut() else { return Ok(()) };
        if let Some(socket) = self.sockets.get(index) {
            let source = self.plan.source(index);
            while let Some(bytes) = device.poll_transmit() {
                self.stats.traffic.sent(bytes.len());
                let fate = self.link.as_mut().map_or(Delivery::Arrives, |link| link.towards_server(index, bytes.len()));
                if fate != Delivery::Lost {
                    socket.send(self.run.server, source, bytes);
                }
            }
        }
        match end {
            None => self.timers.arm(index, device.poll_timeout()),
            Some(end) => self.let_go(index, end),
        }
        // The socket of one device is flushed immediately; the shared one is flushed once per turn.
        if self.plan == AddressPlan::Ports { self.flush_one(index) } else { Ok(()) }
    }

    fn let_go(&mut self, index: usize, end: DeviceEnd) {
        self.devices[index] = None;
        if let Sockets::PerDevice(sockets) = &mut self.sockets
            && let Some(mut socket) = sockets[index].take()
        {
            socket.flush();
        }
        match end {
            DeviceEnd::Enrolled(HeldCertificate { der, key }) => {
                self.stats.enrolled += 1;
                if let (Some(certificate), Some(kept)) = (self.certificates.get_mut(index), self.keys.get_mut(index)) {
                    (*certificate, *kept) = (Some(der), key);
                }
            }
            DeviceEnd::GaveUp => self.stats.failed += 1,
        }
        self.schedule.finished();
    }

    /// Sends the datagrams that the shared socket has gathered in this turn.
    fn flush(&mut self) -> Result<(), FleetFault> {
        match self.plan {
            AddressPlan::Loopback => self.flush_one(0),
            AddressPlan::Ports => Ok(()),
        }
    }

    fn flush_one(&mut self, token: usize) -> Result<(), FleetFault> {
        if let Some(socket) = self.sockets.get(token) {
            socket.flush();
            socket.update_interest(self.poll.registry(), Token(token))?;
        }
        Ok(())
    }
}

/// A device has a few datagrams in flight; a server has thousands.
const DEVICE_SOCKET: SocketOptions =
    SocketOptions { sharing: net::udp::Sharing::Exclusive, receive_buffer_bytes: 1 << 16, send_buffer_bytes: 1 << 16 };

impl Sockets {
    fn get(&mut self, index: usize) -> Option<&mut Socket> {
        match self {
            Self::Shared(socket) => Some(socket),
            Self::PerDevice(sockets) => sockets.get_mut(index)?.as_deref_mut(),
        }
    }
}

/// With a socket per device, as many descriptors are needed; the limit is raised as far as the system allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, opening a socket reports it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}
