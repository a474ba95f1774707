//! `quorate backup`: fetches a consistent copy of everything, piece after piece, and verifies it on its way. Must not know
//! how a server makes one.

mod target;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_raft::{Index, Position, Term};
use quorate_resp::Frame;
use quorate_storage::{ClusterId, StreamCheck};

use super::link::Link;
use super::{EXIT_NOT_EXECUTED, EXIT_UNKNOWN, STATUS_WAIT_MAX, Target, ask_info, complain};
use crate::backup_file::in_other_words;
use crate::config::Address;
use crate::progress::Progress;
use target::{Out, Unfinished};

/// Bytes of a piece: as many as a server gives.
const PIECE_BYTES: usize = 1 << 20;
/// The pause between two looks at a server that is not ready, or not there.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a server that has given the beginning may be away before another one is asked for all of it.
const SWITCH_AFTER: Duration = Duration::from_secs(2);

/// `backup`.
#[derive(Args, Debug)]
#[command(mut_arg("timeout", |timeout| timeout.help("How long no server may answer or get any further")))]
pub(crate) struct BackupArgs {
    /// The file to write; one that is there is replaced once the new one is whole. `-`: standard output
    #[arg(long, value_name = "FILE")]
    out: String,
    #[command(flatten)]
    target: Target,
}

/// Why a step did not work.
enum Miss {
    /// Another try may: at the same place, if the server still knows of the backup.
    Again(String),
    /// What came is not what it should be, or nobody will give it: another server may.
    Elsewhere(String),
    /// This side cannot write.
    Here(Unfinished),
}

impl From<Unfinished> for Miss {
    fn from(unfinished: Unfinished) -> Self {
        Self::Here(unfinished)
    }
}

/// A backup under way at a server.
struct UnderWay<'a> {
    server: &'a Address,
    id: String,
    /// Once it is ready: what it is, how long, and how far.
    ready: Option<Ready>,
}

struct Ready {
    position: Position,
    cluster: ClusterId,
    bytes: u64,
    received: u64,
    checker: StreamCheck,
}

/// `quorate backup`.
pub(crate) fn backup(args: &BackupArgs) -> ExitCode {
    let mut out = match Out::open(&args.out) {
        Ok(out) => out,
        Err(unfinished) => return told(&unfinished),
    };
    let patience = args.target.timeout;
    let servers = in_order(&args.target.servers, patience);
    let mut moved = Instant::now();
    let (mut at, mut anew) = (0, 0);
    let mut progress = Progress::new(String::new(), &complain);
    let mut under_way: Option<UnderWay<'_>> = None;
    let failed = loop {
        let server = under_way.as_ref().map_or(servers[at % servers.len()], |under_way| under_way.server);
        let tried = Instant::now();
        let (why, is_lost) =
            match fetch(server, &mut under_way, &mut out, &mut progress, &mut moved, patience) {
                Ok(line) => {
                    drop(progress);
                    return out
                        .finish(&line)
                        .map_or_else(|unfinished| told(&unfinished), |()| ExitCode::SUCCESS);
                }
                Err(Miss::Here(unfinished)) => break unfinished,
                // Whoever has the beginning is given some time to come back.
                Err(Miss::Again(error)) => {
                    let is_late = moved.elapsed() >= SWITCH_AFTER && servers.len() > 1;
                    (error, is_late && out.can_begin_anew())
                }
                Err(Miss::Elsewhere(error)) => (error, true),
            };
        let why = format!("{server}: {why}");
        if is_lost && under_way.take().is_some() {
            anew += 1;
            if let Err(unfinished) = out.restart(&why) {
                break unfinished;
            }
        }
        if under_way.is_none() {
            at += 1;
        }
        if moved.elapsed() >= patience || anew > 2 * servers.len() {
            break Unfinished { text: format!("{why}; no backup was written"), is_unknown: false };
        }
        if tried.elapsed() < LOOK_EVERY {
            pause();
        }
    };
    drop(progress);
    out.abandon();
    told(&failed)
}

fn told(unfinished: &Unfinished) -> ExitCode {
    complain(&unfinished.text);
    ExitCode::from(if unfinished.is_unknown { EXIT_UNKNOWN } else { EXIT_NOT_EXECUTED })
}

/// Followers first: the leader has the most to do. Whoever says nothing comes last.
fn in_order(servers: &[Address], patience: Duration) -> Vec<&Address> {
    let wait = patience.min(STATUS_WAIT_MAX);
    let mut servers: Vec<&Address> = servers.iter().collect();
    if servers.len() > 1 {
        servers.sort_by_cached_key(|server| match ask_info(server, wait) {
            Ok(info) => u8::from(info.get("raft_role").is_some_and(|role| role == "leader")),
            Err(_) => 2,
        });
    }
    servers
}

/// Begins a backup at the server, or goes on with it, up to its end; the line that says what it is. `moved`: when it last
/// got any further.
fn fetch<'a>(
    server: &'a Address,
    under_way: &mut Option<UnderWay<'a>>,
    out: &mut Out,
    progress: &mut Progress<'_>,
    moved: &mut Instant,
    patience: Duration,
) -> Result<String, Miss> {
    let mut link = Link::connect(server, patience).map_err(Miss::Again)?;
    let backup = match under_way {
        Some(backup) => backup,
        None => {
            let begun = texts(link.call(&["BACKUP", "BEGIN"], patience).map_err(Miss::Again)?)?;
            let id = begun.into_iter().next().ok_or_else(|| strange("no id"))?;
            *moved = Instant::now();
            under_way.insert(UnderWay { server, id, ready: None })
        }
    };
    let ready = match &mut backup.ready {
        Some(ready) => ready,
        None => {
            let ready = wait_until_ready(&mut link, server, &backup.id, progress, moved, patience)?;
            backup.ready.insert(ready)
        }
    };
    progress.rename(format!("backup from {server}"));
    while ready.received < ready.bytes {
        let (offset, count) = (ready.received.to_string(), PIECE_BYTES.to_string());
        let piece =
            link.call(&["BACKUP", "READ", &backup.id, &offset, &count], patience).map_err(Miss::Again)?;
        if let Frame::Error(error) = &piece {
            return Err(refusal(error));
        }
        let Frame::Bulk(piece) = piece else { return Err(strange("no piece")) };
        if piece.is_empty() {
            return Err(strange("an end before its end"));
        }
        ready.checker.push(&piece).map_err(|error| Miss::Elsewhere(in_other_words(error).to_string()))?;
        out.write(&piece)?;
        ready.received += piece.len() as u64;
        *moved = Instant::now();
        progress.at(ready.received, ready.bytes);
    }
    // Before it is over: what is no whole backup must be taken back, like any other that another server begins anew.
    let digest = ready.checker.finish();
    let digest = digest.map_err(|error| Miss::Elsewhere(in_other_words(error).to_string()))?;
    let Ready { position, cluster, bytes, .. } = *ready;
    // Whether that is heard is no matter: a backup that nobody asks for is given up.
    let _ = link.call(&["BACKUP", "END", &backup.id], STATUS_WAIT_MAX);
    Ok(format!("{bytes} bytes, the state of cluster {cluster} at {position}, digest {digest:016x}"))
}

/// The server writes a snapshot first, unless it has one of this very moment.
fn wait_until_ready(
    link: &mut Link,
    server: &Address,
    id: &str,
    progress: &mut Progress<'_>,
    moved: &mut Instant,
    patience: Duration,
) -> Result<Ready, Miss> {
    progress.rename(format!("{server} writes a snapshot"));
    let mut seen = String::new();
    loop {
        let state = texts(link.call(&["BACKUP", "STATE", id], patience).map_err(Miss::Again)?)?;
        if let [word, index, term, bytes, cluster] = &state[..]
            && word == "ready"
        {
            let number = |text: &str| text.parse::<u64>().map_err(|_| strange("no number"));
            let position = Position::new(Term(number(term)?), Index(number(index)?));
            let cluster = u128::from_str_radix(cluster, 16).ok().and_then(ClusterId::new);
            let cluster = cluster.ok_or_else(|| strange("no cluster"))?;
            let checker = StreamCheck::new("what came", cluster, position);
            *moved = Instant::now();
            return Ok(Ready { position, cluster, bytes: number(bytes)?, received: 0, checker });
        }
        let info = link.call(&["INFO"], patience).map_err(Miss::Again)?;
        let info = info.as_text().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().to_owned()
        };
        let written = field("quorate_snapshot_written_bytes");
        let number = |text: &str| text.parse().unwrap_or(0);
        progress.at(number(&written), number(&field("used_memory_dataset")));
        let now = format!("{written} {}", field("quorate_snapshot_taking"));
        if now != seen {
            (seen, *moved) = (now, Instant::now());
        }
        if moved.elapsed() >= patience {
            return Err(Miss::Again("its snapshot gets no further".to_owned()));
        }
        pause();
    }
}

/// The strings of an array.
fn texts(frame: Frame) -> Result<Vec<String>, Miss> {
    if let Frame::Error(error) = &frame {
        return Err(refusal(error));
    }
    let Frame::Array(frames) = frame else { return Err(strange("no array")) };
    let text = |frame: &Frame| frame.as_text().map(|text| String::from_utf8_lossy(text).into_owned());
    frames.iter().map(|frame| text(frame).ok_or_else(|| strange("no text"))).collect()
}

/// What is not executed for now may be in a moment. Anything else will be refused again.
fn refusal(error: &[u8]) -> Miss {
    let text = String::from_utf8_lossy(error).into_owned();
    let is_temporary = ["TRYAGAIN", "CLUSTERDOWN"].iter().any(|class| text.starts_with(class));
    if is_temporary { Miss::Again(text) } else { Miss::Elsewhere(text) }
}

fn strange(what: &str) -> Miss {
    Miss::Elsewhere(format!("an answer that makes no sense: {what}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "no loop runs here, and only the server knows when it is ready"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
