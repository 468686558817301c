//! A worker: takes parts, works through them depth first, and gives away what others could do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::path::RelPath;
use crate::sync::directory::Stream;
use crate::sync::job::{Job, SyncError};
use crate::sync::part::{Item, PART_BYTES_MAX, Part, Phase};
use crate::sync::queue::{Claim, ClaimId, QueueError, Take, WorkQueue};
use crate::sync::report::{Severity, count};
use crate::sync::transfer::{BatchId, Transfers};
use crate::tree::Record;

/// How long to wait for another worker's leader of a link group before looking again.
const LINK_PATIENCE: Duration = Duration::from_millis(200);

/// What is on a worker's own stack.
#[derive(Debug)]
pub(super) enum Task {
    /// Can be given away.
    Item(Item),
    /// A directory too large to be held in memory, listed in pieces: bound to an open handle.
    Stream(Stream),
}

/// What has to wait until batches of files have arrived.
#[derive(Debug)]
enum Due {
    /// Set the attributes of a directory: all its own entries are in place then.
    Finish(RelPath),
    /// Link this name of the inode.
    Link(RelPath, Record),
    /// Tell the queue that these parts are done, and what they leave for the end.
    Complete(Vec<ClaimId>, Vec<Item>),
}

/// One worker. Runs on a thread of its own, because everything it does are blocking system calls.
pub(super) struct Worker<Q> {
    pub(super) job: Arc<Job>,
    pub(super) transfers: Transfers,
    pub(super) stack: Vec<Task>,
    /// For [`Phase::Late`], of the parts at hand.
    pub(super) late: Vec<Item>,
    due: VecDeque<(BatchId, Due)>,
    queue: Q,
    runtime: Handle,
    stop: watch::Receiver<bool>,
}

impl<Q: WorkQueue> Worker<Q> {
    pub(super) fn new(job: Arc<Job>, queue: Q, runtime: Handle, stop: watch::Receiver<bool>) -> Self {
        let transfers = Transfers::new(Arc::clone(&job));
        Self { job, transfers, stack: Vec::new(), late: Vec::new(), due: VecDeque::new(), queue, runtime, stop }
    }

    /// Works until the job is over. Errors: what stops the whole job.
    pub(super) fn run(mut self) -> Result<(), SyncError> {
        loop {
            let taken = self.runtime.block_on(self.queue.try_take())?;
            let taken = match taken {
                Take::Nothing => {
                    self.drain()?;
                    self.wait_for_parts()?
                }
                taken => taken,
            };
            match taken {
                Take::Parts(claims) => self.work(claims)?,
                Take::Nothing => {}
                Take::Over => return self.drain(),
            }
        }
    }

    fn wait_for_parts(&mut self) -> Result<Take, SyncError> {
        let (queue, stop) = (&self.queue, &mut self.stop);
        let taken = self.runtime.block_on(async {
            tokio::select! {
                taken = queue.take() => taken,
                _ = stop.wait_for(|&stop| stop) => Err(QueueError::Abandoned),
            }
        });
        Ok(taken?)
    }

    /// Works through the parts and everything below them, then leaves their completion to the batches they filled.
    fn work(&mut self, claims: Vec<Claim>) -> Result<(), SyncError> {
        let ids = claims.iter().map(|claim| claim.id).collect();
        let items = claims.into_iter().flat_map(|claim| claim.part.items);
        self.stack.extend(items.map(Task::Item));
        // The deepest last, so that it is popped first: a directory that may not be entered any more once it is
        // finished comes after those inside it.
        self.stack.sort_by_key(|task| match task {
            Task::Item(Item::Finish(path)) => path.depth(),
            _ => 0,
        });
        while let Some(task) = self.stack.pop() {
            if *self.stop.borrow() {
                return Err(QueueError::Abandoned.into());
            }
            match task {
                Task::Item(Item::Directory(path)) => self.directory(&path)?,
                Task::Item(Item::Names { directory, names }) => self.names(&directory, &names)?,
                Task::Item(Item::Finish(path)) => self.finish(&path),
                Task::Stream(stream) => self.stream(stream),
            }
            self.share()?;
            if self.transfers.reap()? {
                self.settle_due()?;
            }
        }
        let late = std::mem::take(&mut self.late);
        self.when_moved(Due::Complete(ids, late));
        self.settle_due()
    }

    /// Gives the older half of the stack away when others have nothing to do: its items are nearest to the root, so
    /// they stand for the most work.
    fn share(&mut self) -> Result<(), SyncError> {
        let wanted = self.queue.wanted();
        if wanted == 0 || self.stack.len() < 2 {
            return Ok(());
        }
        let count_given = self.stack.len() / 2;
        let (mut given, mut kept) = (Vec::with_capacity(count_given), Vec::with_capacity(self.stack.len()));
        for task in self.stack.drain(..) {
            match task {
                Task::Item(item) if given.len() < count_given => given.push(item),
                task => kept.push(task),
            }
        }
        self.stack = kept;
        let parts = pack(given, wanted);
        for _ in &parts {
            count(&self.job.report.progress.parts_shared);
        }
        if parts.is_empty() { Ok(()) } else { Ok(self.runtime.block_on(self.queue.put(Phase::Main, parts))?) }
    }

    /// Sets a directory's attributes when everything queued so far has arrived.
    pub(super) fn finish_when_moved(&mut self, path: RelPath) {
        self.when_moved(Due::Finish(path));
    }

    /// Links a name when everything queued so far has arrived and its group has a leader.
    pub(super) fn link_when_moved(&mut self, path: RelPath, source: Record) {
        self.when_moved(Due::Link(path, source));
    }

    fn when_moved(&mut self, due: Due) {
        self.due.push_back((self.transfers.last_batch(), due));
    }

    /// Does what was waiting for batches that have arrived, in order. Stops at a link whose leader is under way in
    /// another worker: its directory's attributes and the completion of its part come after it.
    fn settle_due(&mut self) -> Result<(), SyncError> {
        while let Some((batch, due)) = self.due.pop_front() {
            if self.transfers.is_outstanding(batch) {
                self.due.push_front((batch, due));
                break;
            }
            match due {
                Due::Finish(path) => self.finish(&path),
                Due::Link(path, source) => {
                    if !self.link_later(&path, &source)? {
                        self.due.push_front((batch, Due::Link(path, source)));
                        break;
                    }
                    self.postpone_due();
                }
                Due::Complete(ids, late) => {
                    self.runtime.block_on(self.queue.complete(ids, pack(late, 1)))?;
                }
            }
        }
        Ok(())
    }

    /// Lets all that is due wait for the newest batch: a link that was taken up may have put its file there.
    fn postpone_due(&mut self) {
        let newest = self.transfers.last_batch();
        for (batch, _) in self.due.iter_mut() {
            *batch = newest;
        }
    }

    /// Brings everything to its end: afterwards nothing is under way and no part is held.
    fn drain(&mut self) -> Result<(), SyncError> {
        loop {
            self.transfers.finish_all()?;
            self.settle_due()?;
            if self.due.is_empty() {
                return Ok(());
            }
            if *self.stop.borrow() {
                return Err(QueueError::Abandoned.into());
            }
            if !self.transfers.has_work() {
                self.job.links.wait(LINK_PATIENCE);
            }
        }
    }

    pub(super) fn failed(&self, path: &RelPath, doing: &str, error: &io::Error) {
        self.job.report.problem(Severity::Failed, path, format!("cannot {doing}: {error}"));
    }
}

/// Spreads items over about `wanted` parts, more if a part would grow beyond [`PART_BYTES_MAX`].
fn pack(items: Vec<Item>, wanted: usize) -> Vec<Part> {
    let per_part = items.len().div_ceil(wanted.max(1)).max(1);
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.encoded_len();
        match parts.last_mut() {
            Some(part) if part.items.len() < per_part && bytes + length <= PART_BYTES_MAX => part.items.push(item),
            _ => {
                parts.push(Part::of(item));
                bytes = 0;
            }
        }
        bytes += length;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_spread_and_parts_stay_small() {
        let item = |bytes: usize| Item::Directory(RelPath::root().join(&vec![b'x'; bytes]));
        assert_eq!(pack(vec![item(10); 10], 3).iter().map(|part| part.items.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(pack(vec![], 3), []);
        let parts = pack(vec![item(50_000); 10], 1);
        assert!(parts.len() >= 5);
        assert!(parts.iter().all(|part| part.encode().len() <= PART_BYTES_MAX + 1));
    }
}
