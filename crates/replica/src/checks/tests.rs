use super::*;
use quorate_raft::Term;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn group(voters: u64) -> Membership {
    Membership::simple((1..=voters).map(id).collect())
}

fn report(index: u64, digest: u64) -> Report {
    Report { position: Position::new(Term(1), Index(index)), digest }
}

/// Server 1 of a group, and what it hears.
struct Server {
    membership: Membership,
    checks: Checks,
    now_ms: u64,
}

impl Server {
    fn of(voters: u64) -> Self {
        Self { membership: group(voters), checks: Checks::new(CHECK_INTERVAL_MS), now_ms: 0 }
    }

    fn council(&self) -> Council<'static> {
        // The group lives as long as the test.
        Council { own: id(1), membership: Box::leak(Box::new(self.membership.clone())) }
    }

    fn applies(&mut self, index: u64, digest: u64) {
        self.checks.applied(report(index, digest), self.now_ms);
    }

    fn hears(&mut self, from: u64, index: u64, digest: u64) -> Option<Report> {
        let council = self.council();
        self.checks.heard(id(from), report(index, digest), true, council)
    }

    fn concludes(&mut self) -> Agreement {
        let council = self.council();
        let _ = self.checks.judge(self.now_ms, council);
        self.checks.agreement().clone()
    }

    fn is_undecided(&mut self) -> bool {
        matches!(self.concludes(), Agreement::Undecided { .. })
    }

    fn is_diverged(&mut self) -> bool {
        matches!(self.concludes(), Agreement::Diverged { .. })
    }

    fn tells(&mut self) -> Vec<(u64, u64, bool)> {
        let council = self.council();
        let told = self.checks.tell_next(self.now_ms, council);
        told.into_iter().map(|(to, report, asks)| (to.get(), report.position.index.0, asks)).collect()
    }
}

#[test]
fn a_majority_of_equal_reports_is_agreement_whatever_the_rest_says() {
    let mut server = Server::of(5);
    server.applies(7, 0xa);
    assert!(server.hears(2, 7, 0xa).is_some());
    server.hears(4, 7, 0xb);
    assert_eq!((server.concludes(), server.checks.status().agreed), (Agreement::Sound, 0));
    server.hears(3, 7, 0xa);
    assert_eq!(server.concludes(), Agreement::Sound);
    assert_eq!(server.checks.status(), CheckStatus { last: 7, digest: 0xa, agreed: 7 });
    server.now_ms += 10 * DISPUTE_MS;
    assert_eq!(server.concludes(), Agreement::Sound, "the others have the majority without server 4");
}

#[test]
fn a_majority_against_it_is_final() {
    let mut server = Server::of(3);
    server.hears(2, 7, 0xa);
    server.hears(3, 7, 0xa);
    assert_eq!(server.concludes(), Agreement::Sound, "reports may come before this server gets there");
    server.applies(7, 0xb);
    let position = Position::new(Term(1), Index(7));
    assert_eq!(server.concludes(), Agreement::Diverged { position, own: 0xb, majority: 0xa });
    server.applies(9, 0xc);
    server.hears(2, 9, 0xc);
    server.hears(3, 9, 0xc);
    assert!(server.is_diverged());
    server.checks.installed();
    assert!(server.is_diverged());
}

/// Two that differ, and one that is slow: the state of either may be wrong.
#[test]
fn two_that_differ_wait_for_the_third_and_then_stop() {
    let mut server = Server::of(3);
    server.applies(7, 0xa);
    server.hears(2, 7, 0xb);
    assert_eq!(server.concludes(), Agreement::Sound);
    server.now_ms += DISPUTE_MS - 1;
    assert_eq!(server.concludes(), Agreement::Sound);
    server.now_ms += 1;
    assert!(server.is_undecided());
    assert!(server.concludes().to_string().contains("(1: 000000000000000a, 2: 000000000000000b)"));
    server.hears(3, 7, 0xa);
    assert_eq!(server.concludes(), Agreement::Sound);
}

#[test]
fn where_no_majority_can_agree_nobody_waits() {
    let mut server = Server::of(3);
    server.applies(7, 0xa);
    server.hears(2, 7, 0xb);
    server.hears(3, 7, 0xc);
    assert!(server.is_undecided());
    // Server 2 was started again and has applied its log anew.
    server.hears(2, 7, 0xa);
    assert_eq!(server.concludes(), Agreement::Sound);

    let mut server = Server::of(5);
    server.applies(7, 0xa);
    server.hears(2, 7, 0xa);
    server.hears(3, 7, 0xb);
    server.hears(4, 7, 0xb);
    assert_eq!(server.concludes(), Agreement::Sound, "server 5 decides");
    server.hears(5, 7, 0xc);
    assert!(server.is_undecided());
}

/// What was disputed stays so until a majority agrees, however many checks go by in silence.
/// Reports on the next check come one by one: as long as some are missing that check decides nothing, and the last word counts.
/// (Found as seed 1 of `without_a_majority_nobody_serves_until_one_server_is_started_again`, once a follower lagged by a tick.)
#[test]
fn what_is_undecided_stays_so_while_reports_on_a_later_check_are_missing() {
    let mut server = Server::of(3);
    server.applies(7, 0xa);
    server.hears(2, 7, 0xb);
    server.hears(3, 7, 0xc);
    assert!(server.is_undecided());
    server.applies(9, 0x1a);
    assert!(server.is_undecided());
    server.hears(3, 9, 0x1c);
    assert!(server.is_undecided());
    server.hears(2, 9, 0x1a);
    assert_eq!(server.concludes(), Agreement::Sound);
}

#[test]
fn a_dispute_outlives_the_checks_that_are_kept() {
    let mut server = Server::of(3);
    server.applies(19, 0xa);
    server.hears(2, 19, 0xb);
    assert_eq!(server.concludes(), Agreement::Sound);
    for index in 20..40 {
        server.applies(index, 0xa);
    }
    server.now_ms += DISPUTE_MS;
    assert!(server.is_undecided());
    server.hears(3, 39, 0xa);
    assert_eq!(server.concludes(), Agreement::Sound);
}

#[test]
fn reports_of_different_checks_are_not_compared() {
    let mut server = Server::of(3);
    server.applies(7, 0xa);
    server.hears(2, 8, 0xb);
    server.hears(3, 8, 0xb);
    // The same index in another term is another entry.
    let other = Report { position: Position::new(Term(2), Index(7)), digest: 0xb };
    let council = server.council();
    assert_eq!(server.checks.heard(id(2), other, true, council), None);
    server.now_ms += 10 * DISPUTE_MS;
    assert_eq!(server.concludes(), Agreement::Sound);
}

#[test]
fn who_does_not_vote_has_no_say_and_nobody_has_two() {
    let mut server = Server::of(3);
    server.applies(7, 0xa);
    assert_eq!(server.hears(9, 7, 0xb), None);
    assert_eq!(server.hears(1, 7, 0xb), None);
    server.hears(2, 7, 0xb);
    server.hears(2, 7, 0xb);
    server.now_ms += DISPUTE_MS - 1;
    assert_eq!(server.concludes(), Agreement::Sound);
    assert_eq!(server.checks.others.len(), 1);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut server = Server::of(3);
    for index in 0..1_000 {
        server.applies(index, 0xa);
        server.hears(2, u64::MAX - index, 0xb);
    }
    assert_eq!((server.checks.own.len(), server.checks.others[&id(2)].len()), (CHECKS_KEPT, CHECKS_KEPT));
    // What was said in nonsense does not keep out what comes.
    server.hears(2, 999, 0xb);
    server.hears(3, 999, 0xb);
    assert!(server.is_diverged());
}

#[test]
fn all_are_told_once_and_those_who_are_silent_are_asked_with_patience() {
    let mut server = Server::of(3);
    assert!(server.tells().is_empty());
    server.applies(5, 0xa);
    server.applies(7, 0xa);
    assert_eq!(server.tells(), [(2, 7, false), (3, 7, false)]);
    server.hears(2, 7, 0xa);
    let mut asked = Vec::new();
    for _ in 0..60_000 {
        server.now_ms += 1;
        let told = server.tells();
        if !told.is_empty() {
            assert_eq!(told, [(3, 7, true)]);
            asked.push(server.now_ms);
        }
    }
    assert_eq!(asked, [1_000, 3_000, 7_000, 15_000, 23_000, 31_000, 39_000, 47_000, 55_000]);
    assert_eq!(server.hears(3, 7, 0xa), Some(report(7, 0xa)));
    server.now_ms += 60_000;
    assert!(server.tells().is_empty());
}

#[test]
fn a_check_is_due_where_anything_was_applied_since_the_last() {
    let mut server = Server::of(3);
    let (three, one) = (server.council(), Server::of(1).council());
    assert!(!server.checks.is_due(CHECK_INTERVAL_MS - 1, Index(5), three));
    assert!(server.checks.is_due(CHECK_INTERVAL_MS, Index(5), three));
    assert!(!server.checks.is_due(CHECK_INTERVAL_MS, Index(5), one), "there is nobody to compare with");
    server.checks.proposed(CHECK_INTERVAL_MS);
    assert!(!server.checks.is_due(CHECK_INTERVAL_MS + 1, Index(5), three));
    server.now_ms = CHECK_INTERVAL_MS + 1;
    server.applies(6, 0xa);
    let later = 2 * CHECK_INTERVAL_MS + 1;
    assert!(!server.checks.is_due(later, Index(6), three));
    assert!(server.checks.is_due(later, Index(7), three));
}
