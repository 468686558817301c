//! When a snapshot is made, and which one there is.

use grange_tree::Tree;

use crate::config::SnapshotPolicy;
use crate::ensemble::EnsembleState;
use crate::event::SnapshotImage;
use crate::members::Conf;
use crate::progress::Progress;

/// A snapshot without its contents.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotMark {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) conf: Conf,
}

/// Decides when a snapshot is made.
pub(crate) struct Snapshots {
    policy: SnapshotPolicy,
    /// The newest durable snapshot.
    saved: u64,
    under_way: Option<SnapshotMark>,
    wanted: bool,
}

impl Snapshots {
    pub(crate) fn new(policy: SnapshotPolicy, saved: u64) -> Snapshots {
        Snapshots { policy, saved, under_way: None, wanted: false }
    }

    /// Makes a snapshot if one is due or wanted and none is under way.
    pub(crate) fn begin(
        &mut self,
        progress: &mut Progress,
        tree: &Tree,
        ensemble: &EnsembleState,
    ) -> Option<SnapshotImage> {
        let due = progress.requests >= self.policy.requests || progress.bytes >= self.policy.log_bytes;
        if self.under_way.is_some() || progress.index == self.saved || !(due || self.wanted) {
            return None;
        }
        self.wanted = false;
        progress.requests = 0;
        progress.bytes = 0;
        Some(self.make(progress.index, progress.term, tree, ensemble))
    }

    /// Makes a snapshot now, whatever the bounds say; none may be under way.
    pub(crate) fn make(&mut self, index: u64, term: u64, tree: &Tree, ensemble: &EnsembleState) -> SnapshotImage {
        self.under_way = Some(SnapshotMark { index, term, conf: ensemble.members.conf.clone() });
        SnapshotImage { index, term, meta: ensemble.encode(), tree: tree.snapshot() }
    }

    /// Takes in that the snapshot under way is durable; returns it, and the first entry to keep.
    ///
    /// Entries go back to the snapshot before, so that it is still of use if the new one turns out damaged.
    pub(crate) fn saved(&mut self, index: u64) -> (Option<SnapshotMark>, Option<u64>) {
        let mark = self.under_way.take_if(|mark| mark.index == index);
        if index <= self.saved {
            // A newer one was received from another member meanwhile.
            return (None, None);
        }
        let before = std::mem::replace(&mut self.saved, index);
        (mark, (before > 0).then_some(before + 1))
    }

    /// Takes in that a snapshot of another member is durable here.
    pub(crate) fn received(&mut self, index: u64) {
        self.saved = index;
    }

    /// Takes in that a snapshot could not be written; the next bound reached tries again.
    pub(crate) fn failed(&mut self) {
        self.under_way = None;
    }

    /// Asks for a snapshot at the next opportunity.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }
}
