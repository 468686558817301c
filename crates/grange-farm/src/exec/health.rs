//! Whether enough hosts of a farm are running, by the rule of ZkFarmer's `check`.

use std::fmt;
use std::str::FromStr;

use grange_client::Client;
use grange_client::recipes::RecipeError;
use serde_json::Value;

use crate::COMMON;
use crate::filter::{Filter, FilterError};
use crate::properties::{FieldPath, text_of};
use crate::view::{FarmChange, FarmView};

/// How many hosts may be missing: fewer than this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailedMax {
    /// So many.
    Hosts(u32),
    /// So many of a hundred.
    Percent(f64),
}

/// Text is no limit of failed hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of hosts, or a part of them like 10%")]
pub struct FailedMaxError;

impl FromStr for FailedMax {
    type Err = FailedMaxError;

    fn from_str(text: &str) -> Result<FailedMax, FailedMaxError> {
        match text.strip_suffix('%') {
            None => text.parse().map(FailedMax::Hosts).map_err(|_| FailedMaxError),
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(FailedMax::Percent(percent)),
                _ => Err(FailedMaxError),
            },
        }
    }
}

impl fmt::Display for FailedMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailedMax::Hosts(hosts) => write!(f, "{hosts}"),
            FailedMax::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How a farm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Hosts that run.
    pub running: u32,
    /// Hosts that there should be.
    pub size: u32,
}

/// Why it is not known how a farm does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// There is no such znode.
    #[error("there is no such farm")]
    NoFarm,
    /// The data of the farm are no properties.
    #[error("the farm's own properties cannot be read")]
    Properties,
    /// Nobody knows how many hosts there should be.
    #[error("the farm has no property 'size' with the number of its hosts")]
    Size,
    /// The farm's `running_filter` is none.
    #[error("the farm's property 'running_filter' is no filter")]
    Filter(#[source] FilterError),
}

impl Health {
    /// Judges a farm by a copy of it.
    pub fn of(view: &FarmView) -> Result<Health, HealthError> {
        if !view.exists() {
            return Err(HealthError::NoFarm);
        }
        let farm = view.properties().map_err(|_| HealthError::Properties)?;
        let field = |name: &str| name.parse::<FieldPath>().ok().and_then(|path| farm.get(&path).cloned());
        let size = field("size").and_then(|size| whole(&size)).ok_or(HealthError::Size)?;
        let filter = field("running_filter").map_or_else(String::new, |filter| text_of(&filter).into_owned());
        let filter: Filter = filter.parse().map_err(HealthError::Filter)?;
        let hosts = view.hosts().iter().filter(|(name, _)| *name != COMMON);
        // One whose properties cannot be read is there, as long as nothing is asked of them.
        let running = hosts.filter(|(_, host)| match host {
            Ok(properties) => filter.matches(properties),
            Err(_) => filter.is_empty(),
        });
        Ok(Health { running: u32::try_from(running.count()).unwrap_or(u32::MAX), size })
    }

    /// Returns how many hosts are missing.
    pub fn failed(&self) -> u32 {
        self.size.saturating_sub(self.running)
    }

    /// Tells whether fewer are missing than that.
    pub fn is_below(&self, max: FailedMax) -> bool {
        match max {
            FailedMax::Hosts(hosts) => self.failed() < hosts,
            FailedMax::Percent(percent) => f64::from(self.failed()) < f64::from(self.size) * percent / 100.0,
        }
    }

    /// Reads a farm as it is after everything that was asked for before; the copy goes on to be kept up to date.
    pub async fn read(client: Client, place: &super::Place) -> Result<FarmView, RecipeError> {
        let farm = place.farm();
        match grange_client::retry(|| client.sync(farm.as_str())).await {
            Ok(()) | Err(grange_client::ClientError::NoNode) => {}
            Err(source) => {
                return Err(RecipeError::Request { doing: "cannot read", path: farm.to_string(), source });
            }
        }
        let mut view = FarmView::open(client, farm.clone()).await?;
        while view.next().await? != FarmChange::Ready {}
        Ok(view)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} nodes running, {} failing", self.running, self.size, self.failed())
    }
}

fn whole(value: &Value) -> Option<u32> {
    text_of(value).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_are_too_many() {
        for (running, size, max, is_healthy) in [
            (16, 17, "10%", true),
            (9, 10, "10%", false),
            (10, 10, "10%", true),
            (15, 17, "2", false),
            (16, 17, "2", true),
            (17, 17, "0", false),
            (20, 17, "1", true),
            (0, 0, "10%", false),
            (199, 200, "0.6%", true),
        ] {
            let max: FailedMax = max.parse().unwrap();
            assert_eq!(Health { running, size }.is_below(max), is_healthy, "{running}/{size} below {max}");
        }
    }

    #[test]
    fn limits_are_numbers_or_parts() {
        for text in ["", "%", "ten", "-1", "101%", "NaN%", "1.5"] {
            assert_eq!(text.parse::<FailedMax>(), Err(FailedMaxError), "{text}");
        }
        assert_eq!("2.5%".parse(), Ok(FailedMax::Percent(2.5)));
    }
}
