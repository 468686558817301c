//! The guard that refuses writes before the disk is really full.

use std::io;
use std::path::{Path, PathBuf};

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The free space would fall below the reserve.
    #[error(
        "only {free_bytes} bytes are free in {}: {needed_bytes} are needed and {reserve_bytes} are kept in reserve",
        .path.display()
    )]
    Low {
        /// The directory that is watched.
        path: PathBuf,
        /// Free space now.
        free_bytes: u64,
        /// Space that was asked for.
        needed_bytes: u64,
        /// Space that is to stay free.
        reserve_bytes: u64,
    },
    /// The file system did not answer.
    #[error("cannot find the free space of {}", .path.display())]
    Io {
        /// The directory that is watched.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Compares the free space of a directory's file system with a reserve.
///
/// The reserve is what snapshots, purging and the operator still have to work with when writes are refused. Each call
/// asks the file system (about a microsecond on a local one); callers on a hot path ask once per batch or less.
#[derive(Debug, Clone)]
pub struct DiskGuard {
    path: PathBuf,
    reserve_bytes: u64,
}

impl DiskGuard {
    /// Default reserve: one log segment.
    pub const RESERVE_BYTES_DEFAULT: u64 = 64 << 20;

    /// Watches the file system that `path` is on.
    pub fn new(path: &Path, reserve_bytes: u64) -> DiskGuard {
        DiskGuard { path: path.to_owned(), reserve_bytes }
    }

    /// Returns the bytes that this user can still write.
    pub fn free_bytes(&self) -> Result<u64, SpaceError> {
        let stat = rustix::fs::statvfs(&self.path)
            .map_err(|error| SpaceError::Io { path: self.path.clone(), source: error.into() })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Refuses if writing `needed_bytes` would leave less than the reserve.
    pub fn ensure_space(&self, needed_bytes: u64) -> Result<(), SpaceError> {
        let free_bytes = self.free_bytes()?;
        if free_bytes < needed_bytes.saturating_add(self.reserve_bytes) {
            let (path, reserve_bytes) = (self.path.clone(), self.reserve_bytes);
            return Err(SpaceError::Low { path, free_bytes, needed_bytes, reserve_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_kept_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DiskGuard::new(dir.path(), 0).ensure_space(1).is_ok());
        let refused = DiskGuard::new(dir.path(), u64::MAX).ensure_space(1).unwrap_err();
        assert!(matches!(refused, SpaceError::Low { needed_bytes: 1, reserve_bytes: u64::MAX, .. }), "{refused}");
        assert!(matches!(DiskGuard::new(&dir.path().join("none"), 0).free_bytes(), Err(SpaceError::Io { .. })));
    }
}
