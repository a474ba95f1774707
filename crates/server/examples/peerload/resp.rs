//! Clients of the Redis protocol. Must not know which server answers.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::draw::Draw;
use crate::{Args, Session, Work};

/// Milliseconds after which `WAIT` answers with fewer replicas than asked for, which ends the run.
const WAIT_MILLIS: u64 = 5_000;

/// A connection, and what is sent over it.
pub(crate) struct Resp {
    stream: TcpStream,
    work: Work,
    pipeline: usize,
    /// Replicas that must have each batch; 0: do not ask.
    wait: usize,
    out: Vec<u8>,
    value: Vec<u8>,
    input: BytesMut,
}

pub(crate) async fn connect(args: &Args) -> Result<Vec<Resp>> {
    let mut all = Vec::new();
    for _ in 0..args.clients {
        all.push(Resp {
            stream: open(&args.server).await?,
            work: args.work,
            pipeline: args.pipeline,
            wait: if args.work == Work::Get { 0 } else { args.wait },
            out: Vec::new(),
            value: Vec::new(),
            input: BytesMut::with_capacity(16 << 10),
        });
    }
    Ok(all)
}

/// Connections that were greeted once and say nothing more.
pub(crate) async fn idle(server: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = open(server).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        ensure!(answer == *b"+PONG\r\n", "PING was answered {}", answer.escape_ascii());
        all.push(stream);
    }
    Ok(all)
}

async fn open(server: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(server).await.with_context(|| format!("connect to {server}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Session for Resp {
    async fn batch(&mut self, draw: &mut Draw) -> Result<()> {
        self.out.clear();
        for _ in 0..self.pipeline {
            self.command(draw)?;
        }
        if self.wait > 0 {
            let (replicas, millis) = (self.wait.to_string(), WAIT_MILLIS.to_string());
            write!(self.out, "*3\r\n$4\r\nWAIT\r\n${}\r\n{replicas}\r\n", replicas.len())?;
            write!(self.out, "${}\r\n{millis}\r\n", millis.len())?;
        }
        self.stream.write_all(&self.out).await?;
        let expected = match self.work {
            Work::Set | Work::Fill => b'+',
            Work::Get => b'$',
            Work::Append => b':',
        };
        for _ in 0..self.pipeline {
            self.answer(expected).await?;
        }
        if self.wait > 0 {
            let replicas = self.answer(b':').await?;
            ensure!(replicas >= self.wait, "{replicas} replicas have the write, not {}", self.wait);
        }
        Ok(())
    }
}

impl Resp {
    fn command(&mut self, draw: &mut Draw) -> Result<()> {
        let (words, name) = match self.work {
            Work::Set | Work::Fill => (3, "SET"),
            Work::Get => (2, "GET"),
            Work::Append => (3, "APPEND"),
        };
        write!(self.out, "*{words}\r\n${}\r\n{name}\r\n", name.len())?;
        let key = draw.key();
        write!(self.out, "${}\r\n", key.len())?;
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(b"\r\n");
        if words == 3 {
            self.value.clear();
            draw.value(&mut self.value);
            write!(self.out, "${}\r\n", self.value.len())?;
            self.out.extend_from_slice(&self.value);
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Waits for one answer, of that kind. Gives the number in its first line.
    async fn answer(&mut self, expected: u8) -> Result<usize> {
        loop {
            if let Some((line, whole)) = measured(&self.input)? {
                let first = self.input.get(..line).unwrap_or_default();
                if first.first() != Some(&expected) || first == b"$-1" {
                    bail!("answered {}", first.escape_ascii());
                }
                let number = number(first);
                self.input.advance(whole);
                return Ok(number.unwrap_or(0));
            }
            let got = self.stream.read_buf(&mut self.input).await?;
            ensure!(got > 0, "the server closed the connection");
        }
    }
}

/// Lengths of the first line and of the whole of the first answer in `input`, if all of it is there.
fn measured(input: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(line) = input.iter().position(|byte| *byte == b'\r') else {
        return Ok(None);
    };
    let first = &input[..line];
    let whole = match first.first() {
        Some(b'$') if first != b"$-1" => line + 2 + number(first).context("a length")? + 2,
        Some(_) => line + 2,
        None => bail!("an empty line for an answer"),
    };
    Ok((input.len() >= whole).then_some((line, whole)))
}

fn number(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line.get(1..)?).ok()?.parse().ok()
}
