//! Framing: a length and so many bytes.

/// The default of `jute.maxbuffer`: the longest frame a server takes, in bytes.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 0xf_ffff;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// A length that is negative or above the bound: close the connection without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is out of range")]
pub struct FrameError(pub i32);

/// Returns the length of the frame at the front of `bytes`, `None` while fewer than four bytes are there.
///
/// Errors: [`FrameError`] unless the length is in `0..=frame_bytes_max`. Source: `NIOServerCnxn.readLength`.
#[inline]
pub fn frame_length(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let Some((head, _)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes(*head);
    match usize::try_from(length) {
        Ok(count) if count <= frame_bytes_max => Ok(Some(count)),
        _ => Err(FrameError(length)),
    }
}

/// A frame's payload and the bytes behind it.
pub type PayloadAndRest<'a> = (&'a [u8], &'a [u8]);

/// Splits one frame off the front of `bytes` and returns its payload and what follows, `None` if it is incomplete.
///
/// Errors: as [`frame_length`].
#[inline]
pub fn split_frame(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<PayloadAndRest<'_>>, FrameError> {
    let Some(length) = frame_length(bytes, frame_bytes_max)? else { return Ok(None) };
    Ok(bytes[LENGTH_BYTES..].split_at_checked(length))
}

/// Appends a frame whose payload `fill` writes.
#[inline]
pub fn put_frame<R>(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let result = fill(out);
    let length = i32::try_from(out.len() - start - LENGTH_BYTES).expect("a reply never outgrows an int");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_it_is_whole() {
        let mut out = Vec::new();
        put_frame(&mut out, |out| out.extend_from_slice(b"abc"));
        assert_eq!(split_frame(&out, 3), Ok(Some((&b"abc"[..], &b""[..]))));
        assert_eq!(split_frame(&out[..6], 3), Ok(None));
        assert_eq!(split_frame(&out[..3], 3), Ok(None));
        assert_eq!(split_frame(&out, 2), Err(FrameError(3)));
        assert_eq!(split_frame(&[0xff; 4], 2), Err(FrameError(-1)));
    }
}
