//! Whom this server dials, and where: from `--peers`, the log, and what servers say of themselves. Must not know
//! connections.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

use crate::config::Address;

/// Servers at most that are no members, as far as this server knows, and are heard all the same.
pub(super) const GUESTS_MAX: usize = 16;

/// A member, as the log has it.
#[derive(Debug)]
pub(super) struct Member {
    /// Its data folder.
    pub(super) incarnation: Incarnation,
    /// Where it is found, if the log says so.
    pub(super) address: Option<Address>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// `--peers`, but for this server: of the ids that it names it has the last word.
    configured: BTreeMap<NodeId, Address>,
    /// The other members; `None` as long as this server does not take part.
    members: Option<BTreeMap<NodeId, Member>>,
    /// What servers said of themselves when they dialled this one, or answered where `--join` sent it.
    told: BTreeMap<NodeId, Address>,
    /// Servers that are no members and dial this one. A member that lags must hear a leader that it does not know, and
    /// who waits to be added must be answered.
    guests: BTreeSet<NodeId>,
}

impl Routes {
    /// Of a server that knows no more than these addresses of the others.
    pub(super) fn new(configured: BTreeMap<NodeId, Address>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// Who the other members are, as the log has it. Of these servers, which dial this one, those that are no members any
    /// more become guests.
    pub(super) fn set_members(&mut self, members: BTreeMap<NodeId, Member>, callers: BTreeSet<NodeId>) {
        let strangers = callers.into_iter().filter(|id| !members.contains_key(id));
        self.guests = strangers.take(GUESTS_MAX).collect();
        self.told.retain(|id, _| members.contains_key(id) || self.guests.contains(id));
        self.members = Some(members);
    }

    /// Whether this is a member, as far as is known.
    pub(super) fn is_member(&self, id: NodeId) -> bool {
        match &self.members {
            Some(members) => members.contains_key(&id),
            None => self.configured.contains_key(&id),
        }
    }

    /// A server on this folder has dialled this one; false if it is one stranger too many. Where it says that it is found
    /// moves nobody else's way: not that of the member whose number it has taken, if that can be reached.
    pub(super) fn heard(
        &mut self,
        (id, incarnation): (NodeId, Incarnation),
        told: Option<Address>,
        is_reached: bool,
    ) -> bool {
        if !self.is_member(id) && !self.guests.contains(&id) {
            if self.guests.len() >= GUESTS_MAX {
                return false;
            }
            self.guests.insert(id);
        }
        let member = self.members.as_ref().and_then(|members| members.get(&id));
        let is_itself = member.is_none_or(|member| member.incarnation == incarnation);
        if let Some(address) = told.filter(|_| is_itself || !is_reached) {
            self.told.insert(id, address);
        }
        true
    }

    /// A server that answered where `--join` sent this one says where it is found.
    pub(super) fn learned(&mut self, id: NodeId, told: Address) {
        if self.is_member(id) || self.told.len() < GUESTS_MAX {
            self.told.insert(id, told);
        }
    }

    /// A server does not dial this one any more. Whether it was a guest: of those nothing is kept.
    pub(super) fn gone(&mut self, id: NodeId) -> bool {
        let was_guest = self.guests.remove(&id);
        if was_guest {
            self.told.remove(&id);
        }
        was_guest
    }

    /// Whom to dial, and where.
    pub(super) fn wanted(&self) -> BTreeMap<NodeId, Address> {
        let named: Vec<NodeId> = match &self.members {
            Some(members) => members.keys().copied().collect(),
            None => self.configured.keys().copied().collect(),
        };
        let all = named.iter().chain(&self.guests);
        all.filter_map(|id| Some((*id, self.address(*id)?.clone()))).collect()
    }

    /// Where this server dials another: its own `--peers` wins, then the log, then what the other said of itself.
    pub(super) fn address(&self, id: NodeId) -> Option<&Address> {
        self.configured.get(&id).or_else(|| self.logged(id)).or_else(|| self.told.get(&id))
    }

    fn logged(&self, id: NodeId) -> Option<&Address> {
        self.members.as_ref()?.get(&id)?.address.as_ref()
    }

    /// Members of which `--peers` says another address than the log.
    pub(super) fn overridden(&self) -> BTreeMap<NodeId, &Address> {
        let others =
            self.configured.iter().filter(|(id, address)| self.logged(**id).is_some_and(|it| it != *address));
        others.map(|(id, address)| (*id, address)).collect()
    }

    /// Ids of `--peers` that are no members.
    pub(super) fn superfluous(&self) -> Vec<NodeId> {
        let Some(members) = &self.members else { return Vec::new() };
        self.configured.keys().filter(|id| !members.contains_key(id)).copied().collect()
    }

    /// Members that this server cannot dial: nobody has told it where they are.
    pub(super) fn unknown(&self) -> Vec<NodeId> {
        let members = self.members.iter().flat_map(BTreeMap::keys);
        members.filter(|id| self.address(**id).is_none()).copied().collect()
    }

    /// Whether `--peers` names it.
    pub(super) fn is_configured(&self, id: NodeId) -> bool {
        self.configured.contains_key(&id)
    }

    /// How many others `--peers` names.
    pub(super) fn configured(&self) -> usize {
        self.configured.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn routes(configured: &[(u64, &str)]) -> Routes {
        Routes::new(configured.iter().map(|(node, text)| (id(*node), address(text))).collect())
    }

    fn set_members(routes: &mut Routes, list: &[(u64, &str)]) {
        let member = |text: &str| Member { incarnation: Incarnation(1), address: text.parse().ok() };
        let members = list.iter().map(|(node, text)| (id(*node), member(text))).collect();
        routes.set_members(members, [id(7)].into());
    }

    fn heard(routes: &mut Routes, node: u64, told: Option<Address>) -> bool {
        routes.heard((id(node), Incarnation(1)), told, true)
    }

    fn wanted(routes: &Routes) -> Vec<String> {
        routes.wanted().iter().map(|(id, address)| format!("{}={address}", id.get())).collect()
    }

    #[test]
    fn the_own_flag_wins_then_the_log_then_what_the_server_said() {
        let mut routes = routes(&[(2, "flag:2"), (3, "flag:3")]);
        assert_eq!(wanted(&routes), ["2=flag:2", "3=flag:3"]);
        set_members(&mut routes, &[(2, "log:2"), (4, "log:4"), (5, "")]);
        assert_eq!(wanted(&routes), ["2=flag:2", "4=log:4"]);
        assert_eq!((routes.unknown(), routes.superfluous()), (vec![id(5)], vec![id(3)]));
        assert_eq!(routes.overridden().into_keys().collect::<Vec<_>>(), [id(2)]);
        for node in [2, 4, 5] {
            assert!(heard(&mut routes, node, Some(address("told:1"))));
        }
        assert_eq!(wanted(&routes), ["2=flag:2", "4=log:4", "5=told:1"]);
        set_members(&mut routes, &[(2, "flag:2"), (4, "moved:4"), (5, "")]);
        assert_eq!(wanted(&routes), ["2=flag:2", "4=moved:4", "5=told:1"]);
        assert!(routes.overridden().is_empty());
    }

    #[test]
    fn a_guest_is_dialled_back_as_long_as_it_dials() {
        let mut routes = routes(&[(2, "flag:2")]);
        set_members(&mut routes, &[(2, "")]);
        routes.gone(id(7));
        assert!(heard(&mut routes, 7, Some(address("told:7"))));
        assert_eq!(wanted(&routes), ["2=flag:2", "7=told:7"]);
        routes.gone(id(7));
        assert_eq!(wanted(&routes), ["2=flag:2"]);
        // It is a member now, and its connection ends later.
        assert!(heard(&mut routes, 7, Some(address("told:7"))));
        set_members(&mut routes, &[(2, ""), (7, "log:7")]);
        routes.gone(id(7));
        assert_eq!(wanted(&routes), ["2=flag:2", "7=log:7"]);
        assert!(heard(&mut routes, 7, Some(address("told:7"))));
        set_members(&mut routes, &[(2, "")]);
        assert_eq!(wanted(&routes), ["2=flag:2", "7=told:7"], "removed, but it dials on");
    }

    #[test]
    fn who_has_taken_a_members_number_does_not_move_the_way_to_it() {
        let mut routes = routes(&[]);
        set_members(&mut routes, &[(2, "")]);
        assert!(heard(&mut routes, 2, Some(address("own:2"))));
        let impostor = (id(2), Incarnation(9));
        assert!(routes.heard(impostor, Some(address("other:2")), true));
        assert_eq!(wanted(&routes), ["2=own:2"]);
        // The member itself is out of reach: whoever this is can be answered at least.
        assert!(routes.heard(impostor, Some(address("other:2")), false));
        assert_eq!(wanted(&routes), ["2=other:2"]);
        assert!(heard(&mut routes, 2, Some(address("own:2"))));
        assert_eq!(wanted(&routes), ["2=own:2"], "it is back");
    }

    #[test]
    fn strangers_are_limited_and_members_are_not() {
        let mut routes = routes(&[]);
        set_members(&mut routes, &[(100, "")]);
        for node in 1..=GUESTS_MAX as u64 {
            assert!(heard(&mut routes, node, None));
        }
        assert!(!heard(&mut routes, 50, None));
        assert!(heard(&mut routes, 1, Some(address("h:1"))) && heard(&mut routes, 100, None));
        routes.gone(id(1));
        assert!(heard(&mut routes, 50, None));
    }
}
