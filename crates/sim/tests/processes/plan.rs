//! What will go wrong, and when: drawn from a seed before anything starts. Knows no process and no socket; who leads
//! when a fault comes is seen then.

use std::fmt;

use quorate_sim::prng::Prng;

use crate::relay::Direction;

/// How many servers there are.
pub(crate) const SERVERS: usize = 3;

/// Faults are drawn anew for each stretch of this length: some kinds are off, some wild.
const STRETCH_MS: u64 = 15_000;

/// The time between two faults, on average, lies between these.
const GAP_MS: (u64, u64) = (250, 1_200);

/// Who is hit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Who leads then, or this one if nobody does.
    Leader(usize),
    /// This one, from 0.
    Server(usize),
}

/// Which ways are hit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ways {
    /// The connection on which one server sends to another.
    Link {
        /// Who sends.
        from: usize,
        /// Who hears.
        to: usize,
    },
    /// All on which this server sends to others: it hears and is not heard.
    From(Target),
    /// All on which others send to this server: it is heard and does not hear.
    To(Target),
    /// Both.
    Around(Target),
    /// Both, and those of its clients.
    All(Target),
    /// Those of all clients to this server.
    ClientsOf(Target),
    /// Those of one client.
    Client(usize),
    /// That of one client to one server.
    ClientTo {
        /// Who dials.
        client: usize,
        /// Who is dialled.
        server: usize,
    },
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL, and a start after so long.
    Kill(Target),
    /// The same for all at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after so long.
    Pause(Target),
    /// Connections break, and none can be made.
    Cut(Ways),
    /// Connections break, and can be made again at once.
    Break(Ways),
    /// Bytes are taken and kept. At the end they leave, or are lost with their connections.
    Hold {
        /// Where.
        ways: Ways,
        /// Which of the two directions.
        directions: &'static [Direction],
        /// The connections break at the end.
        loses: bool,
    },
    /// Bytes are late by up to so much.
    Delay {
        /// Where.
        ways: Ways,
        /// Which of the two directions.
        directions: &'static [Direction],
        /// How much.
        by_ms: u64,
    },
}

/// One fault in its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Since the faults began.
    pub(crate) at_ms: u64,
    /// How long it lasts.
    pub(crate) for_ms: u64,
    /// What.
    pub(crate) fault: Fault,
}

/// All that a seed decides about the faults.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where it is from.
    pub(crate) seed: u64,
    /// After how long each server says that it does not know.
    pub(crate) request_timeouts_ms: [u64; SERVERS],
    /// In the order of time.
    pub(crate) steps: Vec<Step>,
}

/// How often each kind of fault comes, beside the others.
#[derive(Clone, Copy, Debug)]
struct Weights([(Kind, u64); KINDS]);

const KINDS: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    KillAll,
    Pause,
    Cut,
    Break,
    Hold,
    Delay,
    /// The leader is paused and does not know, for a while after it wakes, that another one leads by now; its clients'
    /// requests wait in its sockets.
    Sleep,
}

impl Weights {
    /// All kinds, the frightful one less often.
    const ALL: [(Kind, u64); KINDS] = [
        (Kind::Kill, 6),
        (Kind::KillAll, 1),
        (Kind::Pause, 4),
        (Kind::Cut, 6),
        (Kind::Break, 3),
        (Kind::Hold, 7),
        (Kind::Delay, 5),
        (Kind::Sleep, 5),
    ];

    fn draw(prng: &mut Prng) -> Self {
        let mut weights = Self::ALL;
        for (_, weight) in &mut weights {
            *weight *= [0, 1, 1, 3][prng.below(4) as usize];
        }
        if weights.iter().all(|(_, weight)| *weight == 0) { Self(Self::ALL) } else { Self(weights) }
    }

    fn pick(&self, prng: &mut Prng) -> Kind {
        let mut left = prng.below(self.0.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in self.0 {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        unreachable!("what is left is below the sum")
    }
}

impl Plan {
    /// Faults for this long, on this many clients.
    pub(crate) fn draw(seed: u64, length_ms: u64, clients: usize) -> Self {
        let mut prng = Prng::new(seed);
        let request_timeouts_ms = [(); SERVERS].map(|()| [5_000, 5_000, 700][prng.below(3) as usize]);
        let mut steps = Vec::new();
        let mut stretch = None;
        let mut weights = Weights(Weights::ALL);
        let mut gap_ms = GAP_MS.1;
        let mut at_ms = 0;
        loop {
            let own = at_ms / STRETCH_MS;
            if stretch.replace(own) != Some(own) {
                // Everything may happen in the first stretch, so that a short run has seen all.
                weights = if own == 0 { Weights(Weights::ALL) } else { Weights::draw(&mut prng) };
                gap_ms = prng.between(GAP_MS.0, GAP_MS.1);
            }
            at_ms += prng.between(1, 2 * gap_ms);
            if at_ms >= length_ms {
                return Self { seed, request_timeouts_ms, steps };
            }
            let kind = weights.pick(&mut prng);
            if matches!(kind, Kind::Sleep) {
                let sleep = sleep(at_ms, &mut prng);
                at_ms = sleep[1].at_ms;
                steps.extend(sleep);
                continue;
            }
            let (fault, for_ms) = fault(kind, clients, &mut prng);
            steps.push(Step { at_ms, for_ms, fault });
        }
    }
}

fn target(prng: &mut Prng) -> Target {
    let server = prng.below(SERVERS as u64) as usize;
    if prng.chance(0.6) { Target::Leader(server) } else { Target::Server(server) }
}

fn ways(clients: usize, prng: &mut Prng) -> Ways {
    let server = prng.below(SERVERS as u64) as usize;
    let client = prng.below(clients as u64) as usize;
    match prng.below(10) {
        0 | 1 => {
            Ways::Link { from: server, to: (server + 1 + prng.below(SERVERS as u64 - 1) as usize) % SERVERS }
        }
        2 => Ways::From(target(prng)),
        3 => Ways::To(target(prng)),
        4 | 5 => Ways::Around(target(prng)),
        6 => Ways::All(target(prng)),
        7 => Ways::ClientsOf(target(prng)),
        8 => Ways::Client(client),
        _ => Ways::ClientTo { client, server },
    }
}

fn directions(prng: &mut Prng) -> &'static [Direction] {
    const FORWARD: &[Direction] = &[Direction::Forward];
    const BACK: &[Direction] = &[Direction::Back];
    const BOTH: &[Direction] = &[Direction::Forward, Direction::Back];
    [FORWARD, FORWARD, BACK, BOTH][prng.below(4) as usize]
}

/// Mostly short; some longer than an election, a few than a request.
fn length_ms(prng: &mut Prng) -> u64 {
    match prng.below(10) {
        0..=4 => prng.between(20, 600),
        5..=8 => prng.between(600, 2_500),
        _ => prng.between(2_500, 6_000),
    }
}

/// The leader hears nothing when it wakes; or what it was told before it slept comes late, and that another one leads later
/// still. Its ways are hit just before, so that it still leads when it is paused.
fn sleep(at_ms: u64, prng: &mut Prng) -> [Step; 2] {
    let target = Target::Leader(prng.below(SERVERS as u64) as usize);
    let for_ms = prng.between(500, 1_500);
    let longer_ms = prng.between(50, 400);
    let (ways, before_ms) = (Ways::Around(target), prng.between(1, 120));
    let trouble = if prng.chance(0.5) {
        let directions = &[Direction::Forward, Direction::Back];
        Fault::Hold { ways, directions, loses: prng.chance(0.3) }
    } else {
        Fault::Delay { ways, directions: &[Direction::Forward], by_ms: for_ms + longer_ms }
    };
    [
        Step { at_ms, for_ms: before_ms + for_ms + longer_ms, fault: trouble },
        Step { at_ms: at_ms + before_ms, for_ms, fault: Fault::Pause(target) },
    ]
}

fn fault(kind: Kind, clients: usize, prng: &mut Prng) -> (Fault, u64) {
    let for_ms = length_ms(prng);
    let fault = match kind {
        Kind::Kill => Fault::Kill(target(prng)),
        Kind::KillAll => Fault::KillAll,
        Kind::Pause => Fault::Pause(target(prng)),
        Kind::Cut => Fault::Cut(ways(clients, prng)),
        Kind::Break => Fault::Break(ways(clients, prng)),
        Kind::Hold => {
            let ways = ways(clients, prng);
            Fault::Hold { ways, directions: directions(prng), loses: prng.chance(0.4) }
        }
        Kind::Delay => {
            let by_ms = [5, 40, 150, 600][prng.below(4) as usize];
            Fault::Delay { ways: ways(clients, prng), directions: directions(prng), by_ms }
        }
        Kind::Sleep => unreachable!("it is two faults"),
    };
    // A break is over at once.
    (fault, if matches!(kind, Kind::Break) { 0 } else { for_ms })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} ms, for {:>4} ms: {:?}", self.at_ms, self.for_ms, self.fault)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, request timeouts {:?} ms", self.seed, self.request_timeouts_ms)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}
