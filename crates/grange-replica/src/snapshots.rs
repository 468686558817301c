//! When a snapshot is made, and what it holds besides the tree.

use grange_proto::wire::{DecodeError, Reader, put_i64, put_length};
use grange_tree::Tree;

use crate::config::{Genesis, RecoverError, SnapshotPolicy};
use crate::entry::{decode_genesis, encode_genesis};
use crate::event::SnapshotImage;
use crate::progress::Progress;

const META_VERSION: u8 = 1;

/// What a snapshot holds besides the tree.
///
/// Shape: version byte, voters as a vector of `i64`, then nothing or the genesis.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) voters: Vec<u64>,
    pub(crate) genesis: Option<Genesis>,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![META_VERSION];
        put_length(&mut out, self.voters.len());
        for &voter in &self.voters {
            put_i64(&mut out, voter.cast_signed());
        }
        if let Some(genesis) = &self.genesis {
            encode_genesis(genesis, &mut out);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Meta, RecoverError> {
        let refused = |why: DecodeError| RecoverError::Format {
            what: "the snapshot's list of members".to_owned(),
            why: why.to_string(),
        };
        Self::read(&mut Reader::new(bytes)).map_err(refused)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Meta, DecodeError> {
        let version = reader.u8()?;
        if version != META_VERSION {
            return Err(DecodeError::Unknown(i32::from(version), "version of a snapshot"));
        }
        let count = reader.count(8)?;
        let voters = (0..count).map(|_| reader.i64().map(i64::cast_unsigned)).collect::<Result<_, _>>()?;
        let genesis = if reader.rest().is_empty() { None } else { Some(decode_genesis(reader)?) };
        Ok(Meta { voters, genesis })
    }
}

/// Decides when a snapshot is made.
pub(crate) struct Snapshots {
    policy: SnapshotPolicy,
    voters: Vec<u64>,
    /// The newest durable snapshot.
    saved: u64,
    under_way: bool,
    wanted: bool,
}

impl Snapshots {
    pub(crate) fn new(policy: SnapshotPolicy, saved: u64, voters: Vec<u64>) -> Snapshots {
        Snapshots { policy, voters, saved, under_way: false, wanted: false }
    }

    /// Makes a snapshot if one is due or wanted and none is under way.
    pub(crate) fn begin(
        &mut self,
        progress: &mut Progress,
        tree: &Tree,
        genesis: Option<&Genesis>,
    ) -> Option<SnapshotImage> {
        let due = progress.requests >= self.policy.requests || progress.bytes >= self.policy.log_bytes;
        if self.under_way || progress.index == self.saved || !(due || self.wanted) {
            return None;
        }
        self.under_way = true;
        self.wanted = false;
        progress.requests = 0;
        progress.bytes = 0;
        let meta = Meta { voters: self.voters.clone(), genesis: genesis.copied() }.encode();
        Some(SnapshotImage { index: progress.index, term: progress.term, meta, tree: tree.snapshot() })
    }

    /// Takes in that a snapshot is durable; returns the first entry to keep.
    ///
    /// Entries go back to the snapshot before, so that it is still of use if the new one turns out damaged.
    pub(crate) fn saved(&mut self, index: u64) -> Option<u64> {
        self.under_way = false;
        let before = std::mem::replace(&mut self.saved, index);
        (before > 0).then_some(before + 1)
    }

    /// Takes in that a snapshot could not be written; the next bound reached tries again.
    pub(crate) fn failed(&mut self) {
        self.under_way = false;
    }

    /// Asks for a snapshot at the next opportunity.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_part_comes_back_as_it_went_in() {
        let genesis = Genesis { cluster_id: [1; 16], session_key: [2; 32] };
        for genesis in [None, Some(genesis)] {
            let meta = Meta { voters: vec![1, u64::MAX], genesis };
            let back = Meta::decode(&meta.encode()).unwrap();
            assert_eq!((back.voters, back.genesis), (meta.voters, meta.genesis));
        }
        assert!(Meta::decode(&[9]).is_err());
        assert!(Meta::decode(&[]).is_err());
    }
}
