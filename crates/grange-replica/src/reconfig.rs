//! Requests for other members (`reconfig`): what they ask for, and the way there.
//!
//! A request that is allowed stands in the replicated state until the members are the ones it asks for, whoever leads
//! meanwhile; then whoever asked is answered. One is under way at a time.

use std::collections::BTreeSet;

use grange_proto::response::Response;
use grange_proto::wire::{DecodeError, Reader};
use grange_proto::{ErrorCode, Role, Zxid, request};
use grange_tree::WriteContext;

use crate::event::{Action, Now};
use crate::members::{Members, Servers, put_servers, take_servers};
use crate::proposals::Origin;
use crate::replica::Replica;
#[cfg(feature = "simulation")]
use {crate::history::AppliedKind, grange_proto::SessionId};

/// How long a leader waits for the servers that are to vote to be there, before it gives a reconfig up.
const NEWCOMERS_MS_MAX: u64 = 5_000;
/// The fewest participants that may be left: Apache's bound unless `standaloneEnabled` is false.
const PARTICIPANTS_MIN: usize = 2;
/// What starts the name of a server in a request and in `/zookeeper/config`.
const SERVER_PREFIX: &str = "server.";
/// Grange's own: `leader=N` in the place of the joining servers makes server N lead.
const LEADER_KEY: &str = "leader=";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// These servers and no others.
    Servers(Servers),
    /// Another leader.
    Leader(u8),
}

impl Wish {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Wish::Servers(servers) => {
                out.push(0);
                put_servers(out, servers);
            }
            Wish::Leader(server_id) => out.extend([1, *server_id]),
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Wish, DecodeError> {
        match reader.u8()? {
            0 => take_servers(reader).map(Wish::Servers),
            1 => reader.u8().map(Wish::Leader),
            kind => Err(DecodeError::Unknown(i32::from(kind), "kind of a reconfig")),
        }
    }
}

/// Finds out what a request asks for; `None` if it names a server by a number that none can have here.
///
/// That is answered behind the check of permissions, since Apache's server, which allows such numbers, would say `NoAuth` first.
///
/// Errors: `BadVersion` if it was made for other members than there are, `BadArguments` if it cannot be understood or
/// would leave too few. Source: `PrepRequestProcessor`, `QuorumPeerConfig.parseDynamicConfig`.
fn plan(members: &Members, request: &request::Reconfig<'_>) -> Result<Option<Wish>, ErrorCode> {
    if request.config_id != -1 && request.config_id != members.version().0 {
        return Err(ErrorCode::BadVersion);
    }
    let (joining, leaving) = (some(request.joining), some(request.leaving));
    if let Some(number) = joining.and_then(|text| text.trim().strip_prefix(LEADER_KEY)) {
        let server_id = number.parse().map_err(|_| ErrorCode::BadArguments)?;
        return match members.with_server_id(server_id) {
            Some(member) if members.conf.voters.contains(&member.id.0) => Ok(Some(Wish::Leader(server_id))),
            _ => Err(ErrorCode::BadArguments),
        };
    }
    let Some(named) = parse_lines(some(request.new_members).or(joining).unwrap_or_default())? else { return Ok(None) };
    let servers = match some(request.new_members) {
        Some(_) => named,
        None if joining.is_none() && leaving.is_none() => return Err(ErrorCode::BadArguments),
        None => {
            let mut servers = members.intended();
            for number in leaving.unwrap_or_default().split(',').filter(|number| !number.trim().is_empty()) {
                let server_id: u8 = number.trim().parse().map_err(|_| ErrorCode::BadArguments)?;
                servers.remove(&server_id);
            }
            servers.extend(named);
            servers
        }
    };
    // One that has fewer already may grow.
    let voter_count = members.conf.voters.len();
    check(&servers, PARTICIPANTS_MIN.min(voter_count))?;
    Ok(Some(Wish::Servers(servers)))
}

fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// Parses `server.N=…`, one after the other, on lines of their own or with commas between them; `None` if a number is
/// too large.
fn parse_lines(text: &str) -> Result<Option<Servers>, ErrorCode> {
    let lines = text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with("version="))
        .map(|line| {
            let (name, spec) = line.split_once('=').ok_or(ErrorCode::BadArguments)?;
            let number = name.trim().strip_prefix(SERVER_PREFIX).ok_or(ErrorCode::BadArguments)?;
            let number: u64 = number.parse().map_err(|_| ErrorCode::BadArguments)?;
            let spec = spec.parse().map_err(|_| ErrorCode::BadArguments)?;
            Ok(u8::try_from(number).ok().map(|server_id| (server_id, spec)))
        })
        .collect()
}

fn check(servers: &Servers, participants_min: usize) -> Result<(), ErrorCode> {
    let participants = servers.values().filter(|spec| spec.role == Role::Participant).count();
    let addresses: BTreeSet<_> =
        servers.values().flat_map(|spec| spec.peers.iter().map(|peer| (&peer.host, peer.quorum_port))).collect();
    let address_count: usize = servers.values().map(|spec| spec.peers.len()).sum();
    match participants >= participants_min && addresses.len() == address_count {
        true => Ok(()),
        false => Err(ErrorCode::BadArguments),
    }
}

impl Replica {
    /// Applies a reconfig; returns its error, or `None` if it is under way and answered later.
    pub(crate) fn apply_reconfig(
        &mut self,
        cx: &WriteContext<'_>,
        request: &request::Reconfig<'_>,
        origin: Option<Origin>,
        out: &mut Vec<Action>,
    ) -> Option<ErrorCode> {
        let Some(ensemble) = &mut self.ensemble else { return Some(ErrorCode::Unimplemented) };
        let members = &ensemble.members;
        let is_under_way = ensemble.wish.is_some();
        let planned = self.tree.admit_reconfig(cx, || {
            if members.stands_alone() {
                return Err(ErrorCode::Unimplemented);
            }
            if is_under_way {
                return Err(ErrorCode::ReconfigInProgress);
            }
            plan(members, request)
        });
        match planned {
            Err(code) => Some(code),
            Ok(None) => Some(ErrorCode::BadArguments),
            Ok(Some(wish)) => {
                ensemble.wish = Some(wish);
                self.wish_origin = origin.filter(|origin| matches!(origin, Origin::Request { .. }));
                self.wish_since_ms = None;
                self.wish_end_term = None;
                self.tell_members(out);
                None
            }
        }
    }

    /// Gives up on the reconfig under way, as its leader has decided.
    pub(crate) fn abandon_wish(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.ensemble.as_mut().and_then(|ensemble| ensemble.wish.take()).is_some() {
            #[cfg(feature = "simulation")]
            self.note_applied(AppliedKind::ReconfigGivenUp, SessionId::NONE, &[], (0, 0));
            self.answer_wish(Err(ErrorCode::NewConfigNoQuorum), now);
            self.tell_members(out);
        }
    }

    /// Takes in that a reconfig has come to its end.
    pub(crate) fn fulfil_wish(&mut self, now: Now) {
        if let Some(ensemble) = &mut self.ensemble
            && ensemble.wish.take().is_some()
        {
            #[cfg(feature = "simulation")]
            self.note_applied(AppliedKind::ReconfigDone, SessionId::NONE, &[], (0, 0));
            self.answer_wish(Ok(()), now);
        }
    }

    fn answer_wish(&mut self, result: Result<(), ErrorCode>, now: Now) {
        self.wish_since_ms = None;
        self.wish_end_term = None;
        let Some(Origin::Request { slot, conn, asked }) = self.wish_origin.take() else { return };
        if self.connections.get(slot, conn).is_none() {
            return;
        }
        let zxid: Zxid = self.tree.last_zxid();
        let (text, stat) = self.tree.config();
        let response = Response::Data(Some(text), stat);
        self.connections.reply(slot, asked, zxid, result.map(|()| &response), now);
        self.connections.at(slot).write_answered();
        self.connections.at(slot).awaits_reconfig = false;
        self.answer_pending(slot, now);
        self.take_backlog(slot, now);
    }

    /// Puts the end of the reconfig under way into the log, once in a term. No change of the members follows it there:
    /// otherwise that one might be the end of this reconfig, and this the end of the next one.
    fn end_wish(&mut self, is_fulfilled: bool) {
        if !self.engine.has_pending_members() {
            self.wish_end_term = Some(self.engine.term());
            self.proposals.push_wish_end(self.engine.term(), is_fulfilled);
        }
    }

    /// Returns true if this member, as leader, has put the end of the reconfig under way into the log.
    pub(crate) fn is_wish_ending(&self) -> bool {
        self.wish_end_term == Some(self.engine.term())
    }

    /// As leader, gives a reconfig up if those who are to vote do not come.
    pub(crate) fn tend_wish(&mut self, now: Now) {
        let Some(ensemble) = self.ensemble.as_ref().filter(|_| !self.is_wish_ending()) else { return };
        match &ensemble.wish {
            Some(Wish::Servers(servers)) => {
                let (members, own) = (&ensemble.members, self.config.ensemble.member.id);
                let is_here = |server_id: u8| {
                    members.with_server_id(server_id).is_some_and(|member| {
                        member.id == own
                            || members.conf.voters.contains(&member.id.0)
                            || self.peers.contains_key(&member.id)
                    })
                };
                let mut participants = servers.iter().filter(|(_, spec)| spec.role == Role::Participant);
                let stays = participants.clone().any(|(&id, _)| id == self.config.ensemble.member.server_id);
                let are_here = participants.all(|(&server_id, _)| is_here(server_id))
                    && (members.conf.is_joint() || self.most_are_linked(servers));
                let heir = self.heir_among(servers).filter(|_| !stays && are_here && self.engine.can_propose());
                if let Some(heir) = heir {
                    // Whoever is to go or to lose its vote does not lead that change.
                    self.engine.transfer_to(heir);
                }
                if are_here {
                    self.wish_since_ms = None;
                    return;
                }
            }
            Some(Wish::Leader(server_id)) => {
                let heir = ensemble.members.with_server_id(*server_id).map(|member| member.id);
                match heir.filter(|heir| *heir != self.config.ensemble.member.id) {
                    Some(heir) if self.engine.can_propose() => self.engine.transfer_to(heir),
                    Some(_) => {}
                    // The one that was asked for leads.
                    None => return self.end_wish(true),
                }
            }
            None => return,
        }
        let since_ms = *self.wish_since_ms.get_or_insert(now.monotonic_ms());
        if now.monotonic_ms().saturating_sub(since_ms) > NEWCOMERS_MS_MAX {
            self.end_wish(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Member, MemberId};

    fn members() -> Members {
        let spec = "a:1:2:participant;3".parse().unwrap();
        let mut members = Members::founded_by(Member { id: MemberId(1), server_id: 1, spec }, true);
        let spec = "b:1:2:participant;3".parse().unwrap();
        let change = crate::members::MembersChange {
            members: vec![Member { id: MemberId(2), server_id: 2, spec }],
            ..Default::default()
        };
        let conf = crate::members::Conf { voters: vec![1, 2], ..Default::default() };
        members.change(&change, conf, Zxid(0x10));
        members
    }

    fn asks(joining: Option<&str>, leaving: Option<&str>, new_members: Option<&str>) -> Result<String, ErrorCode> {
        let request = request::Reconfig { joining, leaving, new_members, config_id: -1 };
        plan(&members(), &request).map(|wish| match wish {
            Some(Wish::Servers(servers)) => {
                servers.iter().map(|(id, spec)| format!("{id}={spec}")).collect::<Vec<_>>().join(" ")
            }
            Some(Wish::Leader(server_id)) => format!("leader {server_id}"),
            None => "nothing that can be here".to_owned(),
        })
    }

    #[test]
    fn every_form_of_a_request_is_understood() {
        let base = "1=a:1:2:participant;0.0.0.0:3 2=b:1:2:participant;0.0.0.0:3";
        assert_eq!(
            asks(Some("server.5=c:1:2:observer;4"), None, None).unwrap(),
            format!("{base} 5=c:1:2:observer;0.0.0.0:4")
        );
        assert_eq!(asks(None, Some("7"), None).unwrap(), base, "one that is not there cannot leave");
        let new = "server.1=a:1:2;3\nserver.3=c:1:2;3\nversion=10";
        assert_eq!(asks(None, None, Some(new)).unwrap(), "1=a:1:2:participant;0.0.0.0:3 3=c:1:2:participant;0.0.0.0:3");
        assert_eq!(asks(Some("leader=2"), None, None).unwrap(), "leader 2");
        let too_large = asks(Some("server.999=c:1:2:observer;4"), None, None);
        assert_eq!(too_large.unwrap(), "nothing that can be here", "permissions are checked before it is refused");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (joining, leaving, new) in [
            (None, None, None),
            (Some(""), Some(" "), None),
            (Some("server.x=a:1:2"), None, None),
            (Some("server.3=nonsense"), None, None),
            (Some("server.3=a:1:2"), None, None),
            (None, Some("x"), None),
            (None, Some("2"), None),
            (None, None, Some("server.1=a:1:2")),
            (Some("leader=3"), None, None),
        ] {
            assert_eq!(asks(joining, leaving, new), Err(ErrorCode::BadArguments), "{joining:?} {leaving:?} {new:?}");
        }
        let request = request::Reconfig { joining: None, leaving: Some("2"), new_members: None, config_id: 7 };
        assert_eq!(plan(&members(), &request), Err(ErrorCode::BadVersion));
    }
}
