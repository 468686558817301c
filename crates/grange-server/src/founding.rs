//! Who founds an ensemble: exactly one of the servers without data, and only if none of the others has any.
//!
//! A server that lost its disk looks like one that is new. Were a majority enough to found, it could found a second
//! ensemble beside the real one, together with others that are new, and acknowledged data would be lost. So the server
//! with the lowest number founds once every other participant of its configuration is linked and says that it has no
//! data. Until then it waits, as all others do: to be added by the ensemble that there is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use grange_proto::{Role, ServerSpec};
use grange_replica::{Event, Member, MemberId};

use crate::config::Ensemble;
use crate::peers;

/// How often a server that waits says so.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// A server without data that may have to found an ensemble.
#[derive(Debug)]
pub(crate) struct Founding {
    own: u8,
    /// The participants of the configuration, this one included.
    participants: Vec<(u8, ServerSpec)>,
    linked: BTreeMap<MemberId, Linked>,
    /// The links before the events that were heard last.
    before: BTreeMap<MemberId, Linked>,
    next_word: Instant,
}

#[derive(Debug, Clone)]
struct Linked {
    member: Member,
    is_blank: bool,
}

impl Founding {
    pub(crate) fn new(ensemble: &Ensemble) -> Founding {
        let is_participant = |(_, spec): &&(u8, ServerSpec)| spec.role == Role::Participant;
        Founding {
            own: ensemble.server_id,
            participants: ensemble.servers.iter().filter(is_participant).cloned().collect(),
            linked: BTreeMap::new(),
            before: BTreeMap::new(),
            next_word: Instant::now(),
        }
    }

    /// Tells whether a server founds without asking anybody: there is no other participant.
    pub(crate) fn is_at_once(ensemble: &Ensemble) -> bool {
        let mut participants = ensemble.participants();
        ensemble.is_alone() || (participants.next() == Some(ensemble.server_id) && participants.next().is_none())
    }

    /// Takes in what happened to the links.
    pub(crate) fn hear(&mut self, events: &[Event]) {
        if !events.iter().any(|event| matches!(event, Event::PeerUp { .. } | Event::PeerDown(_))) {
            return;
        }
        self.before.clone_from(&self.linked);
        for event in events {
            match event {
                Event::PeerUp { member, is_blank } => {
                    let linked = Linked { member: member.clone(), is_blank: *is_blank };
                    self.linked.insert(member.id, linked);
                }
                Event::PeerDown(member) => drop(self.linked.remove(member)),
                _ => {}
            }
        }
    }

    /// Tells whether this server is to found now.
    pub(crate) fn is_due(&self) -> bool {
        let is_blank =
            |(id, _): &(u8, ServerSpec)| *id == self.own || self.find(*id).is_some_and(|other| other.is_blank);
        self.is_lowest() && self.participants.iter().all(is_blank)
    }

    /// Returns the links from before the events that were heard last, for a replica that has not heard of them.
    pub(crate) fn links_before(&self) -> Vec<Event> {
        let up = |linked: &Linked| Event::PeerUp { member: linked.member.clone(), is_blank: linked.is_blank };
        self.before.values().map(up).collect()
    }

    /// Says now and then what this server waits for.
    pub(crate) fn tell(&mut self, now: Instant) {
        if now < self.next_word {
            return;
        }
        self.next_word = now + REPEAT_AFTER;
        let waits_for = self.waits_for();
        tracing::info!("this server has no data: {waits_for}");
    }

    fn waits_for(&self) -> String {
        let with_data: Vec<String> = self.linked.values().filter(|one| !one.is_blank).map(describe).collect();
        if !with_data.is_empty() {
            return format!("waiting to be added to the ensemble of {}", servers(&with_data));
        }
        if !self.is_lowest() {
            let founder = self.participants.first().map(|(id, spec)| peers::describe_server(*id, spec));
            let founder = founder.unwrap_or_default();
            return format!("waiting for server {founder} to found the ensemble, or for a leader to add this one");
        }
        let is_missing = |(id, _): &&(u8, ServerSpec)| *id != self.own && self.find(*id).is_none();
        let missing = self.participants.iter().filter(is_missing).map(|(id, spec)| peers::describe_server(*id, spec));
        format!("waiting for {} before the ensemble can be founded", servers(&missing.collect::<Vec<_>>()))
    }

    fn is_lowest(&self) -> bool {
        self.participants.first().is_some_and(|(id, _)| *id == self.own)
    }

    fn find(&self, server_id: u8) -> Option<&Linked> {
        self.linked.values().find(|linked| linked.member.server_id == server_id)
    }
}

fn describe(linked: &Linked) -> String {
    peers::describe_server(linked.member.server_id, &linked.member.spec)
}

fn servers(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => format!("server {one}"),
        [first @ .., last] => format!("servers {} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensemble(own: u8, lines: &[&str]) -> Ensemble {
        let servers = (1..).zip(lines).map(|(id, line)| (id, line.parse().unwrap())).collect();
        Ensemble { server_id: own, servers, ..Ensemble::alone() }
    }

    fn up(id: u64, server_id: u8, is_blank: bool) -> Event {
        let spec = format!("h{server_id}:1:2").parse().unwrap();
        Event::PeerUp { member: Member { id: MemberId(id), server_id, spec }, is_blank }
    }

    const THREE: &[&str] = &["h1:1:2", "h2:1:2", "h3:1:2", "h4:1:2:observer"];

    #[test]
    fn the_lowest_founds_when_every_participant_is_there_and_blank() {
        let mut founding = Founding::new(&ensemble(1, THREE));
        assert_eq!(
            founding.waits_for(),
            "waiting for servers 2 (h2:1) and 3 (h3:1) before the ensemble can be founded"
        );
        founding.hear(&[up(22, 2, true), up(44, 4, true)]);
        assert!(!founding.is_due(), "a majority is not enough");
        assert_eq!(founding.waits_for(), "waiting for server 3 (h3:1) before the ensemble can be founded");
        founding.hear(&[up(33, 3, true), Event::PeerDown(MemberId(22))]);
        assert!(!founding.is_due(), "server 2 may have got data meanwhile");
        founding.hear(&[up(22, 2, true)]);
        assert!(founding.is_due());
        assert_eq!(founding.links_before().len(), 2, "the third one is among the events");
    }

    #[test]
    fn nobody_founds_beside_data() {
        let mut founding = Founding::new(&ensemble(1, THREE));
        founding.hear(&[up(22, 2, true), up(33, 3, false)]);
        assert!(!founding.is_due());
        assert_eq!(founding.waits_for(), "waiting to be added to the ensemble of server 3 (h3:1)");
        // A server that was wiped comes back as another member.
        founding.hear(&[Event::PeerDown(MemberId(33)), up(34, 3, true)]);
        assert!(founding.is_due());
    }

    #[test]
    fn the_others_wait() {
        let mut founding = Founding::new(&ensemble(2, THREE));
        founding.hear(&[up(11, 1, true), up(33, 3, true)]);
        assert!(!founding.is_due());
        let expected = "waiting for server 1 (h1:1) to found the ensemble, or for a leader to add this one";
        assert_eq!(founding.waits_for(), expected);
        assert!(!Founding::new(&ensemble(4, THREE)).is_due());
    }

    #[test]
    fn one_participant_asks_nobody() {
        assert!(Founding::is_at_once(&Ensemble::alone()));
        let lines = ["h1:1:2:observer", "h2:1:2"];
        assert!(Founding::is_at_once(&ensemble(2, &lines)));
        assert!(!Founding::is_at_once(&ensemble(1, &lines)), "an observer founds nothing");
        assert!(!Founding::is_at_once(&ensemble(1, THREE)));
    }
}
