//! What is replicated besides the tree: who the members are, what the ensemble was founded with, and how far the
//! batches of each member have come.

use std::collections::BTreeMap;

use grange_proto::wire::{DecodeError, Reader, put_bool, put_i64, put_length};

use crate::config::{Genesis, RecoverError};
use crate::entry::BatchId;
use crate::members::Members;
use crate::reconfig::Wish;

const VERSION: u8 = 2;

/// What is replicated besides the tree; part of every snapshot.
///
/// Shape: version byte, the genesis, the members, a `bool` and the reconfig under way if it is true, and a vector of (member, run, next number), each `i64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnsembleState {
    pub(crate) genesis: Genesis,
    pub(crate) members: Members,
    /// The reconfig under way.
    pub(crate) wish: Option<Wish>,
    /// For each member, its run and the number of the batch that comes next.
    streams: BTreeMap<u64, (u64, u64)>,
}

impl EnsembleState {
    pub(crate) fn new(genesis: Genesis, members: Members) -> EnsembleState {
        EnsembleState { genesis, members, wish: None, streams: BTreeMap::new() }
    }

    /// Takes note of a batch; returns false if it must not be applied.
    ///
    /// A member sends a batch again when it does not know what became of it, so one may be in the log twice. Each is
    /// applied once and in the order of the numbers. The first batch of a later run ends the earlier one: what that had
    /// sent and is still on its way has nobody who waits for it.
    pub(crate) fn accept(&mut self, batch: BatchId) -> bool {
        let expected = match self.streams.get(&batch.member) {
            Some(&(run, next)) if run == batch.run => next,
            Some(&(run, _)) if batch.run < run => return false,
            _ => 0,
        };
        let is_next = batch.number == expected;
        if is_next {
            self.streams.insert(batch.member, (batch.run, expected + 1));
        }
        is_next
    }

    /// Returns the number of the batch of a member's run that comes next.
    pub(crate) fn next_batch(&self, member: u64, run: u64) -> u64 {
        match self.streams.get(&member) {
            Some(&(known, next)) if known == run => next,
            _ => 0,
        }
    }

    /// Forgets the batches of those who are no members any more.
    pub(crate) fn forget_strangers(&mut self) {
        let members = &self.members;
        self.streams.retain(|&id, _| members.get(crate::members::MemberId(id)).is_some());
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.genesis.cluster_id);
        out.extend_from_slice(&self.genesis.session_key);
        self.members.encode(&mut out);
        put_bool(&mut out, self.wish.is_some());
        if let Some(wish) = &self.wish {
            wish.encode(&mut out);
        }
        put_length(&mut out, self.streams.len());
        for (&member, &(run, next)) in &self.streams {
            for number in [member, run, next] {
                put_i64(&mut out, number.cast_signed());
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<EnsembleState, RecoverError> {
        let refused = |why: DecodeError| RecoverError::Format {
            what: "the snapshot's list of members".to_owned(),
            why: why.to_string(),
        };
        Self::read(&mut Reader::new(bytes)).map_err(refused)
    }

    fn read(reader: &mut Reader<'_>) -> Result<EnsembleState, DecodeError> {
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown(i32::from(version), "version of a snapshot"));
        }
        let cluster_id = reader.bytes(16)?.try_into().expect("as many bytes as asked for");
        let session_key = reader.bytes(32)?.try_into().expect("as many bytes as asked for");
        let members = Members::decode(reader)?;
        let wish = if reader.bool()? { Some(Wish::decode(reader)?) } else { None };
        let count = reader.count(24)?;
        let mut number = || reader.i64().map(i64::cast_unsigned);
        let streams =
            (0..count).map(|_| Ok((number()?, (number()?, number()?)))).collect::<Result<_, DecodeError>>()?;
        Ok(EnsembleState { genesis: Genesis { cluster_id, session_key }, members, wish, streams })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Member, MemberId, MembersChange, Step};

    fn state() -> EnsembleState {
        let genesis = Genesis { cluster_id: [1; 16], session_key: [2; 32] };
        let spec = "a:1:2;3".parse().unwrap();
        EnsembleState::new(genesis, Members::founded_by(Member { id: MemberId(u64::MAX), server_id: 7, spec }, true))
    }

    #[test]
    fn it_comes_back_as_it_went_in() {
        let mut state = state();
        state.wish = Some(Wish::Servers([(3, "c:1:2".parse().unwrap())].into()));
        assert!(state.accept(BatchId { member: 3, run: 4, number: 0 }));
        assert_eq!(EnsembleState::decode(&state.encode()).unwrap(), state);
        assert!(EnsembleState::decode(&[9]).is_err());
        assert!(EnsembleState::decode(&[]).is_err());
    }

    #[test]
    fn a_batch_counts_once_and_in_its_turn() {
        let mut state = state();
        let mut accept = |run, number| state.accept(BatchId { member: 1, run, number });
        assert!(!accept(5, 1), "the first one is missing");
        assert!(accept(5, 0));
        assert!(!accept(5, 0), "it was applied");
        assert!(accept(5, 1));
        assert!(!accept(5, 3), "2 is missing");
        assert!(!accept(4, 0), "of an earlier run");
        assert!(accept(6, 0));
        assert!(!accept(5, 2), "of an earlier run now");
    }

    #[test]
    fn a_change_of_members_comes_back_as_it_went_in() {
        let spec = "[::1]:1:2:observer".parse().unwrap();
        let change = MembersChange {
            time_ms: -1,
            completes_founding: true,
            fulfils_wish: true,
            expected: [(9, "x:1:2:observer".parse().unwrap())].into(),
            steps: vec![Step::Vote(MemberId(1)), Step::Learn(MemberId(2)), Step::Leave(MemberId(3))],
            members: vec![Member { id: MemberId(2), server_id: 255, spec }],
        };
        assert_eq!(MembersChange::decode(&change.encode()).unwrap(), change);
    }
}
