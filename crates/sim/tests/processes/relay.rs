//! The weather on the wires: a proxy of our own for each way that somebody dials. It delays, holds and cuts, each
//! direction for itself. Knows bytes, not what they say; what it lets through it lets through whole and in order.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_sim::prng::Prng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes of one read; a frame may be cut anywhere.
const CHUNK_BYTES_MAX: u64 = 16 << 10;
/// Chunks under way in one direction of one connection; past it the sender feels the pressure.
const CHUNKS_MAX: usize = 4_096;

/// Where bytes go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From who dialled.
    Forward,
    /// To who dialled.
    Back,
}

/// What is wrong with a way at the moment. Several faults may hit one way: it is as bad as the worst of them.
#[derive(Clone, Debug, Default)]
struct Weather {
    /// Connections are closed at once.
    cuts: u32,
    /// How often the connections that stood were broken. A connection looks at the last state only, so it counts.
    breaks: u64,
    forward: Slowness,
    back: Slowness,
}

#[derive(Clone, Debug, Default)]
struct Slowness {
    /// What arrives is kept until all of these are over.
    holds: u32,
    /// What arrives is late by up to the longest of these.
    delays_ms: Vec<u64>,
}

impl Weather {
    fn of(&mut self, direction: Direction) -> &mut Slowness {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Back => &mut self.back,
        }
    }

    fn slowness(&self, direction: Direction) -> &Slowness {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Back => &self.back,
        }
    }
}

/// One thing wrong with a way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// See [`Weather::cuts`].
    Cut,
    /// See [`Slowness::holds`].
    Hold(Direction),
    /// See [`Slowness::delays_ms`].
    Delay(Direction, u64),
}

/// From one dialling party to one server.
#[derive(Debug)]
pub(crate) struct Way {
    /// Where it is dialled.
    pub(crate) port: u16,
    weather: watch::Sender<Weather>,
    bytes: AtomicU64,
    broken: AtomicU64,
}

impl Way {
    /// Something goes wrong, until [`Way::ends`] is told the same.
    pub(crate) fn begins(&self, trouble: Trouble) {
        self.weather.send_modify(|weather| match trouble {
            Trouble::Cut => {
                weather.cuts += 1;
                weather.breaks += 1;
            }
            Trouble::Hold(direction) => weather.of(direction).holds += 1,
            Trouble::Delay(direction, by_ms) => weather.of(direction).delays_ms.push(by_ms),
        });
    }

    /// It is over. What was held leaves.
    pub(crate) fn ends(&self, trouble: Trouble) {
        self.weather.send_modify(|weather| match trouble {
            Trouble::Cut => weather.cuts -= 1,
            Trouble::Hold(direction) => weather.of(direction).holds -= 1,
            Trouble::Delay(direction, by_ms) => {
                let delays = &mut weather.of(direction).delays_ms;
                let at = delays.iter().position(|delay| *delay == by_ms).expect("a delay ends once");
                delays.swap_remove(at);
            }
        });
    }

    /// Connections that stand now break, with all that was held; new ones are let through.
    pub(crate) fn breaks(&self) {
        self.weather.send_modify(|weather| weather.breaks += 1);
    }

    /// Bytes let through, and connections that were broken.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed))
    }
}

/// All ways, served by one thread.
pub(crate) struct Relays {
    // An option, so that it can be taken and left to end by itself.
    runtime: Option<Runtime>,
}

impl Relays {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().enable_time().build();
        Self { runtime: Some(runtime.expect("a thread and its files")) }
    }

    /// A way to this port, in good weather. `seed` draws its delays.
    pub(crate) fn way(&self, to: u16, seed: u64) -> Arc<Way> {
        let runtime = self.runtime.as_ref().expect("it is dropped last");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let weather = watch::Sender::new(Weather::default());
        let way = Arc::new(Way { port, weather, bytes: AtomicU64::new(0), broken: AtomicU64::new(0) });
        runtime.spawn(accept(Arc::clone(&way), listener, to, Prng::new(seed)));
        way
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(way: Arc<Way>, listener: TcpListener, to: u16, mut prng: Prng) {
    loop {
        // Out of files, say: who dials tries again, and a test that gets nowhere fails.
        let Ok((dialled, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(Arc::clone(&way), dialled, to, prng.fork()));
    }
}

/// One connection from its beginning to its end.
async fn serve(way: Arc<Way>, dialled: TcpStream, to: u16, mut prng: Prng) {
    let mut weather = way.weather.subscribe();
    let (cuts, breaks) = {
        let now = weather.borrow_and_update();
        (now.cuts, now.breaks)
    };
    if cuts > 0 {
        return;
    }
    // Nobody listens: who dialled sees the end at once.
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    // Some breaks lose what the system holds, some do not.
    if prng.chance(0.5) {
        let _ = (dialled.set_zero_linger(), server.set_zero_linger());
    }
    let _ = (dialled.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = dialled.into_split();
    let (from_server, to_server) = server.into_split();
    let forward = pump(&way, Direction::Forward, from_client, to_server, prng.fork());
    let back = pump(&way, Direction::Back, from_server, to_client, prng.fork());
    tokio::select! {
        _ = async { tokio::try_join!(forward, back) } => {}
        _ = weather.wait_for(|weather| weather.breaks != breaks) => { way.broken.fetch_add(1, Ordering::Relaxed); }
    }
}

/// Carries one direction to its end. An error is a receiver that is gone.
async fn pump(
    way: &Way,
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut prng: Prng,
) -> io::Result<()> {
    let (chunks, mut arrived) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let receive = async move {
        loop {
            let mut chunk = vec![0; prng.between(1, CHUNK_BYTES_MAX) as usize];
            // A sender that was killed is one that says no more: what it said is still on its way.
            let bytes = from.read(&mut chunk).await.unwrap_or(0);
            if bytes == 0 {
                return Ok(());
            }
            chunk.truncate(bytes);
            let longest =
                way.weather.borrow().slowness(direction).delays_ms.iter().copied().max().unwrap_or(0);
            let due = Instant::now() + Duration::from_millis(prng.between(longest / 2, longest));
            if chunks.send((due, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let deliver = async move {
        let mut weather = way.weather.subscribe();
        while let Some((due, chunk)) = arrived.recv().await {
            sleep_until(due).await;
            let is_free = |weather: &Weather| weather.slowness(direction).holds == 0;
            if weather.wait_for(is_free).await.is_err() {
                return Ok(());
            }
            to.write_all(&chunk).await?;
            way.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        // Its end is held, too.
        let _ = weather.wait_for(|weather| weather.slowness(direction).holds == 0).await;
        to.shutdown().await
    };
    tokio::try_join!(receive, deliver).map(|_| ())
}
