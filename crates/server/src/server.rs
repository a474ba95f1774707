//! One server's life: opens its ports, has its folder loaded, runs the loop, and stops in order. Must not know commands,
//! frames or consensus.

use std::convert::Infallible;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use quorate_replica::Standing;
use quorate_replica::keeper::Keeper;
use quorate_replica::replica::{Config, Replica};
use quorate_storage::{Disk, Folder};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::config::{Address, ServeConfig};
use crate::disk_thread::DiskThread;
use crate::keeper_thread::KeeperThread;
use crate::leaving::{self, Orders};
use crate::loading::Loaded;
use crate::replica_loop::{Ended, ReplicaLoop, now_ms};
use crate::shared::Shared;
use crate::{listener, loading, transport};

/// How long the other servers may take to say that this folder is none of theirs; without a word of them it is ready.
const READY_WAIT: Duration = Duration::from_secs(1);
/// Time between two looks at whether the cluster has said how this server is taken in.
const ANSWER_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Turns of tasks between two looks at the clock and the sockets. Each turn is short, but a busy server must not miss
/// its ticks: by them it knows whether it still leads.
const TURNS_PER_LOOK: u32 = 16;
/// Told to the process that takes the place of one which has said that it is ready: nobody may read that any more.
const READY_SAID: &str = "QUORATE_READY_SAID";
/// Refused to start, or cannot go on.
const EXIT_REFUSED: u8 = 1;
/// The disk failed.
const EXIT_DISK_FAILED: u8 = 4;

/// Runs a server until it is told to stop, or has to.
pub(crate) fn serve(config: ServeConfig) -> ExitCode {
    stop_on_panic();
    match run(config) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(Ended::Halted(sentence))) => {
            error!("this server stops: {sentence}");
            ExitCode::from(EXIT_REFUSED)
        }
        Ok(Some(Ended::BeginsAnew)) => begin_anew(),
        Ok(Some(Ended::DiskFailed(sentence))) => {
            error!("this server stops, because its disk failed: {sentence}");
            ExitCode::from(EXIT_DISK_FAILED)
        }
        Err(refusal) => {
            error!("this server does not start: {refusal:#}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Another process takes the place of this one, under its number, as it was started.
fn begin_anew() -> ExitCode {
    info!("this server begins anew, in the same process");
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).env(READY_SAID, "1").exec(),
        Err(error) => error,
    };
    error!("this server stops: it could not begin anew ({error}); start it again");
    ExitCode::from(EXIT_REFUSED)
}

/// A server that doubts its memory must stop: no task's panic is survived by the others.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(i32::from(EXIT_REFUSED));
    }));
}

/// `None`: it was told to stop, and did.
fn run(mut config: ServeConfig) -> anyhow::Result<Option<Ended>> {
    warn_of_strangers(&config);
    let room = listener::raise_file_limit(config.max_connections);
    if room < config.max_connections {
        info!(
            "the limit of open files leaves room for {room} of --max-connections {}",
            config.max_connections
        );
        config.max_connections = room;
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS_PER_LOOK)
        .build_local(LocalOptions::default())
        .context("the runtime")?;
    let result = runtime.block_on(async {
        // A task like the others: it has its turn behind all connections that have something to say, and takes it all at
        // once. What the runtime itself waits for is looked at after every few of them.
        tokio::task::spawn_local(live(config)).await.expect("a panic ends the process")
    });
    // Not waited for: a name that is being resolved may take its time.
    runtime.shutdown_background();
    result
}

/// From the first port to the end: clients find the server from the beginning, and hear how far it is.
async fn live(config: ServeConfig) -> anyhow::Result<Option<Ended>> {
    // The signals first: from `ready` on, each must find its handler.
    let mut orders = Orders::new(config.exit_on_stdin_close)?;
    // Taken now, so that a port in use is told before anything is read. Other servers are let in later: to them this one
    // is down until it has its state.
    let peers = listener::reserve(&config.peer_listen)
        .await
        .with_context(|| at("peer-listen", &config.peer_listen))?;
    let clients = listener::bind(&config.listen).await.with_context(|| at("listen", &config.listen))?;
    let shared = Rc::new(Shared::new(config, draw()?));
    let accepting = tokio::task::spawn_local(listener::accept(Rc::clone(&shared), clients));
    let seed = draw()?;
    let loading = loading::load(&shared.config, seed, Arc::clone(&shared.loading));
    let loaded = tokio::select! {
        biased;
        () = orders.stop() => {
            info!("told to stop while the data folder is read: nothing was promised");
            return Ok(None);
        }
        loaded = loading => loaded?,
    };
    let Loaded { disk, folder: Folder { identity, starts, wal, restored, snapshot: _, lock }, machine } =
        *loaded;
    let config = &shared.config;
    if let (Some(cluster), false) = (identity.cluster(), config.join.is_empty()) {
        info!(
            "--join: the data folder {} belongs to cluster {cluster} already, and nobody has to take this server in",
            config.data.display()
        );
    }
    let keeper = Keeper::new(Arc::clone(&disk) as Arc<dyn Disk>, seed);
    let mut keeper = KeeperThread::start(config.data.clone(), keeper, Arc::clone(&shared.snapshot_written))
        .context("the thread of snapshots")?;
    let mut disk = DiskThread::start(config.data.clone(), disk, wal).context("the thread of the disk")?;
    let (replica, first) =
        Replica::new(replica_config(&shared, seed), identity, starts, restored, machine, now_ms());
    shared.serve(replica);
    let peers = peers.listen(listener::BACKLOG).with_context(|| at("peer-listen", &config.peer_listen))?;
    tokio::task::spawn_local(transport::accept(Rc::clone(&shared), peers));
    shared.peers.dial(&shared);
    let mut replica_loop = ReplicaLoop::new(&shared, &mut disk, &mut keeper);
    let ended = tokio::select! {
        ended = replica_loop.run(first) => Some(ended),
        Err(error) = become_ready(&shared) => return Err(error),
        () = async {
            orders.stop().await;
            accepting.abort();
            leaving::leave(&shared, &mut orders).await;
        } => None,
    };
    if ended.is_none() {
        disk.finish();
        info!("stopped in order");
    }
    // Released by the end of the process and of all its threads: the one of snapshots may be in the middle of a rename.
    std::mem::forget(lock);
    // A state of millions of keys goes back to the machine with the process, all at once.
    std::mem::forget(Rc::clone(&shared));
    Ok(ended)
}

fn at(flag: &str, address: &Address) -> String {
    format!("--{flag} {address}")
}

fn replica_config(shared: &Shared, seed: u64) -> Config {
    let config = &shared.config;
    let mut replica = Config::new(config.id, config.peers.keys().copied().collect(), shared.start, seed);
    replica.election_hold_ms = milliseconds(config.election_hold);
    replica.request_timeout_ms = milliseconds(config.request_timeout);
    replica.log_bytes_max = config.log_bytes_max;
    replica.log_tail_bytes = config.log_tail_bytes;
    replica.memory_bytes_max = config.memory_bytes_max;
    replica.disk_reserve_bytes = config.disk_reserve_bytes;
    replica.joins = !config.join.is_empty();
    replica.address = config.peer_advertise.to_string().into();
    replica.folder = config.data.display().to_string().into();
    replica
}

fn warn_of_strangers(config: &ServeConfig) {
    for (flag, address) in [("listen", &config.listen), ("peer-listen", &config.peer_listen)] {
        if !address.is_loopback() {
            warn!(
                "--{flag} {address} is not a loopback address, and there is no authentication and no encryption yet: \
                 whoever reaches it can read and change everything"
            );
        }
    }
}

/// Entropy from the operating system.
fn draw() -> anyhow::Result<u64> {
    getrandom::u64().context("the operating system gives no random numbers")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Says that it is ready, leader or none; but not on the folder of another cluster, which only others can tell. Ends with
/// an error, or never.
async fn become_ready(shared: &Shared) -> anyhow::Result<Infallible> {
    // Who is not there, or is silent, is not waited for any longer.
    let _ = timeout(READY_WAIT, async {
        shared.peers.all_tried().await;
        while is_unanswered(shared) {
            sleep(ANSWER_LOOK_EVERY).await;
        }
    })
    .await;
    if !shared.inbox.has_failed() {
        announce(shared)?;
    }
    std::future::pending().await
}

/// Whether it was started to be taken in, and no server has said yet how.
fn is_unanswered(shared: &Shared) -> bool {
    let is_unanswered = |why: &str| command_in(why).is_none();
    !shared.config.join.is_empty()
        && matches!(shared.status().standing, Standing::Joining { why } if is_unanswered(&why))
}

/// The command that a sentence names, between back quotes.
fn command_in(why: &str) -> Option<&str> {
    why.split('`').find(|part| part.starts_with("quorate members "))
}

/// The one line on standard output. A server that was started to be taken in says what it waits for.
fn announce(shared: &Shared) -> anyhow::Result<()> {
    let config = &shared.config;
    let mut line = format!("ready id={} listen={}", config.id.get(), config.listen);
    if let (Standing::Joining { why }, false) = (shared.status().standing, config.join.is_empty()) {
        let add = format!("quorate members add {} {}", config.id.get(), config.peer_advertise);
        line.push_str(&format!(" waits for: {}", command_in(&why).unwrap_or(&add)));
    }
    line.push('\n');
    if std::env::var_os(READY_SAID).is_none() {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("standard output")?;
    }
    info!(
        "node {} serves clients on {} and servers on {}",
        config.id.get(),
        config.listen,
        config.peer_listen
    );
    Ok(())
}
