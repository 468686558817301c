//! What goes into a member and what comes out of it: the whole interface between the pure core and the edge.

use std::net::SocketAddr;

use bytes::Bytes;
use grange_proto::{ServerSpec, SessionId, Zxid};
use grange_tree::TreeSnapshot;

use crate::config::RecoveredSnapshot;
use crate::members::{Member, MemberId};
use crate::report::{Inspect, Report};

/// The time, as the edge read it before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a clock that never goes back; its zero is arbitrary.
    pub monotonic_us: u64,
    /// Milliseconds since 1970, for the times in stats.
    pub wall_ms: i64,
}

impl Now {
    /// Milliseconds of the clock that never goes back.
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1_000
    }
}

/// A connection of a client, named by the edge; never used twice within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The first frame of a connection, copied out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAttempt {
    /// The connection.
    pub conn: ConnId,
    /// Where the client is.
    pub peer: SocketAddr,
    /// The newest transaction the client has seen.
    pub last_zxid_seen: Zxid,
    /// The timeout it wishes for, in milliseconds.
    pub timeout_ms: i32,
    /// The session it wants back, or [`SessionId::NONE`].
    pub session: SessionId,
    /// The password of that session; empty for none.
    pub password: Vec<u8>,
    /// Whether a member that only serves reads will do; `None` if the client did not say.
    pub read_only: Option<bool>,
}

/// Something that happened at the edge.
#[derive(Debug)]
pub enum Event {
    /// A client sent its first frame. Answered by [`Action::Send`], or by [`Action::Close`] alone.
    Connect(ConnectAttempt),
    /// Whole frames arrived on a connection that had its first frame answered.
    Frames {
        /// The connection.
        conn: ConnId,
        /// One or more frames, each a length (already checked against `jute.maxbuffer`) and so many bytes.
        frames: Bytes,
        /// When they were read, in microseconds of the monotonic clock: the start of the requests' latency.
        received_us: u64,
    },
    /// A connection is gone; nothing more comes from it.
    Disconnected(ConnId),
    /// The batch of this number, and every one before it, is durable.
    LogSynced(u64),
    /// The log has no room for more: the edge holds the batches it was given and goes on trying to write them.
    ///
    /// Until [`Event::LogHasRoom`] the member refuses new writes and serves reads.
    LogFull,
    /// The disk has room again after [`Event::LogFull`].
    LogHasRoom,
    /// A snapshot asked for by [`Action::SaveSnapshot`] is durable.
    SnapshotSaved {
        /// The index of the entry it stands at.
        index: u64,
    },
    /// A snapshot could not be written; the log is kept and a later one is tried.
    SnapshotFailed,
    /// An operator asks for a snapshot now.
    SnapshotWanted,
    /// An operator or a four-letter word asks how things are. Answered by [`Action::Inspected`].
    Inspect {
        /// Chosen by the edge, to match the answer.
        token: u64,
        /// What is asked.
        what: Inspect,
    },
    /// A message of another member arrived, whole and unchanged; messages of one member arrive in the order they were sent.
    Peer {
        /// The member, as its link has proved.
        from: MemberId,
        /// What that member gave its edge as [`Action::SendPeer`].
        message: Bytes,
    },
    /// The edge can send to and has heard of another member: the two have told each other who they are.
    ///
    /// Comes again when the link was lost meanwhile; messages from before may be lost.
    PeerUp {
        /// Who it says it is.
        member: Member,
        /// Whether it has no data of any ensemble yet, and waits to be added to one.
        is_blank: bool,
    },
    /// The link to a member was lost: its process ended or the network says it cannot be reached.
    PeerDown(MemberId),
    /// The answer to [`Action::ReadLog`].
    LogRead {
        /// The first entry that was asked for.
        first: u64,
        /// The entries from there on, at least one; `None` if the log does not hold them any more.
        entries: Option<Vec<LogEntry>>,
    },
    /// A snapshot of another member is durable here, and decoded.
    SnapshotReceived {
        /// Who sent it.
        from: MemberId,
        /// What is in it.
        snapshot: Box<RecoveredSnapshot>,
        /// What came with it in [`Action::SendSnapshot`].
        message: Bytes,
    },
    /// What [`Action::SendSnapshot`] came to.
    SnapshotSent {
        /// To whom.
        to: MemberId,
        /// Whether that member has it on its disk.
        is_received: bool,
    },
    /// This member is about to stop: leadership, if it has it, goes to another one. Answered by [`Action::Resigned`].
    Resign,
    /// Time has passed; comes at least every [`crate::TICK_MS`] milliseconds.
    Tick,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, from 1 on without gaps.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// Chosen by the replica, to be given back with the entry.
    pub tag: u8,
    /// Opaque to the edge.
    pub data: Bytes,
}

/// What a member must never forget besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: u64,
    /// The newest entry it knows to be committed.
    pub commit: u64,
}

/// Something to be written to the log in one piece and synced once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// Counts up; [`Event::LogSynced`] names it.
    pub number: u64,
    /// Entries in order; one whose index is not beyond the last one replaces it and everything after it.
    pub entries: Vec<LogEntry>,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Everything in the log goes first: what follows continues a snapshot that was received ([`Event::SnapshotReceived`])
    /// and contains the entry of this index and term.
    pub reset_to: Option<(u64, u64)>,
    /// False if nothing in it needs to be durable before [`Event::LogSynced`] is sent.
    pub must_sync: bool,
}

impl LogBatch {
    /// A batch that lets the log go on behind a snapshot. Its number is below those of all others.
    pub(crate) fn reset(mark: (u64, u64), hard_state: HardState) -> LogBatch {
        LogBatch { number: 0, entries: Vec::new(), hard_state: Some(hard_state), reset_to: Some(mark), must_sync: true }
    }
}

/// Something the edge is to do, in the order of the list.
#[derive(Debug)]
pub enum Action {
    /// Write a batch to the log, sync it, and send [`Event::LogSynced`].
    Append(LogBatch),
    /// Write bytes to a connection, behind what was sent before.
    Send {
        /// The connection.
        conn: ConnId,
        /// Whole frames.
        bytes: Vec<u8>,
        /// How many requests these frames answer; watch events count 0.
        answered: u32,
    },
    /// Close a connection once everything sent to it is written; read nothing more from it.
    Close(ConnId),
    /// Encode and save a point-in-time snapshot, then send [`Event::SnapshotSaved`] or [`Event::SnapshotFailed`].
    SaveSnapshot(Box<SnapshotImage>),
    /// Entries below this index are no longer needed.
    PurgeLog {
        /// The first index to keep.
        first_kept: u64,
    },
    /// Send a message to another member, behind what was sent to it before. It may be lost with the link, never alone.
    SendPeer {
        /// The member; the edge drops the message if it has no link to it.
        to: MemberId,
        /// Opaque to the edge.
        message: Vec<u8>,
    },
    /// Send the saved snapshot of this index and term to a member, and `message` once that member has it; then send
    /// [`Event::SnapshotSent`].
    SendSnapshot {
        /// The member.
        to: MemberId,
        /// The index of the last entry the snapshot contains.
        index: u64,
        /// The term of that entry.
        term: u64,
        /// Opaque to the edge; part of [`Event::SnapshotReceived`] there.
        message: Vec<u8>,
    },
    /// Read entries back from the log, from `first` to before `end`, as many as fit into `bytes_max` but at least one;
    /// then send [`Event::LogRead`].
    ReadLog {
        /// The first entry.
        first: u64,
        /// The entry behind the last one.
        end: u64,
        /// Bytes of data.
        bytes_max: usize,
    },
    /// These are the members now, this one included: keep a link to each of them, and to no others but candidates.
    Members(Vec<Member>),
    /// Servers that are no members and are to become some: keep links to these too, until the next list of members.
    Candidates(Vec<(u8, ServerSpec)>),
    /// Nothing keeps this member from stopping: the answer to [`Event::Resign`].
    Resigned,
    /// The answer to [`Event::Inspect`].
    Inspected {
        /// The token of the question.
        token: u64,
        /// The answer.
        report: Box<Report>,
    },
}

/// A snapshot to be encoded outside the replica's thread.
#[derive(Debug)]
pub struct SnapshotImage {
    /// The index of the last entry it contains.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// What belongs to it besides the tree: members, secrets. Opaque to the edge; a few hundred bytes.
    pub meta: Vec<u8>,
    /// The tree at that entry.
    pub tree: TreeSnapshot,
}
