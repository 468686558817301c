//! The farm's property `size`: the highest number of hosts that it ever had.

use std::time::Duration;

use grange_client::{Client, ClientError, ZnodePath, retry};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::COMMON;
use crate::properties::{FieldPath, Properties, text_of};

/// Hosts that join together wait for up to so long, at random, before they look: most then find the work done.
const SPREAD: Duration = Duration::from_secs(1);

/// How often it is tried while others change the farm's properties.
const ATTEMPTS_MAX: usize = 30;

/// Raises `size` to the number of hosts there are, unless it is as large. Costs two reads, whatever the size.
pub(super) async fn raise(client: Client, farm: ZnodePath) {
    for _ in 0..ATTEMPTS_MAX {
        sleep(SPREAD.mul_f64(fastrand::f64())).await;
        match raise_once(&client, farm.as_str()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                debug!(%farm, %error, "the size of the farm was not raised");
                return;
            }
        }
    }
    debug!(%farm, "the size of the farm was not raised: others changed it each time");
}

/// Returns false if somebody else was faster.
async fn raise_once(client: &Client, farm: &str) -> Result<bool, ClientError> {
    let common = format!("{}/{COMMON}", farm.trim_end_matches('/'));
    let shared = retry(|| client.check_stat(&common)).await?.is_some();
    let (data, stat) = retry(|| client.get_data(farm)).await?;
    let count = i64::from(stat.num_children) - i64::from(shared);
    let mut properties = match Properties::decode(&data) {
        Ok(properties) => properties,
        Err(error) => {
            warn!(%farm, %error, "the farm's own properties are left as they are");
            return Ok(true);
        }
    };
    let field: FieldPath = "size".parse().expect("this is the name of a field");
    let known = properties.get(&field).and_then(|size| text_of(size).trim().parse::<i64>().ok());
    if known.is_some_and(|known| known >= count) {
        return Ok(true);
    }
    properties.set(&field, Value::from(count));
    match retry(|| client.set_data(farm, &properties.encode(), Some(stat.version))).await {
        Ok(_) => Ok(true),
        Err(ClientError::BadVersion) => Ok(false),
        Err(error) => Err(error),
    }
}
