//! Where contenders stand, and what a look at them shows.

use std::future::Future;

use grange_proto::ZnodePath;
use zookeeper_client::{Client, Error as ClientError, Stat};

use super::contender::{Contender, Place};
use super::error::{LockError, request};
use super::held::{Held, Loss};
use super::names::{Layout, Role, in_order};
use super::parents::child;
use crate::retry::retry;

/// A znode whose children are contenders, and how we stand there.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) path: ZnodePath,
    /// What we call ourselves.
    pub(crate) data: Vec<u8>,
    pub(crate) layout: Layout,
}

impl Line {
    pub(crate) fn new(client: &Client, path: ZnodePath, id: &str) -> Line {
        Line { client: client.clone(), path, data: id.as_bytes().to_vec(), layout: Layout::default() }
    }

    /// Stands in line until it is our turn.
    pub(crate) async fn acquire(&self, role: Role) -> Result<Held, LockError> {
        let mut place = Place::join(self, role).await?;
        place.wait(self).await?;
        Ok(Held::new(place.own, place.czxid, place.confirmed_at))
    }

    /// Like [`Line::acquire`], in a session that has its confirmations already: `session` resolves when it may end.
    pub(crate) async fn acquire_beside(
        &self,
        role: Role,
        session: impl Future<Output = Loss> + Send + 'static,
    ) -> Result<Held, LockError> {
        let mut place = Place::join(self, role).await?;
        place.wait(self).await?;
        Ok(Held::beside(place.own, place.czxid, session))
    }

    /// Returns `None`, and leaves the line, if somebody stands before us.
    pub(crate) async fn try_acquire(&self, role: Role) -> Result<Option<Held>, LockError> {
        let place = Place::join(self, role).await?;
        if place.is_first()? {
            return Ok(Some(Held::new(place.own, place.czxid, place.confirmed_at)));
        }
        let path = place.own.path();
        place.own.remove().await.map_err(request("cannot delete", path))?;
        Ok(None)
    }

    /// Looks at all contenders, in their order.
    pub(crate) async fn contenders(&self) -> Result<Vec<Contender>, LockError> {
        let children = match retry(|| self.client.list_children(self.path.as_str())).await {
            Err(ClientError::NoNode) => return Ok(Vec::new()),
            listed => listed.map_err(request("cannot list", &self.path))?,
        };
        let mut contenders: Vec<Contender> = Vec::new();
        let mut exclusive_before = false;
        for entry in in_order(&children) {
            let Some((id, stat)) = look(&self.client, &child(self.path.as_str(), entry.name)).await? else { continue };
            let holds = !exclusive_before && (entry.role == Role::Shared || contenders.is_empty());
            exclusive_before |= entry.role == Role::Exclusive;
            contenders.push(Contender::new(entry.name.to_owned(), entry.role, holds, id, &stat));
        }
        Ok(contenders)
    }
}

/// Reads a contender's znode, the data as far as it may be read; `None` if it has gone.
pub(crate) async fn look(client: &Client, path: &str) -> Result<Option<(Option<Vec<u8>>, Stat)>, LockError> {
    match retry(|| client.get_data(path)).await {
        Ok((data, stat)) => Ok(Some((Some(data), stat))),
        Err(ClientError::NoNode) => Ok(None),
        Err(ClientError::NoAuth) => {
            let stat = retry(|| client.check_stat(path)).await.map_err(request("cannot read", path))?;
            Ok(stat.map(|stat| (None, stat)))
        }
        Err(error) => Err(request("cannot read", path)(error)),
    }
}
