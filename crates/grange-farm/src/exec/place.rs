//! Where a farm's locks and records are: beside it, because everything in it is a host.

use grange_client::ZnodePath;

/// The znode beside a farm in which it has what is no host of it, `PARENT/.FARM.exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    farm: ZnodePath,
    root: String,
}

/// Why a farm, a lock or a host has no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Nothing is beside the root.
    #[error("the root cannot be the farm here: its locks and records are kept beside it")]
    Root,
    /// A name is no name of a znode.
    #[error("'{0}' cannot be the name of a znode")]
    Name(String),
}

impl Place {
    /// Returns the place of a farm.
    pub fn of(farm: &ZnodePath) -> Result<Place, PlaceError> {
        let (parent, name) = farm.as_str().rsplit_once('/').expect("a path is absolute");
        if name.is_empty() {
            return Err(PlaceError::Root);
        }
        Ok(Place { farm: farm.clone(), root: format!("{parent}/.{name}.exec") })
    }

    /// Returns the farm.
    pub fn farm(&self) -> &ZnodePath {
        &self.farm
    }

    /// Returns the path of a lock: of one of the farm, or of any if `lock` is a path itself.
    pub fn lock(&self, lock: &str) -> Result<ZnodePath, PlaceError> {
        let wrong = || PlaceError::Name(lock.to_owned());
        if lock.starts_with('/') {
            return ZnodePath::parse(lock).map_err(|_| wrong());
        }
        self.child("locks", lock).ok_or_else(wrong)
    }

    /// Returns the path of what is recorded of a host.
    pub fn undo(&self, host: &str) -> Result<ZnodePath, PlaceError> {
        self.child("undo", host).ok_or_else(|| PlaceError::Name(host.to_owned()))
    }

    /// Returns the path of a host.
    pub fn host(&self, host: &str) -> Result<ZnodePath, PlaceError> {
        let path = (!host.contains('/')).then(|| ZnodePath::parse(format!("{}/{host}", self.farm)).ok()).flatten();
        path.ok_or_else(|| PlaceError::Name(host.to_owned()))
    }

    fn child(&self, part: &str, name: &str) -> Option<ZnodePath> {
        (!name.contains('/')).then(|| ZnodePath::parse(format!("{}/{part}/{name}", self.root)).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(farm: &str) -> Result<Place, PlaceError> {
        Place::of(&farm.parse().unwrap())
    }

    #[test]
    fn nothing_is_put_into_the_farm() {
        let db = place("/services/db").unwrap();
        assert_eq!(db.lock("restart").unwrap().as_str(), "/services/.db.exec/locks/restart");
        assert_eq!(db.undo("10.0.0.1").unwrap().as_str(), "/services/.db.exec/undo/10.0.0.1");
        assert_eq!(db.host("10.0.0.1").unwrap().as_str(), "/services/db/10.0.0.1");
        assert_eq!(place("/db").unwrap().lock("x").unwrap().as_str(), "/.db.exec/locks/x");
        assert_eq!(place("/"), Err(PlaceError::Root));
    }

    #[test]
    fn a_lock_may_be_anywhere_and_names_are_names() {
        let db = place("/services/db").unwrap();
        assert_eq!(db.lock("/locks/backup").unwrap().as_str(), "/locks/backup");
        for name in ["", "a/b", "..", "/a//b", "/a/"] {
            assert_eq!(db.lock(name), Err(PlaceError::Name(name.to_owned())), "{name}");
        }
        for name in ["", "a/b", ".", "/a"] {
            assert_eq!(db.host(name), Err(PlaceError::Name(name.to_owned())), "{name}");
            assert_eq!(db.undo(name), Err(PlaceError::Name(name.to_owned())), "{name}");
        }
    }
}
