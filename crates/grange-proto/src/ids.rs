//! Numbers that name things: transactions, sessions, requests.

use std::fmt;

/// The number of a transaction: it orders all writes.
///
/// It only grows. By custom the high 32 bits are the epoch of a leader and the low 32 bits a counter, which may carry
/// into the high ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// The zxid before any transaction.
    pub const ZERO: Zxid = Zxid(0);

    /// Returns the zxid that follows.
    #[must_use]
    pub fn next(self) -> Zxid {
        Zxid(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// The number of a session: the top byte is the server that made it.
///
/// 0 is no session; `i64::MIN` is never given out, since it marks containers where an ephemeral names its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// What a client sends that has no session yet, and gets when it is refused.
    pub const NONE: SessionId = SessionId(0);

    /// Returns true if a session may have this number.
    pub fn is_possible(self) -> bool {
        self != SessionId::NONE && self.0 != i64::MIN
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// The number by which a client matches a reply to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Xid(pub i32);

impl Xid {
    /// Carried by a watch event, which answers no request.
    pub const NOTIFICATION: Xid = Xid(-1);
    /// Carried by a ping.
    pub const PING: Xid = Xid(-2);
    /// Carried by an auth packet.
    pub const AUTH: Xid = Xid(-4);
    /// Carried by setWatches and setWatches2.
    pub const SET_WATCHES: Xid = Xid(-8);
}
