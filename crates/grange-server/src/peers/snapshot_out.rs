//! Sending a snapshot to a member: on a connection of its own, again from where it broke.
//!
//! After the hello the sender offers the file; the receiver answers how much of that very file it has. Then the bytes
//! follow in frames, and in the end the receiver says that it has the snapshot on its disk and decoded.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use grange_replica::{Event, MemberId};

use super::channel::Channel;
use super::dialer::{self, DialError};
use super::frame::{FrameReader, put_frame};
use super::hello::Purpose;
use super::{HELLO_TIME_MAX, Shared};
use crate::storage::snapshot::{SnapshotError, SnapshotSource};

/// Bytes of a frame with a part of the file.
const PART_BYTES: u64 = 1 << 20;
/// Attempts after one that got nothing across.
const ATTEMPTS_MAX: u32 = 5;
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the receiver may take to sync and decode what it got.
const TAKE_IN_TIME_MAX: Duration = Duration::from_secs(600);

/// What a sender says about the file, before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) bytes: u64,
    /// Two files of the same index and term may differ; resuming must not mix them.
    pub(super) fingerprint: u64,
    /// Opaque, for the replica.
    pub(super) message: Bytes,
}

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It has so much of the file: go on from there.
    From(u64),
    /// It has all of it, durably, and decoded.
    Received,
    /// It will not have it now.
    Refused(String),
}

impl Offer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.message.len());
        [self.index, self.term, self.bytes, self.fingerprint].iter().for_each(|number| out.put_u64_le(*number));
        out.put_slice(&self.message);
        out
    }

    pub(super) fn decode(mut from: Bytes) -> Option<Offer> {
        let index = from.try_get_u64_le().ok()?;
        let term = from.try_get_u64_le().ok()?;
        let bytes = from.try_get_u64_le().ok()?;
        let fingerprint = from.try_get_u64_le().ok()?;
        Some(Offer { index, term, bytes, fingerprint, message: from })
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Reply::From(offset) => [&[0][..], &offset.to_le_bytes()].concat(),
            Reply::Received => vec![1],
            Reply::Refused(why) => [&[2], why.as_bytes()].concat(),
        }
    }

    pub(super) fn decode(mut from: Bytes) -> Option<Reply> {
        match from.try_get_u8().ok()? {
            0 => Some(Reply::From(from.try_get_u64_le().ok()?)),
            1 => Some(Reply::Received),
            2 => Some(Reply::Refused(String::from_utf8_lossy(&from).escape_debug().to_string())),
            _ => None,
        }
    }
}

/// A snapshot to be sent.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) to: MemberId,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) message: Vec<u8>,
}

/// Why a snapshot did not get across.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot read the snapshot")]
    File(#[from] SnapshotError),
    #[error("the receiver refuses: {0}")]
    Refused(String),
    #[error("the receiver's answer is not understood")]
    Format,
    #[error("the member is another one now")]
    OtherMember,
}

/// Starts a thread that sends; one for the same member that runs already gives up.
pub(super) fn start(shared: &Arc<Shared>, order: Order) -> io::Result<()> {
    let number = shared.send_count.fetch_add(1, Ordering::Relaxed);
    shared.sending.lock().expect(super::NEVER_POISONED).insert(order.to, number);
    shared.spawn("peer-snapshot", move |shared| {
        let job = Job { shared, number, order };
        let is_received = job.run();
        // One that was replaced has nothing to say about the one in its place.
        if job.is_wanted() {
            shared.sending.lock().expect(super::NEVER_POISONED).remove(&job.order.to);
            shared.inbox.push(Event::SnapshotSent { to: job.order.to, is_received });
        }
        Ok(())
    })
}

struct Job<'a> {
    shared: &'a Shared,
    number: u64,
    order: Order,
}

impl Job<'_> {
    fn is_wanted(&self) -> bool {
        let newest = self.shared.sending.lock().expect(super::NEVER_POISONED).get(&self.order.to).copied();
        newest == Some(self.number) && !self.shared.registry.is_stopped()
    }

    /// Returns whether the member has the snapshot.
    fn run(&self) -> bool {
        let Order { to, index, term, .. } = &self.order;
        // Held open from here on: whoever removes the file takes away its name only.
        let source = match self.shared.snapshots.source(*index, *term) {
            Ok(Some(source)) => source,
            Ok(None) => {
                tracing::info!(%to, index, "a snapshot that was to be sent is gone; a newer one will be");
                return false;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(%to, index, error, "a snapshot cannot be read");
                return false;
            }
        };
        let Some((server_id, ..)) = self.shared.registry.way_to(*to) else { return false };
        let began = Instant::now();
        let (mut attempts, mut furthest) = (0, 0);
        while attempts < ATTEMPTS_MAX && self.is_wanted() {
            let mut reached = 0;
            match self.attempt(server_id, &source, &mut reached) {
                Ok(()) => {
                    let took_ms = began.elapsed().as_millis();
                    tracing::info!(server = server_id, index, bytes = source.bytes(), took_ms, "a snapshot was sent");
                    self.shared.stats.snapshots_sent.add(1);
                    return true;
                }
                Err(error) => {
                    attempts = if reached > furthest { 0 } else { attempts + 1 };
                    furthest = furthest.max(reached);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(server = server_id, index, offset = reached, error, "a snapshot was not sent whole");
                    std::thread::sleep(PAUSE);
                }
            }
        }
        false
    }

    /// Sends once; `reached` is where the receiver's file ended at the start, in the end, or when the connection broke.
    fn attempt(&self, server_id: u8, source: &SnapshotSource, reached: &mut u64) -> Result<(), SendError> {
        let addresses = self.shared.registry.dialer(server_id).map(|dialer| dialer.addresses()).unwrap_or_default();
        let (mut channel, peer) = dialer::dial(self.shared, server_id, &addresses, Purpose::Snapshot)?;
        if peer.member.id != self.order.to {
            return Err(SendError::OtherMember);
        }
        let offer = Offer {
            index: self.order.index,
            term: self.order.term,
            bytes: source.bytes(),
            fingerprint: source.fingerprint(),
            message: Bytes::copy_from_slice(&self.order.message),
        };
        let mut replies = FrameReader::new();
        channel.set_deadline(Instant::now() + HELLO_TIME_MAX);
        write_frame(&mut channel, &offer.encode())?;
        let Reply::From(offset) = read_reply(&mut replies, &mut channel)? else { return Err(SendError::Format) };
        if offset > source.bytes() {
            return Err(SendError::Format);
        }
        *reached = offset;
        while *reached < source.bytes() && self.is_wanted() {
            let part = source.read(*reached, PART_BYTES)?;
            write_frame(&mut channel, &part)?;
            *reached += part.len() as u64;
            self.shared.stats.snapshot_bytes_sent.add(part.len() as u64);
        }
        channel.set_deadline(Instant::now() + TAKE_IN_TIME_MAX);
        match read_reply(&mut replies, &mut channel)? {
            Reply::Received => Ok(()),
            _ => Err(SendError::Format),
        }
    }
}

pub(super) fn write_frame(channel: &mut Channel, message: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    put_frame(&mut frame, message);
    channel.write_all(&frame)
}

fn read_reply(replies: &mut FrameReader, channel: &mut Channel) -> Result<Reply, SendError> {
    match Reply::decode(replies.wait(channel)?) {
        Some(Reply::Refused(why)) => Err(SendError::Refused(why)),
        Some(reply) => Ok(reply),
        None => Err(SendError::Format),
    }
}
