//! The znodes above those of contenders.

use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError};

use crate::retry::retry;

/// Makes a znode and those above it, unless they exist: containers, which go when the last child has gone, on servers
/// that know them, else persistent ones.
pub(crate) async fn make_parents(client: &Client, path: &str) -> Result<(), ClientError> {
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    match retry(|| client.mkdir(path, &container)).await {
        Err(ClientError::Unimplemented) => {
            let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
            retry(|| client.mkdir(path, &persistent)).await
        }
        made => made,
    }
}

/// Returns the path of a child.
pub(crate) fn child(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}
