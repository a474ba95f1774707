//! Accepts clients, up to a limit. Must not know what they say.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tracing::warn;

use crate::config::Address;
use crate::connection;
use crate::shared::{Counters, Shared};

/// Clients that the kernel keeps waiting to be accepted.
pub(crate) const BACKLOG: u32 = 4_096;
/// Files that a server has open besides its clients: those who have not greeted on the peer port (64), those who have (4
/// connections each of 14 members and 16 who are none), the ways to them (30), the log, snapshots, backups, the runtime.
const FILES_RESERVED: u64 = 64 + 4 * (14 + 16) + 30 + 64;
/// The pause after an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the first of the host's addresses that can be bound, and listens there.
pub(crate) async fn bind(address: &Address) -> io::Result<TcpListener> {
    reserve(address).await?.listen(BACKLOG)
}

/// Binds the first of the host's addresses that can be bound; whoever connects is refused until somebody listens there.
pub(crate) async fn reserve(address: &Address) -> io::Result<TcpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in lookup_host((address.host.as_str(), address.port)).await? {
        match bind_one(candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts clients for ever.
pub(crate) async fn accept(shared: Rc<Shared>, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("a client could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if shared.connections.open() >= shared.config.max_connections {
            Counters::count(&shared.counters.rejected_connections);
            // The client may be gone already; there is nothing to save.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        }
        Counters::count(&shared.counters.connections);
        if prepare(&stream).is_ok() {
            tokio::task::spawn_local(connection::serve(Rc::clone(&shared), stream, address));
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    /// How long a silent client may be gone before the kernel asks: Redis's number.
    const KEEPALIVE: Duration = Duration::from_secs(300);
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(())
}

/// Makes room for so many connections among the open files of the process; says how many there is room for.
pub(crate) fn raise_file_limit(connections: usize) -> usize {
    let wanted = connections as u64 + FILES_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return connections;
    }
    // Raising the hard limit takes a privilege; if it is missing, the hard limit is what there is.
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let both = Rlimit { current: Some(wanted), maximum };
    let soft = Rlimit { current: limit.maximum.map(|maximum| maximum.min(wanted)).or(Some(wanted)), ..limit };
    let _ = setrlimit(Resource::Nofile, both).or_else(|_| setrlimit(Resource::Nofile, soft));
    let got = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = got.saturating_sub(FILES_RESERVED).min(connections as u64);
    usize::try_from(room.max(1)).unwrap_or(connections)
}
