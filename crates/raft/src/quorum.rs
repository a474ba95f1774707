//! What a majority has reached: pure functions. Knows nothing of nodes, logs or time; the same function counts
//! votes, match indexes, rounds of reads, clocks and ticks of last contact.

use std::collections::BTreeSet;

use crate::types::NodeId;

/// Voters of a small group.
const VOTERS_FEW: usize = 7;

/// The highest value that a majority of `voters` has reached, where `value_of` says how far each is.
///
/// Values are anything ordered: of `bool`s it is "a majority says yes". Without voters nothing is reached: the
/// value is the default.
pub fn majority<V: Ord + Default>(voters: &BTreeSet<NodeId>, value_of: impl Fn(NodeId) -> V) -> V {
    // A leader asks at every acknowledgement: small groups are counted without an allocation.
    let mut few: [V; VOTERS_FEW] = Default::default();
    let mut many: Vec<V>;
    let values = if voters.len() <= few.len() {
        few.iter_mut().zip(voters).for_each(|(value, &voter)| *value = value_of(voter));
        &mut few[..voters.len()]
    } else {
        many = voters.iter().map(|&voter| value_of(voter)).collect();
        &mut many[..]
    };
    values.sort_unstable();
    // Of 3 sorted values the second, of 4 the second, of 5 the third: a majority stands at or above it.
    let lowest_of_majority = values.len().saturating_sub(1) / 2;
    values.get_mut(lowest_of_majority).map(std::mem::take).unwrap_or_default()
}

/// The highest value that a majority of `incoming` **and** a majority of `outgoing` have reached (joint
/// consensus, thesis §4.3).
pub fn joint_majority<V: Ord + Default>(
    incoming: &BTreeSet<NodeId>,
    outgoing: &BTreeSet<NodeId>,
    value_of: impl Fn(NodeId) -> V,
) -> V {
    majority(incoming, &value_of).min(majority(outgoing, &value_of))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::types::Index;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// Deliberately dumb: try every value, count who is there.
    fn naive(voters: &BTreeSet<NodeId>, values: &BTreeMap<NodeId, u64>) -> u64 {
        let reached = |target: u64| {
            let there = voters.iter().filter(|voter| values.get(voter).copied().unwrap_or(0) >= target);
            there.count() * 2 > voters.len()
        };
        values.values().copied().filter(|&target| reached(target)).max().unwrap_or(0)
    }

    fn voters() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1..=9_u64).prop_map(node), 0..=7)
    }

    fn values() -> impl Strategy<Value = BTreeMap<NodeId, u64>> {
        proptest::collection::btree_map((1..=9_u64).prop_map(node), 0..8_u64, 0..=9)
    }

    proptest! {
        #[test]
        fn majority_equals_the_naive_one(voters in voters(), values in values()) {
            let index_of = |id| Index(values.get(&id).copied().unwrap_or(0));
            prop_assert_eq!(majority(&voters, index_of), Index(naive(&voters, &values)));
            let clock_of = |id| values.get(&id).copied().unwrap_or(0);
            prop_assert_eq!(majority(&voters, clock_of), naive(&voters, &values));
        }

        #[test]
        fn joint_majority_needs_both(one in voters(), other in voters(), values in values()) {
            let clock_of = |id| values.get(&id).copied().unwrap_or(0);
            let expected = naive(&one, &values).min(naive(&other, &values));
            prop_assert_eq!(joint_majority(&one, &other, clock_of), expected);
        }

        #[test]
        fn votes_are_the_same_question(voters in voters(), yes in voters()) {
            let there = voters.intersection(&yes).count();
            prop_assert_eq!(majority(&voters, |id| yes.contains(&id)), there * 2 > voters.len());
        }
    }

    #[test]
    fn two_of_three_but_two_of_four_are_not_enough() {
        let of = |count: u64| (1..=count).map(node).collect::<BTreeSet<_>>();
        let held = |id: NodeId| Index(if id.get() <= 2 { 5 } else { 0 });
        assert_eq!(majority(&of(1), held), Index(5));
        assert_eq!(majority(&of(3), held), Index(5));
        assert_eq!(majority(&of(4), held), Index::ZERO);
        assert_eq!(majority(&of(5), held), Index::ZERO);
        assert_eq!(majority(&of(0), held), Index::ZERO);
    }
}
