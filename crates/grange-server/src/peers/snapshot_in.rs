//! Receiving a snapshot: into a file without a name of a snapshot, until all of it is there and decoded.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grange_replica::{Event, MemberId, RecoveredSnapshot};

use super::Shared;
use super::channel::Channel;
use super::frame::FrameReader;
use super::hello::Identity;
use super::snapshot_out::{Offer, Reply, write_frame};
use crate::recovery;
use crate::storage::snapshot::{SnapshotCopy, SnapshotError, SnapshotStore};
use crate::storage::space::{DiskGuard, SpaceError};

/// How long a sender may be silent.
const SENDER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// Where received snapshots are put.
#[derive(Debug)]
pub(crate) struct SnapshotReceiver {
    store: Arc<SnapshotStore>,
    guard: DiskGuard,
    /// Keys the names of the decoded tree.
    name_key: u64,
    /// What has come of one snapshot so far; a connection that breaks leaves it for the next. Whoever receives holds it.
    unfinished: Mutex<Option<Unfinished>>,
}

#[derive(Debug)]
struct Unfinished {
    from: MemberId,
    offer: Offer,
    copy: SnapshotCopy,
}

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the snapshot cannot be stored")]
    Store(#[from] SnapshotError),
    #[error("there is no room for the snapshot")]
    Space(#[from] SpaceError),
    #[error("another snapshot is being received")]
    Busy,
    #[error("the sender is not understood")]
    Format,
}

impl SnapshotReceiver {
    /// Receives into `store`, which lies at `dir`.
    pub(crate) fn new(store: Arc<SnapshotStore>, dir: &Path, name_key: u64) -> SnapshotReceiver {
        let guard = DiskGuard::new(dir, DiskGuard::RESERVE_BYTES_DEFAULT);
        SnapshotReceiver { store, guard, name_key, unfinished: Mutex::new(None) }
    }
}

/// Serves a connection that was made for a snapshot.
pub(super) fn receive(shared: &Shared, mut channel: Channel, peer: &Identity) {
    let server = peer.member.server_id;
    match take_in(shared, &mut channel, peer) {
        Ok(()) => {}
        Err(error) => {
            let reason = &error as &dyn std::error::Error;
            tracing::warn!(server, error = reason, "a snapshot was not received whole");
            if !matches!(error, ReceiveError::Io(_)) {
                // It may have gone meanwhile.
                let _ = write_frame(&mut channel, &Reply::Refused(error.to_string()).encode());
            }
        }
    }
    channel.close();
}

fn take_in(shared: &Shared, channel: &mut Channel, peer: &Identity) -> Result<(), ReceiveError> {
    let receiver = &shared.receiver;
    let Ok(mut unfinished) = receiver.unfinished.try_lock() else { return Err(ReceiveError::Busy) };
    channel.set_read_timeout(SENDER_SILENCE_MAX)?;
    let mut reader = FrameReader::new();
    let offer = Offer::decode(reader.wait(channel)?).ok_or(ReceiveError::Format)?;
    let began = Instant::now();
    let from = peer.member.id;
    let is_same = |held: &Unfinished| held.from == from && is_same_file(&held.offer, &offer);
    let mut held = match unfinished.take_if(|_| true) {
        Some(held) if is_same(&held) => Unfinished { offer, ..held },
        other => {
            // Its file goes first, to make room.
            drop(other);
            receiver.guard.ensure_space(offer.bytes)?;
            let copy = receiver.store.copy(offer.index, offer.term)?;
            Unfinished { from, offer, copy }
        }
    };
    tracing::info!(
        server = peer.member.server_id,
        index = held.offer.index,
        bytes = held.offer.bytes,
        offset = held.copy.offset(),
        "a snapshot is received"
    );
    if let Err(error) = fill(channel, &mut reader, &mut held) {
        if matches!(error, ReceiveError::Io(_)) {
            *unfinished = Some(held);
        }
        return Err(error);
    }
    let Unfinished { offer, copy, .. } = held;
    let (index, bytes) = (offer.index, offer.bytes);
    let snapshot = finish(receiver, copy)?;
    shared.stats.snapshots_received.add(1);
    tracing::info!(index, bytes, took_ms = began.elapsed().as_millis(), "a snapshot was received");
    shared.inbox.push(Event::SnapshotReceived { from, snapshot: Box::new(snapshot), message: offer.message });
    write_frame(channel, &Reply::Received.encode())?;
    Ok(())
}

fn is_same_file(one: &Offer, other: &Offer) -> bool {
    let key = |offer: &Offer| (offer.index, offer.term, offer.bytes, offer.fingerprint);
    key(one) == key(other)
}

/// Says what is there already, and takes the rest.
fn fill(channel: &mut Channel, reader: &mut FrameReader, held: &mut Unfinished) -> Result<(), ReceiveError> {
    write_frame(channel, &Reply::From(held.copy.offset()).encode())?;
    while held.copy.offset() < held.offer.bytes {
        let part: Bytes = reader.wait(channel)?;
        if part.is_empty() || part.len() as u64 > held.offer.bytes - held.copy.offset() {
            return Err(ReceiveError::Format);
        }
        held.copy.write(&part)?;
    }
    Ok(())
}

/// Checks and decodes all of it, and only then gives it its name.
fn finish(receiver: &SnapshotReceiver, mut copy: SnapshotCopy) -> Result<RecoveredSnapshot, ReceiveError> {
    let snapshot = recovery::load_snapshot(&copy.check()?, receiver.name_key)?;
    copy.finish()?;
    Ok(snapshot)
}
