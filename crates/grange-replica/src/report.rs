//! Answers to operators: what the four-letter words, the metrics and the dashboard are made of.

use std::net::SocketAddr;

use grange_proto::{Op, SessionId, Xid, Zxid};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspect {
    /// Figures of the member and its tree. Answered by [`Report::Summary`].
    Summary,
    /// Every connection with its figures. Answered by [`Report::Connections`].
    Connections,
    /// Every session and its ephemeral znodes. Answered by [`Report::Sessions`].
    Sessions,
    /// Every watch. Answered by [`Report::Watches`].
    Watches,
    /// Start counting latencies and packets anew (`srst`). Answered by [`Report::Done`].
    ResetStatistics,
    /// Start counting each connection's figures anew (`crst`). Answered by [`Report::Done`].
    ResetConnectionStatistics,
}

/// The answer.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a report travels in a box")]
pub enum Report {
    /// To [`Inspect::Summary`].
    Summary(Summary),
    /// To [`Inspect::Connections`], in the order of their arrival.
    Connections(Vec<ConnectionReport>),
    /// To [`Inspect::Sessions`], in the order of their numbers.
    Sessions(Vec<SessionReport>),
    /// To [`Inspect::Watches`], in the order of the connections' arrival.
    Watches(Vec<WatchReport>),
    /// To the two resets.
    Done,
}

/// The part a member plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The only member there is.
    Standalone,
    /// One that orders the writes.
    Leader,
    /// One that follows a leader and votes.
    Follower,
    /// One that follows a leader and does not vote.
    Observer,
    /// One that has no leader and serves reads to clients that can do without writes.
    ReadOnly,
    /// One that has no leader, or is not yet up to date.
    NotServing,
}

/// Latencies of requests, from the read of the request to the making of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// The number of requests.
    pub count: u64,
    /// The shortest, in microseconds; 0 if there was none.
    pub min_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// All of them together, in microseconds.
    pub total_us: u64,
}

impl Summary {
    /// Returns the latencies of all requests.
    pub fn latency(&self) -> Latency {
        let (reads, updates) = (self.read_latency, self.update_latency);
        match (reads.count, updates.count) {
            (_, 0) => reads,
            (0, _) => updates,
            _ => Latency {
                count: reads.count + updates.count,
                min_us: reads.min_us.min(updates.min_us),
                max_us: reads.max_us.max(updates.max_us),
                total_us: reads.total_us + updates.total_us,
            },
        }
    }
}

/// Figures of a member and its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The part it plays.
    pub mode: Mode,
    /// The newest applied transaction.
    pub zxid: Zxid,
    /// Znodes, the reserved ones included.
    pub znodes: u64,
    /// Ephemeral znodes.
    pub ephemerals: u64,
    /// Bytes of paths and data, roughly.
    pub data_bytes: u64,
    /// Sessions of the whole ensemble.
    pub sessions: u64,
    /// Connections of clients to this member.
    pub connections: u64,
    /// Watches held by this member, and the connections and paths they belong to.
    pub watches: WatchCounts,
    /// Requests received and not yet answered.
    pub outstanding: u64,
    /// Frames received.
    pub received: u64,
    /// Frames sent, watch events included.
    pub sent: u64,
    /// Latencies of requests that do not go through the log.
    pub read_latency: Latency,
    /// Latencies of requests that go through the log.
    pub update_latency: Latency,
    /// Requests received, by operation, in the order of [`Op::ALL`].
    pub requests_by_op: Vec<(Op, u64)>,
    /// Sessions that expired here since the start.
    pub sessions_expired: u64,
    /// Auth packets that were refused since the start.
    pub auth_failed: u64,
    /// Watch events sent since the start.
    pub watch_events: WatchEventCounts,
    /// Digest of the tree at `zxid`.
    pub digest: u64,
    /// True while writes are refused because the disk is full.
    pub log_full: bool,
    /// The log: first index kept in memory, last index, last committed, last applied.
    pub log: LogCounts,
}

/// Watches in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchCounts {
    /// Connections that have at least one.
    pub connections: u64,
    /// Paths that have at least one.
    pub paths: u64,
    /// Pairs of connection and path.
    pub total: u64,
}

/// Watch events in numbers: how often a change had watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchEventCounts {
    /// Znodes that were created.
    pub created: u64,
    /// Znodes that were deleted.
    pub deleted: u64,
    /// Znodes whose data changed.
    pub changed: u64,
    /// Znodes whose children changed.
    pub children: u64,
    /// Bytes of the paths in all events sent.
    pub bytes: u64,
}

/// Places in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounts {
    /// The first entry still in memory.
    pub first: u64,
    /// The last entry.
    pub last: u64,
    /// The last committed entry.
    pub committed: u64,
    /// The last applied entry.
    pub applied: u64,
    /// The term.
    pub term: u64,
}

/// One connection and its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Its session; [`SessionId::NONE`] before the handshake is answered.
    pub session: SessionId,
    /// The negotiated timeout in milliseconds.
    pub timeout_ms: i32,
    /// Requests received and not yet answered.
    pub outstanding: u64,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// When the connection came, in milliseconds since 1970.
    pub established_ms: i64,
    /// The last request's operation, number, and the zxid of its reply.
    pub last: Option<(Op, Xid, Zxid)>,
    /// When the last reply was made, in milliseconds of the monotonic clock.
    pub last_reply_ms: u64,
    /// The last request's latency in microseconds.
    pub last_latency_us: u64,
    /// Latencies of its requests.
    pub latency: Latency,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Its timeout in milliseconds.
    pub timeout_ms: i32,
    /// How long until it expires if nothing comes, in milliseconds; `None` where somebody else decides.
    pub expires_in_ms: Option<u64>,
    /// The paths of its ephemeral znodes, sorted.
    pub ephemerals: Vec<String>,
}

/// The watches of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    /// Its session.
    pub session: SessionId,
    /// The watched paths, sorted, each once.
    pub paths: Vec<String>,
}
