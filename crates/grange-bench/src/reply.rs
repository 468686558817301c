//! Finds the replies in a stream of bytes, wherever a read has cut it, without copying it.

use grange_proto::{Xid, Zxid};

const LENGTH_BYTES: usize = 4;
const HEADER_BYTES: usize = 16;
const HEAD_BYTES: usize = LENGTH_BYTES + HEADER_BYTES;

/// Longest reply that is believed; a listing of 10^7 children stays below it.
pub const REPLY_BYTES_MAX: usize = 1 << 30;

/// The header of a reply that has arrived as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The request that is answered, or one of the reserved numbers.
    pub xid: Xid,
    /// The newest transaction the server had applied.
    pub zxid: Zxid,
    /// 0, or the code of an error.
    pub err: i32,
    /// Bytes of the frame without its length.
    pub bytes: usize,
}

/// A frame that cannot be a reply: the stream is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reply says that it has {0} bytes")]
pub struct ReplyLengthError(pub i32);

/// The state between two reads.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    head: [u8; HEAD_BYTES],
    head_have: usize,
    /// A reply whose header is known, and how many of its bytes are still to come.
    pending: Option<(Reply, usize)>,
}

impl ReplyScanner {
    /// Calls `on_reply` for each reply that ends within `bytes`, in order.
    ///
    /// Errors: [`ReplyLengthError`] if a frame is shorter than a header or longer than [`REPLY_BYTES_MAX`]; the
    /// scanner is of no use afterwards.
    #[inline]
    pub fn scan(&mut self, mut bytes: &[u8], mut on_reply: impl FnMut(Reply)) -> Result<(), ReplyLengthError> {
        if self.pending.is_some() || self.head_have > 0 {
            let Some(rest) = self.finish_cut(bytes, &mut on_reply)? else { return Ok(()) };
            bytes = rest;
        }
        while let Some(head) = bytes.first_chunk::<HEAD_BYTES>() {
            let reply = parse(head)?;
            let Some(rest) = bytes.get(LENGTH_BYTES + reply.bytes..) else {
                self.pending = Some((reply, LENGTH_BYTES + reply.bytes - bytes.len()));
                return Ok(());
            };
            on_reply(reply);
            bytes = rest;
        }
        self.head[..bytes.len()].copy_from_slice(bytes);
        self.head_have = bytes.len();
        Ok(())
    }

    /// Goes on with the reply that the last read cut; returns what follows it, `None` if it is still cut.
    #[cold]
    fn finish_cut<'a>(
        &mut self,
        mut bytes: &'a [u8],
        on_reply: &mut impl FnMut(Reply),
    ) -> Result<Option<&'a [u8]>, ReplyLengthError> {
        if self.pending.is_none() {
            let taken = bytes.len().min(HEAD_BYTES - self.head_have);
            self.head[self.head_have..self.head_have + taken].copy_from_slice(&bytes[..taken]);
            self.head_have += taken;
            bytes = &bytes[taken..];
            if self.head_have < HEAD_BYTES {
                return Ok(None);
            }
            let reply = parse(&self.head)?;
            self.pending = Some((reply, reply.bytes - HEADER_BYTES));
            self.head_have = 0;
        }
        if let Some((reply, missing)) = self.pending.take() {
            if let Some(rest) = bytes.get(missing..) {
                on_reply(reply);
                return Ok(Some(rest));
            }
            self.pending = Some((reply, missing - bytes.len()));
        }
        Ok(None)
    }
}

#[inline]
fn parse(head: &[u8; HEAD_BYTES]) -> Result<Reply, ReplyLengthError> {
    let int = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = int(0);
    let bytes = usize::try_from(length).map_err(|_| ReplyLengthError(length))?;
    if !(HEADER_BYTES..=REPLY_BYTES_MAX).contains(&bytes) {
        return Err(ReplyLengthError(length));
    }
    let zxid = Zxid(i64::from(int(8)) << 32 | i64::from(int(12)) & 0xffff_ffff);
    Ok(Reply { xid: Xid(int(4)), zxid, err: int(16), bytes })
}

#[cfg(test)]
mod tests {
    use grange_proto::frame::put_frame;
    use grange_proto::response::ReplyHeader;
    use proptest::prelude::*;

    use super::*;

    fn stream(replies: &[(i32, i64, i32, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(xid, zxid, err, body) in replies {
            put_frame(&mut out, |out| {
                ReplyHeader { xid: Xid(xid), zxid: Zxid(zxid), err }.encode(out);
                out.extend(std::iter::repeat_n(0xee, body));
            });
        }
        out
    }

    const REPLIES: [(i32, i64, i32, usize); 4] =
        [(1, 0x1_8000_0001, 0, 68), (-1, -1, 0, 30), (2, 3, -101, 0), (i32::MAX, i64::MAX, 0, 1)];

    fn expected() -> Vec<Reply> {
        REPLIES
            .iter()
            .map(|&(xid, zxid, err, body)| Reply { xid: Xid(xid), zxid: Zxid(zxid), err, bytes: body + 16 })
            .collect()
    }

    #[test]
    fn a_stream_may_be_cut_at_every_byte() {
        let bytes = stream(&REPLIES);
        for cut in 0..=bytes.len() {
            let mut scanner = ReplyScanner::default();
            let mut seen = Vec::new();
            scanner.scan(&bytes[..cut], |reply| seen.push(reply)).unwrap();
            scanner.scan(&bytes[cut..], |reply| seen.push(reply)).unwrap();
            assert_eq!(seen, expected(), "cut at {cut}");
        }
    }

    #[test]
    fn a_reply_counts_when_its_last_byte_is_there() {
        let bytes = stream(&REPLIES[..1]);
        let mut scanner = ReplyScanner::default();
        let mut seen = 0;
        for (at, byte) in bytes.iter().enumerate() {
            scanner.scan(std::slice::from_ref(byte), |_| seen += 1).unwrap();
            assert_eq!(seen, usize::from(at + 1 == bytes.len()));
        }
    }

    #[test]
    fn a_length_that_no_reply_has_is_an_error() {
        for length in [-1, 0, 15, i32::MAX] {
            let mut bytes = stream(&REPLIES[..1]);
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(ReplyScanner::default().scan(&bytes, |_| ()), Err(ReplyLengthError(length)));
            let mut scanner = ReplyScanner::default();
            scanner.scan(&bytes[..7], |_| ()).unwrap();
            assert_eq!(scanner.scan(&bytes[7..], |_| ()), Err(ReplyLengthError(length)));
        }
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same_replies(cuts in prop::collection::vec(1usize..50, 1..40)) {
            let bytes = stream(&REPLIES);
            let mut scanner = ReplyScanner::default();
            let mut seen = Vec::new();
            let mut rest = &bytes[..];
            for size in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*size));
                scanner.scan(now, |reply| seen.push(reply)).unwrap();
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(seen, expected());
        }
    }
}
