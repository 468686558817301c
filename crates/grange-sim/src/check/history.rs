//! The one history: what any member applied, every member must apply, alike and for ever.

use std::collections::BTreeMap;

use grange_proto::{Op, SessionId, Zxid};
use grange_replica::{AppliedEntry, AppliedKind, AppliedRequest, Probe};
use xxhash_rust::xxh3::xxh3_64;

use super::Violation;
use crate::queue::Micros;

/// A request of the history.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The request.
    pub(crate) request: AppliedRequest,
    /// When a member applied it for the first time.
    pub(crate) at: Micros,
    /// The term of its entry.
    pub(crate) term: u64,
    /// The entry, and the place in it.
    place: (u64, usize),
}

/// Everything that was applied anywhere, and who led when.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Term and hash of each entry, by index.
    entries: BTreeMap<u64, (u64, u64)>,
    requests: Vec<Applied>,
    /// The leader of each term: its server, and the member.
    leaders: BTreeMap<u64, (usize, u64)>,
    elections: u64,
}

impl History {
    /// Takes in what a member applied.
    ///
    /// Errors: `committed entries never change`, `equal digests`.
    pub(crate) fn applied(&mut self, member: usize, entries: Vec<AppliedEntry>, at: Micros) -> Result<(), Violation> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            let found = (term, xxh3_64(&entry.data));
            match self.entries.get(&index) {
                Some(&known) if known != found => {
                    let what = format!("server {member} applied entry {index} as {found:x?}, but it was {known:x?}");
                    return Err(Violation::new("committed entries never change", at, what));
                }
                Some(_) => {}
                None if self.entries.last_key_value().is_none_or(|(last, _)| last + 1 == index) => {
                    self.entries.insert(index, found);
                }
                None => {
                    let what = format!("server {member} applied entry {index} and nobody the one before");
                    return Err(Violation::new("committed entries never change", at, what));
                }
            }
            for (ordinal, request) in entry.requests.into_iter().enumerate() {
                self.take(member, Applied { request, at, term, place: (index, ordinal) })?;
            }
        }
        Ok(())
    }

    fn take(&mut self, member: usize, applied: Applied) -> Result<(), Violation> {
        let (at, request) = (applied.at, &applied.request);
        let violation = |checker, what| Err(Violation::new(checker, at, format!("server {member} {what}")));
        if self.requests.last().is_none_or(|last| last.place < applied.place) {
            self.requests.push(applied);
            return Ok(());
        }
        let Ok(found) = self.requests.binary_search_by_key(&applied.place, |known| known.place) else {
            return violation("committed entries never change", format!("applied {}, nobody else did", show(request)));
        };
        let known = &self.requests[found].request;
        if known == request {
            return Ok(());
        }
        if (AppliedRequest { digest: request.digest, ..known.clone() }) == *request {
            return violation("equal digests", format!("has another digest after {}", show(request)));
        }
        violation("committed entries never change", format!("applied {} where {} was", show(request), show(known)))
    }

    /// Takes in where a member stands.
    ///
    /// Errors: `one leader per term`.
    pub(crate) fn probed(&mut self, member: usize, id: u64, probe: Probe, at: Micros) -> Result<(), Violation> {
        if !probe.is_leader {
            return Ok(());
        }
        match self.leaders.insert(probe.term, (member, id)) {
            None => self.elections += 1,
            Some((_, other)) if other == id => {}
            Some((other, _)) => {
                let what = format!("servers {other} and {member} lead in term {}", probe.term);
                return Err(Violation::new("one leader per term", at, what));
            }
        }
        Ok(())
    }

    /// Describes what has to do with the members in the newest requests.
    pub(crate) fn describe_members(&self, is_of_members: fn(&AppliedRequest) -> bool, from: usize) -> String {
        let of_members = self.requests[from..].iter().map(|applied| &applied.request).filter(|r| is_of_members(r));
        let one = |request: &AppliedRequest| format!("{}: {}", show(request), String::from_utf8_lossy(&request.body));
        of_members.map(one).collect::<Vec<_>>().join("; ").replace(['\n', '\t', '\0'], " ")
    }

    /// Returns every request, in order.
    pub(crate) fn requests(&self) -> &[Applied] {
        &self.requests
    }

    /// Returns the newest transaction.
    pub(crate) fn last_zxid(&self) -> Zxid {
        self.requests.last().map_or(Zxid::ZERO, |applied| applied.request.zxid)
    }

    /// Returns the number of terms that had a leader.
    pub(crate) fn elections(&self) -> u64 {
        self.elections
    }

    /// Tells whether a session was closed, or its closing begun, by `at`.
    pub(crate) fn is_closed(&self, session: SessionId, at: Micros) -> bool {
        let ends = |kind| matches!(kind, AppliedKind::End | AppliedKind::Request(Op::CloseSession));
        self.requests.iter().any(|a| a.request.session == session && ends(a.request.kind) && a.at <= at)
    }
}

/// Describes a request in a few words.
pub(crate) fn show(request: &AppliedRequest) -> String {
    let kind = match request.kind {
        AppliedKind::Request(op) => op.name(),
        AppliedKind::End => "the end",
        AppliedKind::Return => "the return",
        AppliedKind::Config => "the members",
        AppliedKind::ConfigToCome => "the members to come",
        AppliedKind::ReconfigDone => "the end of the reconfig",
        AppliedKind::ReconfigGivenUp => "the giving up of the reconfig",
    };
    format!("{} {kind} of session {} (body {:016x})", request.zxid, request.session, xxh3_64(&request.body))
}
