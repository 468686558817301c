//! Walking, comparing and moving trees of files: `sync`.
