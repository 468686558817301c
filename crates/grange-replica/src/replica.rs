//! The member itself: takes in events, gives out actions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use grange_proto::watch::EventType;
use grange_proto::{Op, SessionId};
use grange_tree::{Changes, Identities, Tree};

use crate::catch_up::CatchUp;
use crate::config::{RecoverError, Recovered, RecoveredSnapshot, ReplicaConfig};
use crate::connections::Connections;
use crate::engine::{Engine, Output, Start};
use crate::ensemble::EnsembleState;
use crate::event::{Action, ConnId, Event, HardState, LogBatch, LogEntry, Now};
use crate::leadership::{LEADERLESS_MS_MAX, Leadership};
use crate::members::{Conf, MemberId};
use crate::membership::{self, Peer};
use crate::password::Passwords;
use crate::peer::PeerMessage;
use crate::progress::Progress;
use crate::proposals::{Origin, Proposals};
use crate::read_points::{ReadPoints, Waiter};
use crate::reaper::Reaper;
use crate::report::WatchEventCounts;
use crate::sessions::Sessions;
use crate::snapshots::Snapshots;
use crate::watches::{ConnSlot, Watches};

/// One member of an ensemble.
pub struct Replica {
    pub(crate) config: ReplicaConfig,
    pub(crate) engine: Engine,
    pub(crate) tree: Tree,
    pub(crate) progress: Progress,
    /// What is replicated besides the tree; `None` while the member belongs to no ensemble.
    pub(crate) ensemble: Option<EnsembleState>,
    pub(crate) passwords: Option<Passwords>,
    pub(crate) leadership: Leadership,
    pub(crate) read_points: ReadPoints,
    pub(crate) catch_up: CatchUp,
    /// The servers there is a link to.
    pub(crate) peers: BTreeMap<MemberId, Peer>,
    /// Connections that were heard of, and the leader was not told.
    pub(crate) alive: Vec<(ConnSlot, ConnId)>,
    /// Requests that wait until a session with many ephemerals is closed.
    pub(crate) closing: BTreeMap<SessionId, Origin>,
    /// Who waits for the reconfig under way, and since when the leader waits for those who are to vote.
    pub(crate) wish_origin: Option<Origin>,
    pub(crate) wish_since_ms: Option<u64>,
    /// The term in which this member, as leader, has put the end of the reconfig under way into the log.
    pub(crate) wish_end_term: Option<u64>,
    pub(crate) sessions: Sessions,
    pub(crate) connections: Connections,
    pub(crate) watches: Watches,
    pub(crate) proposals: Proposals,
    pub(crate) snapshots: Snapshots,
    pub(crate) reaper: Reaper,
    pub(crate) figures: Figures,
    /// True while the disk is full and writes are refused.
    pub(crate) log_full: bool,
    /// Reused from request to request.
    pub(crate) changes: Changes,
    pub(crate) heard: Vec<ConnSlot>,
    output: Output,
    pub(crate) nobody: Arc<Identities>,
    pub(crate) serving: bool,
    birth: Birth,
    /// A snapshot of another member that is on the disk and that the engine has not judged yet.
    received: Option<Box<RecoveredSnapshot>>,
    /// Whether the edge knows the members.
    members_told: bool,
    pub(crate) next_session: i64,
    last_tick_ms: u64,
    #[cfg(feature = "simulation")]
    pub(crate) recorder: crate::history::Recorder,
}

/// How a member comes to belong to an ensemble.
#[derive(Debug)]
enum Birth {
    /// It does, and goes on from its snapshot; the log has to be told if it ends before that.
    Done { reset_log: Option<LogBatch> },
    /// It founds one, which begins with a snapshot.
    Founds(Founding),
    /// It waits to be added to one.
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Founding {
    Begins,
    Saving,
}

/// Where a new ensemble begins: a snapshot of this index and term, which holds the founder.
pub(crate) const FOUNDING_MARK: (u64, u64) = (1, 1);

/// Counters for operators.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Requests received, by the place of their operation in [`Op::ALL`].
    pub(crate) by_op: [u64; Op::ALL.len()],
    pub(crate) sessions_expired: u64,
    pub(crate) auth_failed: u64,
    pub(crate) peer_messages_refused: u64,
    pub(crate) watch_events: WatchEventCounts,
}

impl Replica {
    /// Builds a member out of what was on disk; the entries behind the snapshot are applied by the first steps.
    ///
    /// Errors: [`RecoverError`] if the parts do not fit together.
    pub fn start(config: ReplicaConfig, recovered: Recovered, now: Now) -> Result<Replica, RecoverError> {
        let id = config.ensemble.member.id;
        let seed = config.seed;
        let Recovered { snapshot, hard_state, mut entries } = recovered;
        let mut reset_log = None;
        let (mark, ensemble, tree) = match snapshot {
            Some(snapshot) => {
                let mark = (snapshot.index, snapshot.term);
                if !continues(mark, &mut entries)? {
                    reset_log = Some(LogBatch::reset(mark, hard_state));
                }
                (mark, Some(EnsembleState::decode(&snapshot.meta)?), snapshot.tree)
            }
            None => {
                if let Some(first) = entries.first() {
                    return Err(RecoverError::Gap { first: first.index, wanted: 1 });
                }
                ((0, 0), None, Tree::with_name_key(seed))
            }
        };
        let birth = match (&ensemble, config.ensemble.founds) {
            (Some(_), _) => Birth::Done { reset_log },
            (None, true) => Birth::Founds(Founding::Begins),
            (None, false) => Birth::Waits,
        };
        let conf = ensemble.as_ref().map_or_else(Conf::default, |ensemble| ensemble.members.conf.clone());
        let mut engine = Engine::start(Start { id, conf: conf.clone(), snapshot: mark, hard_state, entries, seed })?;
        if ensemble.is_some() {
            engine.snapshot_saved(mark.0, mark.1, conf);
        }
        Ok(Replica {
            engine,
            tree,
            progress: Progress::from_snapshot(mark.0, mark.1),
            passwords: ensemble.as_ref().map(|ensemble| Passwords::new(&ensemble.genesis.session_key)),
            ensemble,
            leadership: Leadership::new(now.monotonic_ms()),
            read_points: ReadPoints::new(config.ensemble.run),
            catch_up: CatchUp::new(now.monotonic_ms()),
            peers: BTreeMap::new(),
            alive: Vec::new(),
            closing: BTreeMap::new(),
            wish_origin: None,
            wish_since_ms: None,
            wish_end_term: None,
            sessions: Sessions::new(config.tick_ms, seed),
            connections: Connections::new(seed),
            watches: Watches::new(seed),
            proposals: Proposals::new(id, config.ensemble.run),
            snapshots: Snapshots::new(config.snapshots, mark.0),
            reaper: Reaper::new(config.reaping, now.monotonic_ms()),
            figures: Figures::default(),
            log_full: false,
            changes: Changes::default(),
            heard: Vec::new(),
            output: Output::default(),
            nobody: Arc::new(Identities::new()),
            serving: false,
            birth,
            received: None,
            members_told: false,
            next_session: crate::handshake::first_session(config.ensemble.member.server_id, now.wall_ms),
            last_tick_ms: now.monotonic_ms(),
            #[cfg(feature = "simulation")]
            recorder: crate::history::Recorder::default(),
            config,
        })
    }

    /// Returns true while requests of clients are taken.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Returns what names the ensemble, once this member knows it.
    pub fn cluster_id(&self) -> Option<[u8; 16]> {
        self.ensemble.as_ref().map(|ensemble| ensemble.genesis.cluster_id)
    }

    /// Returns the tree, for checks and reports.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes in all `events` and appends what is to be done to `out`, in order.
    ///
    /// Everything that is handed in together shares an entry of the log, so the edge hands in all that is waiting.
    pub fn step(&mut self, now: Now, events: &mut Vec<Event>, out: &mut Vec<Action>) {
        let stood_still_ms = self.sessions.runs(now.monotonic_ms());
        if stood_still_ms > LEADERLESS_MS_MAX && !self.is_alone() {
            // Others may lead by now, and clients may have been told so.
            self.stop_serving();
        }
        self.be_born(now, out);
        for event in events.drain(..) {
            self.take(event, now, out);
        }
        if let Some(number) = self.read_points.question() {
            self.engine.ask_read_point(number);
        }
        self.advance(now, out);
        self.advance_resignation(now, out);
        for slot in self.watches.sweep() {
            self.connections.free(slot);
        }
        self.connections.flush(out);
    }

    /// Does what comes before everything else: an ensemble is founded, or the log goes on behind the snapshot.
    fn be_born(&mut self, now: Now, out: &mut Vec<Action>) {
        match &mut self.birth {
            Birth::Done { reset_log } => {
                if let Some(batch) = reset_log.take() {
                    out.push(Action::Append(batch));
                }
                if !std::mem::replace(&mut self.members_told, true) {
                    self.tell_members(out);
                }
            }
            Birth::Founds(founding @ Founding::Begins) => {
                *founding = Founding::Saving;
                let mut ensemble = membership::founded(&self.config.ensemble, self.config.genesis);
                if !ensemble.members.stands_alone() {
                    // Whoever wants to change the members has to see them.
                    let zxid = self.tree.last_zxid().next();
                    ensemble.members.set_version(zxid);
                    let text = ensemble.members.config_text();
                    self.tree.set_config(zxid, now.wall_ms, &text, &mut Changes::default());
                }
                let image = self.snapshots.make(FOUNDING_MARK.0, FOUNDING_MARK.1, &self.tree, &ensemble);
                self.adopt(ensemble);
                out.push(Action::SaveSnapshot(Box::new(image)));
            }
            Birth::Founds(Founding::Saving) | Birth::Waits => {}
        }
    }

    /// The founding snapshot is durable: the log goes on behind it, and this member leads.
    fn founded(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(ensemble) = &self.ensemble else { return };
        let (id, conf) = (self.config.ensemble.member.id, ensemble.members.conf.clone());
        let hard_state = HardState { term: FOUNDING_MARK.1, ..HardState::default() };
        let start = Start {
            id,
            conf: conf.clone(),
            snapshot: FOUNDING_MARK,
            hard_state,
            entries: Vec::new(),
            seed: self.config.seed,
        };
        self.engine = Engine::start(start).expect("a new member has nothing that does not fit");
        self.engine.snapshot_saved(FOUNDING_MARK.0, FOUNDING_MARK.1, conf);
        self.progress = Progress::from_snapshot(FOUNDING_MARK.0, FOUNDING_MARK.1);
        self.birth = Birth::Done { reset_log: Some(LogBatch::reset(FOUNDING_MARK, hard_state)) };
        #[cfg(feature = "simulation")]
        self.note_founding();
        self.be_born(now, out);
    }

    fn adopt(&mut self, ensemble: EnsembleState) {
        self.passwords = Some(Passwords::new(&ensemble.genesis.session_key));
        self.ensemble = Some(ensemble);
    }

    fn take(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        match event {
            Event::Frames { conn, frames, received_us } => {
                if let Some(slot) = self.connections.find(conn) {
                    self.take_frames(slot, &frames, received_us, now);
                }
            }
            Event::LogSynced(batch) => self.engine.synced(batch),
            Event::Peer { from, message } => self.take_peer(from, &message, now, out),
            Event::Connect(attempt) => self.connect(&attempt, now, out),
            Event::Disconnected(conn) => self.disconnected(conn),
            Event::Tick => self.tick(now, out),
            Event::PeerUp { member, is_blank } => self.peer_up(member, is_blank),
            Event::PeerDown(peer) => self.peer_down(peer),
            Event::LogFull => self.set_log_full(true),
            Event::LogHasRoom => self.set_log_full(false),
            Event::LogRead { first, entries } => {
                self.catch_up.was_read(entries.iter().flatten().map(|entry| entry.data.len()).sum());
                self.engine.log_read(first, entries);
            }
            Event::SnapshotSaved { index } => self.snapshot_saved(index, now, out),
            Event::SnapshotFailed => self.snapshots.failed(),
            Event::SnapshotWanted => self.snapshots.want(),
            Event::SnapshotReceived { from, snapshot, message } => self.snapshot_received(from, snapshot, &message),
            Event::SnapshotSent { to, is_received } => self.engine.snapshot_sent(to, is_received),
            Event::Resign => self.resign(now),
            Event::Inspect { token, what } => {
                let report = Box::new(self.inspect(what, now));
                out.push(Action::Inspected { token, report });
            }
        }
    }

    fn snapshot_saved(&mut self, index: u64, now: Now, out: &mut Vec<Action>) {
        let (mark, first_kept) = self.snapshots.saved(index);
        if matches!(self.birth, Birth::Founds(_)) {
            return self.founded(now, out);
        }
        if let Some(mark) = mark {
            self.engine.snapshot_saved(mark.index, mark.term, mark.conf);
        }
        if let Some(first_kept) = first_kept {
            self.engine.purged(first_kept);
            out.push(Action::PurgeLog { first_kept });
        }
    }

    /// Lets the engine judge a snapshot of another member; one that is old by now is not used.
    fn snapshot_received(&mut self, from: MemberId, snapshot: Box<RecoveredSnapshot>, message: &Bytes) {
        if matches!(self.birth, Birth::Founds(_)) {
            return;
        }
        self.received = Some(snapshot);
        let is_understood = match PeerMessage::decode(message) {
            Ok(PeerMessage::Engine(bytes)) => self.engine.install(from, &bytes).is_ok(),
            _ => false,
        };
        if !is_understood {
            self.figures.peer_messages_refused += 1;
            self.received = None;
        }
    }

    /// Goes on from a snapshot of another member. Clients have to come again: what they watch was not followed.
    fn install(&mut self, mark: (u64, u64), out: &mut Vec<Action>) {
        let snapshot = self.received.take().expect("the engine goes on from a snapshot that was received");
        assert!((snapshot.index, snapshot.term) == mark, "the engine goes on from the snapshot that was received last");
        let ensemble = match EnsembleState::decode(&snapshot.meta) {
            Ok(ensemble) => ensemble,
            Err(why) => panic!("a snapshot of another member cannot be used: {why}"),
        };
        self.proposals.skip_before(ensemble.next_batch(self.config.ensemble.member.id.0, self.config.ensemble.run));
        self.engine.snapshot_saved(mark.0, mark.1, ensemble.members.conf.clone());
        self.adopt(ensemble);
        self.tree = snapshot.tree;
        self.progress = Progress::from_snapshot(mark.0, mark.1);
        self.snapshots.received(mark.0);
        self.birth = Birth::Done { reset_log: None };
        self.closing.clear();
        self.wish_origin = None;
        self.forget_digests();
        self.stop_serving();
        self.members_told = true;
        self.tell_members(out);
    }

    /// Moves entries into the log and out of it until there is nothing left to do without the edge.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        loop {
            let mut output = std::mem::take(&mut self.output);
            self.engine.poll(&mut output);
            for batch in output.batches.drain(..) {
                self.catch_up.written(batch.entries.iter().map(|entry| entry.data.len()).sum());
                out.push(Action::Append(batch));
            }
            out.extend(output.messages.drain(..).map(|(to, message)| Action::SendPeer { to, message }));
            let snapshots = output.snapshots.drain(..);
            out.extend(snapshots.map(|(to, index, term, message)| Action::SendSnapshot { to, index, term, message }));
            output.reads.drain(..).for_each(|range| self.catch_up.ask(range));
            self.catch_up.go_on(out);
            if let Some(mark) = output.installed.take() {
                self.install(mark, out);
            }
            for (number, index) in output.read_points.drain(..) {
                self.read_points.answer(number, index);
            }
            let progressed = !output.committed.is_empty();
            for entry in output.committed.drain(..) {
                self.apply_entry(entry, now, out);
            }
            self.output = output;
            self.follow_leadership(now);
            self.pass_read_points(now);
            self.begin_serving(now);
            let proposed = self.propose(now, out);
            if !progressed && !proposed {
                break;
            }
        }
        if self.engine.take_wants_snapshot() {
            self.snapshots.want();
        }
        if let (Birth::Done { .. }, Some(ensemble)) = (&self.birth, &self.ensemble)
            && let Some(image) = self.snapshots.begin(&mut self.progress, &self.tree, ensemble)
        {
            out.push(Action::SaveSnapshot(Box::new(image)));
        }
    }

    /// Answers those who waited until this member was up to date.
    fn pass_read_points(&mut self, now: Now) {
        for waiter in self.read_points.applied(self.progress.index) {
            match waiter {
                Waiter::Own => self.is_up_to_date(),
                Waiter::Connection(slot, conn) => {
                    if self.connections.get(slot, conn).is_some() {
                        self.answer_pending(slot, now);
                    }
                }
            }
        }
    }

    /// An entry of its own term is applied, so everything before it is.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.progress.index > 0 && self.progress.term == self.engine.term()
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let now_ms = now.monotonic_ms();
        self.catch_up.tick(now_ms);
        if now_ms.saturating_sub(self.last_tick_ms) >= crate::TICK_MS {
            self.last_tick_ms = now_ms;
            self.engine.tick();
            self.tick_leadership(now, out);
        }
        self.tend_members(now);
        if !self.leadership.is_leading || self.log_full {
            return;
        }
        for session in self.sessions.expire(now_ms) {
            self.figures.sessions_expired += 1;
            #[cfg(feature = "simulation")]
            self.note_expired(session);
            self.end_session(session);
        }
        for path in self.reaper.due(&self.tree, now) {
            let mut body = Vec::with_capacity(path.len() + 4);
            grange_proto::wire::put_text(&mut body, &path);
            self.proposals.push(SessionId::NONE, &self.nobody, Op::DeleteContainer, &body, Origin::Own);
        }
    }
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            by_op: [0; Op::ALL.len()],
            sessions_expired: 0,
            auth_failed: 0,
            peer_messages_refused: 0,
            watch_events: WatchEventCounts::default(),
        }
    }
}

impl Figures {
    /// Notes that `watchers` connections were told of an event at `path`.
    pub(crate) fn count_event(&mut self, event: EventType, path: &str, watchers: usize) {
        let events = &mut self.watch_events;
        match event {
            EventType::NodeCreated => events.created += 1,
            EventType::NodeDeleted => events.deleted += 1,
            EventType::NodeDataChanged => events.changed += 1,
            EventType::NodeChildrenChanged => events.children += 1,
        }
        events.bytes += (path.len() * watchers) as u64;
    }

    pub(crate) fn count(&mut self, op: Op) {
        if let Some(place) = Op::ALL.iter().position(|&other| other == op) {
            self.by_op[place] += 1;
        }
    }
}

/// Checks that the entries go on where the snapshot ends, and drops what the snapshot contains; returns false if the
/// log has to be told where it goes on.
///
/// An entry in the snapshot's place with another term belongs to a past that the snapshot has overtaken, and with it
/// everything behind it.
fn continues(mark: (u64, u64), entries: &mut Vec<LogEntry>) -> Result<bool, RecoverError> {
    let Some(first) = entries.first() else { return Ok(false) };
    if first.index > mark.0 + 1 {
        return Err(RecoverError::Gap { first: first.index, wanted: mark.0 + 1 });
    }
    if first.index == mark.0 + 1 {
        return Ok(true);
    }
    let place = usize::try_from(mark.0 - first.index).unwrap_or(usize::MAX);
    if entries.get(place).is_none_or(|entry| entry.term != mark.1) {
        entries.clear();
        return Ok(false);
    }
    entries.drain(..=place);
    Ok(true)
}
