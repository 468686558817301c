//! The replica thread: waits, steps, performs the actions in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use grange_replica::{Action, Event, LogBatch, Replica, TICK_MS};

use crate::clock::Clock;
use crate::failure::ServerFailure;
use crate::log_writer::LogHandle;
use crate::mailbox::{Mailbox, Taken};
use crate::net::{Command, Outbox, worker_of};
use crate::snapshotter::SnapshotJob;

/// Bytes of log since the last snapshot above which one is made before the server ends, so that it starts quickly.
const FINAL_SNAPSHOT_LOG_BYTES: u64 = 16 << 20;
/// A larger batch is left to the log thread, so that reads need not wait for the disk to take it.
const OWN_WRITE_BYTES_MAX: u64 = 64 << 10;
/// How long the last snapshot may take.
const FINAL_SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(60);

/// What the replica thread is made of.
pub(crate) struct Driver {
    pub(crate) replica: Replica,
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) workers: Vec<Outbox>,
    pub(crate) log: LogHandle,
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
    ///
    /// Errors: the log failed.
    pub(crate) fn run(mut self) -> Result<(), ServerFailure> {
        let tick = Duration::from_millis(TICK_MS);
        let mut next_tick = Instant::now();
        let mut events = Vec::new();
        let mut actions = Vec::new();
        let mut batches = Vec::new();
        let mut outgoing: Vec<Vec<Command>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut ending = Ending::NotYet;
        loop {
            // There are events already if the log was written here; then this only adds what has come meanwhile.
            let deadline = if events.is_empty() { next_tick } else { Instant::now() };
            if self.inbox.take(&mut events, Some(deadline)) == Taken::Closed {
                return Ok(());
            }
            let now = Instant::now();
            if now >= next_tick {
                events.push(Event::Tick);
                next_tick = now + tick;
            }
            let is_saved = self.look_through(&events);
            match ending {
                Ending::NotYet if self.finish.load(Ordering::Acquire) => {
                    if self.log_bytes < FINAL_SNAPSHOT_LOG_BYTES {
                        return Ok(());
                    }
                    events.push(Event::SnapshotWanted);
                    ending = Ending::AfterSnapshot { until: now + FINAL_SNAPSHOT_TIME_MAX };
                }
                Ending::AfterSnapshot { until } if is_saved || now >= until => return Ok(()),
                _ => {}
            }
            self.replica.step(self.clock.now(), &mut events, &mut actions);
            self.perform(&mut actions, &mut batches, &mut outgoing);
            if self.serving.is_some() && self.replica.is_serving() {
                // Nobody is left to hear it if the start has failed meanwhile.
                let _ = self.serving.take().map(|serving| serving.send(()));
            }
            if !batches.is_empty() {
                self.log.write(&mut batches, &mut events)?;
            }
        }
    }

    /// Notes what the events say about the edge itself; tells whether a snapshot has come to its end.
    fn look_through(&mut self, events: &[Event]) -> bool {
        let mut is_saved = false;
        for event in events {
            match event {
                Event::LogSynced(number) => self.log.synced(*number),
                Event::SnapshotSaved { .. } | Event::SnapshotFailed => is_saved = true,
                _ => {}
            }
        }
        is_saved
    }

    /// Performs the actions in order, except that batches to be written by this thread are left in `batches`: a reply
    /// in the same step must not wait for the disk.
    fn perform(&mut self, actions: &mut Vec<Action>, batches: &mut Vec<LogBatch>, outgoing: &mut [Vec<Command>]) {
        let mut writes_itself = None;
        for action in actions.drain(..) {
            match action {
                Action::Append(batch) => {
                    let batch_bytes = batch.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
                    self.log_bytes += batch_bytes;
                    // All of a step's batches go the same way, so that they stay in order.
                    let is_small = batch_bytes <= OWN_WRITE_BYTES_MAX;
                    let may_write = || is_small && self.inbox.is_empty() && self.log.may_write();
                    if *writes_itself.get_or_insert_with(may_write) {
                        batches.push(batch);
                    } else {
                        self.log.hand_over(batch);
                    }
                }
                Action::Send { conn, bytes, answered } => {
                    outgoing[worker_of(conn.0)].push(Command::Send { conn, bytes, answered });
                }
                Action::Close(conn) => outgoing[worker_of(conn.0)].push(Command::Close(conn)),
                Action::SaveSnapshot(image) => {
                    self.log_bytes = 0;
                    self.snapshots.push(SnapshotJob::Save(image));
                }
                Action::PurgeLog { first_kept } => self.log.purge(first_kept),
                Action::SendPeer { .. } | Action::SendSnapshot { .. } | Action::ReadLog { .. } => {
                    unreachable!("a member that stands alone has no peers")
                }
                Action::Members(_) | Action::Candidates(_) | Action::Resigned => {}
                Action::Inspected { token, report } => {
                    outgoing[worker_of(token)].push(Command::Inspected { token, report });
                }
            }
        }
        for (worker, commands) in self.workers.iter().zip(outgoing) {
            worker.append(commands);
        }
    }
}
