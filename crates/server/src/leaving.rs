//! How a server stops: who tells it, what it waits for, and when it has waited long enough. Must not know how another comes
//! to lead, nor what a connection has under way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Read;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Context as _;
use quorate_replica::replica::{Event, Left};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::shared::Shared;

/// How long a server that was told to stop hands over and answers what it has been asked.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Who can tell the server to stop.
pub(crate) struct Orders {
    terminate: Signal,
    interrupt: Signal,
    /// Standard input, where its end says so.
    stdin: Option<oneshot::Receiver<()>>,
}

impl Orders {
    /// From here on a signal is an order, and does not end the process.
    pub(crate) fn new(exit_on_stdin_close: bool) -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            stdin: exit_on_stdin_close.then(watch_stdin).transpose()?,
        })
    }

    /// Resolves when a signal, or the end of standard input, says to stop.
    pub(crate) async fn stop(&mut self) {
        let closed = async {
            match &mut self.stdin {
                // The sender is dropped only by the thread's end.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = closed => {}
        }
    }

    /// Resolves when a signal comes after that: somebody does not want to wait.
    pub(crate) async fn stop_at_once(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
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

/// How far the replica has come with leaving: told by the loop.
#[derive(Default)]
pub(crate) struct Leaving {
    left: Cell<Option<Left>>,
    waker: RefCell<Option<Waker>>,
}

impl Leaving {
    /// As of the step that was carried out.
    pub(crate) fn tell(&self, left: Option<Left>) {
        self.left.set(left);
        if left.is_some()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    fn look(&self, context: &Context<'_>) -> Option<Left> {
        *self.waker.borrow_mut() = Some(context.waker().clone());
        self.left.get()
    }
}

/// Lets another lead, and answers what clients have asked; takes nothing new.
pub(crate) async fn leave(shared: &Shared, orders: &mut Orders) {
    info!("told to stop: handing over, and answering what is in flight");
    shared.inbox.close();
    shared.connections.wake_all();
    shared.inbox.event(Event::Leave);
    let left = poll_fn(|context| {
        let is_empty = shared.connections.is_empty(context);
        match shared.leaving.look(context) {
            Some(Left::InOrder) if is_empty => Poll::Ready(Left::InOrder),
            Some(Left::Unsettled) => Poll::Ready(Left::Unsettled),
            Some(Left::InOrder) | None => Poll::Pending,
        }
    });
    tokio::select! {
        left = timeout(STOP_WAIT, left) => match left {
            Ok(Left::InOrder) => {}
            Ok(Left::Unsettled) | Err(_) => match shared.connections.count() {
                0 => info!("there is nobody to hand over to"),
                count => warn!("stopped with {count} connections whose last commands have no answer"),
            },
        },
        () = orders.stop_at_once() => warn!("told to stop again: stopping at once"),
    }
}
