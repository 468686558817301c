//! Who is there: an ephemeral znode per member. kazoo's `Party` and `ShallowParty`.

use grange_proto::ZnodePath;
use tokio::time::Instant;
use uuid::Uuid;
use zookeeper_client::{Client, Error as ClientError};

use super::failure::{RecipeError, request};
use super::held::Held;
use super::marker::{create_own, delete, ensure_path};
use super::own::Own;
use super::parents::child;
use crate::retry::retry;

/// What kazoo's `Party` puts behind the unique part of a name.
const MARK: &str = "__party__";

/// Where the id of a member is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyLayout {
    /// `PATH/<uuid>__party__`, the id is the data: kazoo's `Party`.
    Data,
    /// `PATH/<uuid>-<id>`: kazoo's `ShallowParty`, whose members are read by one request. The id must do as a name.
    Name,
}

/// A handle on a party, for one member or none.
#[derive(Debug)]
pub struct Party {
    client: Client,
    path: ZnodePath,
    layout: PartyLayout,
    id: String,
    name: String,
}

impl Party {
    /// Returns the party at `path`; nothing is made. `id` is what others see of this member.
    pub fn new(client: Client, path: ZnodePath, layout: PartyLayout, id: &str) -> Party {
        let unique = Uuid::new_v4().simple();
        let name = match layout {
            PartyLayout::Data => format!("{unique}{MARK}"),
            PartyLayout::Name => format!("{unique}-{id}"),
        };
        Party { client, path, layout, id: id.to_owned(), name }
    }

    /// Becomes a member, until [`Party::leave`] or the end of the session.
    pub async fn join(&self) -> Result<(), RecipeError> {
        let failed = request("cannot join the party", &self.path);
        ensure_path(&self.client, self.path.as_str()).await.map_err(&failed)?;
        let data = if self.layout == PartyLayout::Data { self.id.as_bytes() } else { b"" };
        match create_own(&self.client, &child(self.path.as_str(), &self.name), data).await {
            Ok(()) | Err(ClientError::NodeExists) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Becomes a member for as long as the value lives, and watches over the session meanwhile.
    pub(crate) async fn enter(&self) -> Result<Held, RecipeError> {
        let mut own = Own::named(&self.client, &self.path, self.name.clone());
        self.join().await?;
        own.found(self.name.clone());
        let path = own.path();
        let look = || {
            let sent_at = Instant::now();
            // The sync shows that the leader has heard of the session since.
            let (sync, stat) = (self.client.sync(&path), self.client.check_stat(&path));
            async move {
                sync.await?;
                Ok((stat.await?, sent_at))
            }
        };
        match retry(look).await.map_err(request("cannot join the party", &self.path))? {
            (Some(stat), sent_at) => Ok(Held::new(own, stat.czxid, sent_at)),
            (None, _) => Err(RecipeError::NotHeld { path }),
        }
    }

    /// Returns the name of this member's znode, which no other member has.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Ceases to be a member; returns false if it was none.
    pub async fn leave(&self) -> Result<bool, RecipeError> {
        let path = child(self.path.as_str(), &self.name);
        delete(&self.client, &path).await.map_err(request("cannot leave the party", &self.path))
    }

    /// Returns the ids of all members, in no order.
    pub async fn members(&self) -> Result<Vec<String>, RecipeError> {
        let failed = request("cannot see who is in the party", &self.path);
        let names = match retry(|| self.client.list_children(self.path.as_str())).await {
            Err(ClientError::NoNode) => return Ok(Vec::new()),
            listed => listed.map_err(&failed)?,
        };
        if self.layout == PartyLayout::Name {
            return Ok(names.iter().filter_map(|name| Some(name.split_once('-')?.1.to_owned())).collect());
        }
        let mut members = Vec::with_capacity(names.len());
        for name in names.iter().filter(|name| name.contains(MARK)) {
            match retry(|| self.client.get_data(&child(self.path.as_str(), name))).await {
                Ok((data, _)) => members.push(String::from_utf8_lossy(&data).into_owned()),
                // It has left meanwhile.
                Err(ClientError::NoNode) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(members)
    }
}
