//! Watches: what arms them, what they report.

use crate::header::ReplyHeader;
use crate::ids::{Xid, Zxid};
use crate::wire::{DecodeError, Reader, TextList, put_i32, put_i64, put_text};

/// What happened to a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    /// It was created.
    NodeCreated = 1,
    /// It was deleted.
    NodeDeleted = 2,
    /// Its data was replaced.
    NodeDataChanged = 3,
    /// A child was created or deleted.
    NodeChildrenChanged = 4,
}

/// The state in every event that a server sends: connected.
pub const STATE_SYNC_CONNECTED: i32 = 3;

/// A watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    /// What happened.
    pub event: EventType,
    /// To which znode: the path on the server, whatever the client's chroot.
    pub path: &'a str,
}

impl<'a> WatcherEvent<'a> {
    /// Appends the header and the event.
    ///
    /// `zxid` is the transaction that fired the watch, -1 for an event made while watches are armed again.
    pub fn encode(&self, zxid: Zxid, out: &mut Vec<u8>) {
        ReplyHeader { xid: Xid::NOTIFICATION, zxid, err: 0 }.encode(out);
        put_i32(out, self.event as i32);
        put_i32(out, STATE_SYNC_CONNECTED);
        put_text(out, self.path);
    }

    /// Takes the event, without its header.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let event = match reader.i32()? {
            1 => EventType::NodeCreated,
            2 => EventType::NodeDeleted,
            3 => EventType::NodeDataChanged,
            4 => EventType::NodeChildrenChanged,
            other => return Err(DecodeError::Unknown(other, "event type")),
        };
        match reader.i32()? {
            STATE_SYNC_CONNECTED => {}
            other => return Err(DecodeError::Unknown(other, "state")),
        }
        Ok(WatcherEvent { event, path: reader.text()? })
    }
}

/// Which watches a checkWatches or removeWatches means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatcherType {
    /// Child watches.
    Children = 1,
    /// Data watches.
    Data = 2,
    /// Watches of any kind.
    Any = 3,
    /// Persistent watches of one znode.
    Persistent = 4,
    /// Persistent watches of a subtree.
    PersistentRecursive = 5,
}

impl WatcherType {
    /// Returns the type that a number names, `None` if it names none.
    pub fn from_code(code: i32) -> Option<WatcherType> {
        Some(match code {
            1 => WatcherType::Children,
            2 => WatcherType::Data,
            3 => WatcherType::Any,
            4 => WatcherType::Persistent,
            5 => WatcherType::PersistentRecursive,
            _ => return None,
        })
    }
}

/// How far a persistent watch looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum AddWatchMode {
    /// One znode: its data and its children.
    Persistent = 0,
    /// A znode and all its descendants, without the events for children.
    PersistentRecursive = 1,
}

impl AddWatchMode {
    /// Returns the mode that a number names, `None` if it names none.
    pub fn from_code(code: i32) -> Option<AddWatchMode> {
        match code {
            0 => Some(AddWatchMode::Persistent),
            1 => Some(AddWatchMode::PersistentRecursive),
            _ => None,
        }
    }
}

/// The watches that a client had, to be armed on a new connection.
#[derive(Debug, Clone, Copy)]
pub struct SetWatches<'a> {
    /// The newest transaction the client has seen: what came later fires at once.
    pub relative_zxid: Zxid,
    /// Watches by getData.
    pub data: TextList<'a>,
    /// Watches by exists of a znode that was missing.
    pub exist: TextList<'a>,
    /// Watches by getChildren.
    pub child: TextList<'a>,
    /// Persistent watches; empty in the older form of the record.
    pub persistent: TextList<'a>,
    /// Persistent watches of subtrees; empty in the older form of the record.
    pub recursive: TextList<'a>,
}

impl<'a> SetWatches<'a> {
    pub(crate) fn decode(reader: &mut Reader<'a>, has_persistent: bool) -> Result<Self, DecodeError> {
        let relative_zxid = Zxid(reader.i64()?);
        let (data, exist, child) = (paths(reader)?, paths(reader)?, paths(reader)?);
        let (persistent, recursive) =
            if has_persistent { (paths(reader)?, paths(reader)?) } else { (TextList::EMPTY, TextList::EMPTY) };
        Ok(SetWatches { relative_zxid, data, exist, child, persistent, recursive })
    }

    pub(crate) fn encode(&self, has_persistent: bool, out: &mut Vec<u8>) {
        put_i64(out, self.relative_zxid.0);
        for list in [&self.data, &self.exist, &self.child] {
            list.encode(out);
        }
        for list in [&self.persistent, &self.recursive].into_iter().filter(|_| has_persistent) {
            list.encode(out);
        }
    }
}

/// Takes a list of paths. No client sends a null one, and Apache fails at it with half of the watches armed.
fn paths<'a>(reader: &mut Reader<'a>) -> Result<TextList<'a>, DecodeError> {
    let list = TextList::decode(reader)?;
    if list.is_null() { Err(DecodeError::Null) } else { Ok(list) }
}
