//! Answers to operators, put together from all parts of the member.

use grange_proto::Op;

use crate::event::Now;
use crate::replica::Replica;
use crate::report::{Inspect, LogCounts, Mode, Report, SessionReport, Summary, WatchReport};

impl Replica {
    pub(crate) fn inspect(&mut self, what: Inspect, now: Now) -> Report {
        match what {
            Inspect::Summary => Report::Summary(self.summary()),
            Inspect::Connections => Report::Connections(self.connections.reports()),
            Inspect::Sessions => Report::Sessions(self.session_reports(now)),
            Inspect::Watches => Report::Watches(self.watch_reports()),
            Inspect::ResetStatistics => {
                self.connections.reset_statistics();
                Report::Done
            }
            Inspect::ResetConnectionStatistics => {
                self.connections.reset_connection_statistics();
                Report::Done
            }
        }
    }

    fn summary(&self) -> Summary {
        let (first, last, committed) = self.engine.extent();
        Summary {
            mode: self.mode(),
            zxid: self.tree.last_zxid(),
            znodes: self.tree.node_count() as u64,
            ephemerals: self.tree.ephemeral_count() as u64,
            data_bytes: self.tree.data_bytes(),
            sessions: self.tree.session_count() as u64,
            connections: self.connections.len() as u64,
            watches: self.watches.counts(),
            outstanding: self.connections.outstanding,
            received: self.connections.received,
            sent: self.connections.sent,
            read_latency: self.connections.read_latency,
            update_latency: self.connections.update_latency,
            requests_by_op: Op::ALL.iter().copied().zip(self.figures.by_op).collect(),
            sessions_expired: self.figures.sessions_expired,
            auth_failed: self.figures.auth_failed,
            watch_events: self.figures.watch_events,
            digest: self.tree.digest(),
            log_full: self.log_full,
            log: LogCounts { first, last, committed, applied: self.progress.index, term: self.engine.term() },
        }
    }

    fn mode(&self) -> Mode {
        let id = self.config.ensemble.member.id;
        let is_learner = self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.conf.learners.contains(&id.0));
        match () {
            () if self.serves_reads_only() => Mode::ReadOnly,
            () if !self.is_serving() => Mode::NotServing,
            () if self.is_alone() => Mode::Standalone,
            () if self.engine.is_leader() => Mode::Leader,
            () if is_learner => Mode::Observer,
            () => Mode::Follower,
        }
    }

    fn session_reports(&self, now: Now) -> Vec<SessionReport> {
        self.tree
            .sessions()
            .map(|session| {
                let mut ephemerals: Vec<String> = self.tree.ephemerals(session.id(), "").collect();
                ephemerals.sort_unstable();
                SessionReport {
                    session: session.id(),
                    timeout_ms: session.timeout_ms(),
                    expires_in_ms: self.sessions.expires_in_ms(session.id(), now.monotonic_ms()),
                    ephemerals,
                }
            })
            .collect()
    }

    fn watch_reports(&self) -> Vec<WatchReport> {
        let mut watches: Vec<_> = self
            .watches
            .by_connection()
            .filter_map(|(slot, paths)| self.connections.identify(slot).map(|(conn, session)| (conn, session, paths)))
            .collect();
        watches.sort_unstable_by_key(|(conn, ..)| *conn);
        watches.into_iter().map(|(_, session, paths)| WatchReport { session, paths }).collect()
    }
}
