//! Whether sessions are ended too early: what members hear of each, and when a leader gives one up.

use grange_proto::{Op, Reader, SessionId};
use grange_replica::AppliedKind;

use super::World;
use crate::check::{Applied, Violation};
use crate::queue::{MS, Micros, SECOND};

/// How much sooner than its timeout a session may be given up by the world's clock: clocks differ.
const EARLY_MAX_ALONE: Micros = 20 * MS;
/// As much in an ensemble whose members hear each other: signs of life are collected before they go to the leader.
const EARLY_MAX_CALM: Micros = 400 * MS;
/// As much in any: a member serves for a while after it has lost its leader, and signs of life get lost with links.
const EARLY_MAX: Micros = 2_500 * MS;

/// What was heard of an open session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    timeout: Micros,
    last: Micros,
    /// The last sign of life that came so late that the leader may have given the session up before it heard of it.
    late: Option<Micros>,
}

impl World {
    /// Takes note of a sign of life that a member has handed to its replica.
    pub(crate) fn note_life(&mut self, session: SessionId) {
        let now = self.now;
        if let Some(life) = self.lives.get_mut(&session) {
            if now - life.last + EARLY_MAX_CALM > life.timeout {
                life.late = Some(now);
            }
            life.last = now;
        }
    }

    /// Looks at sessions that a leader has given up: had they been heard of too recently?
    pub(crate) fn check_expiry(&mut self, expired: &[SessionId], term: u64) -> Result<(), Violation> {
        for session in expired {
            let early = self.lives.get(session).map_or(0, |life| self.early_by(life));
            self.given_up.insert((*session, term), early);
        }
        for Applied { request, term, at, .. } in &self.history.requests()[self.sessions_noted..] {
            let session = request.session;
            match request.kind {
                AppliedKind::Request(Op::CreateSession) => {
                    let timeout_ms = Reader::new(&request.body).i32().unwrap_or(0);
                    let timeout = u64::try_from(timeout_ms).unwrap_or(0) * MS;
                    self.lives.insert(session, Life { timeout, last: *at, late: None });
                }
                AppliedKind::Request(Op::CloseSession) => drop(self.lives.remove(&session)),
                AppliedKind::End => {
                    let Some(life) = self.lives.remove(&session) else { continue };
                    // What a leader of another term has decided means nothing: it may have heard less.
                    let Some(early) = self.given_up.get(&(session, *term)).copied() else {
                        let what = format!("{session} was ended in term {term}, whose leader had not given it up");
                        return Err(Violation::new("sessions live until they expire", *at, what));
                    };
                    if early > 0 {
                        let what = format!("{session} was given up {early} us too early, in term {term}: {life:?}");
                        return Err(Violation::new("sessions live until they expire", *at, what));
                    }
                }
                _ => {}
            }
        }
        self.sessions_noted = self.history.requests().len();
        Ok(())
    }

    /// Returns by how much it is too early to give a session up.
    fn early_by(&self, life: &Life) -> Micros {
        // Clients of a member that is taken out are not heard of until they have gone elsewhere.
        let last_trouble = self.last_trouble.max(self.members.changed);
        let is_calm = self.now - last_trouble > life.timeout + SECOND;
        let tolerance = match self.servers.len() {
            1 => EARLY_MAX_ALONE,
            _ if is_calm => EARLY_MAX_CALM,
            _ => EARLY_MAX,
        };
        if life.late.is_some_and(|late| self.now - late <= tolerance) {
            return 0;
        }
        life.timeout.saturating_sub(self.now - life.last + tolerance)
    }
}
