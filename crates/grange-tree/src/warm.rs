//! Waiting for memory once for many znodes.
//!
//! To find a znode that was not used lately a processor waits for memory three times in a row: for the entry of the
//! index, for the znode, and for its name. The waits for different znodes do not depend on each other, so a processor
//! can have several under way: the writes of an entry are looked ahead, and each then finds what it needs in the caches.

use std::hint::black_box;

use grange_proto::path;

use crate::store::{Place, Store};

/// How many znodes are waited for at once: more than a processor has loads under way, and few enough that nothing is
/// pushed out of the nearest cache again before it is used.
pub const WARM_MAX: usize = 16;

impl Store {
    /// Brings what look-ups of these znodes read into the caches, the first [`WARM_MAX`] of them; changes nothing.
    pub(crate) fn warm<'p>(&self, paths: impl Iterator<Item = &'p str>) {
        let mut hashes = [None; WARM_MAX];
        let mut known: (&str, Option<Place>) = ("/", Some(self.root_place()));
        for (hash, path) in hashes.iter_mut().zip(paths) {
            let Some((parent, name)) = path::split(path) else { continue };
            if parent != known.0 {
                known = (parent, self.find(parent));
            }
            *hash = known.1.map(|parent| self.name_hash(parent.key, name.as_bytes()));
        }
        let hashes = || hashes.iter().flatten();
        hashes().for_each(|hash| self.names.touch(*hash));
        let mut keys = [None; WARM_MAX];
        for (key, hash) in keys.iter_mut().zip(hashes()) {
            *key = self.names.candidate(*hash);
        }
        for key in keys.iter().flatten() {
            black_box(self.nodes.get(*key).is_some());
        }
        for node in keys.iter().flatten().filter_map(|key| self.nodes.get(*key)) {
            black_box(node.name().first().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Tree;

    #[test]
    fn whatever_clients_send_can_be_looked_ahead() {
        let tree = Tree::new();
        let paths = ["", "/", "//", "a", "/a/b", "/zookeeper/config", "/zookeeper/config/", "\u{10ffff}/x"];
        tree.warm(paths.into_iter().cycle().take(100));
        assert_eq!(tree.digest(), Tree::new().digest());
    }
}
