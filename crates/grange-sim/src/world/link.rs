//! The links between members: whole messages in order, lost only together with all that is behind them.
//!
//! A link is two connections, one for each direction. Either direction can be blocked, and then its messages wait, as
//! in the buffers of the systems in between. A side that hears nothing for long takes the link for dead; the other side
//! learns of it at once if it can be reached, and by its own silence otherwise.

use std::collections::VecDeque;

use bytes::Bytes;
use grange_replica::{Event, MemberId};
use grange_server::simulation;
use grange_server::storage::snapshot::{SnapshotFile, SnapshotMeta};

use super::{Run, ServerIndex, Task, World};
use crate::queue::{MS, Micros};

/// How often links are looked at.
const LOOK: Micros = 50 * MS;
/// The two sides of a link, by place.
const SIDES: [usize; 2] = [0, 1];

/// Whether there is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing; to be made when it can be.
    Down,
    /// It is being made.
    Dialling,
    /// It stands.
    Up,
}

/// The link of two servers.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [ServerIndex; 2],
    state: State,
    /// Counts what becomes of it: what belongs to another number is lost.
    epoch: u64,
    /// By the side that sends: whether nothing gets through.
    pub(crate) blocked: [bool; 2],
    /// By the side that hears: since when it has heard nothing.
    silent_since: [Option<Micros>; 2],
    /// By side: whom it was told it is linked to.
    told: [Option<(MemberId, Run)>; 2],
    /// By the side that sends: messages under way, and when the last one arrives.
    under_way: [VecDeque<Bytes>; 2],
    /// Those of them that have arrived at the place where the direction is blocked.
    stalled: [usize; 2],
    arrives: [Micros; 2],
}

/// A snapshot on its way from one member to another.
#[derive(Debug)]
pub(crate) struct Transfer {
    link: usize,
    epoch: u64,
    from: ServerIndex,
    runs: [Run; 2],
    to: MemberId,
    meta: SnapshotMeta,
    chunks: Vec<Bytes>,
    message: Bytes,
}

impl Link {
    pub(crate) fn new(low: ServerIndex, high: ServerIndex) -> Link {
        Link {
            ends: [low, high],
            state: State::Down,
            epoch: 0,
            blocked: [false; 2],
            silent_since: [None; 2],
            told: [None; 2],
            under_way: [VecDeque::new(), VecDeque::new()],
            stalled: [0; 2],
            arrives: [0; 2],
        }
    }

    fn side_of(&self, server: ServerIndex) -> Option<usize> {
        self.ends.iter().position(|end| *end == server)
    }

    /// Forgets what is under way; the sides have yet to find out.
    fn tear(&mut self) {
        self.state = State::Down;
        self.epoch += 1;
        self.under_way.iter_mut().for_each(VecDeque::clear);
        self.stalled = [0; 2];
    }
}

impl World {
    fn run_of(&self, server: ServerIndex) -> Option<Run> {
        self.servers[server].process.as_ref().map(|process| process.run)
    }

    /// Returns true if what `side` sends gets to the other side's machine.
    fn passes(&self, link: &Link, side: usize) -> bool {
        !link.blocked[side]
    }

    pub(crate) fn send_peer(&mut self, from: ServerIndex, to: MemberId, message: Vec<u8>) {
        let Some(at) = self.links.iter().position(|link| {
            link.state == State::Up
                && link.side_of(from).is_some_and(|side| link.told[side].is_some_and(|(id, _)| id == to))
        }) else {
            return;
        };
        self.stats.messages += 1;
        let delay = self.random.around(self.setup.latency) * self.slow_links;
        let link = &mut self.links[at];
        let side = link.side_of(from).expect("the link was found by its end");
        link.under_way[side].push_back(Bytes::from(message));
        link.arrives[side] = link.arrives[side].max(self.now + delay);
        self.queue.push(link.arrives[side], Task::Message(at, link.epoch, side));
    }

    /// The next message of a direction arrives, if nothing is in its way.
    pub(crate) fn message(&mut self, at: usize, epoch: u64, side: usize) {
        let link = &mut self.links[at];
        if link.epoch != epoch || link.state != State::Up {
            return;
        }
        if link.blocked[side] {
            link.stalled[side] += 1;
            return;
        }
        let (to, from) = (link.ends[1 - side], link.told[1 - side]);
        let message = link.under_way[side].pop_front();
        if let (Some(message), Some((from, _))) = (message, from) {
            self.post(to, Event::Peer { from, message });
        }
    }

    /// Blocks or frees a direction; what waited goes on.
    pub(crate) fn set_blocked(&mut self, at: usize, side: usize, blocked: bool) {
        let link = &mut self.links[at];
        link.blocked[side] = blocked;
        if !blocked {
            let (count, epoch) = (std::mem::take(&mut link.stalled[side]), link.epoch);
            for _ in 0..count {
                self.queue.push(self.now, Task::Message(at, epoch, side));
            }
        }
    }

    pub(crate) fn look_at_links(&mut self) {
        self.queue.push(self.now + LOOK, Task::Links);
        for at in 0..self.links.len() {
            match self.links[at].state {
                State::Down => self.dial_link(at),
                State::Dialling => {}
                State::Up => self.listen(at),
            }
            self.find_out_lost(at);
        }
        for server in 0..self.servers.len() {
            self.found_if_all_are_blank(server);
        }
    }

    fn dial_link(&mut self, at: usize) {
        let link = &self.links[at];
        let can = link.ends.iter().all(|end| self.servers[*end].awake().is_some())
            && SIDES.iter().all(|side| self.passes(link, *side));
        if can && self.random.chance(300) {
            let delay = self.random.around(20 * MS);
            let link = &mut self.links[at];
            link.state = State::Dialling;
            link.epoch += 1;
            let epoch = link.epoch;
            self.queue.push(self.now + delay, Task::LinkUp(at, epoch));
        }
    }

    pub(crate) fn link_up(&mut self, at: usize, epoch: u64) {
        if self.links[at].epoch != epoch || self.links[at].state != State::Dialling {
            return;
        }
        let ends = self.links[at].ends;
        let runs = ends.map(|end| self.servers[end].awake().map(|process| process.run));
        let ([Some(low), Some(high)], true) = (runs, SIDES.iter().all(|side| self.passes(&self.links[at], *side)))
        else {
            self.links[at].state = State::Down;
            return;
        };
        for side in SIDES {
            self.tell_down(at, side);
        }
        let members = ends.map(|end| self.member(end));
        let blank = ends.map(|end| self.is_blank(end));
        let link = &mut self.links[at];
        link.state = State::Up;
        link.arrives = [self.now; 2];
        link.silent_since = [None; 2];
        link.told = [Some((members[1].id, low)), Some((members[0].id, high))];
        self.trace.line(self.now, || format!("link {}-{} is up, blank: {blank:?}", ends[0], ends[1]));
        let [low_member, high_member] = members;
        self.post(ends[0], Event::PeerUp { member: high_member, is_blank: blank[1] });
        self.post(ends[1], Event::PeerUp { member: low_member, is_blank: blank[0] });
    }

    /// Tells a side that the link is gone, if it thinks that there is one.
    fn tell_down(&mut self, at: usize, side: usize) {
        let server = self.links[at].ends[side];
        if let Some((member, run)) = self.links[at].told[side].take()
            && self.run_of(server) == Some(run)
        {
            self.trace.line(self.now, || format!("server {server} loses its link to member {member}"));
            self.post(server, Event::PeerDown(member));
        }
    }

    /// Notes who hears nothing; who has not heard for long gives the link up.
    fn listen(&mut self, at: usize) {
        for side in SIDES {
            let link = &self.links[at];
            let is_heard = self.passes(link, 1 - side) && self.servers[link.ends[1 - side]].awake().is_some();
            let link = &mut self.links[at];
            link.silent_since[side] = if is_heard { None } else { link.silent_since[side].or(Some(self.now)) };
            let is_dead = link.silent_since[side].is_some_and(|since| self.now - since > self.setup.dead_peer);
            if is_dead && self.servers[self.links[at].ends[side]].awake().is_some() {
                self.links[at].tear();
                self.tell_down(at, side);
                self.tell_soon(at, 1 - side);
                return;
            }
        }
    }

    /// A side learns that the other has closed the link, if that gets through.
    fn tell_soon(&mut self, at: usize, side: usize) {
        let link = &mut self.links[at];
        link.silent_since[side] = Some(self.now);
        if !link.blocked[1 - side] {
            let epoch = link.epoch;
            let delay = self.random.around(self.setup.latency);
            self.queue.push(self.now + delay, Task::LinkLost(at, epoch, side));
        }
    }

    pub(crate) fn link_lost(&mut self, at: usize, epoch: u64, side: usize) {
        if self.links[at].epoch == epoch {
            self.tell_down(at, side);
        }
    }

    /// Those that nobody could tell find out by themselves that a link is gone.
    fn find_out_lost(&mut self, at: usize) {
        for side in SIDES {
            let link = &self.links[at];
            let is_late = link.silent_since[side].is_some_and(|since| self.now - since > self.setup.dead_peer);
            if link.state != State::Up && link.told[side].is_some() && is_late {
                self.tell_down(at, side);
            }
        }
    }

    /// Breaks a link: both sides notice soon.
    pub(crate) fn break_link(&mut self, at: usize) {
        if self.links[at].state == State::Up {
            self.links[at].tear();
            SIDES.iter().for_each(|side| self.tell_soon(at, *side));
        }
    }

    /// A process is gone. Its system says so to the others, unless the machine is gone with it.
    pub(crate) fn links_lost(&mut self, server: ServerIndex, is_silent: bool) {
        for at in 0..self.links.len() {
            let Some(side) = self.links[at].side_of(server) else { continue };
            if self.links[at].state == State::Up {
                self.links[at].tear();
                if is_silent {
                    self.links[at].silent_since[1 - side] = Some(self.now);
                } else {
                    self.tell_soon(at, 1 - side);
                }
            } else if self.links[at].state == State::Dialling {
                self.links[at].tear();
            }
            self.links[at].told[side] = None;
        }
    }

    /// Tells whether a server holds nothing of any ensemble.
    pub(crate) fn is_blank(&self, server: ServerIndex) -> bool {
        self.servers[server].process.as_ref().is_some_and(|process| process.is_blank())
    }

    /// A blank server founds the ensemble if it is the first of the participants and knows that all others are blank.
    fn found_if_all_are_blank(&mut self, server: ServerIndex) {
        let participants = 0..self.setup.participants;
        let founds = self.servers[server].process.as_ref().is_none_or(|process| process.founds);
        let may_found = self.servers[server].may_found && self.setup.founders() > 1;
        if founds || !may_found || !self.is_blank(server) {
            return;
        }
        let linked_and_blank = |other: ServerIndex| {
            let link = self.links.iter().find(|link| link.ends == [server, other]);
            link.is_some_and(|link| link.state == State::Up) && self.is_blank(other)
        };
        if participants.clone().skip(1).all(linked_and_blank) {
            self.trace.line(self.now, || format!("server {server} founds the ensemble"));
            self.restart_as_founder(server);
        }
    }

    pub(crate) fn send_snapshot(&mut self, from: ServerIndex, to: MemberId, place: (u64, u64), message: Vec<u8>) {
        let failed = Event::SnapshotSent { to, is_received: false };
        let link = self.links.iter().position(|link| {
            link.state == State::Up
                && link.side_of(from).is_some_and(|side| link.told[side].is_some_and(|(id, _)| id == to))
        });
        let Some((at, read)) = link.and_then(|at| Some((at, self.read_snapshot(from, place)?))) else {
            self.trace.line(self.now, || format!("server {from} cannot send snapshot {place:?} to member {to}"));
            return self.post(from, failed);
        };
        let (meta, chunks) = read;
        let link = &self.links[at];
        let runs = link.ends.map(|end| self.run_of(end).unwrap_or(0));
        let transfer =
            Transfer { link: at, epoch: link.epoch, from, runs, to, meta, chunks, message: Bytes::from(message) };
        let arrives = self.now + 5 * MS + self.random.around(200 * MS);
        self.queue.push(arrives, Task::Transferred(Box::new(transfer)));
    }

    fn read_snapshot(&self, server: ServerIndex, (index, term): (u64, u64)) -> Option<(SnapshotMeta, Vec<Bytes>)> {
        let store = &self.servers[server].process.as_ref()?.snapshots;
        let file = store.list().ok()?.into_iter().find(|file| (file.index, file.term) == (index, term))?;
        let reader = store.read(&file).ok()?;
        let chunks = (0..reader.chunk_count()).map(|at| reader.chunk(at)).collect::<Result<_, _>>().ok()?;
        Some((reader.meta().clone(), chunks))
    }

    /// A snapshot has come over, or the way to the other member has broken meanwhile.
    pub(crate) fn transferred(&mut self, transfer: Transfer) {
        let Transfer { link: at, epoch, from, runs, to, ref meta, .. } = transfer;
        let ends = self.links[at].ends;
        let target = if ends[0] == from { ends[1] } else { ends[0] };
        let is_same = ends.map(|end| self.run_of(end).unwrap_or(0)) == runs;
        if !is_same {
            if self.run_of(from).is_some_and(|run| runs.contains(&run)) {
                self.post(from, Event::SnapshotSent { to, is_received: false });
            }
            return;
        }
        let link = &self.links[at];
        let is_open = link.epoch == epoch && SIDES.iter().all(|side| self.passes(link, *side));
        let is_received = is_open && !self.random.chance(150) && self.receive(target, &transfer);
        self.trace.line(self.now, || {
            format!("snapshot {} of server {from} gets to server {target}: {is_received}", meta.index)
        });
        if is_received {
            self.stats.snapshots_installed += 1;
        }
        self.post(from, Event::SnapshotSent { to, is_received });
    }

    fn receive(&mut self, server: ServerIndex, transfer: &Transfer) -> bool {
        let sender = self.servers[transfer.from].identity;
        let key = self.random.next();
        let Some(process) = self.servers[server].process.as_ref() else { return false };
        let saved = (|| -> Result<SnapshotFile, _> {
            let mut writer = process.snapshots.create(&transfer.meta)?;
            transfer.chunks.iter().try_for_each(|chunk| writer.chunk(chunk))?;
            writer.finish()
        })();
        let loaded = saved.and_then(|file| simulation::load_snapshot(&process.snapshots, &file, key));
        match loaded {
            Ok(snapshot) => {
                let message = transfer.message.clone();
                self.post(server, Event::SnapshotReceived { from: sender, snapshot: Box::new(snapshot), message });
                true
            }
            Err(error) => {
                self.trace.line(self.now, || format!("server {server} cannot store a snapshot: {error}"));
                false
            }
        }
    }
}
