//! The queue inside one process, without a server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::sync::part::{Part, Phase};
use crate::sync::queue::{Claim, ClaimId, QueueError, Take, WorkQueue};

/// Parts in this process's memory; gone with it, and then a new run compares anew.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    main: VecDeque<Part>,
    late: VecDeque<Part>,
    claimed: HashMap<ClaimId, Phase>,
    next_claim: u64,
    idle_workers: usize,
}

impl State {
    fn claim(&mut self, phase: Phase, part: Part) -> Claim {
        let id = ClaimId(self.next_claim);
        self.next_claim += 1;
        self.claimed.insert(id, phase);
        Claim { id, part }
    }

    fn take(&mut self) -> Take {
        if let Some(part) = self.main.pop_front() {
            return Take::Parts(vec![self.claim(Phase::Main, part)]);
        }
        if self.claimed.values().any(|&phase| phase == Phase::Main) {
            return Take::Nothing;
        }
        if self.late.is_empty() {
            return if self.claimed.is_empty() { Take::Over } else { Take::Nothing };
        }
        let late = std::mem::take(&mut self.late);
        Take::Parts(late.into_iter().map(|part| self.claim(Phase::Late, part)).collect())
    }
}

impl MemoryQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkQueue for MemoryQueue {
    async fn put(&self, phase: Phase, parts: Vec<Part>) -> Result<(), QueueError> {
        match phase {
            Phase::Main => self.lock().main.extend(parts),
            Phase::Late => self.lock().late.extend(parts),
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn try_take(&self) -> Result<Take, QueueError> {
        Ok(self.lock().take())
    }

    async fn take(&self) -> Result<Take, QueueError> {
        self.lock().idle_workers += 1;
        let taken = loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.lock().take() {
                Take::Nothing => {}
                taken => break taken,
            }
            changed.await;
        };
        self.lock().idle_workers -= 1;
        Ok(taken)
    }

    async fn complete(&self, claims: Vec<ClaimId>, late: Vec<Part>) -> Result<(), QueueError> {
        {
            let mut state = self.lock();
            state.late.extend(late);
            for claim in claims {
                state.claimed.remove(&claim);
            }
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    fn wanted(&self) -> usize {
        let state = self.lock();
        state.idle_workers.saturating_sub(state.main.len())
    }
}
