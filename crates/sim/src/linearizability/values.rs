//! A key's value, known by what can still be seen of it. Knows nothing of operations.
//!
//! All values that any answer of the history holds stand in one sorted list. Those that begin with the present value lie
//! side by side in it, so the present value is a range of the list and a length. A value with which no answer begins
//! can be told from another such value of its length by nobody, now or after any appends: a length is all there is to
//! know of it. So states that differ in nothing anyone saw are one state, and an append costs a search in the list.

use bytes::Bytes;

/// The key, as far as the history's answers can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// There is none.
    Absent,
    /// The values from `first` to before `end` begin with it.
    Seen { first: usize, end: usize, bytes: usize },
    /// No answer holds it, nor anything it could become by appending.
    Unseen { bytes: usize },
}

impl State {
    /// Its length; 0 where there is none.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Seen { bytes, .. } | Self::Unseen { bytes } => bytes,
        }
    }

    /// Whether the value at this place begins with it.
    pub(super) fn leads_to(self, place: usize) -> bool {
        match self {
            Self::Seen { first, end, .. } => (first..end).contains(&place),
            Self::Absent | Self::Unseen { .. } => false,
        }
    }
}

/// Every value that an answer of the history holds, once each, sorted.
pub(super) struct Values(Vec<Bytes>);

impl Values {
    pub(super) fn new(mut values: Vec<Bytes>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self(values)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Its place in the list.
    pub(super) fn place(&self, value: &Bytes) -> usize {
        self.0.binary_search(value).expect("every answered value is in the list")
    }

    /// The state with this value.
    pub(super) fn holding(&self, value: &[u8]) -> State {
        self.narrowed(0, self.0.len(), 0, value)
    }

    /// The state after appending.
    pub(super) fn appended(&self, state: State, suffix: &[u8]) -> State {
        match state {
            State::Absent => self.holding(suffix),
            State::Seen { first, end, bytes } => self.narrowed(first, end, bytes, suffix),
            State::Unseen { bytes } => State::Unseen { bytes: bytes + suffix.len() },
        }
    }

    /// The place of the value that is exactly this state.
    pub(super) fn exactly(&self, state: State) -> Option<usize> {
        // A value sorts before all that it begins.
        match state {
            State::Seen { first, bytes, .. } if self.0[first].len() == bytes => Some(first),
            State::Absent | State::Seen { .. } | State::Unseen { .. } => None,
        }
    }

    /// Whether any value has these bytes in it, anywhere.
    pub(super) fn hold(&self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        // What begins the next value needs no look of its own.
        let longest = |at: usize| self.0.get(at + 1).is_none_or(|next| !next.starts_with(&self.0[at]));
        (0..self.0.len())
            .filter(|at| longest(*at))
            .any(|at| self.0[at].windows(bytes.len()).any(|part| part == bytes))
    }

    /// Those from `first` to before `end`, which agree in `bytes` bytes, that go on with `suffix`.
    fn narrowed(&self, first: usize, end: usize, bytes: usize, suffix: &[u8]) -> State {
        let range = &self.0[first..end];
        let from = range.partition_point(|value| &value[bytes..] < suffix);
        let count = range[from..].partition_point(|value| value[bytes..].starts_with(suffix));
        let bytes = bytes + suffix.len();
        match count {
            0 => State::Unseen { bytes },
            _ => State::Seen { first: first + from, end: first + from + count, bytes },
        }
    }
}
