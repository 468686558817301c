//! Starting anew from one member when the majority is lost for good: offline, on its data directory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use grange_proto::Zxid;
use grange_replica::RecoverError;

use crate::clock::Clock;
use crate::config::{Config, DataPlace};
use crate::recovery::{self, DataError, Opened};
use crate::server::{ensemble_config, open_data_dir, replica_config};
use crate::snapshotter;
use crate::storage::dir::{self, OpenError};
use crate::storage::disk::RealDisk;
use crate::storage::log::LogError;
use crate::storage::snapshot::SnapshotError;

/// What a rescue came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// The number of the server that is an ensemble of its own now.
    pub server_id: u8,
    /// The last transaction it has.
    pub zxid: Zxid,
    /// The snapshot that everything goes on from.
    pub snapshot: PathBuf,
}

/// Why a member was not rescued. Its data is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// There is no data.
    #[error("{} has no data of a member", .0.display())]
    NoData(PathBuf),
    /// The data directory cannot be opened.
    #[error("the data directory cannot be opened")]
    Directory(#[from] OpenError),
    /// What is in it cannot be used.
    #[error("the data cannot be used")]
    Data(#[from] DataError),
    /// The parts of the data do not fit together.
    #[error("the member cannot be restored")]
    Recover(#[from] RecoverError),
    /// The snapshot that the new ensemble begins with cannot be written.
    #[error("the new snapshot cannot be saved")]
    Snapshot(#[from] SnapshotError),
    /// The log cannot be closed.
    #[error("the log cannot be closed")]
    Log(#[from] LogError),
    /// The system has no random number to give.
    #[error("the system does not give what a new ensemble needs")]
    System(#[from] io::Error),
}

/// Makes the member in `config`'s data directory an ensemble of its own, with everything that is on its disk.
///
/// What may be lost is in [`grange_replica::rescue`]. Takes the lock of the directory. Nothing is deleted, and nothing
/// has changed for the next start unless the new snapshot is completely on the disk.
pub fn rescue(config: &Config) -> Result<Rescued, RescueError> {
    if let DataPlace::Directory { data, .. } = &config.storage.place
        && !dir::is_set_up(data)
    {
        return Err(RescueError::NoData(data.clone()));
    }
    let data_dir = open_data_dir(&config.storage, None)?;
    let Opened { recovered, log, snapshots } =
        recovery::open(&data_dir, config.storage.segment_bytes, Arc::new(RealDisk))?;
    let replica_config = replica_config(config, ensemble_config(&config.ensemble, &data_dir)?)?;
    let image = grange_replica::rescue(replica_config, recovered, Clock::start().now())?;
    let zxid = image.tree.zxid();
    let file = snapshotter::write(&snapshots, image)?;
    log.close()?;
    Ok(Rescued { server_id: config.ensemble.server_id, zxid, snapshot: file.path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, RawConfig};

    #[test]
    fn where_no_member_was_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut raw = RawConfig::default();
        raw.set_flag(Key::DataDir, "--data", data.to_str().unwrap());
        let config = Config::try_from(raw).unwrap();
        assert!(matches!(rescue(&config), Err(RescueError::NoData(_))));
        assert!(!data.exists());
    }
}
