//! What is left of a numbered list, in order. Taking out and putting back cost the same, whatever is left.

/// Put back in the opposite order of taking out.
pub(super) struct Ring {
    /// The last place of each is the start and the end.
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Ring {
    /// Of `count` numbers those that are `members`, in ascending order.
    pub(super) fn new(count: usize, members: impl Iterator<Item = usize>) -> Self {
        let mut ring = Self { next: vec![count; count + 1], previous: vec![count; count + 1] };
        let mut last = count;
        for member in members {
            ring.next[last] = member;
            ring.previous[member] = last;
            last = member;
        }
        ring.next[last] = count;
        ring.previous[count] = last;
        ring
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let end = self.next.len() - 1;
        std::iter::successors(Some(self.next[end]), |at| Some(self.next[*at]))
            .take_while(move |at| *at != end)
    }

    pub(super) fn take_out(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    pub(super) fn put_back(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = at;
        self.previous[next] = at;
    }
}
