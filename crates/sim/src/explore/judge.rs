//! The properties of the paper's figure 3, and what must be remembered to judge them: who led which term, and
//! what was ever committed. Knows no search.

use quorate_raft::{Entry, Index, Node, NodeId, ReadOutcome, Role, Term};

use super::local::push_entries;

/// What has happened so far, as far as a property speaks of it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Who led each term, from term 1 on; it may have crashed since.
    leaders: Vec<Option<NodeId>>,
    /// The longest log that anybody knew to be committed.
    committed: Vec<Entry>,
    /// The term of who knew it first, for each of them.
    committed_in: Vec<Term>,
    /// Whose read is under way, and how much was committed when it was asked.
    read: Option<(NodeId, Index)>,
}

impl History {
    /// The highest term that had a leader.
    pub(super) fn terms_led(&self) -> u64 {
        self.leaders.iter().rposition(Option::is_some).map_or(0, |place| place as u64 + 1)
    }

    /// How many entries are committed.
    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// Whether a read is under way.
    pub(super) fn is_reading(&self) -> bool {
        self.read.is_some()
    }

    /// A node is asked for a read.
    pub(super) fn read_asked(&mut self, of: NodeId) {
        self.read = Some((of, Index(self.committed.len() as u64)));
    }

    /// A node ends, and who waited for it never hears.
    pub(super) fn crashed(&mut self, node: NodeId) {
        if self.read.is_some_and(|(reader, _)| reader == node) {
            self.read = None;
        }
    }

    /// Outcomes of the read under way. Says whether it was confirmed.
    ///
    /// # Errors
    /// If the read index is below what was committed when the read was asked (thesis §6.4).
    pub(super) fn read_settled(&mut self, outcomes: &[ReadOutcome]) -> Result<bool, String> {
        let Some(&outcome) = outcomes.first() else { return Ok(false) };
        let (reader, floor) = self.read.take().ok_or("a read is answered that nobody asked")?;
        match outcome {
            ReadOutcome::Refused { .. } => Ok(false),
            ReadOutcome::Confirmed { index, .. } if index >= floor => Ok(true),
            ReadOutcome::Confirmed { index, .. } => Err(format!(
                "stale read: {reader} confirms {index}, but {floor} was committed when it was asked"
            )),
        }
    }

    /// Looks at all nodes after an event at `changed`.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub(super) fn judge(&mut self, nodes: [&Node; 3], changed: usize) -> Result<(), String> {
        let [one, two, three] = nodes;
        for (one, other) in [(one, two), (one, three), (two, three)] {
            log_matching(one, other)?;
        }
        self.state_machine_safety(nodes[changed])?;
        for node in nodes.into_iter().filter(|node| node.role() == Role::Leader) {
            self.election_safety(node)?;
            self.leader_completeness(node)?;
        }
        Ok(())
    }

    /// At most one leader can be elected in a term (figure 3; thesis §3.4).
    fn election_safety(&mut self, node: &Node) -> Result<(), String> {
        let place = node.term().0 as usize;
        if self.leaders.len() < place {
            self.leaders.resize(place, None);
        }
        let Some(leader) = self.leaders.get_mut(place - 1) else { return Ok(()) };
        match *leader {
            None => *leader = Some(node.id()),
            Some(known) if known == node.id() => {}
            Some(known) => {
                return Err(format!("election safety: {known} and {} lead term {}", node.id(), node.term()));
            }
        }
        Ok(())
    }

    /// What was committed in an earlier term stands in the log of every leader of a later one (figure 3; §3.6).
    fn leader_completeness(&self, node: &Node) -> Result<(), String> {
        for (entry, term) in self.committed.iter().zip(&self.committed_in) {
            let Entry { position, .. } = entry;
            // What is up to the base was committed, or state machine safety has seen it.
            let is_here = position.index <= node.base().index || node.entry(position.index) == Some(entry);
            if *term < node.term() && !is_here {
                let (id, led) = (node.id(), node.term());
                return Err(format!(
                    "leader completeness: {id} leads term {led} without {position}, committed in {term}"
                ));
            }
        }
        Ok(())
    }

    /// What anybody takes for committed at an index is what everybody ever took for committed there (figure 3,
    /// state machine safety), so a committed entry never changes.
    fn state_machine_safety(&mut self, node: &Node) -> Result<(), String> {
        let (Index(base), Index(commit)) = (node.base().index, node.commit());
        if let Some(last) = base.checked_sub(1) {
            let known = self.committed.get(last as usize).map(|entry| entry.position);
            if known != Some(node.base()) {
                let (id, base) = (node.id(), node.base());
                return Err(format!(
                    "state machine safety: the log of {id} begins at {base}, which was not committed"
                ));
            }
        }
        for index in base + 1..=commit {
            let entry =
                node.entry(Index(index)).ok_or_else(|| format!("{} lacks what it commits", node.id()))?;
            match self.committed.get(index as usize - 1) {
                Some(known) if known == entry => {}
                Some(known) => {
                    let (id, position) = (node.id(), entry.position);
                    return Err(format!(
                        "state machine safety: {id} commits {position}, but {} was committed",
                        known.position
                    ));
                }
                None => {
                    self.committed.push(entry.clone());
                    self.committed_in.push(node.term());
                }
            }
        }
        Ok(())
    }

    /// All of it as words.
    pub(super) fn words(&self, rename: &dyn Fn(NodeId) -> NodeId) -> Vec<u64> {
        let mut words = vec![self.leaders.len() as u64];
        words.extend(self.leaders.iter().map(|leader| leader.map_or(0, |id| rename(id).get())));
        push_entries(&mut words, &self.committed);
        words.extend(self.committed_in.iter().map(|term| term.0));
        words.extend(self.read.iter().flat_map(|&(reader, floor)| [rename(reader).get(), floor.0]));
        words
    }
}

/// Two logs that hold an entry of the same position are equal up to it (figure 3; thesis §3.5).
fn log_matching(one: &Node, other: &Node) -> Result<(), String> {
    let Index(last) = one.last().index.min(other.last().index);
    let Index(base) = one.base().index.max(other.base().index);
    let common =
        (base + 1..=last).rev().find(|&index| one.term_at(Index(index)) == other.term_at(Index(index)));
    if common.is_some() && one.term_at(Index(base)) != other.term_at(Index(base)) {
        let (one, other) = (one.id(), other.id());
        return Err(format!("log matching: {one} and {other} differ at {base} below a common position"));
    }
    for index in (base + 1..=common.unwrap_or(0)).map(Index) {
        if one.entry(index) != other.entry(index) {
            let (one, other) = (one.id(), other.id());
            return Err(format!("log matching: {one} and {other} differ at {index} below a common position"));
        }
    }
    Ok(())
}
