//! Clients of etcd's gRPC: `KV/Put`, `KV/Range` as it is by default (linearizable), and `KV/Txn` of many puts to fill it.
//! The few fields needed are written by hand. Must not know what is measured.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use crate::draw::Draw;
use crate::{Args, Session, Work};

/// A client on an HTTP/2 connection that others may share.
pub(crate) struct Etcd {
    send: SendRequest<Bytes>,
    server: String,
    work: Work,
    pipeline: usize,
    value_bytes: usize,
    value: Vec<u8>,
}

pub(crate) async fn connect(args: &Args) -> Result<Vec<Etcd>> {
    ensure!(args.pipeline == 1 || args.work == Work::Fill, "a client of etcd has one request under way");
    let mut all: Vec<Etcd> = Vec::new();
    let mut send = None;
    for number in 0..args.clients {
        if number % args.share == 0 {
            send = Some(open(&args.server).await?);
        }
        all.push(Etcd {
            send: send.clone().context("a connection")?,
            server: args.server.clone(),
            work: args.work,
            pipeline: args.pipeline,
            value_bytes: args.value_bytes,
            value: Vec::new(),
        });
    }
    Ok(all)
}

async fn open(server: &str) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(server).await.with_context(|| format!("connect to {server}"))?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::handshake(stream).await?;
    // Ends with the run, or the requests over it fail: its own error says no more.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(send)
}

impl Session for Etcd {
    async fn batch(&mut self, draw: &mut Draw) -> Result<()> {
        let mut message = Vec::with_capacity(160);
        match self.work {
            Work::Set => self.put(draw, &mut message),
            Work::Get => field(1, draw.key(), &mut message),
            Work::Fill => {
                for _ in 0..self.pipeline {
                    let mut put = Vec::new();
                    self.put(draw, &mut put);
                    let mut operation = Vec::new();
                    field(2, &put, &mut operation);
                    field(2, &operation, &mut message);
                }
            }
            Work::Append => {}
        }
        let answer = self.call(&message).await?;
        // A header alone is shorter than a value.
        ensure!(self.work != Work::Get || answer > self.value_bytes, "no such key");
        Ok(())
    }
}

impl Etcd {
    fn put(&mut self, draw: &mut Draw, to: &mut Vec<u8>) {
        field(1, draw.key(), to);
        self.value.clear();
        draw.value(&mut self.value);
        field(2, &self.value, to);
    }

    /// One unary call. Gives the length of the answer's message.
    async fn call(&mut self, message: &[u8]) -> Result<usize> {
        let method = match self.work {
            Work::Get => "Range",
            Work::Fill => "Txn",
            Work::Set | Work::Append => "Put",
        };
        let request = Request::post(format!("http://{}/etcdserverpb.KV/{method}", self.server))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, false)?;
        let mut framed = Vec::with_capacity(message.len() + 5);
        framed.push(0);
        framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        framed.extend_from_slice(message);
        stream.send_data(framed.into(), true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "etcd answered {}", response.status());
        let early = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(part) = body.data().await {
            let part = part?;
            length += part.len();
            body.flow_control().release_capacity(part.len())?;
        }
        let trailers = body.trailers().await?;
        let status = early.or_else(|| trailers.as_ref()?.get("grpc-status").cloned());
        let why = trailers.as_ref().and_then(|trailers| trailers.get("grpc-message"));
        ensure!(status.as_ref().is_some_and(|status| status == "0"), "etcd answered {status:?} {why:?}");
        Ok(length)
    }
}

/// A length-delimited field of a protobuf message.
fn field(number: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    let mut left = bytes.len();
    while left > 0x7f {
        to.push(0x80 | u8::try_from(left & 0x7f).unwrap_or(0));
        left >>= 7;
    }
    to.push(u8::try_from(left).unwrap_or(0));
    to.extend_from_slice(bytes);
}
