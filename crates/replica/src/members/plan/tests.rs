//! Which changes are made, which are refused, and what is said of both.

use super::*;

fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(id).collect()
}

/// What a leader, server 1, knows of a cluster in which all is well, and which each test spoils as it needs.
struct Case {
    roster: Roster,
    is_new: bool,
    is_pending: bool,
    transfer: Option<NodeId>,
    known: BTreeMap<NodeId, Health>,
    waiting: BTreeMap<NodeId, Waiting>,
}

impl Case {
    fn of(voters: &[u64]) -> Self {
        let mut case = Self {
            roster: Roster::default(),
            is_new: false,
            is_pending: false,
            transfer: None,
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        for voter in voters {
            case.roster.voters.insert(id(*voter));
            case.sits(*voter);
        }
        case
    }

    fn sits(&mut self, member: u64) {
        let seat = Seat { incarnation: Incarnation(member), address: format!("h{member}:7").into() };
        self.roster.seats.insert(id(member), seat);
        self.is(member, Health::Up);
    }

    fn learner(mut self, learner: u64) -> Self {
        self.roster.learners.insert(id(learner));
        self.sits(learner);
        self
    }

    fn joining(self, joiner: u64, replaced: Option<u64>) -> Self {
        let mut case = self.learner(joiner);
        case.roster.joining.insert(id(joiner), replaced.map(id));
        case
    }

    fn joint(mut self, outgoing: &[u64]) -> Self {
        self.roster.outgoing = ids(outgoing);
        self.is_pending = true;
        self
    }

    fn is(&mut self, member: u64, health: Health) {
        self.known.insert(id(member), health);
    }

    fn but(mut self, member: u64, health: Health) -> Self {
        self.is(member, health);
        self
    }

    fn waits(mut self, server: u64, incarnation: u64) -> Self {
        self.waiting.insert(id(server), Waiting { incarnation: Incarnation(incarnation) });
        self
    }

    fn plan(&self, change: &str) -> Result<Planned, Refused> {
        let (change, is_forced) = match change.strip_suffix(" force") {
            Some(change) => (change, true),
            None => (change, false),
        };
        let view = View {
            own: id(1),
            is_new: self.is_new,
            roster: &self.roster,
            is_pending: self.is_pending,
            transfer: self.transfer,
            known: &self.known,
            waiting: &self.waiting,
        };
        plan(&view, &parse(change), is_forced)
    }

    #[track_caller]
    fn target(&self, change: &str) -> (Roster, String) {
        match self.plan(change) {
            Ok(Planned::Reconfigure(target, says)) => (*target, says.join("\n")),
            other => panic!("{change}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, change: &str) -> String {
        match self.plan(change) {
            Err(Refused::Never(text)) => text,
            other => panic!("{change}: {other:?}"),
        }
    }

    #[track_caller]
    fn done(&self, change: &str) {
        assert!(matches!(self.plan(change), Ok(Planned::Done(_))), "{change}: {:?}", self.plan(change));
    }

    #[track_caller]
    fn under_way(&self, change: &str) {
        assert!(matches!(self.plan(change), Ok(Planned::UnderWay(_))), "{change}: {:?}", self.plan(change));
    }
}

fn parse(text: &str) -> Change {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| id(words[at].parse().unwrap());
    match words[0] {
        "add" => Change::Add { id: number(1), address: words[2].into() },
        "remove" => Change::Remove { id: number(1) },
        "replace" => Change::Replace { old: number(1), new: number(2), address: words[3].into() },
        "rebuild" => Change::Rebuild { id: number(1) },
        "promote" => Change::Promote { id: number(1) },
        "demote" => Change::Demote { id: number(1) },
        "transfer" => Change::Transfer { to: (words.len() > 1).then(|| number(1)) },
        "set-address" => Change::SetAddress { id: number(1), address: words[2].into() },
        other => panic!("{other}"),
    }
}

#[test]
fn who_is_added_learns_first_and_sits_on_the_folder_that_waits() {
    let (target, says) = Case::of(&[1, 2, 3]).waits(4, 44).target("add 4 h4:7");
    assert_eq!(target.voters, ids(&[1, 2, 3]));
    assert_eq!(target.learners, ids(&[4]));
    assert_eq!(target.joining, BTreeMap::from([(id(4), None)]));
    assert_eq!(target.seats[&id(4)], Seat { incarnation: Incarnation(44), address: "h4:7".into() });
    assert_eq!(
        says,
        "server 4 at h4:7 becomes a voter, once it has caught up\n\
         voters 1, 2, 3 -> 1, 2, 3, 4; quorum 2 of 3 -> 3 of 4; faults borne 1 -> 1\n\
         note: 4 voters bear no more faults than 3; an odd number is better"
    );
}

#[test]
fn who_waits_for_nothing_cannot_be_added() {
    assert_eq!(
        Case::of(&[1, 2, 3]).but(3, Health::Down).refused("add 4 h4:7"),
        "no server 4 waits to be added; start it on an empty folder, on its own machine, and run this again: quorate serve \
         --id 4 --data DIR --listen HOST:PORT --peer-listen h4:7 --join h1:7,h2:7"
    );
    assert!(
        Case::of(&[1, 2, 3])
            .refused("replace 3 4 h4:7")
            .starts_with("no server 4 waits to be added; start it")
    );
}

#[test]
fn what_is_so_already_is_done() {
    let three = Case::of(&[1, 2, 3]);
    for change in [
        "add 3 h3:7",
        "remove 4",
        "replace 4 3 h3:7",
        "rebuild 3",
        "promote 3",
        "transfer 1",
        "set-address 3 h3:7",
    ] {
        three.done(change);
    }
    Case::of(&[1, 2, 3]).learner(4).done("demote 4");
}

#[test]
fn what_is_coming_is_not_begun_again() {
    let adding = Case::of(&[1, 2, 3]).joining(4, None);
    for change in ["add 4 h4:7", "promote 4", "rebuild 4"] {
        adding.under_way(change);
    }
    Case::of(&[1, 2, 3]).joining(4, Some(3)).under_way("replace 3 4 h4:7");
    let mut joint = Case::of(&[1, 2, 4]).joint(&[1, 2, 3]);
    joint.is(3, Health::Up);
    for change in ["add 4 h4:7", "replace 3 4 h4:7", "remove 3"] {
        joint.under_way(change);
    }
    let mut stored = Case::of(&[1, 2, 3]);
    stored.is_pending = true;
    stored.under_way("set-address 3 h3:7");
    stored.transfer = Some(id(2));
    stored.under_way("transfer 2");
}

#[test]
fn a_second_change_is_refused_while_the_first_is_under_way() {
    let joint = Case::of(&[1, 2, 4]).joint(&[1, 2, 3]).waits(5, 5);
    assert_eq!(
        joint.refused("add 5 h5:7"),
        "another change is under way: the voters 1, 2, 3 become 1, 2, 4; wait for that"
    );
    let adding = Case::of(&[1, 2, 3]).joining(4, Some(3)).waits(5, 5);
    for change in ["add 5 h5:7", "remove 3", "replace 2 5 h5:7", "demote 2"] {
        assert_eq!(
            adding.refused(change),
            "another change is under way: server 4 catches up, and will vote in the place of server 3 then; wait for that, \
             or give it up: quorate members remove 4",
            "{change}"
        );
    }
    let mut stored = Case::of(&[1, 2, 3]);
    stored.is_pending = true;
    assert!(matches!(stored.plan("remove 3"), Err(Refused::NotNow(_))));
    stored.is_pending = false;
    stored.transfer = Some(id(2));
    assert!(matches!(stored.plan("remove 3"), Err(Refused::NotNow(_))));
    assert!(matches!(stored.plan("transfer 3"), Err(Refused::NotNow(_))));
}

#[test]
fn a_join_can_be_given_up_and_its_server_can_lose_its_folder() {
    let adding = Case::of(&[1, 2, 3]).joining(4, Some(3)).waits(4, 40);
    assert_eq!(adding.target("remove 4").0, Case::of(&[1, 2, 3]).roster);
    let (target, _) = adding.target("rebuild 4");
    assert_eq!(target.joining, BTreeMap::from([(id(4), Some(id(3)))]));
    assert_eq!(target.seats[&id(4)].incarnation, Incarnation(40));
    let (target, _) = adding.target("demote 4");
    assert!(target.joining.is_empty() && target.learners.contains(&id(4)));
}

#[test]
fn a_change_that_leaves_no_living_majority_is_refused_unless_forced() {
    let two_of_three = Case::of(&[1, 2, 3]).but(3, Health::Down).waits(4, 4);
    // The dead one goes, or is replaced.
    two_of_three.target("remove 3");
    two_of_three.target("replace 3 4 h4:7");
    two_of_three.target("add 4 h4:7");
    // A living one does not.
    let text = two_of_three.refused("remove 2");
    assert_eq!(
        text,
        "2 of the voters 1, 3 would have to be alive and caught up, and 1 would be: server 3 is down. Bring them back first. \
         FORCE (--force) makes the change all the same, and risks that the cluster serves nobody until they are back"
    );
    assert!(two_of_three.refused("demote 2").starts_with("2 of the voters 1, 3 would"));
    assert_eq!(two_of_three.target("remove 2 force").0.voters, ids(&[1, 3]));
    // One who lags counts no more than one who is dead, and neither does one whose folder is another.
    assert!(Case::of(&[1, 2, 3]).but(3, Health::Behind).refused("remove 2").contains("server 3 is behind"));
    assert!(Case::of(&[1, 2, 3]).but(3, Health::Refused).refused("remove 2").contains("server 3 is refused"));
}

#[test]
fn a_rebuild_passes_through_a_cluster_without_the_server() {
    let lost = Case::of(&[1, 2, 3]).but(3, Health::Refused).waits(3, 33);
    let (target, says) = lost.target("rebuild 3");
    assert_eq!(target.voters, ids(&[1, 2]));
    assert_eq!(target.learners, ids(&[3]));
    assert_eq!(target.joining, BTreeMap::from([(id(3), None)]));
    assert_eq!(target.seats[&id(3)], Seat { incarnation: Incarnation(33), address: "h3:7".into() });
    assert!(says.ends_with("voters 1, 2, 3; quorum 2 of 3; faults borne 1"), "{says}");
    // Of two voters without the third both must live.
    assert!(lost.but(2, Health::Down).refused("rebuild 3").starts_with("2 of the voters 1, 2 would"));
}

#[test]
fn a_rebuild_takes_a_server_that_waits() {
    let down = Case::of(&[1, 2, 3]).but(3, Health::Down);
    assert!(
        down.refused("rebuild 3")
            .starts_with("server 3 is not heard, and no server 3 waits to be rebuilt; start it")
    );
    assert_eq!(down.refused("rebuild 9"), "there is no server 9 in this cluster; its members are 1, 2, 3");
    let other = Case::of(&[1, 2, 3]).but(3, Health::Refused).waits(3, 33);
    assert_eq!(
        other.refused("add 3 h3:7"),
        "server 3 is a member, and now there on another folder: run quorate members rebuild 3"
    );
}

#[test]
fn the_last_voter_stays() {
    let alone = Case::of(&[1]).learner(2);
    for change in ["remove 1", "demote 1", "remove 1 force"] {
        assert_eq!(alone.refused(change), "server 1 is the only voter: without it there is no cluster");
    }
    assert!(Case::of(&[1]).waits(1, 11).refused("rebuild 1").contains("the only voter"));
}

#[test]
fn fewer_faults_borne_are_said_and_the_change_goes_on() {
    let (target, says) = Case::of(&[1, 2, 3]).target("remove 1");
    assert_eq!(target.voters, ids(&[2, 3]));
    assert!(!target.seats.contains_key(&id(1)));
    assert!(says.ends_with(
        "quorum 2 of 3 -> 2 of 2; faults borne 1 -> 0\nwarning: fewer servers may fail than before"
    ));
}

#[test]
fn a_voter_leads_and_lives() {
    let three = Case::of(&[1, 2, 3]).learner(4).but(3, Health::Down);
    assert!(matches!(three.plan("transfer 2"), Ok(Planned::Transfer(Some(_), _))));
    assert!(matches!(three.plan("transfer"), Ok(Planned::Transfer(None, _))));
    assert!(three.refused("transfer 3").starts_with("server 3 is down: only a voter"));
    assert!(matches!(three.plan("transfer 3 force"), Ok(Planned::Transfer(Some(_), _))));
    assert_eq!(three.refused("transfer 4"), "server 4 is no voter: only a voter leads");
    assert!(Case::of(&[1]).refused("transfer").starts_with("no other voter"));
}

#[test]
fn no_two_members_have_one_address() {
    let three = Case::of(&[1, 2, 3]).waits(4, 4);
    assert_eq!(three.refused("set-address 3 h2:7"), "h2:7 is the address of server 2");
    assert_eq!(three.refused("add 4 h2:7"), "h2:7 is the address of server 2");
    assert_eq!(
        three.refused("add 3 h9:7"),
        "server 3 is a member, at h3:7: to have it dialled elsewhere, run quorate members set-address 3 h9:7"
    );
    let (target, _) = three.target("set-address 3 h9:7");
    assert_eq!(&*target.seats[&id(3)].address, "h9:7");
}

#[test]
fn a_learner_takes_the_place_of_a_learner_without_a_vote() {
    let (target, _) = Case::of(&[1, 2, 3]).learner(4).waits(5, 5).target("replace 4 5 h5:7");
    assert_eq!((target.voters, target.learners), (ids(&[1, 2, 3]), ids(&[5])));
    assert!(target.joining.is_empty());
}

#[test]
fn there_is_a_most_of_voters() {
    let seven = Case::of(&[1, 2, 3, 4, 5, 6, 7]).waits(8, 8);
    assert_eq!(seven.refused("add 8 h8:7"), "that would be 8 voters; a cluster has at most 7");
    seven.target("replace 7 8 h8:7");
}

#[test]
fn a_new_leader_asks_for_patience_before_it_misses_anybody() {
    let mut new = Case::of(&[1, 2, 3]).but(2, Health::Behind);
    new.is_new = true;
    for change in ["add 4 h4:7", "remove 3", "rebuild 3", "transfer 2"] {
        assert!(matches!(new.plan(change), Err(Refused::NotNow(_))), "{change}: {:?}", new.plan(change));
    }
    new.done("add 3 h3:7");
    new.target("remove 3 force");
}
