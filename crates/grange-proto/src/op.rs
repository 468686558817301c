//! The table of operations.

/// How the server treats an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Goes through the log and takes a zxid, whether it succeeds or not.
    Write,
    /// Is answered from the member's own tree.
    Read,
    /// Concerns the connection or the session only.
    Connection,
    /// Is never valid as the request of a client: the connection is closed with `Unimplemented`.
    Internal,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $short:literal, $class:ident;)*) => {
        /// An operation code.
        ///
        /// The table is the one place that knows, for each operation, its code, its name in metrics and messages, the
        /// short name that the four-letter word `cons` prints, and its class. The permission it asks for stands in
        /// its doc. Source: `org.apache.zookeeper.ZooDefs.OpCode`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Op { $($(#[$doc])* $name = $code,)* }

        impl Op {
            /// Every operation, in the order of the table.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// Returns the operation that a number on the wire names, `None` if it names none.
            #[inline]
            pub const fn from_code(code: i32) -> Option<Op> {
                match code { $($code => Some(Op::$name),)* _ => None }
            }

            /// Returns the number on the wire.
            pub const fn code(self) -> i32 {
                self as i32
            }

            /// Returns the name that metrics and messages use.
            pub const fn name(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }

            /// Returns the short name that `cons` prints as the last operation.
            pub const fn short_name(self) -> &'static str {
                match self { $(Op::$name => $short,)* }
            }

            /// Returns how the server treats it.
            #[inline]
            pub const fn class(self) -> Class {
                match self { $(Op::$name => Class::$class,)* }
            }
        }
    };
}

operations! {
    /// A watch event; not a request.
    Notification = 0, "notification", "NOTI", Internal;
    /// Creates a znode. CREATE on the parent.
    Create = 1, "create", "CREA", Write;
    /// Deletes a znode. DELETE on the parent.
    Delete = 2, "delete", "DELE", Write;
    /// Returns the stat of a znode. READ if it exists.
    Exists = 3, "exists", "EXIS", Read;
    /// Returns the data and the stat of a znode. READ.
    GetData = 4, "getData", "GETD", Read;
    /// Replaces the data of a znode. WRITE.
    SetData = 5, "setData", "SETD", Write;
    /// Returns the ACL of a znode. READ or ADMIN.
    GetAcl = 6, "getACL", "GETA", Read;
    /// Replaces the ACL of a znode. ADMIN.
    SetAcl = 7, "setACL", "SETA", Write;
    /// Lists the children of a znode. READ.
    GetChildren = 8, "getChildren", "GETC", Read;
    /// Waits until this member has applied what the leader had committed.
    Sync = 9, "sync", "SYNC", Read;
    /// Keeps a session alive.
    Ping = 11, "ping", "PING", Read;
    /// Lists the children of a znode and returns its stat. READ.
    GetChildren2 = 12, "getChildren2", "GETC", Read;
    /// Compares a version, inside a multi only. READ.
    Check = 13, "check", "CHEC", Internal;
    /// Does several writes as one.
    Multi = 14, "multi", "MULT", Write;
    /// Creates a znode and returns its stat. CREATE on the parent.
    Create2 = 15, "create2", "CREA", Write;
    /// Changes the members of the ensemble. WRITE on /zookeeper/config.
    Reconfig = 16, "reconfig", "RECO", Write;
    /// Asks whether this connection has a watch.
    CheckWatches = 17, "checkWatches", "CHKW", Read;
    /// Removes watches of this connection.
    RemoveWatches = 18, "removeWatches", "REMW", Read;
    /// Creates a container and returns its stat. CREATE on the parent.
    CreateContainer = 19, "createContainer", "CREA", Write;
    /// Deletes a container or a znode with a time to live that is due; made by the server.
    DeleteContainer = 20, "deleteContainer", "DELC", Internal;
    /// Creates a znode with a time to live and returns its stat. CREATE on the parent.
    CreateTtl = 21, "createTTL", "CREA", Write;
    /// Does several reads in one round trip. READ for each.
    MultiRead = 22, "multiRead", "MLTR", Read;
    /// Adds an identity to the connection.
    Auth = 100, "auth", "AUTH", Connection;
    /// Arms a reconnected client's watches.
    SetWatches = 101, "setWatches", "SETW", Read;
    /// Takes a step of a SASL exchange.
    Sasl = 102, "sasl", "SASL", Connection;
    /// Lists the session's own ephemeral znodes below a prefix.
    GetEphemerals = 103, "getEphemerals", "GETE", Read;
    /// Counts the descendants of a znode. READ.
    GetAllChildrenNumber = 104, "getAllChildrenNumber", "GETACN", Read;
    /// Arms a reconnected client's watches, persistent ones too.
    SetWatches2 = 105, "setWatches2", "STW2", Read;
    /// Arms a persistent watch; each event asks for READ on its own znode.
    AddWatch = 106, "addWatch", "ADDW", Read;
    /// Lists the identities of the connection.
    WhoAmI = 107, "whoAmI", "HOMI", Read;
    /// Opens a session; made by the server out of a connect request.
    CreateSession = -10, "createSession", "SESS", Internal;
    /// Closes the session and deletes its ephemeral znodes.
    CloseSession = -11, "closeSession", "CLOS", Write;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_their_operations() {
        for &op in Op::ALL {
            assert_eq!(Op::from_code(op.code()), Some(op));
        }
        assert_eq!(Op::from_code(10), None);
    }
}
