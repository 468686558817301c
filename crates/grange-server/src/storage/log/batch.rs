//! What the log stores: a [`Batch`] of records, and their encoding inside one frame.
//!
//! All integers are little-endian. A record is `kind: u8` and its fields:
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 1 | entry | `index u64, term u64, tag u8, len u32`, then `len` bytes |
//! | 2 | hard state | `term u64, vote u64, commit u64` |
//! | 3 | reset | `index u64, term u64`: the log goes on after a snapshot, what it held is void |
//! | 4 | carry | `last_index u64, last_term u64, index_max u64`, then a hard state: first record of a segment |

use bytes::{Buf, BufMut, Bytes};

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_RESET: u8 = 3;
const KIND_CARRY: u8 = 4;
const ENTRY_HEAD_BYTES: usize = 1 + 8 + 8 + 1 + 4;
const HARD_STATE_BYTES: usize = 1 + 24;
const RESET_BYTES: usize = 1 + 16;
/// Bytes of an encoded carry record.
pub(super) const CARRY_BYTES: usize = 1 + 24 + 24;

/// One log entry; its data means nothing to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term in which a leader created it.
    pub term: u64,
    /// One byte for the owner, for example the type of the entry.
    pub tag: u8,
    /// Contents, opaque.
    pub data: Bytes,
}

/// The replica's persistent variables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term the member has seen.
    pub term: u64,
    /// Member voted for in that term; 0 for none.
    pub vote: u64,
    /// Highest index known to be committed.
    pub commit: u64,
}

/// The last entry that a snapshot contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Index of that entry.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
}

/// A set of changes that becomes durable as a whole or not at all.
///
/// Applied in this order: reset, entries, hard state.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    reset: Option<Mark>,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
}

impl Batch {
    /// Creates an empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds an entry; an index at or below the log's last one replaces that entry and voids all after it.
    ///
    /// Panics if `entry` does not follow the entry added before it.
    pub fn push(&mut self, entry: Entry) {
        if let Some(last) = self.entries.last() {
            assert_eq!(entry.index, last.index + 1, "the entries of a batch have consecutive indexes");
        }
        self.entries.push(entry);
    }

    /// Sets the hard state.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = Some(hard_state);
    }

    /// Voids all entries the log has; the next one is `mark.index + 1` (a snapshot was received from the leader).
    ///
    /// The snapshot must be durable before the batch is appended.
    pub fn reset_to(&mut self, mark: Mark) {
        self.reset = Some(mark);
    }

    /// Tells whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.reset.is_none() && self.entries.is_empty() && self.hard_state.is_none()
    }

    /// Removes everything, keeping the memory.
    pub fn clear(&mut self) {
        self.reset = None;
        self.entries.clear();
        self.hard_state = None;
    }

    pub(super) fn reset(&self) -> Option<Mark> {
        self.reset
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        self.entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry.data.len()).sum::<usize>()
            + self.reset.map_or(0, |_| RESET_BYTES)
            + self.hard_state.map_or(0, |_| HARD_STATE_BYTES)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(mark) = self.reset {
            out.put_u8(KIND_RESET);
            out.put_u64_le(mark.index);
            out.put_u64_le(mark.term);
        }
        for entry in &self.entries {
            out.put_u8(KIND_ENTRY);
            out.put_u64_le(entry.index);
            out.put_u64_le(entry.term);
            out.put_u8(entry.tag);
            out.put_u32_le(
                u32::try_from(entry.data.len()).expect("the caller compared the batch with batch_bytes_max"),
            );
            out.put_slice(&entry.data);
        }
        if let Some(hard_state) = self.hard_state {
            out.put_u8(KIND_HARD_STATE);
            put_hard_state(out, hard_state);
        }
    }
}

/// What a segment must know of the segments before it, so that those can be purged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carry {
    pub(super) last: Mark,
    /// Highest index that any earlier segment holds, live or void.
    pub(super) index_max: u64,
    pub(super) hard_state: HardState,
}

impl Carry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(KIND_CARRY);
        out.put_u64_le(self.last.index);
        out.put_u64_le(self.last.term);
        out.put_u64_le(self.index_max);
        put_hard_state(out, self.hard_state);
    }
}

/// One decoded record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(Entry),
    HardState(HardState),
    Reset(Mark),
    Carry(Carry),
}

/// Takes one record off the front of `body`; `None` if it is not one (the checksum held, so a newer version wrote it).
pub(super) fn decode(body: &mut Bytes) -> Option<Record> {
    match body.try_get_u8().ok()? {
        KIND_ENTRY => {
            let index = get_index(body)?;
            let term = body.try_get_u64_le().ok()?;
            let tag = body.try_get_u8().ok()?;
            let len = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
            (len <= body.len()).then(|| Record::Entry(Entry { index, term, tag, data: body.split_to(len) }))
        }
        KIND_HARD_STATE => Some(Record::HardState(get_hard_state(body)?)),
        KIND_RESET => Some(Record::Reset(get_mark(body)?)),
        KIND_CARRY => Some(Record::Carry(Carry {
            last: get_mark(body)?,
            index_max: get_index(body)?,
            hard_state: get_hard_state(body)?,
        })),
        _ => None,
    }
}

fn put_hard_state(out: &mut Vec<u8>, hard_state: HardState) {
    out.put_u64_le(hard_state.term);
    out.put_u64_le(hard_state.vote);
    out.put_u64_le(hard_state.commit);
}

fn get_hard_state(body: &mut Bytes) -> Option<HardState> {
    Some(HardState {
        term: body.try_get_u64_le().ok()?,
        vote: body.try_get_u64_le().ok()?,
        commit: body.try_get_u64_le().ok()?,
    })
}

fn get_mark(body: &mut Bytes) -> Option<Mark> {
    Some(Mark { index: get_index(body)?, term: body.try_get_u64_le().ok()? })
}

/// Takes an index; the last number is none, so that the next index can be computed without a check.
fn get_index(body: &mut Bytes) -> Option<u64> {
    body.try_get_u64_le().ok().filter(|index| *index < u64::MAX)
}
