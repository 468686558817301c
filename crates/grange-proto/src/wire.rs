//! Primitive values of the encoding that ZooKeeper calls Jute: big-endian, no tags, no padding.
//!
//! Source: `org.apache.jute.BinaryInputArchive` and `BinaryOutputArchive`.

/// Why bytes are not the record they were taken for.
///
/// Every variant maps to [`crate::ErrorCode::MarshallingError`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes are left than the field takes.
    #[error("the record ends within a field")]
    Truncated,
    /// A length or a count is negative and not the -1 of a null, or larger than what is left.
    #[error("a length of {0} is out of range")]
    Length(i32),
    /// A null where the field has no meaning without a value.
    #[error("a null where a value is needed")]
    Null,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A field holds a number that names nothing.
    #[error("{0} names no known {1}")]
    Unknown(i32, &'static str),
}

/// Takes fields off the front of a byte slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Returns the bytes not yet taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `count` bytes, or fails with [`DecodeError::Truncated`] and takes nothing.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a bool: any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    /// Takes an `int`.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Takes a `long`.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Takes a `buffer`; `None` is the null buffer (length -1).
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let count = usize::try_from(length).map_err(|_| DecodeError::Length(length))?;
        self.bytes(count).map(Some).map_err(|_| DecodeError::Length(length))
    }

    /// Takes a `ustring` that must be there and be UTF-8.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        self.optional_text()?.ok_or(DecodeError::Null)
    }

    /// Takes a `ustring` that must be UTF-8; `None` is the null string.
    #[inline]
    pub fn optional_text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        self.buffer()?.map(|bytes| std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)).transpose()
    }

    /// Takes the count of a vector; a null vector (-1) counts 0 items, and so does any other negative count, as in
    /// Jute.
    ///
    /// `item_bytes_min` is the least number of bytes an item takes: a count that cannot fit into what is left is
    /// refused before anybody allocates for it.
    #[inline]
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.i32()?;
        let items = usize::try_from(count).unwrap_or(0);
        if items.saturating_mul(item_bytes_min.max(1)) > self.rest.len() {
            return Err(DecodeError::Length(count));
        }
        Ok(items)
    }
}

/// A list of strings inside a record, validated when it was decoded, read again when it is walked.
#[derive(Debug, Clone, Copy)]
pub struct TextList<'a> {
    count: usize,
    bytes: &'a [u8],
    /// The vector was null on the wire, which matters to nobody but an encoder that gives back what came.
    is_null: bool,
}

impl<'a> TextList<'a> {
    /// The list without items.
    pub const EMPTY: TextList<'static> = TextList { count: 0, bytes: &[], is_null: false };

    /// Takes a vector of `ustring`; each must be there and be UTF-8.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let is_null = reader.rest().starts_with(&(-1_i32).to_be_bytes());
        let count = reader.count(4)?;
        let start = reader.rest();
        for _ in 0..count {
            reader.text()?;
        }
        let taken = start.len() - reader.rest().len();
        Ok(TextList { count, bytes: &start[..taken], is_null })
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there is no item.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns true if the vector was null on the wire.
    pub fn is_null(&self) -> bool {
        self.is_null
    }

    /// Appends the list as it came.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_null {
            return put_i32(out, -1);
        }
        put_length(out, self.count);
        out.extend_from_slice(self.bytes);
    }

    /// Walks the items in wire order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map(move |_| reader.text().expect("the list was validated when it was decoded"))
    }
}

/// A list of strings, as it comes or as it goes.
#[derive(Debug, Clone)]
pub enum TextBody<'a> {
    /// Read from a frame.
    Framed(TextList<'a>),
    /// Collected for sending.
    Collected(Vec<&'a str>),
}

impl<'a> TextBody<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            TextBody::Framed(list) => list.encode(out),
            TextBody::Collected(items) => put_texts(out, items.iter().copied()),
        }
    }

    /// Returns the strings.
    pub fn to_vec(&self) -> Vec<&'a str> {
        match self {
            TextBody::Framed(list) => list.iter().collect(),
            TextBody::Collected(items) => items.clone(),
        }
    }
}

/// Appends an `int`.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a `long`.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a bool.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends a count or a length.
///
/// # Panics
/// If `length` does not fit an `int`; every caller's data came from frames that do.
#[inline]
pub fn put_length(out: &mut Vec<u8>, length: usize) {
    put_i32(out, i32::try_from(length).expect("a record never outgrows a frame, whose length is an int"));
}

/// Appends a `buffer`; `None` is the null buffer.
#[inline]
pub fn put_buffer(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a `ustring`.
#[inline]
pub fn put_text(out: &mut Vec<u8>, value: &str) {
    put_buffer(out, Some(value.as_bytes()));
}

/// Appends a vector of `ustring`.
pub fn put_texts<'s>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'s str>) {
    put_length(out, items.len());
    for item in items {
        put_text(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_buffer_is_not_an_empty_one() {
        let mut out = Vec::new();
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        let mut reader = Reader::new(&out);
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(&b""[..])));
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn a_length_beyond_the_bytes_left_is_refused() {
        assert_eq!(Reader::new(&[0, 0, 0, 5, b'a']).buffer(), Err(DecodeError::Length(5)));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buffer(), Err(DecodeError::Length(-2)));
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff]).count(4), Err(DecodeError::Length(i32::MAX)));
    }

    /// Checked against Apache 3.8.0.
    #[test]
    fn a_negative_count_is_that_of_an_empty_vector() {
        for count in [-1, -2, i32::MIN] {
            assert_eq!(Reader::new(&count.to_be_bytes()).count(4), Ok(0));
        }
    }

    #[test]
    fn text_must_be_there_and_be_utf8() {
        assert_eq!(Reader::new(&[0xff; 4]).text(), Err(DecodeError::Null));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0xff]).text(), Err(DecodeError::Utf8));
    }
}
