//! How members come and go: the founding, servers that come back without their disk, learners that have caught up.

use std::collections::BTreeMap;

use grange_proto::{Role, ServerSpec};

use crate::config::EnsembleConfig;
use crate::engine::Engine;
use crate::ensemble::EnsembleState;
use crate::event::{Action, LogEntry, Now};
use crate::members::{Conf, Member, MemberId, Members, MembersChange, Servers, Step};
use crate::reconfig::Wish;
use crate::replica::Replica;
#[cfg(feature = "simulation")]
use {crate::history::AppliedKind, grange_proto::SessionId};

/// Another server that this one has a link to.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) member: Member,
    pub(crate) is_blank: bool,
}

impl Replica {
    /// Takes in that there is a link to another server.
    pub(crate) fn peer_up(&mut self, member: Member, is_blank: bool) {
        let id = member.id;
        self.peers.insert(id, Peer { member, is_blank });
        if self.engine.leader() == Some(id) {
            self.proposals.send_again();
            self.connections.tell_all_alive(&mut self.alive);
        }
    }

    /// Takes in that the link to another server is lost, and with it what was on its way.
    pub(crate) fn peer_down(&mut self, id: MemberId) {
        if self.peers.remove(&id).is_some() {
            self.engine.peer_lost(id);
        }
    }

    /// Applies a change of the members.
    pub(crate) fn apply_members(&mut self, entry: &LogEntry, now: Now, out: &mut Vec<Action>) {
        let change = match MembersChange::decode(&entry.data) {
            Ok(change) => change,
            Err(why) => panic!("entry {} cannot be read by this version: {why}", entry.index),
        };
        let conf = self.engine.apply_members(&change);
        let Some(ensemble) = &mut self.ensemble else { panic!("a member without a snapshot gets no entries") };
        let zxid = self.tree.last_zxid().next();
        let is_settled = !conf.is_joint();
        ensemble.members.change(&change, conf, zxid);
        for member in ensemble.members.iter() {
            // It gets data now. If it is taken out later, it must not look like one that may be added.
            if let Some(peer) = self.peers.get_mut(&member.id) {
                peer.is_blank = false;
            }
        }
        ensemble.forget_strangers();
        self.progress.requests += 1;
        let text = ensemble.members.config_text();
        #[cfg(feature = "simulation")]
        if !is_settled {
            self.note_applied(AppliedKind::ConfigToCome, SessionId::NONE, text.as_bytes(), (change.time_ms, 0));
        }
        if is_settled {
            let mut changes = self.collect_changes();
            self.tree.set_config(zxid, change.time_ms, &text, &mut changes);
            #[cfg(feature = "simulation")]
            self.note_applied(AppliedKind::Config, SessionId::NONE, text.as_bytes(), (change.time_ms, 0));
            self.fire_all(&changes, zxid);
            self.changes = changes;
        }
        self.expect_delay();
        if change.fulfils_wish {
            self.fulfil_wish(now);
        }
        self.tell_members(out);
    }

    /// Tells the edge who the members are.
    pub(crate) fn tell_members(&self, out: &mut Vec<Action>) {
        if let Some(ensemble) = &self.ensemble {
            let members = &ensemble.members;
            out.push(Action::Members(members.iter().cloned().collect()));
            let wished = match &ensemble.wish {
                Some(Wish::Servers(servers)) => servers.iter().collect(),
                _ => Vec::new(),
            };
            let candidates: BTreeMap<u8, ServerSpec> = members
                .expected()
                .iter()
                .chain(wished)
                .filter(|(server_id, _)| members.with_server_id(**server_id).is_none())
                .map(|(&server_id, spec)| (server_id, spec.clone()))
                .collect();
            if !candidates.is_empty() {
                out.push(Action::Candidates(candidates.into_iter().collect()));
            }
        }
    }

    /// Proposes, as leader, the next change of the members that is due, if there is any.
    pub(crate) fn tend_members(&mut self, now: Now) {
        if self.leadership.is_leading {
            self.tend_wish(now);
        }
        let may_change = self.engine.can_propose() && !self.engine.has_pending_members() && !self.is_wish_ending();
        if !self.leadership.is_leading || !may_change {
            return;
        }
        let Some(ensemble) = &self.ensemble else { return };
        let most_are_linked = match &ensemble.wish {
            Some(Wish::Servers(servers)) => self.most_are_linked(servers),
            _ => true,
        };
        let (config, engine, peers) = (&self.config.ensemble, &self.engine, &self.peers);
        let due = Due { config, ensemble, engine, peers, most_are_linked };
        if let Some(change) = due.next() {
            self.engine.propose_members(&MembersChange { time_ms: now.wall_ms, ..change });
        }
    }
}

impl Replica {
    /// Returns true if most of those that are to vote can be reached: without them nothing could be written any more,
    /// and the change could not be undone either.
    pub(crate) fn most_are_linked(&self, servers: &Servers) -> bool {
        let Some(ensemble) = &self.ensemble else { return false };
        let own = self.config.ensemble.member.id;
        let participants = servers.iter().filter(|(_, spec)| spec.role == Role::Participant).map(|(id, _)| id);
        let members = participants.clone().filter_map(|id| ensemble.members.with_server_id(*id));
        let linked = members.filter(|member| member.id == own || self.peers.contains_key(&member.id)).count();
        linked > participants.count() / 2
    }
}

/// What a leader looks at to find the change of the members that is due.
struct Due<'a> {
    config: &'a EnsembleConfig,
    ensemble: &'a EnsembleState,
    engine: &'a Engine,
    peers: &'a BTreeMap<MemberId, Peer>,
    /// Whether most of those that are to vote, as the reconfig under way asks for, can be reached.
    most_are_linked: bool,
}

impl Due<'_> {
    fn members(&self) -> &Members {
        &self.ensemble.members
    }

    fn conf(&self) -> &Conf {
        &self.members().conf
    }

    fn next(&self) -> Option<MembersChange> {
        if self.conf().is_joint() {
            // The way to the new set of voters ends with an empty change. Before it the founder alone could not be lost.
            let change = MembersChange { completes_founding: !self.members().is_founded, ..MembersChange::default() };
            return Some(self.fulfilment(change));
        }
        if !self.members().is_founded {
            return self.founding();
        }
        match &self.ensemble.wish {
            Some(Wish::Servers(servers)) => self.towards(servers).filter(|change| {
                // Newcomers that follow change nothing about who votes.
                change.steps.iter().all(|step| matches!(step, Step::Learn(id) if self.members().get(*id).is_none()))
                    || self.most_are_linked
            }),
            _ => self.promotion().or_else(|| self.addition()),
        }
    }

    /// Marks a change behind which the members are as the reconfig under way asks for.
    fn fulfilment(&self, change: MembersChange) -> MembersChange {
        let Some(Wish::Servers(servers)) = &self.ensemble.wish else { return change };
        let members = self.members();
        let stay = members.iter().filter(|member| self.conf().contains_for_good(member.id));
        let is_as_wished = stay.filter(|member| !member.spec.peers.is_empty()).all(|member| {
            let votes = self.conf().voters.contains(&member.id.0);
            // What it is noted as counts too: one that is noted to vote gets its vote by itself some time.
            let is_it = |spec: &ServerSpec| *spec == member.spec && (spec.role == Role::Participant) == votes;
            servers.get(&member.server_id).is_some_and(is_it)
        });
        let is_complete = servers
            .iter()
            .all(|(&server_id, spec)| spec.role == Role::Observer || members.with_server_id(server_id).is_some());
        if !is_as_wished || !is_complete {
            return change;
        }
        let absent = servers.iter().filter(|(server_id, _)| members.with_server_id(**server_id).is_none());
        let expected = absent.map(|(&server_id, spec)| (server_id, spec.clone())).collect();
        MembersChange { fulfils_wish: true, expected, ..change }
    }

    /// The next step of a reconfig: newcomers follow first, and when those who are to vote lack next to nothing, all
    /// changes at once.
    fn towards(&self, servers: &Servers) -> Option<MembersChange> {
        let mut newcomers = MembersChange::default();
        for (&server_id, spec) in servers {
            if self.members().with_server_id(server_id).is_some() {
                continue;
            }
            match self.blank(server_id) {
                // It is no participant yet in any respect, for the case that the reconfig is given up.
                Some(member) => {
                    let spec = ServerSpec { role: Role::Observer, ..spec.clone() };
                    newcomers.add(Member { spec, ..member.clone() }, Role::Observer);
                }
                None if spec.role == Role::Participant => return None,
                None => {}
            }
        }
        if !newcomers.steps.is_empty() {
            return Some(newcomers);
        }
        let mut change = MembersChange::default();
        for member in self.members().iter().filter(|member| !member.spec.peers.is_empty()) {
            let votes = self.conf().voters.contains(&member.id.0);
            match servers.get(&member.server_id) {
                None => change.steps.push(Step::Leave(member.id)),
                Some(spec) => {
                    let is_caught_up = || {
                        member.id == self.config.member.id
                            || self.engine.follower(member.id).is_some_and(|follower| follower.is_caught_up)
                    };
                    match spec.role {
                        Role::Participant if !votes && !is_caught_up() => return None,
                        Role::Participant => change.steps.push(Step::Vote(member.id)),
                        Role::Observer => change.steps.push(Step::Learn(member.id)),
                    }
                    change.members.push(Member { spec: spec.clone(), ..member.clone() });
                }
            }
        }
        Some(change).filter(|change| !change.steps.is_empty())
    }

    /// A blank server that is linked and has this number.
    fn blank(&self, server_id: u8) -> Option<&Member> {
        let blank = self.peers.values().filter(|peer| peer.is_blank && peer.member.server_id == server_id);
        blank.map(|peer| &peer.member).find(|member| self.members().get(member.id).is_none())
    }

    /// All participants that the founder's configuration lists become members at once.
    fn founding(&self) -> Option<MembersChange> {
        let mut change = MembersChange::default();
        for (server_id, spec) in &self.config.servers {
            if self.members().with_server_id(*server_id).is_some() {
                continue;
            }
            match self.blank(*server_id) {
                Some(member) => change.add(member.clone(), spec.role),
                None if spec.role == Role::Participant => return None,
                None => {}
            }
        }
        Some(change).filter(|change| !change.steps.is_empty())
    }

    /// A learner that is to vote and lacks next to nothing gets its vote.
    fn promotion(&self) -> Option<MembersChange> {
        let learner = self.members().iter().find(|member| {
            member.spec.role == Role::Participant
                && self.conf().learners.contains(&member.id.0)
                && self.engine.follower(member.id).is_some_and(|follower| follower.is_caught_up)
        })?;
        Some(MembersChange { steps: vec![Step::Vote(learner.id)], ..MembersChange::default() })
    }

    /// A server that belongs to the ensemble and has no data is added, as a learner first. A member that has the same
    /// number has lost its disk: it leaves. What was asked for by a reconfig counts more than the configuration file.
    fn addition(&self) -> Option<MembersChange> {
        let mut servers: Servers = self.config.servers.iter().cloned().collect();
        servers.extend(self.members().expected().clone());
        servers.extend(self.members().intended());
        servers.iter().find_map(|(server_id, spec)| {
            let member = self.blank(*server_id)?;
            let mut change = MembersChange::default();
            if let Some(former) = self.members().with_server_id(*server_id) {
                if self.peers.contains_key(&former.id) {
                    return None;
                }
                change.steps.push(Step::Leave(former.id));
            }
            let spec = ServerSpec { role: spec.role, ..member.spec.clone() };
            change.add(Member { spec, ..member.clone() }, Role::Observer);
            Some(change)
        })
    }
}

impl MembersChange {
    fn add(&mut self, member: Member, role: Role) {
        self.steps.push(match role {
            Role::Participant => Step::Vote(member.id),
            Role::Observer => Step::Learn(member.id),
        });
        self.members.push(member);
    }
}

/// Returns the state of an ensemble that has just been founded.
pub(crate) fn founded(config: &EnsembleConfig, genesis: crate::config::Genesis) -> EnsembleState {
    let participants = config.servers.iter().filter(|(_, spec)| spec.role == Role::Participant);
    let is_founded = participants.map(|(id, _)| id).all(|&id| id == config.member.server_id);
    EnsembleState::new(genesis, Members::founded_by(config.member.clone(), is_founded))
}
