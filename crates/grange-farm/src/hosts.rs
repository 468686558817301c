//! The hosts of a farm as they are at a moment: their names, or what each of them says of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use grange_client::{Client, ClientError, Stat, ZnodePath, pipelined, retry};

use crate::properties::{Properties, PropertiesError};

/// A child of a farm: its properties, or why it has none that can be read.
pub type Host = Result<Properties, Arc<PropertiesError>>;

/// Why a farm cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such znode.
    #[error("there is no farm {0}")]
    NoFarm(ZnodePath),
    /// A request failed.
    #[error("cannot read {path}")]
    Request {
        /// The farm or a host.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Returns the path of a host.
pub fn host_path(farm: &ZnodePath, name: &str) -> String {
    format!("{}/{name}", farm.as_str().trim_end_matches('/'))
}

/// Returns the names of a farm's children in order, `common` among them.
pub async fn names(client: &Client, farm: &ZnodePath) -> Result<Vec<String>, ReadError> {
    match retry(|| client.list_children(farm.as_str())).await {
        Ok(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        Err(ClientError::NoNode) => Err(ReadError::NoFarm(farm.clone())),
        Err(source) => Err(ReadError::Request { path: farm.to_string(), source }),
    }
}

/// Reads a farm's children, `common` among them, with many requests on their way at a time.
///
/// A host that leaves meanwhile is left out; one whose data are no properties is there with the reason.
pub async fn read(client: &Client, farm: &ZnodePath) -> Result<BTreeMap<String, Host>, ReadError> {
    let names = names(client, farm).await?;
    let refused = Mutex::new(farm.to_string());
    // After a lost connection all are read again.
    let read_all = || async {
        let mut hosts = BTreeMap::new();
        pipelined(
            &names,
            |name| Box::pin(client.get_data(&host_path(farm, name))),
            |name, reply: Result<(Vec<u8>, Stat), ClientError>| match reply {
                Ok((data, _)) => {
                    hosts.insert(name.clone(), Properties::decode(&data).map_err(Arc::new));
                    Ok(())
                }
                Err(ClientError::NoNode) => Ok(()),
                Err(error) => {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = host_path(farm, name);
                    Err(error)
                }
            },
        )
        .await?;
        Ok(hosts)
    };
    let read = retry(read_all).await;
    read.map_err(|source| {
        let path = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        ReadError::Request { path, source }
    })
}
