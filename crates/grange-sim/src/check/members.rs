//! The members as they must be: what a reconfig may be answered, and which lists may follow one another.
//!
//! This model knows requests and lists, not how the ensemble gets from one list to the next. A list is either asked for by
//! the reconfig under way, or comes about by itself: the founding, a server that lost its disk, one that was expected.

use std::collections::{BTreeMap, BTreeSet};

use grange_proto::request::Reconfig;
use grange_proto::{ErrorCode, Role, ServerSpec, SessionId, Zxid};

/// The most that Apache lets go: two participants stay.
const PARTICIPANTS_MIN: usize = 2;

type Servers = BTreeMap<u8, ServerSpec>;

/// What is known of the run besides its history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    /// The servers that every configuration file lists, and the parts they play in it.
    pub(crate) founders: Servers,
    /// Sessions of clients that may change the members.
    pub(crate) operators: BTreeSet<SessionId>,
    /// Whether members may be changed at all.
    pub(crate) is_enabled: bool,
    /// Servers that have lost their disks some time.
    pub(crate) lost_disks: BTreeSet<u8>,
}

/// A reconfig under way.
#[derive(Debug, Clone)]
struct Wish {
    /// Who asked, and with which body.
    asked: (SessionId, Vec<u8>),
    /// The servers that are to be the members; `None` if another leader is wanted.
    servers: Option<Servers>,
}

/// The members.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelMembers {
    knowledge: Knowledge,
    /// What `/zookeeper/config` shows.
    shown: Servers,
    version: i64,
    /// What is on its way, if anything is.
    coming: Option<Servers>,
    /// The part that each server is to play in the end.
    due: BTreeMap<u8, Role>,
    is_founded: bool,
    wish: Option<Wish>,
}

impl ModelMembers {
    pub(crate) fn new(knowledge: Knowledge) -> ModelMembers {
        ModelMembers { knowledge, ..ModelMembers::default() }
    }

    /// The members as the next request finds them.
    fn now(&self) -> &Servers {
        self.coming.as_ref().unwrap_or(&self.shown)
    }

    /// Takes in a reconfig; one that is admitted is under way from here on.
    pub(crate) fn ask(&mut self, session: SessionId, body: &[u8], request: &Reconfig<'_>) -> Result<(), ErrorCode> {
        if !self.knowledge.is_enabled {
            return Err(ErrorCode::ReconfigDisabled);
        }
        if self.wish.is_some() {
            return Err(ErrorCode::ReconfigInProgress);
        }
        if request.config_id != -1 && request.config_id != self.version {
            return Err(ErrorCode::BadVersion);
        }
        let asked_for = self.asked_for(request)?;
        if !self.knowledge.operators.contains(&session) {
            return Err(ErrorCode::NoAuth);
        }
        // A number that no server can have is refused behind the permission.
        let servers = asked_for.ok_or(ErrorCode::BadArguments)?;
        self.wish = Some(Wish { asked: (session, body.to_vec()), servers });
        Ok(())
    }

    /// The members with the parts that they are to play: one that has lost its disk has its vote again soon.
    fn intended(&self) -> Servers {
        let part = |(id, spec): (&u8, &ServerSpec)| {
            let role = if self.due.get(id) == Some(&Role::Participant) { Role::Participant } else { spec.role };
            (*id, ServerSpec { role, ..spec.clone() })
        };
        self.now().iter().map(part).collect()
    }

    /// What a request asks for: `None` for a server that cannot be, `Some(None)` for another leader.
    fn asked_for(&self, request: &Reconfig<'_>) -> Result<Option<Option<Servers>>, ErrorCode> {
        let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let (joining, leaving, all) = (given(request.joining), given(request.leaving), given(request.new_members));
        if let Some(number) = joining.as_deref().and_then(|text| text.strip_prefix("leader=")) {
            let votes = number.parse().ok().and_then(|number: u8| self.now().get(&number));
            return match votes {
                Some(spec) if spec.role == Role::Participant => Ok(Some(None)),
                _ => Err(ErrorCode::BadArguments),
            };
        }
        let mut servers = if all.is_some() { Servers::new() } else { self.intended() };
        if all.is_none() {
            if joining.is_none() && leaving.is_none() {
                return Err(ErrorCode::BadArguments);
            }
            for number in leaving.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|n| !n.is_empty()) {
                servers.remove(&number.parse().map_err(|_| ErrorCode::BadArguments)?);
            }
        }
        let mut is_possible = true;
        let lines = all.or(joining).unwrap_or_default();
        for line in lines.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            let Some((name, spec)) = line.strip_prefix("server.").and_then(|rest| rest.split_once('=')) else {
                if line.starts_with("version=") {
                    continue;
                }
                return Err(ErrorCode::BadArguments);
            };
            let number: u64 = name.parse().map_err(|_| ErrorCode::BadArguments)?;
            let spec = spec.parse().map_err(|_| ErrorCode::BadArguments)?;
            match u8::try_from(number) {
                Ok(number) => drop(servers.insert(number, spec)),
                Err(_) => is_possible = false,
            }
        }
        if !is_possible {
            return Ok(None);
        }
        let addresses: BTreeSet<String> = servers.values().map(|spec| spec.peers[0].host.clone()).collect();
        let stay = PARTICIPANTS_MIN.min(participants(self.now()));
        if participants(&servers) < stay || addresses.len() < servers.len() {
            return Err(ErrorCode::BadArguments);
        }
        Ok(Some(Some(servers)))
    }

    /// Takes in the list that the ensemble is on its way to.
    pub(crate) fn come(&mut self, text: &str) -> Result<(), String> {
        let (servers, _) = parse(text)?;
        if self.coming.is_some() {
            return Err("one change began before the one before it had ended".to_owned());
        }
        self.judge(&servers)?;
        self.note_due(&servers);
        self.coming = Some(servers);
        Ok(())
    }

    /// Takes in what `/zookeeper/config` holds now.
    pub(crate) fn show(&mut self, text: &str, zxid: Zxid) -> Result<(), String> {
        let (servers, version) = parse(text)?;
        if version != zxid.0 {
            return Err(format!("the version is {version:x} and not that of the change"));
        }
        match self.coming.take() {
            Some(coming) => {
                // Observers that the reconfig asks for and that are not there yet show with its end.
                let wished = self.wish.as_ref().and_then(|wish| wish.servers.as_ref());
                let is_absent = |id: &u8, spec: &ServerSpec| {
                    spec.role == Role::Observer && wished.is_some_and(|wished| wished.get(id) == Some(spec))
                };
                let is_right = servers.iter().all(|(id, spec)| coming.get(id) == Some(spec) || is_absent(id, spec));
                // Those that go are on their way, without a vote.
                let goes = |(id, spec): (&u8, &ServerSpec)| {
                    spec.role == Role::Observer && wished.is_some_and(|wished| !wished.contains_key(id))
                };
                if !is_right || coming.iter().any(|member| !servers.contains_key(member.0) && !goes(member)) {
                    return Err(format!("{} was to come", list(&coming)));
                }
            }
            None => self.judge(&servers)?,
        }
        self.note_due(&servers);
        let founders = self.knowledge.founders.iter().filter(|(_, spec)| spec.role == Role::Participant);
        self.is_founded |= founders.clone().all(|(id, _)| servers.contains_key(id));
        (self.shown, self.version) = (servers, version);
        Ok(())
    }

    /// Notes the parts of those that are new: what is not asked for comes with the part that the configuration files
    /// give it.
    fn note_due(&mut self, servers: &Servers) {
        let wished = self.wish.as_ref().and_then(|wish| wish.servers.as_ref());
        for (id, spec) in servers {
            let listed = self.knowledge.founders.get(id).map_or(spec.role, |listed| listed.role);
            let is_known = self.shown.contains_key(id) || wished.is_some_and(|wished| wished.contains_key(id));
            self.due.entry(*id).or_insert(if is_known { spec.role } else { listed });
        }
        self.due.retain(|id, _| servers.contains_key(id));
    }

    /// Tells whether a list may follow the one before.
    fn judge(&self, servers: &Servers) -> Result<(), String> {
        let (before, knowledge) = (self.now(), &self.knowledge);
        let wished = self.wish.as_ref().and_then(|wish| wish.servers.as_ref());
        let is_last = wished.is_some_and(|wished| {
            let votes = |servers: &Servers| {
                let votes = servers.iter().filter(|(_, spec)| spec.role == Role::Participant);
                votes.map(|(id, _)| *id).collect::<Vec<_>>()
            };
            let is_wished = |(id, spec): (&u8, &ServerSpec)| spec.role == Role::Observer || wished.contains_key(id);
            votes(wished) == votes(servers) && servers.iter().all(is_wished)
        });
        if is_last {
            return Ok(());
        }
        for (id, spec) in servers {
            let is_allowed = match before.get(id).map(|spec| spec.role) {
                None if wished.is_some_and(|wished| wished.contains_key(id)) => spec.role == Role::Observer,
                None if self.is_founded => knowledge.founders.contains_key(id) && spec.role == Role::Observer,
                None => knowledge.founders.get(id).is_some_and(|listed| listed.role == spec.role),
                Some(role) if role == spec.role => true,
                Some(Role::Participant) => knowledge.lost_disks.contains(id),
                Some(Role::Observer) => self.due.get(id) == Some(&Role::Participant),
            };
            if !is_allowed {
                return Err(format!("nobody has asked for server {id} as {:?}", spec.role));
            }
        }
        match before.keys().find(|id| !servers.contains_key(id)) {
            Some(gone) => Err(format!("nobody has asked for server {gone} to leave")),
            None => Ok(()),
        }
    }

    /// Ends the reconfig under way; returns who had asked for it.
    pub(crate) fn done(&mut self) -> Result<(SessionId, Vec<u8>), String> {
        let wish = self.wish.take().ok_or("no reconfig was under way")?;
        if let Some(servers) = wish.servers {
            if servers != self.shown {
                return Err(format!("{} was asked for, and there is {}", list(&servers), list(&self.shown)));
            }
            self.due = servers.iter().map(|(id, spec)| (*id, spec.role)).collect();
        }
        Ok(wish.asked)
    }

    /// Gives the reconfig under way up; returns who had asked for it.
    pub(crate) fn given_up(&mut self) -> Result<(SessionId, Vec<u8>), String> {
        self.wish.take().map(|wish| wish.asked).ok_or_else(|| "no reconfig was under way".to_owned())
    }
}

fn participants(servers: &Servers) -> usize {
    servers.values().filter(|spec| spec.role == Role::Participant).count()
}

/// Reads the data of `/zookeeper/config`: the servers, and the version.
pub(crate) fn parse(text: &str) -> Result<(Servers, i64), String> {
    let unreadable = || format!("{text:?} is no list of members");
    let (mut servers, mut version) = (Servers::new(), None);
    for line in text.lines() {
        match line.strip_prefix("version=") {
            Some(number) => version = i64::from_str_radix(number, 16).ok(),
            None => {
                let rest = line.strip_prefix("server.").and_then(|rest| rest.split_once('=')).ok_or_else(unreadable)?;
                let number = rest.0.parse().map_err(|_| unreadable())?;
                servers.insert(number, rest.1.parse().map_err(|_| unreadable())?);
            }
        }
    }
    Ok((servers, version.ok_or_else(unreadable)?))
}

fn list(servers: &Servers) -> String {
    servers.iter().map(|(id, spec)| format!("{id}={spec}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\nversion=5";

    fn members() -> ModelMembers {
        let (founders, _) = parse(THREE).unwrap();
        let knowledge =
            Knowledge { founders, operators: [SessionId(1)].into(), is_enabled: true, ..Knowledge::default() };
        let mut members = ModelMembers::new(knowledge);
        members.show(THREE, Zxid(5)).unwrap();
        members
    }

    fn ask(
        members: &mut ModelMembers,
        session: i64,
        joining: &str,
        leaving: &str,
        version: i64,
    ) -> Result<(), ErrorCode> {
        let request =
            Reconfig { joining: Some(joining), leaving: Some(leaving), new_members: None, config_id: version };
        members.ask(SessionId(session), b"body", &request)
    }

    #[test]
    fn a_request_is_refused_for_the_reason_that_comes_first() {
        let mut members = members();
        assert_eq!(ask(&mut members, 2, "", "3", 4), Err(ErrorCode::BadVersion));
        assert_eq!(ask(&mut members, 2, "", "2,3", 5), Err(ErrorCode::BadArguments));
        assert_eq!(ask(&mut members, 2, "server.4=a:1:2", "", 5), Err(ErrorCode::BadArguments), "an address twice");
        assert_eq!(ask(&mut members, 2, "", "3", 5), Err(ErrorCode::NoAuth));
        assert_eq!(ask(&mut members, 1, "server.300=d:1:2", "", 5), Err(ErrorCode::BadArguments));
        assert_eq!(ask(&mut members, 1, "", "3", -1), Ok(()));
        assert_eq!(ask(&mut members, 2, "", "3", 4), Err(ErrorCode::ReconfigInProgress));
    }

    #[test]
    fn nobody_goes_unasked() {
        let two = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nversion=6";
        let mut members = members();
        assert!(members.clone().show(two, Zxid(6)).is_err());
        ask(&mut members, 1, "", "3", -1).unwrap();
        assert!(members.clone().show(&two.replace("b:1:2:participant", "b:1:2:observer"), Zxid(6)).is_err());
        assert!(members.clone().show(two, Zxid(7)).is_err(), "the version is the transaction");
        members.come(two).unwrap();
        members.show(two, Zxid(6)).unwrap();
        assert_eq!(members.done().unwrap().0, SessionId(1));
        assert!(members.done().is_err());
    }

    #[test]
    fn one_that_joins_votes_last() {
        let mut members = members();
        ask(&mut members, 1, "server.4=d:1:2:participant", "", -1).unwrap();
        let four = |role: &str| THREE.replace("version=5", &format!("server.4=d:1:2:{role}\nversion=7"));
        members.come(&four("observer")).unwrap();
        members.show(&four("observer"), Zxid(7)).unwrap();
        assert!(members.clone().done().is_err(), "it is to vote");
        members.come(&four("participant")).unwrap();
        members.show(&four("participant"), Zxid(7)).unwrap();
        members.done().unwrap();
    }
}
