//! Opening a log: finding its end, and telling a torn tail from damage.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::super::disk::Disk;
use super::batch::{self, Record};
use super::frame::{self, FrameHeader, FrameReader};
use super::read::Checkpoints;
use super::segment::{self, NameKind, SEGMENT_HEADER_BYTES, Segment};
use super::view::{Applied, View};
use super::{LogError, TrackedSegment};

/// What was cut off the end of the log: batches that no sync had covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The last segment.
    pub path: PathBuf,
    /// Where the first incomplete batch started.
    pub offset: u64,
    /// Batches whose beginning was found there, complete or not.
    pub batch_count: usize,
}

/// The log directory's files, by what they are.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Numbers of the segments, without a gap.
    pub(super) numbers: VecDeque<u64>,
    /// Files that wait to be recycled.
    pub(super) free: Vec<PathBuf>,
}

impl Listing {
    /// Reads the directory and removes what an interrupted making of a segment left.
    ///
    /// The names are made durable: the last process may have died between giving a name and syncing the directory,
    /// and what is acknowledged from now on must not go with a name that a power loss takes back.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Listing, LogError> {
        let io_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { action, path, source }
        };
        let mut listing = Listing::default();
        let mut numbers = Vec::new();
        for name in disk.list(dir).map_err(io_error("list", dir))? {
            let path = dir.join(&name);
            match segment::parse_name(&name) {
                Some(NameKind::Live(number)) => numbers.push(number),
                Some(NameKind::Free) => listing.free.push(path),
                Some(NameKind::Unfinished) => disk.remove(&path).map_err(io_error("remove", &path))?,
                None => {}
            }
        }
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
            return Err(LogError::Missing { path: segment::live_path(dir, pair[0] + 1) });
        }
        listing.numbers = numbers.into();
        Ok(listing)
    }
}

/// A log as found on the disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) view: View,
    pub(super) checkpoints: Checkpoints,
    /// Segments with frames, and the last one even without; the last one is written on.
    pub(super) segments: VecDeque<TrackedSegment>,
    /// Segments made ahead and never written.
    pub(super) unused: VecDeque<Segment>,
    /// Sequence number of the last frame.
    pub(super) seq: u64,
    pub(super) cut: Option<Cut>,
}

/// Finds the end of the log in `segments` (in order, not empty) and makes everything before it durable.
pub(super) fn recover(segments: VecDeque<Segment>, replay_from: u64) -> Result<Found, LogError> {
    let start = choose_start(&segments, replay_from)?;
    let mut scan = Scan::new(&segments, start)?;
    let skipped_index_max = scan.view.index_max;
    let mut last = start;
    loop {
        scan.segment(&segments[last])?;
        let Some(next) = segments.get(last + 1) else { break };
        if first_frame(next)?.is_none_or(|first| first.seq != scan.seq + 1) {
            break;
        }
        last += 1;
    }
    let end = scan.end;
    let leftovers = refuse_damage(&segments, last, end, scan.seq + 1)?;
    let tail = &segments[last];
    settle_tail(&segments, last, &scan, &leftovers)?;
    let cut =
        (!leftovers.is_empty()).then(|| Cut { path: tail.path.clone(), offset: end, batch_count: leftovers.len() });
    let Scan { view, checkpoints, mut tracked, seq, .. } = scan;
    let unused = segments.iter().skip(last + 1).cloned().collect();
    for (at, segment) in segments.into_iter().enumerate().take(start) {
        // Not read: they only wait to be purged, or to be replayed after an older snapshot.
        let written = SEGMENT_HEADER_BYTES;
        tracked.insert(at, TrackedSegment { segment, written, index_max: skipped_index_max, first_seq: 0 });
    }
    Ok(Found { view, checkpoints, segments: tracked, unused, seq, cut })
}

/// What the first frame of a segment says.
struct First {
    seq: u64,
    carry: Option<batch::Carry>,
}

fn first_frame(segment: &Segment) -> Result<Option<First>, LogError> {
    let frame = FrameReader::new(segment).next(None).map_err(read_error(segment))?;
    Ok(frame.map(|mut frame| {
        let carry = match batch::decode(&mut frame.body) {
            Some(Record::Carry(carry)) => Some(carry),
            _ => None,
        };
        First { seq: frame.header.seq, carry }
    }))
}

/// Chooses the segment to start reading at: the last one before which no entry at or after `replay_from` lies.
fn choose_start(segments: &VecDeque<Segment>, replay_from: u64) -> Result<usize, LogError> {
    for at in (1..segments.len()).rev() {
        let carry = first_frame(&segments[at])?.and_then(|first| first.carry);
        if carry.is_some_and(|carry| carry.index_max < replay_from) {
            return Ok(at);
        }
    }
    Ok(0)
}

/// The state of going through the frames.
struct Scan {
    view: View,
    checkpoints: Checkpoints,
    tracked: VecDeque<TrackedSegment>,
    /// Sequence number of the last intact frame.
    seq: u64,
    /// Where the last intact frame of the current segment ends.
    end: u64,
    /// Start of the first frame in the current segment that no later one proves durable, with later such frames.
    unproven: VecDeque<(u64, u64)>,
}

impl Scan {
    fn new(segments: &VecDeque<Segment>, start: usize) -> Result<Scan, LogError> {
        let segment = &segments[start];
        let mut view = View::new();
        let first = first_frame(segment)?;
        let seq = match &first {
            Some(First { seq, carry: Some(carry) }) => {
                view.start_from(*carry);
                seq - 1
            }
            // The very first segment may be empty; a later one becomes the oldest only once its first frame is durable.
            None if segment.number == 1 => 0,
            _ => {
                let what = "the first frame of the oldest segment does not match its checksum";
                return Err(LogError::Damaged { path: segment.path.clone(), offset: SEGMENT_HEADER_BYTES, what });
            }
        };
        Ok(Scan {
            view,
            checkpoints: Checkpoints::default(),
            tracked: VecDeque::new(),
            seq,
            end: SEGMENT_HEADER_BYTES,
            unproven: VecDeque::new(),
        })
    }

    /// Applies the intact frames of one segment, up to the first that is not.
    fn segment(&mut self, segment: &Segment) -> Result<(), LogError> {
        self.unproven.clear();
        let first_seq = self.seq + 1;
        let mut reader = FrameReader::new(segment);
        while let Some(mut frame) = reader.next(Some(self.seq + 1)).map_err(read_error(segment))? {
            self.seq += 1;
            while self.unproven.pop_front_if(|(seq, _)| *seq <= frame.header.synced).is_some() {}
            self.unproven.push_back((self.seq, frame.offset));
            self.records(segment, frame.offset, &mut frame.body)?;
        }
        self.end = reader.offset();
        self.tracked.push_back(TrackedSegment {
            segment: segment.clone(),
            written: self.end,
            index_max: self.view.index_max,
            first_seq,
        });
        Ok(())
    }

    fn records(&mut self, segment: &Segment, offset: u64, body: &mut bytes::Bytes) -> Result<(), LogError> {
        let damaged = |what| LogError::Damaged { path: segment.path.clone(), offset, what };
        let mut noted = false;
        while !body.is_empty() {
            let record = batch::decode(body).ok_or_else(|| damaged("the frame holds an unknown record"))?;
            if self.view.apply(&record, self.seq) == Applied::Gap {
                return Err(damaged("the frame holds an entry out of order"));
            }
            if let (Record::Entry(entry), false) = (&record, noted) {
                self.checkpoints.note(entry.index, segment.number, offset);
                noted = true;
            }
        }
        Ok(())
    }
}

/// A frame, intact or not, of a batch that was never acknowledged.
struct Leftover {
    /// Position of its segment.
    at: usize,
    offset: u64,
}

/// Searches what lies after the end for frames, and refuses if one proves that the frame at the end was durable.
///
/// Returns the frames that prove nothing. They may lie in a later segment too, if its first frame was torn.
fn refuse_damage(
    segments: &VecDeque<Segment>,
    last: usize,
    end: u64,
    missing_seq: u64,
) -> Result<Vec<Leftover>, LogError> {
    let mut leftovers = Vec::new();
    for (at, segment) in segments.iter().enumerate().skip(last) {
        let start = if at == last { end } else { SEGMENT_HEADER_BYTES };
        let found = frame::find_headers(segment, start).map_err(read_error(segment))?;
        let is_proof = |header: &FrameHeader| header.seq > missing_seq && header.synced >= missing_seq;
        if found.iter().any(|(_, header)| is_proof(header)) {
            // In a later segment the first frame is the damaged one if it has the missing number, or if the one after
            // it is there.
            let is_first = |(offset, header): &(u64, FrameHeader)| {
                header.seq == missing_seq + u64::from(*offset > SEGMENT_HEADER_BYTES)
            };
            let (segment, offset) = match found.first() {
                Some(first) if at > last && is_first(first) => (segment, SEGMENT_HEADER_BYTES),
                _ => (&segments[last], end),
            };
            let what = "the frame here is not intact, but a later one was written after it had been synced";
            return Err(LogError::Damaged { path: segment.path.clone(), offset, what });
        }
        leftovers.extend(found.into_iter().map(|(offset, _)| Leftover { at, offset }));
    }
    Ok(leftovers)
}

/// Makes the tail fit to be written on.
///
/// - Frames that no later frame proves durable are written again and synced. They may be in the page cache only; and
///   if a sync had failed before the restart, the kernel may hold them for clean though they never reached the disk.
/// - Headers of cut frames are erased: once new frames fill the place before them they must not be taken for more.
fn settle_tail(segments: &VecDeque<Segment>, last: usize, scan: &Scan, leftovers: &[Leftover]) -> Result<(), LogError> {
    let write_error = |segment: &Segment| {
        let path = segment.path.clone();
        move |source| LogError::Io { action: "write", path, source }
    };
    let tail = &segments[last];
    if let Some((_, start)) = scan.unproven.front() {
        rewrite(tail, *start, scan.end).map_err(write_error(tail))?;
    }
    tail.file.sync_data().map_err(write_error(tail))?;
    for Leftover { at, offset } in leftovers {
        let segment = &segments[*at];
        let erased = segment.file.write_all_at(&[0; frame::FRAME_HEADER_BYTES], *offset);
        erased.and_then(|()| segment.file.sync_data()).map_err(write_error(segment))?;
    }
    Ok(())
}

/// Writes the bytes of a range over themselves.
fn rewrite(segment: &Segment, start: u64, end: u64) -> std::io::Result<()> {
    let mut buf = vec![0; 1 << 20];
    let mut offset = start;
    while offset < end {
        let step = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buf.len());
        let read = segment.file.read_full_at(&mut buf[..step], offset)?;
        segment.file.write_all_at(&buf[..read], offset)?;
        offset += step as u64;
    }
    Ok(())
}

fn read_error(segment: &Segment) -> impl Fn(std::io::Error) -> LogError {
    |source| LogError::Io { action: "read", path: segment.path.clone(), source }
}
