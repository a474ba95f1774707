//! A Clerk's requests and answers in the Redis protocol. Must not know when anything is sent, or where.

use bytes::{Bytes, BytesMut};
use quorate_resp::{Frame, encode_command};

use crate::message::{Command, Query, Refusal, Reply, Request, Response, SessionId};

/// What the answer to a request must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Session,
    Ok,
    Length,
    Deleted,
    Value,
}

/// Appends a request to what is to be sent.
pub(crate) fn encode(request: &Request, out: &mut BytesMut) -> Expected {
    match request {
        Request::OpenSession { ttl_ms: None } => encode_command(out, &["SESSION", "OPEN"]),
        Request::OpenSession { ttl_ms: Some(ttl_ms) } => {
            encode_command(out, &["SESSION", "OPEN", "TTL", &ttl_ms.to_string()]);
        }
        Request::Once { session: SessionId(session), sequence, acknowledged, command } => {
            let mut arguments = vec![
                Bytes::from_static(b"ONCE"),
                session.clone(),
                sequence.to_string().into(),
                acknowledged.to_string().into(),
            ];
            match command {
                Command::Put { key, value } => {
                    arguments.extend([Bytes::from("SET"), key.clone(), value.clone()]);
                }
                Command::Append { key, value } => {
                    arguments.extend([Bytes::from("APPEND"), key.clone(), value.clone()]);
                }
                Command::Delete { key } => arguments.extend([Bytes::from("DEL"), key.clone()]),
            }
            encode_command(out, &arguments);
        }
        Request::Read(Query::Get { key }) => encode_command(out, &[&b"GET"[..], key]),
        Request::CloseSession { session: SessionId(session) } => {
            encode_command(out, &[&b"SESSION"[..], b"CLOSE", session]);
        }
    }
    expected(request)
}

fn expected(request: &Request) -> Expected {
    match request {
        Request::OpenSession { .. } => Expected::Session,
        Request::Once { command: Command::Put { .. }, .. } | Request::CloseSession { .. } => Expected::Ok,
        Request::Once { command: Command::Append { .. }, .. } => Expected::Length,
        Request::Once { command: Command::Delete { .. }, .. } => Expected::Deleted,
        Request::Read(Query::Get { .. }) => Expected::Value,
    }
}

/// Understands an answer; `None` if it cannot be one: then the connection is out of step.
pub(crate) fn decode(expected: Expected, frame: Frame) -> Option<Response> {
    let reply = match (expected, frame) {
        (_, Frame::Error(text)) => {
            return Some(Response::Refused(Refusal::parse(&String::from_utf8_lossy(&text))));
        }
        // Copied: it is kept for long, and a slice would keep the whole read buffer alive.
        (Expected::Session, Frame::Bulk(id)) => {
            return Some(Response::Session(SessionId(Bytes::copy_from_slice(&id))));
        }
        (Expected::Ok, Frame::Simple(text)) if text == "OK" => Reply::Ok,
        (Expected::Length, Frame::Integer(length)) => Reply::Length(u64::try_from(length).ok()?),
        (Expected::Deleted, Frame::Integer(count @ 0..=1)) => Reply::Deleted(count == 1),
        (Expected::Value, Frame::Bulk(value)) => Reply::Value(Some(value)),
        (Expected::Value, Frame::Null) => Reply::Value(None),
        (Expected::Session | Expected::Ok | Expected::Length | Expected::Deleted | Expected::Value, _) => {
            return None;
        }
    };
    Some(Response::Reply(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(request: &Request) -> String {
        let mut out = BytesMut::new();
        encode(request, &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        let words: Vec<&str> =
            text.split("\r\n").filter(|line| !line.starts_with(['*', '$']) && !line.is_empty()).collect();
        words.join(" ")
    }

    #[test]
    fn requests_as_commands() {
        let key = || Bytes::from_static(b"k");
        let once = |command| Request::Once {
            session: SessionId(Bytes::from_static(b"c-7-0")),
            sequence: 42,
            acknowledged: 40,
            command,
        };
        let value = Bytes::from_static(b"v");
        assert_eq!(wire(&Request::OpenSession { ttl_ms: None }), "SESSION OPEN");
        assert_eq!(wire(&Request::OpenSession { ttl_ms: Some(5_000) }), "SESSION OPEN TTL 5000");
        assert_eq!(
            wire(&once(Command::Put { key: key(), value: value.clone() })),
            "ONCE c-7-0 42 40 SET k v"
        );
        assert_eq!(wire(&once(Command::Append { key: key(), value })), "ONCE c-7-0 42 40 APPEND k v");
        assert_eq!(wire(&once(Command::Delete { key: key() })), "ONCE c-7-0 42 40 DEL k");
        let session = SessionId(Bytes::from_static(b"c-7-0"));
        assert_eq!(wire(&Request::CloseSession { session }), "SESSION CLOSE c-7-0");
        assert_eq!(wire(&Request::Read(Query::Get { key: key() })), "GET k");
    }

    #[test]
    fn answers_are_understood_by_what_was_asked() {
        let reply =
            |expected, frame, reply| assert_eq!(decode(expected, frame), Some(Response::Reply(reply)));
        reply(Expected::Ok, Frame::simple("OK"), Reply::Ok);
        reply(Expected::Length, Frame::Integer(7), Reply::Length(7));
        reply(Expected::Deleted, Frame::Integer(0), Reply::Deleted(false));
        reply(Expected::Deleted, Frame::Integer(1), Reply::Deleted(true));
        reply(Expected::Value, Frame::bulk("v"), Reply::Value(Some(Bytes::from_static(b"v"))));
        reply(Expected::Value, Frame::Null, Reply::Value(None));
        let session = SessionId(Bytes::from_static(b"s"));
        assert_eq!(decode(Expected::Session, Frame::bulk("s")), Some(Response::Session(session)));
        let refusal = Refusal::parse("TRYAGAIN x");
        let error = Frame::Error(Bytes::from_static(b"TRYAGAIN x"));
        assert_eq!(decode(Expected::Value, error), Some(Response::Refused(refusal)));
        for (expected, frame) in [
            (Expected::Ok, Frame::simple("QUEUED")),
            (Expected::Ok, Frame::Null),
            (Expected::Length, Frame::Integer(-1)),
            (Expected::Deleted, Frame::Integer(2)),
            (Expected::Session, Frame::simple("OK")),
            (Expected::Value, Frame::Integer(1)),
        ] {
            assert_eq!(decode(expected, frame), None);
        }
    }
}
