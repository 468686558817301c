//! Why a command of zkCli fails, in zkCli's words, with its exit status.

use grange_client::wire::WireError;
use grange_proto::ErrorCode;

/// The exit status of every failed command but one that does not exist.
const STATUS: u8 = 1;

/// The exit status of a command that does not exist.
const NOT_FOUND_STATUS: u8 = 127;

/// A failed command: what is printed on standard error, and the exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// A failure that says what it says.
    pub(super) fn plain(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), status: STATUS }
    }

    /// A command that does not exist; the words are doubled in zkCli too.
    pub(super) fn not_found(command: &str) -> Failure {
        Failure { message: format!("Command not found: Command not found {command}"), status: NOT_FOUND_STATUS }
    }

    /// A refusal of the server. `path` is what zkCli names there, if anything.
    pub(super) fn refused(error: WireError, path: Option<&str>) -> Failure {
        Failure::plain(sentence(error.0, path))
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn status(&self) -> u8 {
        self.status
    }
}

/// What zkCli says of an error code. Source: `org.apache.zookeeper.cli.CliWrapperException`.
fn sentence(code: i32, path: Option<&str>) -> String {
    let place = path.unwrap_or("null");
    match ErrorCode::from_code(code) {
        Some(ErrorCode::NoNode) => format!("Node does not exist: {place}"),
        Some(ErrorCode::NoChildrenForEphemerals) => format!("Ephemerals cannot have children: {place}"),
        Some(ErrorCode::NodeExists) => format!("Node already exists: {place}"),
        Some(ErrorCode::NotEmpty) => format!("Node not empty: {place}"),
        Some(ErrorCode::NotReadOnly) => format!("Not a read-only call: {place}"),
        Some(ErrorCode::InvalidAcl) => format!("Acl is not valid : {place}"),
        Some(ErrorCode::NoAuth) => format!("Insufficient permission : {place}"),
        Some(ErrorCode::BadArguments) => format!("Arguments are not valid : {place}"),
        Some(ErrorCode::BadVersion) => format!("version No is not valid : {place}"),
        Some(ErrorCode::ReconfigInProgress) => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned()
        }
        Some(ErrorCode::NewConfigNoQuorum) => {
            "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try \
             invoking reconfiguration after new servers are connected and synced"
                .to_owned()
        }
        Some(ErrorCode::QuotaExceeded) => format!("Quota has exceeded : {place}"),
        _ => keeper_message(code, path),
    }
}

/// What Java's exception says of an error code. Source: `org.apache.zookeeper.KeeperException`.
pub(super) fn keeper_message(code: i32, path: Option<&str>) -> String {
    let name = code_name(code);
    match path.filter(|path| !path.is_empty()) {
        Some(path) => format!("KeeperErrorCode = {name} for {path}"),
        None => format!("KeeperErrorCode = {name}"),
    }
}

fn code_name(code: i32) -> String {
    let Some(known) = ErrorCode::from_code(code) else { return format!("Unknown error {code}") };
    match known {
        ErrorCode::ApiError => "APIError".to_owned(),
        ErrorCode::InvalidAcl => "InvalidACL".to_owned(),
        ErrorCode::NotEmpty => "Directory not empty".to_owned(),
        ErrorCode::SessionExpired => "Session expired".to_owned(),
        ErrorCode::InvalidCallback => "Invalid callback".to_owned(),
        ErrorCode::SessionMoved => "Session moved".to_owned(),
        ErrorCode::NotReadOnly => "Not a read-only call".to_owned(),
        ErrorCode::EphemeralOnLocalSession => "Ephemeral node on local session".to_owned(),
        ErrorCode::NoWatcher => "No such watcher".to_owned(),
        ErrorCode::ReconfigDisabled => "Reconfig is disabled".to_owned(),
        ErrorCode::SessionClosedRequireSaslAuth => "Session closed because client failed to authenticate".to_owned(),
        ErrorCode::QuotaExceeded => "Quota has exceeded".to_owned(),
        ErrorCode::ThrottledOp => "Op throttled due to high load".to_owned(),
        ErrorCode::UnknownSession => "Unknown error UNKNOWNSESSION".to_owned(),
        ErrorCode::RequestTimeout => "Unknown error REQUESTTIMEOUT".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_zkclis_words() {
        let say = |code: ErrorCode, path| Failure::refused(code.into(), path).message;
        assert_eq!(say(ErrorCode::NoNode, Some("/a")), "Node does not exist: /a");
        assert_eq!(say(ErrorCode::NoWatcher, Some("/a")), "KeeperErrorCode = No such watcher for /a");
        assert_eq!(say(ErrorCode::ConnectionLoss, None), "KeeperErrorCode = ConnectionLoss");
        assert_eq!(say(ErrorCode::InvalidAcl, None), "Acl is not valid : null");
        assert_eq!(say(ErrorCode::NoAuth, Some("")), "Insufficient permission : ");
        assert_eq!(Failure::not_found("x").status(), 127);
    }
}
