//! The queue from which workers take parts.
//!
//! Parts are handed out at least once: a part whose worker died is handed out again, and whatever it had put already
//! may be put a second time. That is why items are idempotent. A part counts as done only when its worker says so,
//! after everything it stood for is at the destination or with another part.

use std::future::Future;

use crate::sync::part::{DamagedPart, Part, Phase};

/// Names a claim, for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub u64);

/// A part in somebody's hands.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// To be given back to [`WorkQueue::complete`].
    pub id: ClaimId,
    /// The work.
    pub part: Part,
}

/// What taking from the queue gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    /// Parts, at least one.
    Parts(Vec<Claim>),
    /// Nothing at the moment; more may come. Only from [`WorkQueue::try_take`].
    Nothing,
    /// All parts are complete: the job is over.
    Over,
}

/// A queue of parts that several workers share. A value is a cheap handle; clones are the same queue.
///
/// Every operation costs the same whatever the length of the queue.
pub trait WorkQueue: Clone + Send + Sync + 'static {
    /// Appends parts.
    fn put(&self, phase: Phase, parts: Vec<Part>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Takes what is there, without waiting: one part of the main phase, or, when that is over, all late parts.
    fn try_take(&self) -> impl Future<Output = Result<Take, QueueError>> + Send;

    /// Takes as [`WorkQueue::try_take`], and waits until there is something or the job is over.
    ///
    /// The caller must hold no claims of its own, or it may wait for itself.
    fn take(&self) -> impl Future<Output = Result<Take, QueueError>> + Send;

    /// Appends the `late` parts that claims have left, then declares the claims done. Never the second without the
    /// first.
    fn complete(&self, claims: Vec<ClaimId>, late: Vec<Part>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// How many parts the queue could use now: more than 0 when somebody has nothing to do. Costs no round trip.
    fn wanted(&self) -> usize;
}

/// Why the queue failed. The job cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The coordination server refused or is out of reach.
    #[error("the work queue's server failed: {0}")]
    Server(String),
    /// The job exists already and is another one.
    #[error("a job with other parameters is there: {found}")]
    Differs {
        /// Its parameters.
        found: String,
    },
    /// A part cannot be read.
    #[error(transparent)]
    Damaged(#[from] DamagedPart),
    /// A worker of this job failed, so the others stop.
    #[error("another worker failed")]
    Abandoned,
}
