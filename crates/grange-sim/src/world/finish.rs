//! The end of a run: faults end, everything must work again within a bounded time, clients leave, and nothing of theirs
//! may be left.

use grange_proto::{SessionId, Stat};
use grange_replica::{Event, Inspect};
use grange_tree::{Identities, Policy, Tree};

use super::server::SESSION_TIMEOUT_MS_MAX;
use super::{ServerIndex, Task, World};
use crate::check::{Model, Violation, replay};
use crate::queue::{MS, Micros, SECOND};

/// How often a run looks how far it has come.
const LOOK: Micros = 100 * MS;
/// How long it may take until everything works again.
const HEALING_MAX: Micros = 40 * SECOND;
/// How long members may take to agree once nobody writes.
const AGREEING_MAX: Micros = 5 * SECOND;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Faults happen.
    Chaos,
    /// They have ended.
    Healing {
        /// When.
        since: Micros,
    },
    /// Clients have fallen silent for good.
    Draining {
        /// When all their sessions must be gone.
        until: Micros,
        /// The leaders so far: another one gives sessions their whole timeouts again.
        elections: u64,
    },
    /// It is over.
    Done,
}

impl World {
    pub(crate) fn look(&mut self) -> Result<(), Violation> {
        self.queue.push(self.now + LOOK, Task::Look);
        match self.phase {
            Phase::Chaos if self.now >= self.setup.chaos => {
                self.last_trouble = self.now;
                self.trace.line(self.now, || "all faults end".to_owned());
                self.phase = Phase::Healing { since: self.now };
                self.heal();
            }
            Phase::Healing { since } => match self.what_is_missing(since) {
                None => {
                    self.trace.line(self.now, || "everything works: clients fall silent".to_owned());
                    self.phase = self.draining();
                }
                Some(missing) if self.now - since > HEALING_MAX => {
                    return Err(Violation::new("progress after all faults heal", self.now, missing));
                }
                Some(_) => {}
            },
            // Every session gets its whole timeout again.
            Phase::Draining { elections, .. } if self.history.elections() != elections => self.phase = self.draining(),
            Phase::Draining { until, .. } if self.now >= until => match self.what_differs() {
                None => self.phase = Phase::Done,
                Some(differs) if self.now - until > AGREEING_MAX => {
                    return Err(Violation::new("members agree in the end", self.now, differs));
                }
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn draining(&self) -> Phase {
        let longest_ms = u64::try_from(SESSION_TIMEOUT_MS_MAX).unwrap_or(0) + 2 * u64::from(self.setup.tick_ms);
        Phase::Draining { until: self.now + longest_ms * MS + SECOND, elections: self.history.elections() }
    }

    /// Says what does not work yet.
    fn what_is_missing(&self, since: Micros) -> Option<String> {
        if self.members.now.wish.is_some() || self.members.now.is_joint {
            return Some(format!("a change of the members is under way: {:?}", self.members.now));
        }
        for (index, server) in self.servers.iter().enumerate() {
            match server.awake() {
                None => return Some(format!("server {index} does not run")),
                Some(process) if !process.replica.is_serving() && self.is_member(index) => {
                    return Some(format!("server {index} does not serve: {:?}", process.replica.probe()));
                }
                Some(_) => {}
            }
        }
        let idle = self.clients.iter().position(|client| !client.is_served() || client.write_sent < since)?;
        Some(format!("client {idle} has no write answered"))
    }

    /// Says in what members differ from the history.
    fn what_differs(&self) -> Option<String> {
        let last = self.history.requests().last()?;
        for (index, server) in self.servers.iter().enumerate().filter(|(index, _)| self.is_member(*index)) {
            let Some(process) = &server.process else { return Some(format!("server {index} does not run")) };
            let tree = process.replica.tree();
            if tree.last_zxid() != last.request.zxid {
                return Some(format!("server {index} stands at {} and not at {}", tree.last_zxid(), last.request.zxid));
            }
        }
        None
    }

    /// Compares everything that was seen with the history, and the members with the model.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        self.stats.time = self.now;
        self.stats.elections = self.history.elections();
        let model = replay(&self.history, &self.observed)?;
        for server in 0..self.servers.len() {
            if let Some(process) = self.servers[server].process.as_ref().filter(|_| self.is_member(server)) {
                self.compare(server, process.replica.tree(), &model)?;
            }
            self.look_for_leftovers(server)?;
        }
        Ok(())
    }

    fn compare(&self, server: ServerIndex, tree: &Tree, model: &Model) -> Result<(), Violation> {
        let violation =
            |what| Err(Violation::new("members agree in the end", self.now, format!("server {server}: {what}")));
        let (nobody, policy) = (Identities::new(), Policy { skip_acl: true, ..Policy::default() });
        if tree.node_count() != model.nodes().count() {
            return violation(format!("{} znodes, not {}", tree.node_count(), model.nodes().count()));
        }
        for (path, data, stat) in model.nodes() {
            let found: Result<(Option<&[u8]>, Stat), _> = tree.get_data(path, &nobody, policy);
            if found != Ok((data, stat)) {
                return violation(format!("{path} is {found:?}, not {:?}", (data, stat)));
            }
        }
        let sessions: Vec<SessionId> = tree.sessions().map(grange_tree::Session::id).collect();
        if !model.sessions().eq(sessions.iter().copied()) {
            return violation(format!("sessions {sessions:?}, not {:?}", model.sessions().collect::<Vec<_>>()));
        }
        if !sessions.is_empty() || tree.ephemeral_count() > 0 {
            let what = format!("server {server} has sessions {sessions:?} and {} ephemerals", tree.ephemeral_count());
            return Err(Violation::new("sessions expire", self.now, what));
        }
        Ok(())
    }

    /// After all clients have left, a member holds nothing of theirs.
    fn look_for_leftovers(&mut self, server: ServerIndex) -> Result<(), Violation> {
        // One that was taken out hears no more of sessions that end.
        let is_member = self.is_member(server);
        let own = &mut self.servers[server];
        let Some(process) = &mut own.process else { return Ok(()) };
        let mut actions = Vec::new();
        let mut events = vec![Event::Inspect { token: 0, what: Inspect::Summary }];
        process.replica.step(own.clock.now(self.now), &mut events, &mut actions);
        for action in actions {
            if let grange_replica::Action::Inspected { report, .. } = action
                && let grange_replica::Report::Summary(summary) = *report
                && let sessions = if is_member { summary.sessions } else { 0 }
                && (summary.connections, summary.watches.total, summary.outstanding, sessions) != (0, 0, 0, 0)
            {
                let what = format!(
                    "server {server} has {} connections, {} watches, {} requests, {} sessions",
                    summary.connections, summary.watches.total, summary.outstanding, summary.sessions
                );
                return Err(Violation::new("nothing is left of clients that left", self.now, what));
            }
        }
        Ok(())
    }
}
