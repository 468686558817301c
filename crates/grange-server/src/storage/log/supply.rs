//! The supply of segments: makes the next one before it is needed and takes back those that were purged.
//!
//! A thread does this, so that neither the zero-filling of a new segment nor the removal of an old one holds up an
//! append. The log asks for a segment as soon as it starts on the one before it, and waits only if it has filled
//! that one sooner than the thread made the next.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::disk::{self, Disk};
use super::segment::{self, Segment};

/// How often a log that waits for a segment looks whether the thread is still there.
const LIVENESS_CHECK: Duration = Duration::from_secs(1);

/// What the supply needs to know about the log directory.
#[derive(Debug, Clone)]
pub(super) struct SupplyConfig {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) recycled_max: usize,
}

#[derive(Debug)]
struct State {
    /// Segments that are ready, in the order of their numbers.
    ready: VecDeque<Segment>,
    /// A segment that was asked for and is not ready.
    wanted: Option<u64>,
    /// Why the last attempt failed.
    failed: Option<io::Error>,
    /// Numbers of segments to be taken back.
    released: VecDeque<u64>,
    /// Files that wait to be recycled.
    free: Vec<PathBuf>,
    busy: bool,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    config: SupplyConfig,
    state: Mutex<State>,
    changed: Condvar,
    /// Read between the steps of zero-filling, without the lock.
    stop: AtomicBool,
}

/// Hands out segments; dropping it stops the thread.
#[derive(Debug)]
pub(super) struct Supply {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl Supply {
    /// Starts the thread. `ready` are unused segments found at start, `free` the files left for recycling.
    pub(super) fn start(config: SupplyConfig, ready: VecDeque<Segment>, free: Vec<PathBuf>) -> io::Result<Supply> {
        let mut supply = Supply::without_thread(config, ready, free);
        let shared = Arc::clone(&supply.shared);
        supply.worker = Some(std::thread::Builder::new().name("log-supply".into()).spawn(move || shared.run())?);
        Ok(supply)
    }

    /// Does all work in the calls themselves: for tests that must do the same at each run.
    fn without_thread(config: SupplyConfig, ready: VecDeque<Segment>, free: Vec<PathBuf>) -> Supply {
        let state =
            State { ready, wanted: None, failed: None, released: VecDeque::new(), free, busy: false, stop: false };
        let (state, changed, stop) = (Mutex::new(state), Condvar::new(), AtomicBool::new(false));
        Supply { shared: Arc::new(Shared { config, state, changed, stop }), worker: None }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn inline(config: SupplyConfig, ready: VecDeque<Segment>, free: Vec<PathBuf>) -> Supply {
        Supply::without_thread(config, ready, free)
    }

    /// Asks for segment `number` to be made, if it is not ready yet.
    pub(super) fn request(&self, number: u64) {
        let mut state = self.shared.lock();
        state.failed = None;
        if state.ready.iter().all(|segment| segment.number != number) {
            state.wanted = Some(number);
            self.shared.changed.notify_all();
        }
    }

    /// Returns segment `number`, waiting for it to be made if necessary.
    pub(super) fn take(&self, number: u64) -> io::Result<Segment> {
        let mut state = self.shared.lock();
        // An earlier failure may have passed since: each call makes one attempt of its own.
        state.failed = None;
        loop {
            if let Some(segment) = state.ready.pop_front_if(|segment| segment.number == number) {
                return Ok(segment);
            }
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if state.wanted != Some(number) && !state.busy {
                state.wanted = Some(number);
                self.shared.changed.notify_all();
            }
            state = match &self.worker {
                Some(worker) if worker.is_finished() => {
                    return Err(io::Error::other("the thread that makes segments has died"));
                }
                Some(_) => self.shared.wait_for(state, LIVENESS_CHECK),
                None => self.shared.work(state),
            };
        }
    }

    /// Returns the bytes that the disk has to give before segment `number` can be handed out; 0 if nothing is missing.
    pub(super) fn missing_bytes(&self, number: u64) -> u64 {
        let state = self.shared.lock();
        let is_there = state.ready.iter().any(|segment| segment.number == number) || !state.free.is_empty();
        if is_there { 0 } else { self.shared.config.segment_bytes }
    }

    /// Returns why the last attempt to make a segment failed, if the disk was full.
    pub(super) fn full(&self) -> Option<io::Error> {
        let state = self.shared.lock();
        state.failed.as_ref().filter(|error| disk::is_full(error)).map(|error| error.kind().into())
    }

    /// Takes a segment back that [`Supply::take`] had handed out and that was not used.
    pub(super) fn put_back(&self, segment: Segment) {
        self.shared.lock().ready.push_front(segment);
    }

    /// Takes back purged segments, oldest first: to be recycled, or removed if enough are kept.
    pub(super) fn release(&self, numbers: impl Iterator<Item = u64>) {
        let mut state = self.shared.lock();
        state.released.extend(numbers);
        if self.worker.is_none() {
            drop(self.shared.work(state));
        } else {
            self.shared.changed.notify_all();
        }
    }

    /// Returns the bytes of unused segments and of files kept for recycling.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.shared.lock();
        let ready: u64 = state.ready.iter().map(|segment| segment.bytes).sum();
        let kept = (state.free.len() + state.released.len()) as u64;
        ready + kept.saturating_mul(self.shared.config.segment_bytes)
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // A panic of the thread was reported when it happened; there is nothing to add to it here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("nothing panics while it holds this lock")
    }

    fn wait_for<'a>(&'a self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).expect("nothing panics while it holds this lock").0
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            state =
                if state.wanted.is_some() || !state.released.is_empty() { self.work(state) } else { self.wait(state) };
        }
    }

    /// Does one piece of work with the lock released: takes back what was purged, or makes what is wanted.
    fn work<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if !state.released.is_empty() {
            let numbers = std::mem::take(&mut state.released);
            let room = self.config.recycled_max.saturating_sub(state.free.len());
            drop(state);
            let free = self.take_back(&numbers, room);
            state = self.lock();
            state.free.extend(free);
        }
        let Some(number) = state.wanted else { return state };
        let recycled = state.free.pop();
        state.busy = true;
        drop(state);
        let SupplyConfig { disk, dir, segment_bytes, .. } = &self.config;
        let made = Segment::make(&**disk, dir, number, *segment_bytes, recycled, &self.stop);
        state = self.lock();
        state.busy = false;
        state.wanted = state.wanted.filter(|wanted| *wanted != number);
        match made {
            Ok(segment) => state.ready.push_back(segment),
            Err(error) => state.failed = Some(error),
        }
        self.changed.notify_all();
        state
    }

    /// Renames up to `room` purged segments of the usual size for recycling and removes the others.
    ///
    /// A failure costs space, not safety: the purged segment is found again, and purged again, after the next start.
    fn take_back(&self, numbers: &VecDeque<u64>, room: usize) -> Vec<PathBuf> {
        let SupplyConfig { disk, dir, segment_bytes, .. } = &self.config;
        let mut free = Vec::new();
        for &number in numbers {
            let path = segment::live_path(dir, number);
            let recyclable = free.len() < room
                && disk.open(&path).and_then(|file| file.size()).is_ok_and(|bytes| bytes == *segment_bytes);
            let kept = segment::free_path(dir, number);
            let result = if recyclable { disk.rename(&path, &kept) } else { disk.remove(&path) };
            match result {
                Ok(()) if recyclable => free.push(kept),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot take back a purged log segment");
                    // Younger ones must not go before it, or the numbers would have a gap at the next start.
                    break;
                }
            }
        }
        // The names must be durable before a recycled file is overwritten: else the old name could come back on it.
        match disk.sync_dir(dir) {
            Ok(()) => free,
            Err(error) => {
                tracing::warn!(path = %dir.display(), %error, "cannot sync the log directory");
                Vec::new()
            }
        }
    }
}
