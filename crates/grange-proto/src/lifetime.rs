//! How long a znode lives, and the flags of a create that ask for it.

use crate::ids::SessionId;

/// The longest time to live, in milliseconds: 40 bits.
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

const CONTAINER_OWNER: i64 = i64::MIN;
const TTL_MARK: i64 = 0xff << 56;
const TTL_MARK_AND_RESERVED: i64 = !TTL_MS_MAX;

/// What ends a znode's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lifetime {
    /// Only a delete.
    #[default]
    Persistent,
    /// The end of this session.
    Ephemeral(SessionId),
    /// The loss of its last child, some time later.
    Container,
    /// So many milliseconds (1 to [`TTL_MS_MAX`]) without a change and without children.
    Ttl(i64),
}

impl Lifetime {
    /// Returns the `ephemeralOwner` as ZooKeeper stores it in snapshots and logs.
    pub fn stored_owner(self) -> i64 {
        match self {
            Lifetime::Persistent => 0,
            Lifetime::Ephemeral(session) => session.0,
            Lifetime::Container => CONTAINER_OWNER,
            Lifetime::Ttl(ttl_ms) => TTL_MARK | ttl_ms,
        }
    }

    /// Reads a stored `ephemeralOwner`.
    pub fn from_stored_owner(owner: i64) -> Lifetime {
        if owner == 0 {
            Lifetime::Persistent
        } else if owner == CONTAINER_OWNER {
            Lifetime::Container
        } else if owner & TTL_MARK_AND_RESERVED == TTL_MARK && owner & TTL_MS_MAX != 0 {
            Lifetime::Ttl(owner & TTL_MS_MAX)
        } else {
            Lifetime::Ephemeral(SessionId(owner))
        }
    }

    /// Returns the `ephemeralOwner` that clients see: only sessions show.
    pub fn visible_owner(self) -> i64 {
        match self {
            Lifetime::Ephemeral(session) => session.0,
            _ => 0,
        }
    }
}

/// The flags of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent = 0,
    /// Goes with its session.
    Ephemeral = 1,
    /// Stays until deleted; the parent's counter is appended to the name.
    PersistentSequential = 2,
    /// Goes with its session; the parent's counter is appended to the name.
    EphemeralSequential = 3,
    /// Goes some time after its last child.
    Container = 4,
    /// Goes after a time without change and children.
    PersistentTtl = 5,
    /// As [`CreateMode::PersistentTtl`]; the parent's counter is appended to the name.
    PersistentSequentialTtl = 6,
}

impl CreateMode {
    /// Returns the mode that the flags of a request name, `None` if they name none.
    pub fn from_flags(flags: i32) -> Option<CreateMode> {
        Some(match flags {
            0 => CreateMode::Persistent,
            1 => CreateMode::Ephemeral,
            2 => CreateMode::PersistentSequential,
            3 => CreateMode::EphemeralSequential,
            4 => CreateMode::Container,
            5 => CreateMode::PersistentTtl,
            6 => CreateMode::PersistentSequentialTtl,
            _ => return None,
        })
    }

    /// Returns true if the parent's counter is appended to the name.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential | CreateMode::EphemeralSequential | CreateMode::PersistentSequentialTtl
        )
    }

    /// Returns true if the znode goes with its session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// Returns true if the mode needs a time to live.
    pub fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentTtl | CreateMode::PersistentSequentialTtl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_owner_tells_the_kinds_apart() {
        for lifetime in [
            Lifetime::Persistent,
            Lifetime::Ephemeral(SessionId(0x0123_4567_89ab_cdef)),
            Lifetime::Container,
            Lifetime::Ttl(1),
            Lifetime::Ttl(TTL_MS_MAX),
        ] {
            assert_eq!(Lifetime::from_stored_owner(lifetime.stored_owner()), lifetime);
        }
        assert_eq!(Lifetime::Ttl(5).visible_owner(), 0);
    }
}
