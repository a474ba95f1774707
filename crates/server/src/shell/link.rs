//! One connection to one server that is asked many things, one after the other. Must not know what they are.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_resp::{Frame, ReplyDecoder, ReplyLimits, encode_command};

use crate::config::Address;

/// Bytes of one read from the socket.
const READ_BYTES: usize = 64 << 10;

/// See the module. After an error it is of no use any more.
pub(super) struct Link {
    stream: TcpStream,
    decoder: ReplyDecoder,
    buffer: BytesMut,
    scrap: Vec<u8>,
}

impl Link {
    /// Connects within `wait`.
    pub(super) fn connect(server: &Address, wait: Duration) -> Result<Self, String> {
        let addresses = (server.host.as_str(), server.port).to_socket_addrs();
        let mut stream = Err("the name has no address".to_owned());
        for address in addresses.map_err(|error| error.to_string())? {
            stream = TcpStream::connect_timeout(&address, wait).map_err(|error| error.to_string());
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Ok(Self { stream, decoder, buffer: BytesMut::new(), scrap: vec![0; READ_BYTES] })
    }

    /// Asks, and waits for the answer.
    pub(super) fn call<A: AsRef<[u8]>>(&mut self, command: &[A], wait: Duration) -> Result<Frame, String> {
        let deadline = Instant::now() + wait;
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, command);
        self.stream.write_all(&bytes).map_err(|error| error.to_string())?;
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).map_err(|error| error.to_string())? {
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("no answer in time".to_owned());
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            match self.stream.read(&mut self.scrap) {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(count) => self.buffer.extend_from_slice(&self.scrap[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err("no answer in time".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
