//! The replica thread: waits, steps, performs the actions in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use grange_replica::{Action, Event, Replica, TICK_MS};

use crate::clock::Clock;
use crate::log_writer::LogRequest;
use crate::mailbox::{Mailbox, Taken};
use crate::net::{Command, Outbox, worker_of};
use crate::snapshotter::SnapshotJob;

/// Bytes of log since the last snapshot above which one is made before the server ends, so that it starts quickly.
const FINAL_SNAPSHOT_LOG_BYTES: u64 = 16 << 20;
/// How long the last snapshot may take.
const FINAL_SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(60);

/// What the replica thread is made of.
pub(crate) struct Driver {
    pub(crate) replica: Replica,
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) workers: Vec<Outbox>,
    pub(crate) log: Arc<Mailbox<LogRequest>>,
    pub(crate) snapshots: Arc<Mailbox<SnapshotJob>>,
    pub(crate) clock: Clock,
    /// Told once clients can be served.
    pub(crate) serving: Option<Sender<()>>,
    /// Set when the server is to end; no client has anything in flight by then.
    pub(crate) finish: Arc<AtomicBool>,
    /// Bytes of entries since the last snapshot was begun, those read at the start included.
    pub(crate) log_bytes: u64,
}

/// How the end comes about.
#[derive(Debug, Clone, Copy)]
enum Ending {
    NotYet,
    AfterSnapshot { until: Instant },
}

impl Driver {
    /// Works until it is told to finish, or until the inbox is closed because another thread failed.
    pub(crate) fn run(mut self) {
        let tick = Duration::from_millis(TICK_MS);
        let mut next_tick = Instant::now();
        let mut events = Vec::new();
        let mut actions = Vec::new();
        let mut outgoing: Vec<Vec<Command>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut ending = Ending::NotYet;
        loop {
            let taken = self.inbox.take(&mut events, Some(next_tick));
            if taken == Taken::Closed {
                return;
            }
            let now = Instant::now();
            if now >= next_tick {
                events.push(Event::Tick);
                next_tick = now + tick;
            }
            let is_saved =
                events.iter().any(|event| matches!(event, Event::SnapshotSaved { .. } | Event::SnapshotFailed));
            match ending {
                Ending::NotYet if self.finish.load(Ordering::Acquire) => {
                    if self.log_bytes < FINAL_SNAPSHOT_LOG_BYTES {
                        return;
                    }
                    events.push(Event::SnapshotWanted);
                    ending = Ending::AfterSnapshot { until: now + FINAL_SNAPSHOT_TIME_MAX };
                }
                Ending::AfterSnapshot { until } if is_saved || now >= until => return,
                _ => {}
            }
            self.replica.step(self.clock.now(), &mut events, &mut actions);
            for action in actions.drain(..) {
                self.perform(action, &mut outgoing);
            }
            if self.serving.is_some() && self.replica.is_serving() {
                // Nobody is left to hear it if the start has failed meanwhile.
                let _ = self.serving.take().map(|serving| serving.send(()));
            }
            for (worker, commands) in self.workers.iter().zip(&mut outgoing) {
                worker.append(commands);
            }
        }
    }

    fn perform(&mut self, action: Action, outgoing: &mut [Vec<Command>]) {
        match action {
            Action::Append(batch) => {
                self.log_bytes += batch.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
                self.log.push(LogRequest::Append(batch));
            }
            Action::Send { conn, bytes, answered } => {
                outgoing[worker_of(conn.0)].push(Command::Send { conn, bytes, answered });
            }
            Action::Close(conn) => outgoing[worker_of(conn.0)].push(Command::Close(conn)),
            Action::SaveSnapshot(image) => {
                self.log_bytes = 0;
                self.snapshots.push(SnapshotJob::Save(image));
            }
            Action::PurgeLog { first_kept } => self.log.push(LogRequest::Purge { first_kept }),
            Action::Inspected { token, report } => {
                outgoing[worker_of(token)].push(Command::Inspected { token, report });
            }
        }
    }
}
