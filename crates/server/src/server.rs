//! One server's life: opens its folder, its log and its ports, runs the loop, and stops in order. Must not know
//! commands, frames or consensus.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use quorate_replica::keeper::{self, Keeper};
use quorate_replica::replica::{Actions, Config, Replica};
use quorate_storage::{Disk, Folder, FolderConfig, Identity, Outcome, SEGMENT_BYTES_DEFAULT};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::config::{Address, ServeConfig};
use crate::disk_thread::DiskThread;
use crate::file_disk::FileDisk;
use crate::keeper_thread::KeeperThread;
use crate::progress::Progress;
use crate::replica_loop::{Ended, ReplicaLoop, now_ms};
use crate::shared::{Connections, Counters, Inbox, Shared};
use crate::transport::Peers;
use crate::{listener, transport};

/// How long a server that was told to stop goes on answering what it has been asked.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// How long the other servers may take to say that this folder is none of theirs; without a word of them it is ready.
const READY_WAIT: Duration = Duration::from_secs(1);
/// Turns of tasks between two looks at the clock and the sockets. Each turn is short, but a busy server must not miss
/// its ticks: by them it knows whether it still leads.
const TURNS_PER_LOOK: u32 = 16;
/// A log that is as long as it may be has at least so many segments.
const SEGMENTS_PER_LOG: u64 = 8;
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
    let folder = open_folder(&config)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS_PER_LOOK)
        .build_local(LocalOptions::default())
        .context("the runtime")?;
    let mut replica_config = Config::new(config.id, config.peers.keys().copied().collect(), draw()?, draw()?);
    replica_config.election_hold_ms = milliseconds(config.election_hold);
    replica_config.request_timeout_ms = milliseconds(config.request_timeout);
    replica_config.log_bytes_max = config.log_bytes_max;
    replica_config.log_tail_bytes = config.log_tail_bytes;
    let start = replica_config.start;
    let seed = replica_config.seed;
    let OpenFolder { disk, folder: Folder { identity, wal, restored, snapshot, lock } } = folder;
    let machine = match snapshot.zip(identity.cluster()) {
        None => None,
        Some((file, cluster)) => Some(
            keeper::load(&file, cluster, seed)
                .with_context(|| format!("the data folder {}", config.data.display()))?,
        ),
    };
    let keeper = Keeper::new(Arc::clone(&disk) as Arc<dyn Disk>, seed);
    let mut keeper = KeeperThread::start(config.data.clone(), keeper).context("the thread of snapshots")?;
    let mut disk = DiskThread::start(config.data.clone(), disk, wal).context("the thread of the disk")?;
    let (replica, first) = Replica::new(replica_config, identity, restored, machine, now_ms());
    let advertised = config.advertise.clone().unwrap_or_else(|| config.listen.clone());
    let shared = Rc::new(Shared {
        peers: Peers::new(&config, advertised),
        config,
        start,
        started: Instant::now(),
        inbox: Inbox::default(),
        connections: Connections::default(),
        snapshot_written: Arc::clone(&keeper.written),
        counters: Counters::default(),
        replica: RefCell::new(replica),
    });
    let ended = runtime.block_on(run_ports(&shared, &mut disk, &mut keeper, first))?;
    if ended.is_none() {
        disk.finish();
        info!("stopped in order");
    }
    // The lock goes last: until here the log was this process's own.
    drop(lock);
    Ok(ended)
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

/// An open folder, and the disk it lies on.
struct OpenFolder {
    disk: Arc<FileDisk>,
    folder: Folder,
}

fn open_folder(config: &ServeConfig) -> anyhow::Result<OpenFolder> {
    let name = || format!("the data folder {}", config.data.display());
    let disk = Arc::new(FileDisk::open(&config.data).with_context(name)?);
    let folder_config = FolderConfig {
        node: config.id,
        fresh_incarnation: quorate_storage::Incarnation(draw()?),
        segment_bytes: segment_bytes(config.log_bytes_max),
    };
    let mut progress = Progress::new(format!("reading {}", name()), &|line| info!("{line}"));
    let folder =
        Folder::open_reporting(disk.clone(), &folder_config, &mut |done, total| progress.at(done, total))
            .with_context(name)?;
    drop(progress);
    check_members(&folder.identity, config)?;
    match folder.wal.outcome() {
        Outcome::Clean => {}
        Outcome::Torn(cut) => info!(
            "the log ended in a write that was never acknowledged, at {}; it is cut there, before index {}",
            cut.at, cut.index
        ),
    }
    let (snapshot, entries) = (folder.restored.snapshot, &folder.restored.entries);
    let behind = entries.iter().filter(|entry| entry.position.index > snapshot.index).count();
    info!(
        "{}: {}, {} entries, {behind} of them behind it, last {}",
        name(),
        if snapshot.index.0 == 0 { "no snapshot".to_owned() } else { format!("a snapshot at {snapshot}") },
        entries.len(),
        folder.wal.last()
    );
    Ok(OpenFolder { disk, folder })
}

/// Segments are deleted whole, and the next one is made ahead: small enough for both to matter little beside the log.
fn segment_bytes(log_bytes_max: u64) -> u64 {
    (log_bytes_max / SEGMENTS_PER_LOG).min(SEGMENT_BYTES_DEFAULT)
}

/// A founded folder says who its members are; another list means another cluster.
fn check_members(identity: &Identity, config: &ServeConfig) -> anyhow::Result<()> {
    let founded: Vec<u64> = identity.founding.iter().map(|member| member.id.get()).collect();
    let named: Vec<u64> = config.peers.keys().map(|peer| peer.get()).collect();
    if !founded.is_empty() && founded != named {
        bail!(
            "the data folder {} belongs to a cluster of the servers {founded:?}, and --peers names {named:?}: start it \
             with its own cluster's --peers, or with another --data",
            config.data.display()
        );
    }
    Ok(())
}

/// Entropy from the operating system.
fn draw() -> anyhow::Result<u64> {
    getrandom::u64().context("the operating system gives no random numbers")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn run_ports(
    shared: &Rc<Shared>,
    disk: &mut DiskThread,
    keeper: &mut KeeperThread,
    first: Actions,
) -> anyhow::Result<Option<Ended>> {
    let config = &shared.config;
    // The signals first: from `ready` on, each must find its handler.
    let stop = told_to_stop(config.exit_on_stdin_close)?;
    let peers = bind("peer-listen", &config.peer_listen).await?;
    let clients = bind("listen", &config.listen).await?;
    tokio::task::spawn_local(transport::accept(Rc::clone(shared), peers));
    transport::dial(shared);
    let accepting = tokio::task::spawn_local(listener::accept(Rc::clone(shared), clients));
    let mut replica_loop = ReplicaLoop::new(shared, disk, keeper);
    tokio::select! {
        ended = replica_loop.run(first) => Ok(Some(ended)),
        Err(error) = become_ready(shared) => Err(error),
        () = async {
            stop.await;
            info!("told to stop: answering what is in flight");
            accepting.abort();
            drain(shared).await;
        } => Ok(None),
    }
}

async fn bind(flag: &str, address: &Address) -> anyhow::Result<TcpListener> {
    listener::bind(address).await.with_context(|| format!("--{flag} {address}"))
}

/// Says that it is ready, leader or none; but not on the folder of another cluster, which only others can tell. Ends with
/// an error, or never.
async fn become_ready(shared: &Shared) -> anyhow::Result<Infallible> {
    // Who is not there, or is silent, is not waited for any longer.
    let _ = timeout(READY_WAIT, shared.peers.all_tried()).await;
    if !shared.inbox.has_failed() {
        announce(&shared.config)?;
    }
    std::future::pending().await
}

/// The one line on standard output.
fn announce(config: &ServeConfig) -> anyhow::Result<()> {
    let line = format!("ready id={} listen={}\n", config.id.get(), config.listen);
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("standard output")?;
    info!(
        "node {} serves clients on {} and servers on {}",
        config.id.get(),
        config.listen,
        config.peer_listen
    );
    Ok(())
}

/// Resolves when a signal, or the end of standard input, says so.
fn told_to_stop(on_stdin_close: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let stdin = on_stdin_close.then(watch_stdin).transpose()?;
    Ok(async move {
        let closed = async {
            match stdin {
                // The sender is dropped only by the thread's end.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = closed => {}
        }
    })
}

/// A thread of its own, because reading standard input blocks; it ends with the process.
fn watch_stdin() -> anyhow::Result<oneshot::Receiver<()>> {
    let (report, closed) = oneshot::channel();
    let watch = move || {
        let mut scrap = [0; 256];
        while matches!(std::io::stdin().read(&mut scrap), Ok(bytes) if bytes > 0) {}
        // If nobody listens, the server is stopping already.
        let _ = report.send(());
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(watch)
        .context("the thread of standard input")?;
    Ok(closed)
}

/// Answers what clients have asked, for a while; takes nothing new.
async fn drain(shared: &Shared) {
    shared.inbox.close();
    shared.connections.wake_all();
    let emptied = poll_fn(|context| match shared.connections.is_empty(context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    if timeout(STOP_WAIT, emptied).await.is_err() {
        warn!("stopped with {} connections whose last commands have no answer", shared.connections.count());
    }
}
