//! Is there one order of a key's operations that explains every answer and contradicts no clock? Own checker:
//! depth-first just-in-time search with memoisation (Wing & Gong 1993, Lowe 2017). Knows the history only.
//!
//! The search builds an order from the front. Next in line may be any operation that was called before the
//! first return among those not placed yet. What keeps it fast, each without losing an order:
//!
//! - an operation that, answered as it was, changes nothing in any state is placed as soon as its answer fits:
//!   placing it later cannot open a way that placing it now closes;
//! - states that no answer of the history tells apart are one state (`values`);
//! - a value that was read must have grown from the present one, or begin with a write that is still to come
//!   (`lookahead`);
//! - operations whose outcome is unknown are placed only where they change the state, and after all others were
//!   tried: they may also never take effect. Those that lead towards a value seen later are *hinted*; the search
//!   is repeated with a growing allowance of unhinted ones in a row, and refuses only when no allowance was in
//!   the way;
//! - of open operations that can stand for each other, the first is tried; and an append that no answer shows
//!   rather than one of its length that an answer does, where neither will be seen;
//! - of two branches with the same state and the same completed operations placed, the one that has used fewer
//!   unknown operations can do all that the other can (memoisation with dominance).
//!
//! Whoever knows more than the history, such as the order of the log, may suggest it as *ranks*: they decide what is
//! tried first and nothing else, so an order that is found is an order, and one that is refused was refused by the
//! whole search.

mod lookahead;
mod operation;
mod ring;
mod search;
mod values;

use crate::history::Operation;
use search::{Search, Verdict};

/// Branches after which a search is given up. Giving up is a failure, never a pass.
const BRANCHES_MAX: u64 = 5_000_000;

/// Branches that are spent on telling where a refused history contradicts itself.
const BRANCHES_OF_STORY_MAX: u64 = 200_000;

/// Unhinted open operations that the search may place in a row, try by try.
const ALLOWANCES: [u32; 10] = [0, 1, 2, 3, 4, 6, 8, 12, 16, u32::MAX];

/// Why a history is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No order explains it. The longest order found places `placed` operations; `stuck` names those that
    /// could have come next and fit nowhere.
    NoOrder {
        /// How many completed operations the longest order explains.
        placed: usize,
        /// Places in the input of the operations of which one must come next.
        stuck: Vec<usize>,
    },
    /// The search was given up.
    TooLarge {
        /// As above.
        placed: usize,
        /// As above.
        stuck: Vec<usize>,
    },
}

/// Checks the operations of **one** key, in any order. The key is absent at first.
///
/// # Errors
/// Where no order explains the answers.
pub fn check(operations: &[&Operation]) -> Result<(), Refused> {
    check_ranked(operations, &vec![None; operations.len()])
}

/// Like [`check`], with a suggestion for each operation of when it took effect.
///
/// # Errors
/// Where no order explains the answers, whatever was suggested.
pub fn check_ranked(operations: &[&Operation], ranks: &[Option<u64>]) -> Result<(), Refused> {
    check_within(operations, ranks, BRANCHES_MAX)
}

/// Like [`check_ranked`], with another limit of branches.
pub(crate) fn check_within(
    operations: &[&Operation],
    ranks: &[Option<u64>],
    branches_max: u64,
) -> Result<(), Refused> {
    let mut search = Search::new(operations, ranks, branches_max);
    for allowance in ALLOWANCES {
        match search.run(allowance) {
            Verdict::Order => return Ok(()),
            Verdict::NoOrder => break,
            Verdict::TooLarge => {
                let (placed, stuck) = contradiction(operations, ranks, branches_max, search);
                return Err(Refused::TooLarge { placed, stuck });
            }
            Verdict::AllowanceInTheWay => {}
        }
    }
    let (placed, stuck) = contradiction(operations, ranks, branches_max, search);
    Err(Refused::NoOrder { placed, stuck })
}

/// For the reader of a refusal: a search that looks ahead turns back long before the answers that contradict each
/// other, so the one that shows them is another.
fn contradiction(
    operations: &[&Operation],
    ranks: &[Option<u64>],
    branches_max: u64,
    refused: Search,
) -> (usize, Vec<usize>) {
    let mut search = Search::new(operations, ranks, branches_max.min(BRANCHES_OF_STORY_MAX));
    search.does_look_ahead = false;
    // It is refused already; how this ends says nothing more.
    let _ = search.run(0);
    let (own, others) = (search.longest(), refused.longest());
    if own.0 >= others.0 { own } else { others }
}
