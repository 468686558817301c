//! A client that writes until the server is killed, and afterwards looks whether all is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use grange_proto::multi::MultiResult;
use grange_proto::response::Response;
use grange_proto::{Op, Reader, SessionId, Zxid};

use super::SESSION_TIMEOUT_MS;
use super::model::{Change, Expected, Random, State, Step, Writes, apply, sequential_key};
use crate::client::{Client, Node, Reply, Session};
use crate::server::GrangeServer;

/// What happened in all runs.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) acknowledged: usize,
    /// Requests that were sent and not answered.
    pub(crate) open: usize,
    /// Those of them that had been done.
    pub(crate) open_and_done: usize,
    pub(crate) sessions_taken_up: usize,
    pub(crate) sessions_abandoned: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.acknowledged += other.acknowledged;
        self.open += other.open;
        self.open_and_done += other.open_and_done;
        self.sessions_taken_up += other.sessions_taken_up;
        self.sessions_abandoned += other.sessions_abandoned;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes acknowledged and found; {} sent and not answered, {} of them done; sessions: {} taken up again, {} \
             left alone",
            self.acknowledged, self.open, self.open_and_done, self.sessions_taken_up, self.sessions_abandoned
        )
    }
}

/// A request of the last run.
#[derive(Debug)]
struct Sent {
    changes: Vec<Change>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    number: usize,
    random: Random,
    session: Option<Session>,
    /// The znodes at the beginning of the last run.
    state: State,
    /// The names of sequential znodes: those seen, and those of acknowledged creates.
    names: BTreeMap<String, String>,
    sent: Vec<Sent>,
    /// How many of those were answered.
    acknowledged: usize,
    zxid: Zxid,
    /// Sessions that were left alone, with their ephemeral znodes.
    pub(crate) abandoned: Vec<(Session, State)>,
    pub(crate) counts: Counts,
}

impl Worker {
    pub(crate) fn new(number: usize, seed: u64) -> Worker {
        Worker {
            number,
            random: Random(seed ^ (number as u64) << 56),
            session: None,
            state: State::new(),
            names: BTreeMap::new(),
            sent: Vec::new(),
            acknowledged: 0,
            zxid: Zxid::ZERO,
            abandoned: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn root(&self) -> String {
        format!("/w{}", self.number)
    }

    /// Connects, as the session of the last run or as a new one, and checks everything that must be there.
    ///
    /// `may_expire` tells that the server has run for so long since the last check that sessions may have expired.
    pub(crate) fn verify(&mut self, server: &GrangeServer, may_expire: bool) -> (Client, Session) {
        let last = self.session;
        let taken_up = last.filter(|_| may_expire || self.random.below(4) != 0).and_then(|session| {
            let client = Client::attach(server, session, self.zxid);
            assert!(client.is_some() || may_expire, "session {session:?} of the killed run is refused");
            client.map(|client| (client, session))
        });
        let is_taken_up = taken_up.is_some();
        let (mut client, session) = taken_up.unwrap_or_else(|| Client::open(server, SESSION_TIMEOUT_MS));
        if last.is_none() {
            assert_eq!(client.create(&self.root(), b"", 0), 0);
        }
        let (mine, names, others) = self.sort_out(client.nodes_below(&self.root()), last);
        assert!(client.zxid >= self.zxid, "zxid {} after {}", client.zxid, self.zxid);
        self.check_mine(&mine, last.filter(|_| may_expire && !is_taken_up));
        for (key, name) in &self.names {
            assert!(!mine.contains_key(key) || names.get(key) == Some(name), "{key} was acknowledged as {name}");
        }
        self.check_abandoned(others, may_expire);
        (self.state, self.names, self.session) = (mine, names, Some(session));
        if is_taken_up {
            self.counts.sessions_taken_up += 1;
        } else if let Some(last) = last {
            self.abandon(last);
        }
        (client, session)
    }

    /// Checks again what must be there while nothing is written. Sessions that were left alone live until `expiry`.
    pub(crate) fn verify_again(&mut self, client: &mut Client, expiry: Instant) {
        let (mine, _, others) = self.sort_out(client.nodes_below(&self.root()), self.session);
        // After the look: what was gone by then must have been due.
        let may_expire = Instant::now() >= expiry;
        self.check_mine(&mine, None);
        self.state = mine;
        self.check_abandoned(others, may_expire);
    }

    /// Tells the znodes that the last run could change from the ephemeral ones of sessions left alone before.
    fn sort_out(
        &self,
        nodes: Vec<(String, Node)>,
        last: Option<Session>,
    ) -> (State, BTreeMap<String, String>, BTreeMap<SessionId, State>) {
        let (mut mine, mut names, mut others) = (State::new(), BTreeMap::new(), BTreeMap::new());
        for (name, node) in nodes {
            if node.owner != SessionId::NONE && Some(node.owner) != last.map(|session| session.id) {
                others.entry(node.owner).or_insert_with(State::new).insert(name, node);
            } else if name.starts_with("s-") {
                let key = sequential_key(&node.data);
                assert_eq!(names.insert(key.clone(), name), None, "a sequential create was done twice");
                mine.insert(key, node);
            } else {
                mine.insert(name, node);
            }
        }
        (mine, names, others)
    }

    /// Finds out after how many requests the state was this one. `expired` names a session whose znodes may be gone.
    fn check_mine(&mut self, found: &State, expired: Option<Session>) {
        let mut state = std::mem::take(&mut self.state);
        let sent = std::mem::take(&mut self.sent);
        let (acknowledged, open) = sent.split_at(self.acknowledged);
        acknowledged.iter().for_each(|sent| apply(&mut state, &sent.changes));
        let at_least = state.clone();
        let is_found = |state: &State| match expired {
            Some(session) => {
                let lasting = |(_, node): &(&String, &Node)| node.owner != session.id;
                state.iter().filter(lasting).eq(found.iter().filter(lasting))
            }
            None => state == found,
        };
        let mut done = 0;
        while !is_found(&state) {
            let Some(next) = open.get(done) else {
                panic!("{}", self.differences(&at_least, &state, found, acknowledged.len(), open.len()));
            };
            apply(&mut state, &next.changes);
            done += 1;
        }
        self.counts.acknowledged += acknowledged.len();
        self.counts.open += open.len();
        self.counts.open_and_done += done;
        self.acknowledged = 0;
    }

    fn differences(
        &self,
        at_least: &State,
        at_most: &State,
        found: &State,
        acknowledged: usize,
        open: usize,
    ) -> String {
        let short =
            |node: Option<&Node>| node.map(|node| String::from_utf8_lossy(&node.data).trim_matches('x').to_owned());
        let mut text = format!(
            "{}: no number of requests leads to what is there ({acknowledged} acknowledged, {open} more sent)\n",
            self.root()
        );
        let keys: BTreeSet<&String> = at_least.keys().chain(at_most.keys()).chain(found.keys()).collect();
        for key in keys {
            let [least, most, found] = [at_least, at_most, found].map(|state| state.get(key));
            if least != found || most != found {
                let key = &key[..key.len().min(40)];
                text += &format!(
                    "{key}: acknowledged {:?}, sent {:?}, found {:?}\n",
                    short(least),
                    short(most),
                    short(found)
                );
            }
        }
        text
    }

    fn check_abandoned(&mut self, mut others: BTreeMap<SessionId, State>, may_expire: bool) {
        self.abandoned.retain(|(session, expected)| match others.remove(&session.id) {
            Some(found) => {
                // Some may have gone while they were read.
                let is_going = may_expire && found.iter().all(|(key, node)| expected.get(key) == Some(node));
                assert!(is_going || &found == expected, "ephemeral znodes of {session:?}: {found:?} of {expected:?}");
                true
            }
            None => {
                assert!(may_expire, "the ephemeral znodes of {session:?} are gone too early");
                false
            }
        });
        assert!(others.is_empty(), "ephemeral znodes without a session: {others:?}");
    }

    /// Leaves a session alone from now on.
    fn abandon(&mut self, session: Session) {
        let ephemeral: State = self.state.extract_if(.., |_, node| node.owner == session.id).collect();
        if !ephemeral.is_empty() {
            self.counts.sessions_abandoned += 1;
            self.abandoned.push((session, ephemeral));
        }
    }

    /// Writes until the connection ends.
    pub(crate) fn write_until_the_end(&mut self, mut client: Client, session: Session, label: &str) {
        let mut writes = Writes {
            random: Random(self.random.below(u64::MAX)),
            root: self.root(),
            session: session.id,
            label: format!("{label}.{}", self.number),
            state: self.state.clone(),
            names: self.names.clone(),
            count: 0,
        };
        let depth = [1, 8, 64, 256][usize::try_from(self.random.below(4)).unwrap()];
        let (sender, sent) = sync_channel::<Step>(depth);
        let mut writer = client.split();
        let writing = std::thread::spawn(move || {
            loop {
                let step = writes.next_step();
                let frame = step.frame.clone();
                // It counts as sent even if the kernel takes only half of it.
                if sender.send(step).is_err() || writer.write(&frame).is_err() {
                    return;
                }
            }
        });
        let mut has_ended = false;
        for Step { changes, expected, .. } in &sent {
            if !has_ended {
                match client.reply() {
                    Ok(reply) => self.take(&reply, &expected),
                    Err(_) => has_ended = true,
                }
            }
            self.sent.push(Sent { changes });
        }
        writing.join().expect("writing does not panic");
        self.zxid = self.zxid.max(client.zxid);
    }

    fn take(&mut self, reply: &Reply, expected: &Expected) {
        let mut body = Reader::new(&reply.body);
        let succeeded =
            |results: &[MultiResult<'_>]| !results.iter().any(|result| matches!(result, MultiResult::Error(_)));
        match expected {
            Expected::Refusal => match Response::decode(Op::Multi, &mut body) {
                Ok(Response::Multi(results)) => assert!(!succeeded(&results), "{results:?}"),
                other => assert_ne!(reply.header.err, 0, "{other:?}"),
            },
            Expected::Named(key) => match Response::decode(Op::Create, &mut body) {
                Ok(Response::Path(path)) => {
                    let name = path.rsplit('/').next().expect("a path has a last part");
                    self.names.insert(key.clone(), name.to_owned());
                }
                other => panic!("a sequential create: {other:?}, {reply:?}"),
            },
            Expected::Success(op) => {
                assert_eq!(reply.header.err, 0, "{op:?}");
                if let Ok(Response::Multi(results)) = Response::decode(*op, &mut body) {
                    assert!(succeeded(&results), "{results:?}");
                }
            }
        }
        self.acknowledged += 1;
    }
}
