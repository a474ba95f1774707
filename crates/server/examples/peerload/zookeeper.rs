//! Clients of `ZooKeeper`'s own protocol (jute): `create` to fill, `setData`, `getData`, and `sync` before it if asked.
//! Must not know what is measured.
//!
//! `getData` is answered from the memory of the server asked, which may be behind: not linearizable. With `sync` the server
//! first catches up with the leader, without a majority being asked, so that a deposed leader can still answer with old
//! data; it is the closest `ZooKeeper` has.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::draw::Draw;
use crate::{Args, Session, Work};

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const SYNC: i32 = 9;

/// All permissions, for anyone.
const ALL_PERMISSIONS: i32 = 31;

/// What the server answers to `create` of a node that is there already.
const NODE_EXISTS: i32 = -110;

/// Milliseconds without a word after which a session ends. All clients talk all the time.
const SESSION_MS: i32 = 30_000;

/// The part of an answer that all have: xid, zxid, error.
const HEADER_BYTES: usize = 16;

/// A session on a connection of its own.
pub(crate) struct ZooKeeper {
    stream: BufReader<TcpStream>,
    work: Work,
    pipeline: usize,
    sync: bool,
    value_bytes: usize,
    xid: i32,
    out: Vec<u8>,
    value: Vec<u8>,
    input: Vec<u8>,
}

pub(crate) async fn connect(args: &Args) -> Result<Vec<ZooKeeper>> {
    let mut all = Vec::new();
    for _ in 0..args.clients {
        let server = &args.server;
        let stream = TcpStream::connect(server).await.with_context(|| format!("connect to {server}"))?;
        stream.set_nodelay(true)?;
        let mut client = ZooKeeper {
            stream: BufReader::new(stream),
            work: args.work,
            pipeline: args.pipeline,
            sync: args.sync && args.work == Work::Get,
            value_bytes: args.value_bytes,
            xid: 0,
            out: Vec::new(),
            value: Vec::new(),
            input: Vec::new(),
        };
        client.greet().await?;
        all.push(client);
    }
    Ok(all)
}

impl Session for ZooKeeper {
    async fn batch(&mut self, draw: &mut Draw) -> Result<()> {
        self.out.clear();
        let first = self.xid;
        for _ in 0..self.pipeline {
            self.command(draw);
        }
        self.stream.write_all(&self.out).await?;
        for xid in first..self.xid {
            self.read().await?;
            let (got, error) = (int(&self.input, 0)?, int(&self.input, 12)?);
            ensure!(got == xid + 1, "answer {got} in place of {}", xid + 1);
            let there = self.work == Work::Fill && error == NODE_EXISTS;
            ensure!(error == 0 || there, "ZooKeeper answered error {error}");
        }
        // The last answer of a batch of reads is a value.
        ensure!(self.work != Work::Get || self.input.len() > HEADER_BYTES + self.value_bytes, "no value");
        Ok(())
    }
}

impl ZooKeeper {
    /// The session: version 0, nothing seen, no session before, no password, not read-only.
    async fn greet(&mut self) -> Result<()> {
        self.out.clear();
        let at = self.begin();
        self.out.extend_from_slice(&0_i32.to_be_bytes());
        self.out.extend_from_slice(&0_i64.to_be_bytes());
        self.out.extend_from_slice(&SESSION_MS.to_be_bytes());
        self.out.extend_from_slice(&0_i64.to_be_bytes());
        buffer(&[0; 16], &mut self.out);
        self.out.push(0);
        self.end(at);
        self.stream.write_all(&self.out).await?;
        self.read().await?;
        ensure!(int(&self.input, 4)? > 0, "ZooKeeper gave no session");
        Ok(())
    }

    fn command(&mut self, draw: &mut Draw) {
        let mut path = vec![b'/'];
        path.extend_from_slice(draw.key());
        if self.sync {
            let at = self.request(SYNC, &path);
            self.end(at);
        }
        match self.work {
            Work::Get => {
                let at = self.request(GET_DATA, &path);
                self.out.push(0);
                self.end(at);
            }
            Work::Set | Work::Append => {
                let at = self.request(SET_DATA, &path);
                self.put(draw);
                self.out.extend_from_slice(&(-1_i32).to_be_bytes());
                self.end(at);
            }
            Work::Fill => {
                let at = self.request(CREATE, &path);
                self.put(draw);
                self.out.extend_from_slice(&1_i32.to_be_bytes());
                self.out.extend_from_slice(&ALL_PERMISSIONS.to_be_bytes());
                buffer(b"world", &mut self.out);
                buffer(b"anyone", &mut self.out);
                self.out.extend_from_slice(&0_i32.to_be_bytes());
                self.end(at);
            }
        }
    }

    fn put(&mut self, draw: &mut Draw) {
        self.value.clear();
        draw.value(&mut self.value);
        buffer(&self.value, &mut self.out);
    }

    fn request(&mut self, kind: i32, path: &[u8]) -> usize {
        let at = self.begin();
        self.xid += 1;
        self.out.extend_from_slice(&self.xid.to_be_bytes());
        self.out.extend_from_slice(&kind.to_be_bytes());
        buffer(path, &mut self.out);
        at
    }

    fn begin(&mut self) -> usize {
        self.out.extend_from_slice(&[0; 4]);
        self.out.len()
    }

    fn end(&mut self, at: usize) {
        let length = u32::try_from(self.out.len() - at).unwrap_or(u32::MAX);
        self.out[at - 4..at].copy_from_slice(&length.to_be_bytes());
    }

    async fn read(&mut self) -> Result<()> {
        let length = self.stream.read_u32().await.context("the server closed the connection")?;
        ensure!(length < 1 << 20, "an answer of {length} bytes");
        self.input.resize(usize::try_from(length)?, 0);
        self.stream.read_exact(&mut self.input).await?;
        Ok(())
    }
}

fn buffer(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

fn int(from: &[u8], at: usize) -> Result<i32> {
    let bytes = from.get(at..at + 4).context("an answer too short")?;
    Ok(i32::from_be_bytes(bytes.try_into()?))
}
