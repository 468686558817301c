//! Who belongs to the ensemble.

use std::fmt;

use grange_proto::ServerSpec;

/// Names a member in everything that is voted on: drawn at random with its data directory, never used again.
///
/// A server that lost its disk comes back as another member, so it cannot vote twice where its old self has voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A member, or a server that may become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: MemberId,
    /// Its number in `server.N` and in `myid`.
    pub server_id: u8,
    /// Its addresses and the part it is to play.
    pub spec: ServerSpec,
}
