//! The error codes of the protocol.

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// An error code as it stands in a reply header.
        ///
        /// Source: `org.apache.zookeeper.KeeperException.Code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)* }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// Returns the number on the wire.
            pub const fn code(self) -> i32 {
                self as i32
            }

            /// Returns the code that a number on the wire names, `None` if it names none.
            pub const fn from_code(code: i32) -> Option<ErrorCode> {
                match code { $($code => Some(ErrorCode::$name),)* _ => None }
            }
        }

        impl std::fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(ErrorCode::$name => stringify!($name),)* })
            }
        }
    };
}

error_codes! {
    /// The server failed in a way it has no name for.
    SystemError = -1,
    /// The server found its own state to be inconsistent.
    RuntimeInconsistency = -2,
    /// The server found its data to be inconsistent.
    DataInconsistency = -3,
    /// The connection was lost (made by clients).
    ConnectionLoss = -4,
    /// The request could not be decoded; also what the operations after the failed one of a multi are not given.
    MarshallingError = -5,
    /// The operation is unknown or switched off.
    Unimplemented = -6,
    /// The operation took too long (made by clients).
    OperationTimeout = -7,
    /// An argument is not valid: a path, a flag, a time to live.
    BadArguments = -8,
    /// The session is unknown.
    UnknownSession = -12,
    /// No quorum of the new configuration is connected and synced.
    NewConfigNoQuorum = -13,
    /// Another reconfiguration is under way.
    ReconfigInProgress = -14,
    /// Lower bound of the codes of the programming interface.
    ApiError = -100,
    /// The znode does not exist.
    NoNode = -101,
    /// No identity of the connection has the permission.
    NoAuth = -102,
    /// The expected version is not the znode's.
    BadVersion = -103,
    /// An ephemeral znode has no children.
    NoChildrenForEphemerals = -108,
    /// The znode exists.
    NodeExists = -110,
    /// The znode has children.
    NotEmpty = -111,
    /// The session is gone.
    SessionExpired = -112,
    /// A callback is not valid (made by clients).
    InvalidCallback = -113,
    /// The ACL is empty or one of its entries is not valid.
    InvalidAcl = -114,
    /// The credentials were refused.
    AuthFailed = -115,
    /// The session was moved to another server.
    SessionMoved = -118,
    /// The server only serves reads.
    NotReadOnly = -119,
    /// A local session cannot own an ephemeral znode.
    EphemeralOnLocalSession = -120,
    /// There is no such watch.
    NoWatcher = -121,
    /// The request took too long (made by clients).
    RequestTimeout = -122,
    /// Reconfiguration is switched off.
    ReconfigDisabled = -123,
    /// The session must authenticate before it may send this.
    SessionClosedRequireSaslAuth = -124,
    /// A hard quota would be exceeded.
    QuotaExceeded = -125,
    /// The request waited too long and was dropped.
    ThrottledOp = -127,
}

impl std::error::Error for ErrorCode {}

impl From<crate::DecodeError> for ErrorCode {
    fn from(_: crate::DecodeError) -> ErrorCode {
        ErrorCode::MarshallingError
    }
}
