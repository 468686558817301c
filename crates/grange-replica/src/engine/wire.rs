//! The engine's messages as bytes: our own shape, so that the engine's library never parses what the network brings.
//!
//! Shape: kind `u8`; to, from, term, log term, index, commit, commit term, request snapshot, reject hint as `i64`;
//! reject `bool`; context as a buffer; a vector of entries (kind `u8`, term, index `i64`, data as a buffer); and a
//! `bool` that says whether a snapshot follows: index, term `i64` and who votes.

use bytes::Bytes;
use grange_proto::wire::{DecodeError, Reader, put_bool, put_buffer, put_i64, put_length};
use raft::prelude::{Entry, EntryType, Message, MessageType, Snapshot};

use super::{conf_of, conf_state};
use crate::members::Conf;

/// The kinds that members send each other; their place is their code.
const KINDS: [MessageType; 12] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Bytes of an entry without data.
const ENTRY_BYTES_MIN: usize = 1 + 8 + 8 + 4;

/// Appends a message; returns false if it is of a kind that is for this member only.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) -> bool {
    let Some(kind) = KINDS.iter().position(|&kind| kind == message.get_msg_type()) else { return false };
    out.push(u8::try_from(kind).expect("there are few kinds"));
    for number in [
        message.to,
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
    ] {
        put_i64(out, number.cast_signed());
    }
    put_bool(out, message.reject);
    put_buffer(out, Some(&message.context));
    put_length(out, message.entries.len());
    for entry in &message.entries {
        let (kind, data) = entry_parts(entry);
        out.push(kind);
        put_i64(out, entry.term.cast_signed());
        put_i64(out, entry.index.cast_signed());
        put_buffer(out, Some(data));
    }
    put_bool(out, message.has_snapshot());
    if message.has_snapshot() {
        let metadata = message.get_snapshot().get_metadata();
        put_i64(out, metadata.index.cast_signed());
        put_i64(out, metadata.term.cast_signed());
        conf_of(metadata.get_conf_state()).encode(out);
    }
    true
}

/// Decodes a message from the whole of `bytes`; the data of its entries stays where it is.
pub(super) fn decode(bytes: &Bytes) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(bytes);
    let kind = reader.u8()?;
    let kind = *KINDS.get(usize::from(kind)).ok_or(DecodeError::Unknown(i32::from(kind), "kind of a message"))?;
    let mut message = Message::default();
    message.set_msg_type(kind);
    for field in [
        &mut message.to,
        &mut message.from,
        &mut message.term,
        &mut message.log_term,
        &mut message.index,
        &mut message.commit,
        &mut message.commit_term,
        &mut message.request_snapshot,
        &mut message.reject_hint,
    ] {
        *field = reader.i64()?.cast_unsigned();
    }
    message.reject = reader.bool()?;
    message.context = Bytes::copy_from_slice(reader.buffer()?.ok_or(DecodeError::Null)?);
    let count = reader.count(ENTRY_BYTES_MIN)?;
    for _ in 0..count {
        let kind = reader.u8()?;
        let (term, index) = (reader.i64()?.cast_unsigned(), reader.i64()?.cast_unsigned());
        let data = reader.buffer()?.ok_or(DecodeError::Null)?;
        let entry = entry_from_parts(kind, term, index, bytes.slice_ref(data))
            .ok_or(DecodeError::Unknown(i32::from(kind), "kind of an entry"))?;
        message.mut_entries().push(entry);
    }
    if reader.bool()? {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = reader.i64()?.cast_unsigned();
        metadata.term = reader.i64()?.cast_unsigned();
        metadata.set_conf_state(conf_state(&Conf::decode(&mut reader)?));
        message.set_snapshot(snapshot);
    }
    Ok(message)
}

/// The tag of entries with requests.
pub(super) const TAG_REQUESTS: u8 = 0;
/// The tag of entries that change the members.
pub(super) const TAG_MEMBERS: u8 = 1;

/// Returns the tag and the data of an entry. What changes the members is kept in our own shape in the context; the
/// engine's own shape of it is only ever read by the member that made it.
pub(super) fn entry_parts(entry: &Entry) -> (u8, &Bytes) {
    match entry.get_entry_type() {
        EntryType::EntryNormal => (TAG_REQUESTS, &entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => (TAG_MEMBERS, &entry.context),
    }
}

/// Puts an entry together again; `None` if the tag is unknown.
pub(super) fn entry_from_parts(tag: u8, term: u64, index: u64, data: Bytes) -> Option<Entry> {
    let mut entry = Entry { term, index, ..Entry::default() };
    match tag {
        TAG_REQUESTS => entry.data = data,
        TAG_MEMBERS => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry.context = data;
        }
        _ => return None,
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        let mut message =
            Message { to: 1, from: u64::MAX, term: 3, log_term: 4, index: 5, commit: 6, ..Message::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.reject = true;
        message.reject_hint = 7;
        message.context = Bytes::from_static(b"CampaignTransfer");
        message.mut_entries().push(entry_from_parts(0, 1, 2, Bytes::from_static(b"requests")).unwrap());
        message.mut_entries().push(entry_from_parts(1, 1, 3, Bytes::from_static(b"members")).unwrap());
        let conf = Conf { voters: vec![1, 2], learners: vec![3], outgoing: vec![1], learners_next: vec![] };
        message.mut_snapshot().mut_metadata().set_conf_state(conf_state(&conf));
        message.mut_snapshot().mut_metadata().index = 9;
        message
    }

    #[test]
    fn a_message_comes_back_as_it_went_in() {
        let mut bytes = Vec::new();
        assert!(encode(&sample(), &mut bytes));
        assert_eq!(decode(&Bytes::from(bytes)).unwrap(), sample());
    }

    #[test]
    fn what_is_for_this_member_only_is_not_sent() {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgHup);
        assert!(!encode(&message, &mut Vec::new()));
    }

    #[test]
    fn hostile_bytes_are_refused_whatever_they_are() {
        let mut bytes = Vec::new();
        assert!(encode(&sample(), &mut bytes));
        for length in 0..bytes.len() {
            assert!(decode(&Bytes::copy_from_slice(&bytes[..length])).is_err());
        }
        bolero::check!().with_iterations(20_000).for_each(|input: &[u8]| {
            let _ = decode(&Bytes::copy_from_slice(input));
        });
    }
}
