//! Snapshots that somebody has tampered with are refused, and nothing panics.

use grange_tree::{SnapshotError, Tree, TreeBuilder};
use proptest::prelude::*;

use crate::model::chunks;
use crate::script::Run;

/// A tree with something of everything.
fn rich_chunks() -> Vec<Vec<u8>> {
    let mut run = Run::new();
    let script = "auth digest u:h; create /a data=xyz acl=digest:u:h:31; create /a/b; create /a/c; create /e flags=1; \
                  create /f flags=1; create /k flags=4 op=container; create /t flags=5 ttl=9 op=ttl; create /gone; \
                  delete /gone; 2: open; 2: create /g flags=1; set /a/b q";
    script.split(';').for_each(|statement| drop(run.statement(statement.trim())));
    chunks(&run.tree.snapshot())
}

fn restore(chunks: &[Vec<u8>]) -> Result<Tree, SnapshotError> {
    let mut builder = TreeBuilder::new();
    for chunk in chunks {
        builder.add(TreeBuilder::decode_chunk(chunk)?);
    }
    builder.finish()
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    let good = rich_chunks();
    for chunk in 0..good.len() {
        for byte in 0..good[chunk].len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[chunk][byte] ^= flip;
                if let Ok(tree) = restore(&bad) {
                    // Only what is no part of the digest: the number of the last transaction, links of free slots and
                    // of ephemerals that lead nowhere.
                    assert_eq!(tree.node_count(), restore(&good).unwrap().node_count());
                }
            }
        }
    }
}

#[test]
fn a_missing_or_repeated_chunk_is_noticed() {
    let good = rich_chunks();
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad.remove(index);
        assert_eq!(restore(&bad).err(), Some(SnapshotError::Chunks));
        let mut bad = good.clone();
        bad.push(good[index].clone());
        assert_eq!(restore(&bad).err(), Some(SnapshotError::Chunks));
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let mut bad = rich_chunks();
    bad[0][0] = 9;
    assert_eq!(restore(&bad).err(), Some(SnapshotError::Version(9)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(kind in 0..5u8, mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        bytes.splice(0..0, [2, kind]);
        drop(TreeBuilder::decode_chunk(&bytes));
    }

    #[test]
    fn several_flipped_bytes_do_not_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bad = rich_chunks();
        for (chunk, byte, value) in flips {
            let chunk = chunk.get_mut(&mut bad[..]);
            *byte.get_mut(&mut chunk[..]) = value;
        }
        drop(restore(&bad));
    }
}
