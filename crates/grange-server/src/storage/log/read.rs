//! Reading entries back from the segments, as a stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::batch::{self, Entry, Record};
use super::frame::FrameReader;
use super::view::View;
use super::{LogError, TrackedSegment};

/// Bytes of frames between two checkpoints: the most that is read in vain to find an entry.
const CHECKPOINT_BYTES: u64 = 64 << 10;

/// A place from which every live entry at or after `index` can be found by reading on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint {
    index: u64,
    segment: u64,
    offset: u64,
}

/// Checkpoints in the order of the log, which is also the order of their indexes.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(VecDeque<Checkpoint>);

impl Checkpoints {
    /// Notes that the frame at `offset` of `segment` starts with entry `index`.
    pub(super) fn note(&mut self, index: u64, segment: u64, offset: u64) {
        let mut needed = true;
        while let Some(last) = self.0.back() {
            if last.index < index {
                needed &= last.segment != segment || offset - last.offset >= CHECKPOINT_BYTES;
                break;
            }
            // The entries there were replaced, and those after them are void; the place of the new ones must be kept.
            self.0.pop_back();
        }
        if needed || self.0.back().is_none() {
            self.0.push_back(Checkpoint { index, segment, offset });
        }
    }

    /// Forgets the places before segment `number`.
    pub(super) fn purge(&mut self, number: u64) {
        while self.0.pop_front_if(|checkpoint| checkpoint.segment < number).is_some() {}
    }

    fn find(&self, index: u64) -> Option<Checkpoint> {
        let after = self.0.partition_point(|checkpoint| checkpoint.index <= index);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

/// An iterator over the live entries from an index on, in order. Fused after an error.
#[derive(Debug)]
pub struct Entries<'a> {
    view: &'a View,
    segments: &'a VecDeque<TrackedSegment>,
    /// Position in `segments` of the one being read.
    at: usize,
    reader: Option<FrameReader<'a>>,
    frame_seq: u64,
    body: Bytes,
    next: u64,
}

impl<'a> Entries<'a> {
    pub(super) fn new(
        view: &'a View,
        segments: &'a VecDeque<TrackedSegment>,
        checkpoints: &Checkpoints,
        from: u64,
    ) -> Entries<'a> {
        let mut entries = Entries { view, segments, at: 0, reader: None, frame_seq: 0, body: Bytes::new(), next: from };
        let within = (view.first..=view.last.index).contains(&from);
        let start = checkpoints.find(from).filter(|_| within).and_then(|checkpoint| {
            let at = segments.iter().position(|tracked| tracked.segment.number == checkpoint.segment)?;
            Some((at, checkpoint.offset))
        });
        if let Some((at, offset)) = start {
            let TrackedSegment { segment, written, .. } = &segments[at];
            entries.at = at;
            entries.reader = Some(FrameReader::from_offset(segment, offset, *written));
        }
        entries
    }

    /// Loads the next frame into `body`; false at the end of what is durable.
    fn advance(&mut self) -> Result<bool, LogError> {
        while let Some(reader) = &mut self.reader {
            let TrackedSegment { segment, written, .. } = &self.segments[self.at];
            let frame = reader.next(None).map_err(|source| LogError::Io {
                action: "read",
                path: segment.path.clone(),
                source,
            })?;
            if let Some(frame) = frame {
                self.frame_seq = frame.header.seq;
                self.body = frame.body;
                return Ok(true);
            }
            if reader.offset() < *written {
                let what = "a frame that was intact before is not any more";
                return Err(LogError::Damaged { path: segment.path.clone(), offset: reader.offset(), what });
            }
            self.at += 1;
            self.reader = self.segments.get(self.at).map(|tracked| tracked.reader());
        }
        Ok(false)
    }

    fn damaged(&self, what: &'static str) -> LogError {
        let path = self.segments[self.at].segment.path.clone();
        LogError::Damaged { path, offset: self.reader.as_ref().map_or(0, FrameReader::offset), what }
    }

    fn next_live(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            while self.body.is_empty() {
                if !self.advance()? {
                    return Ok(None);
                }
            }
            match batch::decode(&mut self.body) {
                Some(Record::Entry(entry)) if entry.index >= self.next => {
                    if !self.view.is_live(entry.index, self.frame_seq) {
                        continue;
                    }
                    if entry.index != self.next {
                        return Err(self.damaged("the frame before this place holds an entry out of order"));
                    }
                    self.next += 1;
                    return Ok(Some(entry));
                }
                Some(_) => {}
                None => return Err(self.damaged("the frame before this place holds an unknown record")),
            }
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.next_live().transpose();
        if !matches!(result, Some(Ok(_))) {
            self.reader = None;
            self.body = Bytes::new();
        }
        result
    }
}
