//! A simulated disk: forgets what was not synced, tears what was half written, fails where it is told to.
//!
//! A file is an array of sectors. A write is pending, sector by sector, until the file is synced; a crash leaves each
//! sector at a random one of its versions since the last sync, independently of all others. Names (create, rename,
//! remove) persist in order, as on a journaling file system: a crash keeps a random number of the changes since the
//! last directory sync. A file's size is durable with its next sync.

#![allow(clippy::unwrap_used, reason = "a simulation that cannot go on says so by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Which calls fail, and how.
#[derive(Debug, Default, Clone)]
pub struct Faults {
    /// Calls of `write_at` until one fails with EIO, after taking part of its bytes.
    pub write_fails_in: Option<u64>,
    /// Calls of `sync_data` until one fails with EIO; what it should have made durable is readable until a crash.
    pub sync_fails_in: Option<u64>,
    /// Bytes that all files together may have; above, allocating and growing give ENOSPC.
    pub capacity_bytes: Option<u64>,
    /// Writes to space that is allocated already fail with ENOSPC too, as on copy-on-write file systems.
    pub full: bool,
    /// Changing calls until the process is dead: that call and all after it fail without an effect.
    pub dies_in: Option<u64>,
    /// Writes are taken in pieces.
    pub short_writes: bool,
}

type Sector = [u8; SECTOR];

#[derive(Debug, Default, Clone)]
struct Content {
    /// Current bytes, as the running system sees them.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Versions of sectors since the last sync, oldest first.
    pending: BTreeMap<usize, Vec<Sector>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    /// The names as they were after each change since the last directory sync; the first one is durable.
    names_history: Vec<BTreeMap<PathBuf, usize>>,
    faults: Faults,
    random: Option<Random>,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: usize,
}

impl SimDisk {
    /// Makes an empty disk; `seed` decides what a crash leaves.
    pub fn new(seed: u64) -> SimDisk {
        let disk = SimDisk::default();
        disk.lock().random = Some(Random(seed));
        disk.lock().names_history.push(BTreeMap::new());
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Loses power: each sector and the names go to a random state since their last sync. Faults end.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let random = state.random.as_mut().unwrap();
        for content in &mut state.files {
            let mut bytes = content.durable.clone();
            // The size may or may not have reached the disk.
            if content.bytes.len() > bytes.len() && random.below(2) == 0 {
                bytes.resize(content.bytes.len(), 0);
            }
            for (sector, versions) in &content.pending {
                let choice = usize::try_from(random.below(versions.len() as u64 + 1)).unwrap();
                let start = sector * SECTOR;
                if let (Some(version), true) = (choice.checked_sub(1), start < bytes.len()) {
                    let end = (start + SECTOR).min(bytes.len());
                    bytes[start..end].copy_from_slice(&versions[version][..end - start]);
                }
            }
            *content = Content { durable: bytes.clone(), bytes, pending: BTreeMap::new() };
        }
        let choice = random.below(state.names_history.len() as u64);
        state.names = state.names_history[usize::try_from(choice).unwrap()].clone();
        state.names_history = vec![state.names.clone()];
        state.faults = Faults::default();
        let named: BTreeSet<usize> = state.names.values().copied().collect();
        for (_, content) in state.files.iter_mut().enumerate().filter(|(id, _)| !named.contains(id)) {
            // Nothing can open it any more.
            *content = Content::default();
        }
    }

    /// Returns the bytes that all files together have.
    pub fn bytes(&self) -> u64 {
        SimDisk::used_bytes(&self.lock())
    }

    /// Changes one bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) {
        let mut state = self.lock();
        let id = state.names[path];
        let at = usize::try_from(offset).unwrap();
        state.files[id].bytes[at] ^= 1 << bit;
        state.files[id].durable = state.files[id].bytes.clone();
    }

    fn used_bytes(state: &State) -> u64 {
        state.names.values().map(|id| state.files[*id].bytes.len() as u64).sum()
    }
}

impl State {
    /// To be called first by everything that changes the disk.
    fn alive(&mut self) -> io::Result<()> {
        if strikes(&mut self.faults.dies_in) { Err(eio()) } else { Ok(()) }
    }

    fn name_changed(&mut self) {
        self.names_history.push(self.names.clone());
    }
}

/// Counts a fault down; true when it strikes.
fn strikes(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for SimDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.alive()?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len();
        state.files.push(Content::default());
        state.names.insert(path.to_owned(), id);
        state.name_changed();
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = *self.lock().names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        let id = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        state.name_changed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.name_changed();
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        state.names_history = vec![state.names.clone()];
        Ok(())
    }

    fn random_u64(&self) -> io::Result<u64> {
        Ok(self.lock().random.as_mut().unwrap().next())
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.id].bytes.len() as u64)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.alive()?;
        let grown = bytes.saturating_sub(state.files[self.id].bytes.len() as u64);
        if state.faults.capacity_bytes.is_some_and(|capacity| SimDisk::used_bytes(&state) + grown > capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.files[self.id].bytes.resize(usize::try_from(bytes).unwrap(), 0);
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let bytes = &state.files[self.id].bytes;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let read = buf.len().min(bytes.len() - start);
        buf[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let state = &mut *state;
        state.alive()?;
        let start = usize::try_from(offset).unwrap();
        let failed = strikes(&mut state.faults.write_fails_in);
        let mut taken = buf.len();
        if state.faults.full {
            return Err(ErrorKind::StorageFull.into());
        }
        if failed || (state.faults.short_writes && taken > 1) {
            let part = state.random.as_mut().unwrap().below(taken as u64);
            taken = usize::try_from(part).unwrap().max(1).min(taken);
        }
        let content = &mut state.files[self.id];
        let end = start + taken;
        if end > content.bytes.len() {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(&buf[..taken]);
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let mut version = [0; SECTOR];
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(content.bytes.len());
            version[..to - from].copy_from_slice(&content.bytes[from..to]);
            content.pending.entry(sector).or_default().push(version);
        }
        if failed { Err(eio()) } else { Ok(taken) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.alive()?;
        let failed = strikes(&mut state.faults.sync_fails_in);
        let content = &mut state.files[self.id];
        if failed {
            // As Linux does: the pages stay readable, count as clean, and no later sync will write them.
            content.pending.clear();
            return Err(eio());
        }
        let Content { bytes, durable, pending } = content;
        durable.resize(bytes.len(), 0);
        for sector in std::mem::take(pending).into_keys() {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(bytes.len());
            durable[from..to].copy_from_slice(&bytes[from..to]);
        }
        Ok(())
    }
}
