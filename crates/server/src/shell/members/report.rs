//! What a leader answers to `MEMBERS …`, read from its frames. Must not know who asked, or why.

use std::collections::BTreeMap;

use quorate_resp::Frame;

use crate::config::Address;

/// The answer to a change.
#[derive(Debug)]
pub(super) struct Begun {
    /// `done`, `under-way` or `begun`.
    pub(super) state: String,
    /// The index of the membership that it stands in.
    pub(super) index: u64,
    /// What changes, as sentences.
    pub(super) says: Vec<String>,
}

/// The answer to `MEMBERS LIST`.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) index: u64,
    pub(super) commit: u64,
    /// What is under way, as a sentence, or nothing.
    pub(super) change: String,
    /// Who is to lead; 0 for nobody.
    pub(super) transfer: u64,
    pub(super) members: Vec<Row>,
    voters: u64,
    quorum: u64,
    faults: u64,
    waiting: Vec<Fields>,
    notes: Vec<String>,
}

/// One member.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) standing: String,
    pub(super) health: String,
    pub(super) matched: u64,
    pub(super) snapshot_sent: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) address: String,
    fields: Fields,
}

#[derive(Debug, Default)]
struct Fields(BTreeMap<String, Frame>);

impl Fields {
    /// A map, as RESP2 has it: a list of names and values.
    fn parse(frame: &Frame) -> Result<Self, String> {
        let odd = || format!("an answer to MEMBERS that makes no sense: {frame:?}");
        let Frame::Array(items) = frame else { return Err(odd()) };
        let named = |pair: &[Frame]| {
            let name = pair[0].as_text().ok_or_else(odd)?;
            Ok((String::from_utf8_lossy(name).into_owned(), pair[1].clone()))
        };
        Ok(Self(items.chunks_exact(2).map(named).collect::<Result<_, String>>()?))
    }

    fn number(&self, name: &str) -> u64 {
        match self.0.get(name) {
            Some(Frame::Integer(number)) => u64::try_from(*number).unwrap_or(0),
            Some(_) | None => 0,
        }
    }

    fn text(&self, name: &str) -> String {
        let text = self.0.get(name).and_then(Frame::as_text);
        text.map_or_else(String::new, |text| String::from_utf8_lossy(text).into_owned())
    }

    fn list(&self, name: &str) -> &[Frame] {
        match self.0.get(name) {
            Some(Frame::Array(items)) => items,
            Some(_) | None => &[],
        }
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let texts = self.list(name).iter().filter_map(Frame::as_text);
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}

impl Begun {
    pub(super) fn parse(frame: &Frame) -> Result<Self, String> {
        let fields = Fields::parse(frame)?;
        Ok(Self { state: fields.text("state"), index: fields.number("index"), says: fields.texts("says") })
    }
}

impl Report {
    pub(super) fn parse(frame: &Frame) -> Result<Self, String> {
        let fields = Fields::parse(frame)?;
        let members = fields.list("members").iter().map(Row::parse).collect::<Result<_, _>>()?;
        let waiting = fields.list("waiting").iter().map(Fields::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            leader: fields.number("leader"),
            term: fields.number("term"),
            index: fields.number("index"),
            commit: fields.number("commit"),
            change: fields.text("change"),
            transfer: fields.number("transfer"),
            members,
            voters: fields.number("voters"),
            quorum: fields.number("quorum"),
            faults: fields.number("faults"),
            waiting,
            notes: fields.texts("notes"),
        })
    }

    pub(super) fn member(&self, id: u64) -> Option<&Row> {
        self.members.iter().find(|row| row.id == id)
    }

    /// Where clients find the members.
    pub(super) fn clients(&self) -> Vec<Address> {
        self.members.iter().filter_map(|row| row.fields.text("client").parse().ok()).collect()
    }

    /// Where clients find each member that is not known to be down.
    pub(super) fn reachable(&self) -> Vec<(u64, Address)> {
        let up = self.members.iter().filter(|row| row.health != "down");
        up.filter_map(|row| Some((row.id, row.fields.text("client").parse().ok()?))).collect()
    }

    /// The heads of the columns of [`Report::rows`].
    pub(super) fn heads() -> Vec<String> {
        ["ID", "ROLE", "VOTE", "HEALTH", "MATCH", "LAG", "SEEN", "PEER-ADDRESS", "CLIENT-ADDRESS", "VERSION"]
            .map(str::to_owned)
            .to_vec()
    }

    /// One line a member.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        self.members.iter().map(Row::cells).collect()
    }

    /// All that is not in a member's line.
    pub(super) fn notes(&self) -> Vec<String> {
        let Self { term, voters, quorum, faults, .. } = self;
        let mut notes =
            vec![format!("term {term}; quorum {quorum} of {voters} voters; faults borne {faults}")];
        if !self.change.is_empty() {
            notes.push(format!("under way: {}", self.change));
        }
        if self.transfer > 0 {
            notes.push(format!("under way: leadership is handed over to server {}", self.transfer));
        }
        for waiting in &self.waiting {
            notes.push(format!(
                "server {} waits, seen {} ago: {}",
                waiting.number("id"),
                seconds(waiting.number("seen-ms")),
                waiting.text("command")
            ));
        }
        notes.extend(self.notes.iter().cloned());
        notes
    }
}

impl Row {
    fn parse(frame: &Frame) -> Result<Self, String> {
        let fields = Fields::parse(frame)?;
        Ok(Self {
            id: fields.number("id"),
            standing: fields.text("standing"),
            health: fields.text("health"),
            matched: fields.number("match"),
            snapshot_sent: fields.number("snapshot-sent"),
            snapshot_bytes: fields.number("snapshot-bytes"),
            address: fields.text("address"),
            fields,
        })
    }

    fn cells(&self) -> Vec<String> {
        let text = |name: &str| {
            let text = self.fields.text(name);
            if text.is_empty() { "-".to_owned() } else { text }
        };
        vec![
            self.id.to_string(),
            text("role"),
            self.standing.clone(),
            self.health.clone(),
            self.matched.to_string(),
            self.fields.number("lag").to_string(),
            seconds(self.fields.number("seen-ms")),
            text("address"),
            text("client"),
            text("version"),
        ]
    }
}

/// `0.3s`.
fn seconds(milliseconds: u64) -> String {
    format!("{}.{}s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}
