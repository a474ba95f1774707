//! One virtual clock, one queue of events, and everybody in it: servers, disks, network, clients. Dispatches;
//! the duties themselves are in `shell`, `disk`, `wires`, `faults` and the clients' files.

use quorate_replica::command::Reply;
use quorate_replica::replica::Request;

use crate::blame::Blame;
use crate::chronicle::Chronicle;
use crate::clients::Client;
use crate::effects::Effects;
use crate::faults::Fault;
use crate::history::History;
use crate::host::{Host, WallClock};
use crate::invariants::steady::Steady;
use crate::invariants::{Invariants, View, Violation};
use crate::network::{Flight, HostIndex, Network};
use crate::operator::Operator;
use crate::options::Options;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, Schedule};
use crate::trace::Trace;
use crate::wires::Wires;
use crate::workload::Workload;

/// A client as the simulator counts them, from 0.
pub type ClientIndex = usize;

/// Everything that can be scheduled.
#[derive(Debug)]
pub enum Happening {
    /// A server starts, if it is still down.
    Start {
        /// Which.
        host: HostIndex,
    },
    /// Something happens to a process.
    Process {
        /// On which server.
        host: HostIndex,
        /// In which life.
        life: u64,
        /// What.
        what: Internal,
    },
    /// A message between servers arrives.
    Arrival(Flight),
    /// A server notices that its way to a peer works again.
    LinkUp {
        /// Who notices.
        host: HostIndex,
        /// Whom it reaches.
        peer: HostIndex,
    },
    /// A server notices that its way to a peer was closed from the other end.
    LinkDown {
        /// Who notices.
        host: HostIndex,
        /// Whom it does not reach any more.
        peer: HostIndex,
        /// The life of the peer since: in another one the way may be up again.
        life: u64,
    },
    /// A fault begins.
    Fault(Fault),
    /// A partition ends, if it is still the latest.
    Heal {
        /// Which partition.
        partition: u64,
    },
    /// A client has something to do.
    ClientWakes {
        /// Which.
        client: ClientIndex,
    },
    /// A client's dialling reaches a server.
    Dialled {
        /// The connection.
        wire: u64,
    },
    /// The server's answer to a dialling reaches the client.
    DialAnswered {
        /// The connection.
        wire: u64,
        /// The life of the process that took it; `None` if nobody listens.
        life: Option<u64>,
    },
    /// A request reaches its server.
    ToServer {
        /// The request.
        request: Request,
    },
    /// An answer reaches its client.
    ToClient {
        /// The connection.
        wire: u64,
        /// To which request.
        tag: u64,
        /// What.
        reply: Reply,
    },
    /// The server sees the end of a connection.
    ServerSeesEnd {
        /// The connection.
        wire: u64,
    },
    /// The client sees the end of a connection.
    ClientSeesEnd {
        /// The connection.
        wire: u64,
    },
}

/// What happens inside a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internal {
    /// Its timer.
    Tick,
    /// It takes what waits.
    Wake,
    /// A sync is done.
    Synced,
    /// The disk may have been idle since this turn.
    Idle {
        /// Which turn.
        turn: u64,
    },
    /// The identity is written.
    IdentityDue,
    /// What was heard of the starts of others is written.
    StartsDue,
    /// That the folder begins anew is written.
    AnewDue,
    /// A piece of work on a snapshot is done.
    Keeping,
    /// There may be room for what was held.
    Room,
}

/// Which phase of the run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults strike.
    Faulty,
    /// Nothing goes wrong any more; clients go on.
    Healed,
    /// Clients begin nothing new.
    Draining,
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events that happened.
    pub events: u64,
    /// Messages between servers that were sent.
    pub messages: u64,
    /// Crashes of processes and of power.
    pub crashes: u64,
    /// Servers that were told to stop, and have left in order.
    pub left: u64,
    /// Answers that say that the servers, or too few of them, could not do what was asked, once all have taken part.
    pub errors: u64,
    /// Partitions.
    pub partitions: u64,
    /// Other faults.
    pub faults: u64,
    /// Times at which a disk had no room for a write.
    pub held: u64,
    /// Things done to snapshots.
    pub snapshots: u64,
    /// Changes of the members that a leader took on.
    pub changes: u64,
    /// Backups that were taken whole.
    pub backups: u64,
    /// Snapshots that came whole from another server.
    pub received: u64,
    /// Servers that found their folder damaged, and did not start.
    pub refusals: u64,
    /// Messages that the wire's checksum refused.
    pub garbage: u64,
}

/// A run.
pub struct World {
    /// What was drawn before it began.
    pub options: Options,
    pub(crate) schedule: Schedule<Happening>,
    pub(crate) trace: Trace,
    pub(crate) phase: Phase,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) wires: Wires,
    pub(crate) clients: Vec<Client>,
    pub(crate) workload: Workload,
    pub(crate) history: History,
    pub(crate) chronicle: Chronicle,
    pub(crate) blame: Option<Blame>,
    /// Operations that had been called when the faults ended.
    pub(crate) healed_at: usize,
    /// A client was told so since the faults ended.
    pub(crate) is_short_of_memory: bool,
    pub(crate) invariants: Invariants,
    pub(crate) effects: Option<Effects>,
    pub(crate) shown: Vec<Option<View>>,
    pub(crate) counts: Counts,
    pub(crate) partition: u64,
    pub(crate) starts: u64,
    pub(crate) operator: Operator,
    pub(crate) chance: Chances,
}

/// Makes a stream of chance of its own.
const OPERATOR: u64 = 0x6f70_6572_6174;
/// And another.
const LINKS: u64 = 0x6c69_6e6b_7321;

/// Streams of chance, one for each purpose, so that a draw more for one leaves the others as they were.
pub(crate) struct Chances {
    pub(crate) hosts: Prng,
    pub(crate) faults: Prng,
    pub(crate) wires: Prng,
    pub(crate) disks: Prng,
    pub(crate) operator: Prng,
    pub(crate) links: Prng,
}

impl Chances {
    fn new(prng: &mut Prng) -> Self {
        // From a stream of its own: what is drawn for the others stays as it was.
        let operator = Prng::new(prng.clone().draw() ^ OPERATOR);
        let links = Prng::new(prng.clone().draw() ^ LINKS);
        Self {
            hosts: prng.fork(),
            faults: prng.fork(),
            wires: prng.fork(),
            disks: prng.fork(),
            operator,
            links,
        }
    }
}

impl World {
    /// The beginning of a run: empty folders, nobody started.
    pub fn new(options: Options, prng: &mut Prng, trace: Trace) -> Self {
        let count = (options.nodes + options.spares) as usize;
        let network = Network::new(count, options.network.clone(), prng.fork());
        let mut chance = Chances::new(prng);
        let hosts = (0..count).map(|_| Host { clock: clock(&options, &mut chance.hosts), ..Host::default() });
        let hosts = hosts.collect();
        let workload = Workload::new(options.workload.clone(), prng.fork());
        let clients = Client::all(&options, prng);
        let mut world = Self {
            schedule: Schedule::default(),
            trace,
            phase: Phase::Faulty,
            hosts,
            network,
            wires: Wires::default(),
            clients,
            workload,
            history: History::default(),
            chronicle: Chronicle::default(),
            blame: None,
            healed_at: 0,
            is_short_of_memory: false,
            invariants: Invariants::founded_by(options.nodes as usize, count),
            effects: None,
            shown: vec![None; count],
            counts: Counts::default(),
            partition: 0,
            starts: 0,
            operator: Operator::default(),
            chance,
            options,
        };
        world.invariants.steady = Steady::of(&world.options);
        world.put_disk_bug_back();
        for host in 0..count {
            let delay = world.chance.hosts.between(0, 500 * MS);
            world.schedule.after(delay, Happening::Start { host });
        }
        for client in 0..world.clients.len() {
            let delay = world.chance.wires.between(0, 1_000 * MS);
            world.schedule.after(delay, Happening::ClientWakes { client });
        }
        world.schedule_faults();
        world
    }

    /// The virtual time.
    pub fn now(&self) -> Micros {
        self.schedule.now()
    }

    /// What clients saw.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// In which order commands took effect, once anything has.
    pub fn effects(&self) -> Option<&Effects> {
        self.effects.as_ref()
    }

    /// Counts of what happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Lets things happen until `until`, or until `done` says so after an event. Gives whether it did.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn run_until(&mut self, until: Micros, done: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        while let Some(happening) = self.schedule.next() {
            self.counts.events += 1;
            self.happen(happening)?;
            if done(self) {
                return Ok(true);
            }
            if self.now() >= until {
                break;
            }
        }
        Ok(false)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Start { host } => self.start(host),
            Happening::Process { host, life, what } => self.inside(host, life, what),
            Happening::Arrival(flight) => self.arrival(&flight),
            Happening::LinkUp { host, peer } => {
                self.link_up(host, peer);
                Ok(())
            }
            Happening::LinkDown { host, peer, life } => {
                if self.hosts[peer].life == life {
                    self.link_down(host, peer);
                }
                Ok(())
            }
            Happening::Fault(fault) => self.strike(fault),
            Happening::Heal { partition } => {
                self.end_partition(partition);
                Ok(())
            }
            Happening::ClientWakes { client } => {
                self.client_wakes(client);
                Ok(())
            }
            Happening::Dialled { wire } => {
                self.dialled(wire);
                Ok(())
            }
            Happening::DialAnswered { wire, life } => {
                self.dial_answered(wire, life);
                Ok(())
            }
            Happening::ToServer { request } => {
                self.request_arrives(request);
                Ok(())
            }
            Happening::ToClient { wire, tag, reply } => self.answer_arrives(wire, tag, &reply),
            Happening::ServerSeesEnd { wire } => {
                self.server_sees_end(wire);
                Ok(())
            }
            Happening::ClientSeesEnd { wire } => {
                self.client_sees_end(wire);
                Ok(())
            }
        }
    }

    /// Something happens inside a process: not while it stands still, and not after its death.
    fn inside(&mut self, host: HostIndex, life: u64, what: Internal) -> Result<(), Violation> {
        let now = self.now();
        let asleep_until = self.hosts[host].asleep_until;
        if self.hosts[host].alive(life).is_none() {
            return Ok(());
        }
        if now < asleep_until {
            self.schedule.at(asleep_until, Happening::Process { host, life, what });
            return Ok(());
        }
        match what {
            Internal::Tick => {
                let interval = self.hosts[host].clock.stretched(quorate_replica::replica::TICK_MS * MS);
                self.schedule.after(interval, Happening::Process { host, life, what });
                self.ticks(host)
            }
            Internal::Wake => self.wake(host),
            Internal::Synced => self.synced(host),
            Internal::Idle { turn } => self.idle(host, turn),
            Internal::AnewDue => self.anew_due(host),
            Internal::StartsDue => self.starts_due(host),
            Internal::IdentityDue => self.identity_due(host),
            Internal::Keeping => self.keep(host),
            Internal::Room => self.try_again(host),
        }
    }
}

fn clock(options: &Options, prng: &mut Prng) -> WallClock {
    let around_zero = |prng: &mut Prng, most: u64| prng.between(0, 2 * most) as i64 - most as i64;
    WallClock {
        offset_ms: around_zero(prng, options.host.clock_offset_ms),
        drift_ppm: around_zero(prng, options.host.clock_drift_ppm),
    }
}
