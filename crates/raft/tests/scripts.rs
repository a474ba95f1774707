//! Runs the golden scripts: situations of the protocol, each told in the file named after it. After a change
//! `UPDATE_GOLDENFILES=1` writes what happens now; the difference is the review.

mod harness;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context};
use harness::{Cluster, Flight, show, test_limits};
use quorate_raft::{
    Body, Entry, HardState, Index, Input, Message, NodeId, Payload, Position, ProgressState, ReadToken, Role,
    Run, Term,
};

type Outcome = Result<(), Box<dyn Error>>;

/// With it no timer in the scripts runs out at its very earliest, so a node may be ticked until it forgets its
/// leader without campaigning itself.
const SEED: u64 = 2;

/// Plays one script.
struct Player {
    cluster: Cluster,
}

/// Which messages a command means.
#[derive(Default)]
struct Filter {
    kinds: Vec<String>,
    from: Option<NodeId>,
    to: Option<NodeId>,
}

impl Filter {
    fn matches(&self, flight: &Flight) -> bool {
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == show::kind(&flight.message.body)))
            && self.from.is_none_or(|from| from == flight.from)
            && self.to.is_none_or(|to| to == flight.to)
    }

    /// `append appended from=n1 to=n2`: all optional.
    fn parse(args: &mut ArgumentConsumer<'_>) -> Result<Self, Box<dyn Error>> {
        let from = args.take_key("from").map(parse_node).transpose()?;
        let to = args.take_key("to").map(parse_node).transpose()?;
        let mut kinds = Vec::new();
        while let Some(kind) = args.next_pos() {
            kinds.push(kind.to_owned());
        }
        args.reject_next()?;
        Ok(Self { kinds, from, to })
    }
}

fn parse_node(text: &str) -> Result<NodeId, Box<dyn Error>> {
    let number = text.strip_prefix('n').ok_or_else(|| format!("{text} is no node"))?.parse()?;
    NodeId::new(number).ok_or_else(|| "nodes count from 1".into())
}

/// `3@1`.
fn parse_position(text: &str) -> Result<Position, Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or_else(|| format!("{text} is no position"))?;
    Ok(Position::new(Term(term.parse()?), Index(index.parse()?)))
}

fn next_node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId, Box<dyn Error>> {
    parse_node(args.next_pos().ok_or("which node?")?)
}

fn number<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    key: &str,
    default: T,
) -> Result<T, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(default))
}

/// The nodes named, or all.
fn nodes(cluster: &Cluster, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
    let mut ids = Vec::new();
    while let Some(text) = args.next_pos() {
        ids.push(parse_node(text)?);
    }
    args.reject_next()?;
    Ok(if ids.is_empty() { cluster.ids() } else { ids })
}

impl goldenscript::Runner for Player {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Box<dyn Error>> {
        self.cluster.trace = Some(String::new());
        let mut args = command.consume_args();
        match command.name.as_str() {
            "cluster" => self.found(&mut args)?,
            "disk" => self.disk(&mut args)?,
            "tick" => self.tick(&mut args)?,
            "clock" => self.clock(&mut args)?,
            "campaign" => self.campaign(&mut args)?,
            "elect" => self.elect(&mut args)?,
            "deliver" => self.deliver(&mut args, true)?,
            "hop" => self.deliver(&mut args, false)?,
            "forge" => self.forge(&mut args)?,
            "drop" => self.lose(&mut args)?,
            "cut" => self.cut(&mut args)?,
            "heal" => self.cluster.cut.clear(),
            "auto" => self.auto(&mut args)?,
            "persist" => self.persist(&mut args)?,
            "propose" => self.propose(&mut args)?,
            "compact" => self.compact(&mut args)?,
            "install" => self.install(&mut args)?,
            "reconfigure" => self.reconfigure(&mut args)?,
            "members" => self.members(&mut args)?,
            "transfer" => self.transfer(&mut args)?,
            "unreachable" => self.unreachable(&mut args)?,
            "withdraw" => self.withdraw(&mut args)?,
            "hurry" => self.hurry(&mut args)?,
            "forget" => self.forget(&mut args)?,
            "own" => self.own(&mut args)?,
            "offer" => self.offer(&mut args)?,
            "read" => self.read(&mut args)?,
            "apply" => self.apply_more(&mut args)?,
            "crash" => self.crash(&mut args)?,
            "start" => self.start(&mut args)?,
            "state" => self.state(&mut args)?,
            "progress" => self.progress(&mut args)?,
            "log" => self.log(&mut args)?,
            "network" => self.network(),
            "sent" => self.sent(),
            other => return Err(format!("no command {other}").into()),
        }
        self.cluster.check_log_matching();
        Ok(self.cluster.trace.take().unwrap_or_default())
    }
}

impl Player {
    /// `cluster nodes=3 auto=true`: a new group with empty disks. Limits may be given by name.
    fn found(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let count = number(args, "nodes", 3)?;
        let spares = number(args, "spares", 0)?;
        let mut limits = test_limits();
        limits.append_bytes_max = number(args, "append_bytes_max", limits.append_bytes_max)?;
        limits.inflight_bytes_max = number(args, "inflight_bytes_max", limits.inflight_bytes_max)?;
        limits.inflight_messages_max = number(args, "inflight_messages_max", limits.inflight_messages_max)?;
        limits.uncommitted_bytes_max = number(args, "uncommitted_bytes_max", limits.uncommitted_bytes_max)?;
        limits.apply_bytes_max = number(args, "apply_bytes_max", limits.apply_bytes_max)?;
        limits.election_patience_max = number(args, "patience", limits.election_patience_max)?;
        limits.reads_waiting_max = number(args, "reads_waiting_max", limits.reads_waiting_max)?;
        limits.notice_ticks = number(args, "notice_ticks", limits.notice_ticks)?;
        limits.spares_followers = number(args, "spares_followers", limits.spares_followers)?;
        let auto_persist = number(args, "auto", true)?;
        args.reject_next()?;
        let trace = self.cluster.trace.take();
        self.cluster = Cluster::with_spares(count, spares, SEED, limits);
        self.cluster.auto_persist = auto_persist;
        self.cluster.trace = trace;
        Ok(())
    }

    /// `disk n1 term=4 vote=n2 1 1 4`: starts the node from a log with entries of these terms. With `snapshot=3@1` it
    /// has a snapshot too, and with `base=2@1` its log begins there.
    fn disk(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        let term = args.take_key("term").map(str::parse).transpose()?;
        let vote = args.take_key("vote").map(parse_node).transpose()?;
        let snapshot = args.take_key("snapshot").map(parse_position).transpose()?.unwrap_or(Position::ZERO);
        let base = args.take_key("base").map(parse_position).transpose()?.unwrap_or(Position::ZERO);
        let mut entries = Vec::new();
        while let Some(text) = args.next_pos() {
            let index = Index(base.index.0 + entries.len() as u64 + 1);
            let position = Position::new(Term(text.parse()?), index);
            let payload = Payload::Data(Bytes::from(format!("v{}", position.index)));
            entries.push(Entry { position, payload });
        }
        args.reject_next()?;
        let last = entries.last().map_or(Term::ZERO, |entry| entry.position.term);
        self.cluster.crash(id, 0);
        let server = self.cluster.servers.get_mut(&id).ok_or("no such node")?;
        server.disk.hard_state = HardState { term: term.map_or(last, Term), vote };
        server.disk.base = base;
        server.disk.entries = entries;
        server.disk.snapshot = snapshot;
        self.cluster.start(id);
        Ok(())
    }

    /// `tick n1 n2 count=5`; with `quiet=true` what leaves is not shown.
    fn tick(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let count = number(args, "count", 1)?;
        let is_quiet = number(args, "quiet", false)?;
        let ids = nodes(&self.cluster, args)?;
        let trace = self.cluster.trace.take();
        if !is_quiet {
            self.cluster.trace.clone_from(&trace);
        }
        for _ in 0..count {
            for &id in &ids {
                self.cluster.tick(id);
            }
        }
        if is_quiet {
            self.cluster.trace = trace;
        }
        Ok(())
    }

    /// `clock n1 500`: the node's clock says so from its next tick on.
    fn clock(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        if let Some(clock) = args.next_pos() {
            self.cluster.servers.get_mut(&id).ok_or("no such node")?.clock = clock.parse()?;
        }
        args.reject_next()?;
        let clock = self.cluster.node(id).majority_clock();
        self.cluster.say(&format!("{id} majority clock {clock}"));
        Ok(())
    }

    /// `campaign n2`: its timer runs out.
    fn campaign(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        args.reject_next()?;
        self.time_out(id)
    }

    fn time_out(&mut self, id: NodeId) -> Outcome {
        let role = self.cluster.node(id).role();
        if role == Role::Leader {
            return Err("it leads already".into());
        }
        let asked = self.cluster.sent.get("prevote").copied();
        for _ in 0..=self.cluster.limits.election_ticks_max {
            self.cluster.tick(id);
            let node = self.cluster.node(id);
            if node.role() != role || self.cluster.sent.get("prevote").copied() != asked {
                return Ok(());
            }
        }
        Err("its timer did not run out".into())
    }

    /// `unreachable n1 n2 n3`: these learn that the way to the first is closed from its side.
    fn unreachable(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let node = next_node(args)?;
        for id in nodes(&self.cluster, args)? {
            self.cluster.step(id, Input::Unreachable { node });
        }
        Ok(())
    }

    /// `withdraw n1`: its caller does not trust its state machine any more.
    fn withdraw(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        args.reject_next()?;
        self.cluster.step(id, Input::Withdraw);
        Ok(())
    }

    /// `hurry n1 to=n2`: somebody waits at `n2` for what `n1` commits.
    fn hurry(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let to = args.take_key("to").map(parse_node).transpose()?.ok_or("to whom?")?;
        let id = next_node(args)?;
        args.reject_next()?;
        self.cluster.step(id, Input::Hurry { to });
        Ok(())
    }

    /// `reconfigure n1 add n4 remove n2 replace n3 n5 rebuild n3 demote n2 seat n2 text`: one change of all of these.
    fn reconfigure(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        let mut target = self.cluster.node(id).membership().settled();
        while let Some(what) = args.next_pos().map(str::to_owned) {
            let of = next_node(args)?;
            target = match what.as_str() {
                "add" => target.with_joining(of, None),
                "remove" => target.without(of),
                "replace" => target.with_joining(next_node(args)?, Some(of)),
                "rebuild" => {
                    target.without(of).with_joining(of, None).with_seat(of, Bytes::from_static(b"new"))
                }
                "demote" => target.with_demoted(of),
                "seat" => {
                    let seat = args.next_pos().ok_or("which seat?")?;
                    target.with_seat(of, Bytes::copy_from_slice(seat.as_bytes()))
                }
                other => return Err(format!("no change {other}").into()),
            };
        }
        args.reject_next()?;
        self.cluster.step(id, Input::Reconfigure { target });
        Ok(())
    }

    /// `members n1`: the membership that counts, and where it stands.
    fn members(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        for id in nodes(&self.cluster, args)? {
            let node = self.cluster.node(id);
            let pending = if node.is_change_pending() { ", pending" } else { "" };
            let text = show::membership(node.membership());
            let line = format!("{id} {text} since {}{pending}", node.membership_index());
            self.cluster.say(&line);
        }
        Ok(())
    }

    /// `transfer n1 to=n2`: the node is told to let another lead.
    fn transfer(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let to = args.take_key("to").map(parse_node).transpose()?;
        let id = next_node(args)?;
        args.reject_next()?;
        self.cluster.step(id, Input::Transfer { to });
        let transfer = self.cluster.node(id).transfer().map_or("nobody".to_owned(), |to| to.to_string());
        self.cluster.say(&format!("{id} hands over to {transfer}"));
        Ok(())
    }

    /// `elect n1`: everybody's timer runs up to the point where a campaign is heard, then `n1` campaigns. What
    /// it took is left out of the trace.
    fn elect(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        args.reject_next()?;
        let trace = self.cluster.trace.take();
        let auto_persist = std::mem::replace(&mut self.cluster.auto_persist, true);
        self.cluster.tick(id);
        while self.cluster.node(id).role() != Role::PreCandidate
            && self.cluster.node(id).role() != Role::Leader
        {
            self.cluster.tick(id);
        }
        self.cluster.deliver_all();
        self.cluster.auto_persist = auto_persist;
        self.cluster.trace = trace;
        if self.cluster.leader() != Some(id) {
            return Err(format!("{id} was not elected").into());
        }
        self.show_state(&[id]);
        Ok(())
    }

    /// `deliver append to=n2 count=1 last=true keep=true`: messages that match, one after another; with `deliver`
    /// also those that come of it, with `hop` only those under way now.
    fn deliver(&mut self, args: &mut ArgumentConsumer<'_>, to_the_end: bool) -> Outcome {
        let mut count = number(args, "count", usize::MAX)?;
        let takes_last = number(args, "last", false)?;
        let keeps = number(args, "keep", false)?;
        let filter = Filter::parse(args)?;
        if !to_the_end {
            count = count.min(self.cluster.network.iter().filter(|flight| filter.matches(flight)).count());
        }
        for delivered in 0..count {
            let network = &self.cluster.network;
            let place = if takes_last {
                network.iter().rposition(|flight| filter.matches(flight))
            } else {
                network.iter().position(|flight| filter.matches(flight))
            };
            let Some(place) = place else { return Ok(()) };
            self.cluster.deliver_at(place, keeps);
            if delivered > 10_000 {
                return Err("the group talks without end".into());
            }
        }
        Ok(())
    }

    /// `forge from=n1 to=n2 term=9 base=3@1 commit=2 9`: an append that nobody sent, with entries of these terms.
    fn forge(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let from = parse_node(args.take_key("from").ok_or("from whom?")?)?;
        let to = parse_node(args.take_key("to").ok_or("to whom?")?)?;
        let term = Term(number(args, "term", 0)?);
        let base = parse_position(args.take_key("base").ok_or("after what?")?)?;
        let commit = Index(number(args, "commit", 0)?);
        let mut last = base;
        let mut entries = Vec::new();
        while let Some(text) = args.next_pos() {
            last = Position::new(Term(text.parse()?), last.index.next());
            entries.push(Entry { position: last, payload: Payload::Noop });
        }
        let body = Body::Append { run: Run::parse(base, entries)?, commit };
        self.cluster.step(to, Input::Message { from, message: Message { term, body } });
        Ok(())
    }

    /// `drop append from=n1 to=n2 count=1`.
    fn lose(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let mut count = number(args, "count", usize::MAX)?;
        let filter = Filter::parse(args)?;
        self.cluster.network.retain(|flight| {
            let is_lost = count > 0 && filter.matches(flight);
            count -= usize::from(is_lost);
            !is_lost
        });
        Ok(())
    }

    /// `cut n1`: all its links; `cut from=n1 to=n2`: this one, in this direction.
    fn cut(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        if let (Some(from), Some(to)) = (args.take_key("from"), args.take_key("to")) {
            self.cluster.cut.insert((parse_node(from)?, parse_node(to)?));
            return args.reject_next();
        }
        for id in nodes(&self.cluster, args)? {
            for other in self.cluster.ids() {
                self.cluster.cut.extend([(id, other), (other, id)]);
            }
        }
        Ok(())
    }

    /// `auto false`: from now on writes wait for `persist`.
    fn auto(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        self.cluster.auto_persist = args.next_pos().ok_or("true or false?")?.parse()?;
        args.reject_next()
    }

    /// `persist n1 count=1`: the oldest write is synced; without a count all.
    fn persist(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let count = number(args, "count", usize::MAX)?;
        for id in nodes(&self.cluster, args)? {
            self.cluster.persist(id, count);
        }
        Ok(())
    }

    /// `propose n1 a b c`, or `propose n1 bytes=500`.
    fn propose(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        if let Some(bytes) = args.take_key("bytes") {
            let payload = Bytes::from(vec![b'.'; bytes.parse()?]);
            self.cluster.step(id, Input::Propose { payload });
        }
        while let Some(value) = args.next_pos() {
            self.cluster.step(id, Input::Propose { payload: Bytes::from(value.to_owned()) });
        }
        args.reject_next()
    }

    /// `compact n1 keep=2`: takes a snapshot of what is applied, and keeps so many entries below it.
    fn compact(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let keep: u64 = number(args, "keep", 0)?;
        for id in nodes(&self.cluster, args)? {
            let through = Index(self.cluster.node(id).applied().0.saturating_sub(keep));
            self.cluster.compact(id, through);
        }
        Ok(())
    }

    /// `forget n1 keep=2`: what is applied and durable leaves the memory, but for so many entries.
    fn forget(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let keep: u64 = number(args, "keep", 0)?;
        for id in nodes(&self.cluster, args)? {
            self.cluster.forget(id, keep);
        }
        Ok(())
    }

    /// `own n1 snapshot=2@1 through=1`: a snapshot that was begun long ago is durable.
    fn own(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let snapshot = parse_position(args.take_key("snapshot").ok_or("of what?")?)?;
        let through = Index(number(args, "through", 0)?);
        let id = next_node(args)?;
        args.reject_next()?;
        self.cluster.step(id, Input::Compact { snapshot, through });
        Ok(())
    }

    /// `install n1`: the snapshot that it fetches is complete; `install n1 last=3@1`: this one is.
    fn install(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let last = args.take_key("last").map(parse_position).transpose()?;
        let id = next_node(args)?;
        args.reject_next()?;
        let fetched = self.cluster.servers[&id].fetch.map(|fetch| fetch.last);
        let last = last.or(fetched).ok_or("it fetches nothing")?;
        self.cluster.install(id, last);
        Ok(())
    }

    /// `offer from=n1 to=n2 term=9 last=3@1`: the offer of a snapshot that nobody sent.
    fn offer(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let from = parse_node(args.take_key("from").ok_or("from whom?")?)?;
        let to = parse_node(args.take_key("to").ok_or("to whom?")?)?;
        let term = Term(number(args, "term", 0)?);
        let last = parse_position(args.take_key("last").ok_or("up to where?")?)?;
        args.reject_next()?;
        let message = Message { term, body: Body::InstallSnapshot { last } };
        self.cluster.step(to, Input::Message { from, message });
        Ok(())
    }

    /// `read n1 7`: the reads with these tokens.
    fn read(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        while let Some(token) = args.next_pos() {
            self.cluster.step(id, Input::Read { token: ReadToken(token.parse()?) });
        }
        args.reject_next()
    }

    /// `apply n1`: its state machine has room for more.
    fn apply_more(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        for id in nodes(&self.cluster, args)? {
            self.cluster.step(id, Input::ApplyMore);
        }
        Ok(())
    }

    /// `crash n1 survivors=1`: so many of its writes under way reach the disk.
    fn crash(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let survivors = number(args, "survivors", 0)?;
        for id in nodes(&self.cluster, args)? {
            self.cluster.crash(id, survivors);
        }
        Ok(())
    }

    fn start(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let ids = nodes(&self.cluster, args)?;
        for &id in &ids {
            self.cluster.start(id);
        }
        self.show_state(&ids);
        Ok(())
    }

    fn state(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let ids = nodes(&self.cluster, args)?;
        self.show_state(&ids);
        Ok(())
    }

    fn show_state(&mut self, ids: &[NodeId]) {
        for &id in ids {
            if !self.cluster.is_up(id) {
                self.cluster.say(&format!("{id} is down"));
                continue;
            }
            let node = self.cluster.node(id);
            let mut line = format!("{id}@{} {}", node.term(), node.role());
            if let Some(leader) = node.leader().filter(|&leader| leader != id) {
                let _ = write!(line, " of {leader}");
            }
            if let Some(vote) = node.vote() {
                let _ = write!(line, " vote={vote}");
            }
            let _ = write!(line, " last={} commit={}", node.last(), node.commit());
            if (node.snapshot(), node.base()) != (Position::ZERO, Position::ZERO) {
                let _ = write!(line, " snapshot={} base={}", node.snapshot(), node.base());
            }
            if node.applied() != node.commit() {
                let _ = write!(line, " applied={}", node.applied());
            }
            if node.durable() != node.last().index {
                let _ = write!(line, " durable={}", node.durable());
            }
            self.cluster.say(&line);
        }
    }

    /// `progress n1`: the followers as it sees them.
    fn progress(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = next_node(args)?;
        args.reject_next()?;
        let node = self.cluster.node(id);
        let followers = node.progress().ok_or("it does not lead")?.iter().map(|(follower, progress)| {
            let state = match progress.state() {
                ProgressState::Probe => "probe",
                ProgressState::Replicate => "replicate",
                ProgressState::Snapshot => "snapshot",
            };
            let (matched, next) = (progress.match_index(), progress.next_index());
            let inflight = progress.inflight_messages();
            format!("{id} sees {follower}: {state} match={matched} next={next} inflight={inflight}")
        });
        for line in followers.collect::<Vec<_>>() {
            self.cluster.say(&line);
        }
        Ok(())
    }

    fn log(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        for id in nodes(&self.cluster, args)? {
            let node = self.cluster.node(id);
            let entries: Vec<String> = node.entries_after(Index::ZERO).map(show::entry).collect();
            self.cluster.say(&format!("{id} holds {}", entries.join(", ")));
        }
        Ok(())
    }

    fn network(&mut self) {
        let lines: Vec<String> = self.cluster.network.iter().map(show::flight).collect();
        for line in lines {
            self.cluster.say(&line);
        }
    }

    /// How many messages of each kind have left since this was asked last.
    fn sent(&mut self) {
        for (kind, count) in std::mem::take(&mut self.cluster.sent) {
            self.cluster.say(&format!("{count} {kind}"));
        }
    }
}

fn play_all(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut paths: Vec<_> =
        folder.read_dir().expect("the folder of scripts").map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let mut player = Player { cluster: Cluster::new(1, 1, test_limits()) };
        goldenscript::run(&mut player, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn election() {
    play_all("election");
}

#[test]
fn replication() {
    play_all("replication");
}

#[test]
fn read() {
    play_all("read");
}

#[test]
fn restart() {
    play_all("restart");
}

#[test]
fn snapshot() {
    play_all("snapshot");
}

#[test]
fn transfer() {
    play_all("transfer");
}

#[test]
fn membership() {
    play_all("membership");
}
