//! Keeps the ways to other servers up: dials, greets, and begins again when one breaks. Must not know what is sent on
//! them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::NodeId;
use quorate_replica::replica::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tracing::info;

use super::acceptor::read_greeting;
use super::check::Direction;
use super::link::Link;
use crate::config::Address;
use crate::shared::{Counters, Shared};

/// How long it may take to find out which addresses a name has.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long a connect to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other side may take to greet.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// The first pause before another try; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// After how long without an acknowledgement by the other machine a connection is given up: a machine that lost its
/// power says no goodbye.
const SILENCE_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(PAUSE_MIN.as_millis() < PAUSE_MAX.as_millis());

/// Keeps this way up until it is closed.
pub(super) async fn keep_up(shared: Rc<Shared>, link: Rc<Link>) {
    let mut pause = PAUSE_MIN;
    loop {
        let connected = connect(&shared, &link).await;
        link.is_tried.set(true);
        shared.peers.tried.notify_one();
        match connected {
            Ok((peer, stream)) => {
                pause = PAUSE_MIN;
                info!("the way to {link} is up");
                link.opened(peer, stream);
                // Where nobody was looked for by id, there may be other ways to the same server.
                if link.peer.is_some() {
                    shared.inbox.event(Event::LinkUp(peer));
                }
                let error = link.carry().await;
                if link.peer.is_some() {
                    shared.inbox.event(Event::LinkDown(peer));
                }
                link.report_down(&error.to_string());
            }
            Err(error) => link.report_down(&error),
        }
        // Whether the pause is over or the other server is back, the next thing is to try.
        let _ = timeout(pause, link.is_back.notified()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Dials, and greets.
async fn connect(shared: &Rc<Shared>, link: &Link) -> Result<(NodeId, TcpStream), String> {
    let mut stream = reach(&link.address, resolve).await?;
    prepare(&stream).map_err(|error| error.to_string())?;
    let heard_from = stream.peer_addr().map_err(|error| error.to_string())?.ip();
    let own = shared.peers.own_greeting(link.peer, shared);
    let greeting = timeout(GREETING_TIMEOUT, async {
        stream.write_all(&own.encode()).await.map_err(|error| error.to_string())?;
        let mut buffer = BytesMut::new();
        read_greeting(&mut stream, &mut buffer).await
    });
    let greeting = greeting.await.map_err(|_| "it does not greet".to_owned())??;
    let direction = Direction::Dialled { looked_for: link.peer };
    shared.peers.check(&greeting, direction, heard_from, shared).inspect_err(|_| {
        Counters::count(&shared.counters.peers_refused);
    })?;
    Ok((greeting.from, stream))
}

type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>>>>;

/// The addresses that the name has now: a server may have moved.
fn resolve(address: &Address) -> Addresses {
    let Address { host, port } = address.clone();
    Box::pin(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) })
}

/// Connects to the first of the host's addresses that accepts.
async fn reach(address: &Address, resolve: impl Fn(&Address) -> Addresses) -> Result<TcpStream, String> {
    let resolved = timeout(NAME_TIMEOUT, resolve(address)).await;
    let resolved =
        resolved.map_err(|_| "it takes too long to find out which addresses the name has".to_owned())?;
    let resolved = resolved.map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for candidate in resolved.into_iter().take(ADDRESSES_MAX) {
        last = match timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long to connect".to_owned(),
        };
    }
    Err(last)
}

pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE_MAX)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE_MAX.as_millis()).expect("seconds"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::net::TcpListener;
    use tokio::runtime::LocalRuntime;

    use super::*;

    /// A port on which somebody listens, and one on which nobody does.
    async fn ports() -> (TcpListener, SocketAddr, SocketAddr) {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = open.local_addr().unwrap();
        (open, address, closed)
    }

    fn known(addresses: Vec<SocketAddr>) -> Addresses {
        Box::pin(std::future::ready(Ok(addresses)))
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        LocalRuntime::new().unwrap().block_on(async {
            let (_open, open, closed) = ports().await;
            let name: Address = "db.example:7".parse().unwrap();
            let reached = reach(&name, |_| known(vec![closed, open])).await.unwrap();
            assert_eq!(reached.peer_addr().unwrap(), open);
            assert!(reach(&name, |_| known(vec![closed])).await.unwrap_err().contains("refused"));
            assert_eq!(reach(&name, |_| known(Vec::new())).await.unwrap_err(), "the name has no address");
        });
    }

    #[test]
    fn a_name_is_resolved_at_every_dial() {
        LocalRuntime::new().unwrap().block_on(async {
            let (_open, open, closed) = ports().await;
            let name: Address = "db.example:7".parse().unwrap();
            let moved = Cell::new(closed);
            let resolve = |asked: &Address| {
                assert_eq!(asked.host, "db.example");
                known(vec![moved.get()])
            };
            reach(&name, resolve).await.unwrap_err();
            moved.set(open);
            assert_eq!(reach(&name, resolve).await.unwrap().peer_addr().unwrap(), open);
        });
    }
}
