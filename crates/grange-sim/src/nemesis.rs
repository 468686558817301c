//! What can go wrong.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed; what it has written to files stays.
    Kill,
    /// A machine loses power; what was not synced is lost, or torn.
    PowerLoss,
    /// All machines lose power at once.
    AllPowerLoss,
    /// A process stands still for a while.
    Pause,
    /// A link between two members breaks; what was under way is lost.
    BreakLink,
    /// Nothing gets through from one member to another, only the other way.
    OneWay,
    /// The members fall into two groups that do not reach each other.
    Groups,
    /// All links are slow.
    SlowLinks,
    /// A disk takes its time.
    SlowDisk,
    /// A disk is full.
    FullDisk,
    /// A write fails.
    WriteError,
    /// A sync fails.
    SyncError,
    /// A bit changes on the disk of a member that was stopped.
    BitFlip,
    /// A disk is lost with all that was on it.
    LostDisk,
    /// A wall clock is set.
    SetClock,
    /// A member stops as an operator would stop it, and starts again.
    Resign,
    /// A connection of a client breaks.
    BreakClient,
    /// A client hears and says nothing for a while.
    StallClient,
    /// An operator wants a snapshot.
    WantSnapshot,
}
