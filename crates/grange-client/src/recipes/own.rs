//! A znode of ours that must not outlive its purpose.

use grange_proto::ZnodePath;
use tokio::runtime::Handle;
use tracing::{debug, warn};
use zookeeper_client::{Client, Error as ClientError};

use super::error::is_session_end;
use super::parents::child;
use crate::retry::retry;

/// What is known of the name.
#[derive(Debug, Clone)]
enum Name {
    /// All of it, and the znode was there.
    Known(String),
    /// All of it, and whether the znode was made is not known.
    Chosen(String),
    /// How it begins, which is how no other name does.
    Prefix(String),
}

/// An ephemeral znode, from before its creation is asked for. Dropping the value removes the znode, wherever its
/// creation had got to; the session's end does so too.
#[derive(Debug)]
pub(crate) struct Own {
    client: Client,
    parent: ZnodePath,
    name: Name,
    is_gone: bool,
    /// Removes the znode if the value is dropped, from whatever thread.
    runtime: Handle,
}

impl Own {
    /// A sequential znode that is about to be made.
    pub(crate) fn sequential(client: &Client, parent: &ZnodePath, prefix: String) -> Own {
        Own::new(client, parent, Name::Prefix(prefix))
    }

    /// A znode that is about to be made with a name that nobody else uses.
    pub(crate) fn named(client: &Client, parent: &ZnodePath, name: String) -> Own {
        Own::new(client, parent, Name::Chosen(name))
    }

    fn new(client: &Client, parent: &ZnodePath, name: Name) -> Own {
        Own { client: client.clone(), parent: parent.clone(), name, is_gone: false, runtime: Handle::current() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The path to create, and after [`Own::found`] the whole path.
    pub(crate) fn path(&self) -> String {
        child(self.parent.as_str(), self.name())
    }

    /// The name, as far as it is known.
    pub(crate) fn name(&self) -> &str {
        match &self.name {
            Name::Known(name) | Name::Chosen(name) | Name::Prefix(name) => name,
        }
    }

    /// Notes that the znode is there, with this name.
    pub(crate) fn found(&mut self, name: String) {
        self.name = Name::Known(name);
    }

    /// Notes that there is no znode to remove.
    pub(crate) fn forget(&mut self) {
        self.is_gone = true;
    }

    /// The path of a child of the same parent.
    pub(crate) fn sibling(&self, name: &str) -> String {
        child(self.parent.as_str(), name)
    }

    /// Lists the parent's children, after all that was asked for before.
    pub(crate) async fn list(&self) -> Result<Vec<String>, ClientError> {
        list_after_sync(&self.client, self.parent.as_str()).await
    }

    /// Tells whether a child with this name is the znode.
    pub(crate) fn is_it(&self, name: &str) -> bool {
        match &self.name {
            Name::Known(own) | Name::Chosen(own) => own == name,
            Name::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    /// Removes the znode; it is no error if it has gone.
    pub(crate) async fn remove(mut self) -> Result<(), ClientError> {
        let removed = remove(&self.client, &self.parent, &self.name).await;
        self.is_gone = removed.as_ref().err().is_none_or(is_session_end);
        removed
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.is_gone || self.client.state().is_terminated() {
            return;
        }
        let (client, parent, name) = (self.client.clone(), self.parent.clone(), self.name.clone());
        self.runtime.spawn(async move {
            match remove(&client, &parent, &name).await {
                Ok(()) => {}
                Err(error) if is_session_end(&error) => debug!(%parent, "a znode has gone with its session"),
                Err(error) => warn!(%parent, ?name, %error, "a znode stays until its session ends"),
            }
        });
    }
}

async fn remove(client: &Client, parent: &ZnodePath, name: &Name) -> Result<(), ClientError> {
    let parent = parent.as_str();
    match name {
        Name::Known(name) => delete(client, &child(parent, name)).await,
        Name::Chosen(name) => {
            // A creation that lost its connection may still be on its way to the leader; the sync comes behind it.
            retry(|| client.sync(parent)).await?;
            delete(client, &child(parent, name)).await
        }
        Name::Prefix(prefix) => {
            let children = match list_after_sync(client, parent).await {
                Err(ClientError::NoNode) => return Ok(()),
                listed => listed?,
            };
            for name in children.iter().filter(|name| name.starts_with(prefix)) {
                delete(client, &child(parent, name)).await?;
            }
            Ok(())
        }
    }
}

async fn delete(client: &Client, path: &str) -> Result<(), ClientError> {
    match retry(|| client.delete(path, None)).await {
        Ok(()) | Err(ClientError::NoNode) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lists children as they are after everything that the leader had been asked for when this was called.
pub(crate) async fn list_after_sync(client: &Client, parent: &str) -> Result<Vec<String>, ClientError> {
    let attempt = || {
        // Both are sent at once; the server answers in order.
        let (sync, list) = (client.sync(parent), client.list_children(parent));
        async move {
            sync.await?;
            list.await
        }
    };
    retry(attempt).await
}
