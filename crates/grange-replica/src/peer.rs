//! What members tell each other: a kind byte, and what belongs to it to the end of the message.

use bytes::Bytes;
use grange_proto::SessionId;
use grange_proto::wire::{DecodeError, Reader, put_i32, put_i64, put_length};

/// A message of the consensus engine, in the shape of [`crate::engine`].
pub(crate) const KIND_ENGINE: u8 = 0;
const KIND_BATCH: u8 = 1;
const KIND_ALIVE: u8 = 2;
const KIND_DIGEST: u8 = 3;
const KIND_STRANGER: u8 = 4;

/// Bytes of a session with its timeout.
const ALIVE_BYTES: usize = 8 + 4;

/// A message from one member to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// A message of the consensus engine.
    Engine(Bytes),
    /// To the leader: requests for the log, as [`crate::entry`] has them.
    Batch(Bytes),
    /// To the leader: sessions whose clients were heard since the last message, and their timeouts.
    Alive(Vec<(SessionId, i32)>),
    /// From the leader: what the tree at an entry adds up to.
    Digest {
        /// The entry.
        index: u64,
        /// The sum.
        digest: u64,
    },
    /// From the leader: whoever gets this is no member, and may have been one.
    Stranger,
}

impl PeerMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            PeerMessage::Engine(bytes) => with_kind(KIND_ENGINE, bytes),
            PeerMessage::Batch(data) => with_kind(KIND_BATCH, data),
            PeerMessage::Alive(sessions) => {
                let mut out = Vec::with_capacity(5 + sessions.len() * ALIVE_BYTES);
                out.push(KIND_ALIVE);
                put_length(&mut out, sessions.len());
                for &(session, timeout_ms) in sessions {
                    put_i64(&mut out, session.0);
                    put_i32(&mut out, timeout_ms);
                }
                out
            }
            PeerMessage::Stranger => vec![KIND_STRANGER],
            PeerMessage::Digest { index, digest } => {
                let mut out = vec![KIND_DIGEST];
                put_i64(&mut out, index.cast_signed());
                put_i64(&mut out, digest.cast_signed());
                out
            }
        }
    }

    pub(crate) fn decode(message: &Bytes) -> Result<PeerMessage, DecodeError> {
        let mut reader = Reader::new(message);
        match reader.u8()? {
            KIND_ENGINE => Ok(PeerMessage::Engine(message.slice(1..))),
            KIND_BATCH => Ok(PeerMessage::Batch(message.slice(1..))),
            KIND_ALIVE => {
                let count = reader.count(ALIVE_BYTES)?;
                let sessions = (0..count).map(|_| Ok((SessionId(reader.i64()?), reader.i32()?)));
                Ok(PeerMessage::Alive(sessions.collect::<Result<_, DecodeError>>()?))
            }
            KIND_DIGEST => {
                let (index, digest) = (reader.i64()?.cast_unsigned(), reader.i64()?.cast_unsigned());
                Ok(PeerMessage::Digest { index, digest })
            }
            KIND_STRANGER => Ok(PeerMessage::Stranger),
            kind => Err(DecodeError::Unknown(i32::from(kind), "kind of a message between members")),
        }
    }
}

fn with_kind(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + rest.len());
    out.push(kind);
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went_in() {
        for message in [
            PeerMessage::Engine(Bytes::from_static(b"engine")),
            PeerMessage::Batch(Bytes::from_static(b"batch")),
            PeerMessage::Alive(vec![(SessionId(1), 2), (SessionId(-1), 3)]),
            PeerMessage::Digest { index: u64::MAX, digest: 1 },
            PeerMessage::Stranger,
        ] {
            assert_eq!(PeerMessage::decode(&Bytes::from(message.encode())), Ok(message));
        }
        assert!(PeerMessage::decode(&Bytes::from_static(&[9])).is_err());
        assert!(PeerMessage::decode(&Bytes::new()).is_err());
    }
}
