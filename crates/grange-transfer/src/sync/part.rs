//! Parts: the units in which a tree is shared out, and their bytes in the queue.
//!
//! Shape: version `u8`, then items to the end. An item is a tag `u8` and its fields; a byte string is a length `u32`
//! big-endian and the bytes.

use crate::path::RelPath;

/// A part is closed when it has reached this size; it stays far below the coordination server's limit of 1 MiB.
pub(crate) const PART_BYTES_MAX: usize = 128 * 1024;

const VERSION: u8 = 1;
const DIRECTORY: u8 = 1;
const NAMES: u8 = 2;
const FINISH: u8 = 3;

/// What a worker takes from the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The work, in any order.
    pub items: Vec<Item>,
}

/// One piece of work. All are idempotent: doing one twice, or at the same time in two places, gives the same result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The directory and everything below it. It exists at the destination already.
    Directory(RelPath),
    /// Some entries of one large directory, and everything below them.
    Names {
        /// The directory that holds them.
        directory: RelPath,
        /// The entries.
        names: Vec<Named>,
    },
    /// Set the attributes of a directory whose entries were shared out. Only in [`Phase::Late`].
    Finish(RelPath),
}

/// An entry of a directory, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: Box<[u8]>,
    /// Where it was listed.
    pub presence: Presence,
}

/// On which sides a directory listing showed a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// At the source only: there is no need to look for it at the destination.
    Source,
    /// At the source, and at the destination too or perhaps.
    Both,
    /// At the destination; if it is at the source too, somebody else sees to it.
    Destination,
}

/// The two phases of a job: a late part is only given out when no other part is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Compare and move.
    Main,
    /// What must come last.
    Late,
}

/// Bytes that are no part.
#[derive(Debug, thiserror::Error)]
#[error("a damaged part in the queue: {0}")]
pub struct DamagedPart(&'static str);

impl Item {
    /// Bytes that it takes in a part.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Item::Directory(path) | Item::Finish(path) => 5 + path.as_bytes().len(),
            Item::Names { directory, names } => {
                9 + directory.as_bytes().len() + names.iter().map(|named| 5 + named.name.len()).sum::<usize>()
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Item::Directory(path) => push_tagged(out, DIRECTORY, path.as_bytes()),
            Item::Finish(path) => push_tagged(out, FINISH, path.as_bytes()),
            Item::Names { directory, names } => {
                push_tagged(out, NAMES, directory.as_bytes());
                push_length(out, names.len());
                for named in names {
                    push_tagged(out, named.presence.code(), &named.name);
                }
            }
        }
    }
}

impl Presence {
    fn code(self) -> u8 {
        match self {
            Presence::Source => 1,
            Presence::Both => 2,
            Presence::Destination => 3,
        }
    }

    fn parse(code: u8) -> Option<Self> {
        [Presence::Source, Presence::Both, Presence::Destination].into_iter().find(|presence| presence.code() == code)
    }
}

impl Part {
    /// A part of one item.
    pub fn of(item: Item) -> Self {
        Self { items: vec![item] }
    }

    /// The part's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.items.iter().map(Item::encoded_len).sum::<usize>());
        out.push(VERSION);
        for item in &self.items {
            item.encode(&mut out);
        }
        out
    }

    /// Reads a part. Errors: [`DamagedPart`] if the bytes are of another version, cut short, or name a path that would
    /// leave the base.
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedPart> {
        let [VERSION, rest @ ..] = bytes else { return Err(DamagedPart("unknown version")) };
        let mut input = Input(rest);
        let mut items = Vec::new();
        while !input.0.is_empty() {
            items.push(input.item()?);
        }
        Ok(Self { items })
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a part is far smaller than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
}

fn push_tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    push_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DamagedPart> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DamagedPart("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DamagedPart> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<usize, DamagedPart> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| DamagedPart("too long"))
    }

    fn path(&mut self) -> Result<RelPath, DamagedPart> {
        let length = self.length()?;
        RelPath::parse(self.take(length)?).ok_or(DamagedPart("not a path below the base"))
    }

    fn item(&mut self) -> Result<Item, DamagedPart> {
        match self.byte()? {
            DIRECTORY => Ok(Item::Directory(self.path()?)),
            FINISH => Ok(Item::Finish(self.path()?)),
            NAMES => {
                let directory = self.path()?;
                let count = self.length()?;
                let names = (0..count).map(|_| self.named()).collect::<Result<_, _>>()?;
                Ok(Item::Names { directory, names })
            }
            _ => Err(DamagedPart("unknown item")),
        }
    }

    fn named(&mut self) -> Result<Named, DamagedPart> {
        let presence = Presence::parse(self.byte()?).ok_or(DamagedPart("unknown presence"))?;
        let length = self.length()?;
        let name = self.take(length)?;
        let single = !name.contains(&b'/') && !name.is_empty() && RelPath::parse(name).is_some();
        if single { Ok(Named { name: name.into(), presence }) } else { Err(DamagedPart("not a name")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Part {
        let named = |name: &[u8], presence| Named { name: name.into(), presence };
        let names =
            vec![named(b"\xff\n", Presence::Both), named(b"-x", Presence::Destination), named(b"s", Presence::Source)];
        let directory = RelPath::root().join(b"a").join(b"b c");
        let items = vec![
            Item::Directory(RelPath::root()),
            Item::Directory(directory.clone()),
            Item::Names { directory: directory.clone(), names },
            Item::Finish(directory),
        ];
        Part { items }
    }

    #[test]
    fn parts_survive_the_queue() {
        let bytes = example().encode();
        assert_eq!(bytes.len(), 1 + example().items.iter().map(Item::encoded_len).sum::<usize>());
        assert_eq!(Part::decode(&bytes).unwrap(), example());
    }

    #[test]
    fn a_damaged_part_is_an_error_and_never_a_path_outside() {
        let bytes = example().encode();
        for length in 0..bytes.len() {
            // Cut between two items, the rest is a part: a shorter one. Everywhere else it is an error.
            if let Ok(part) = Part::decode(&bytes[..length]) {
                assert!(part.items.len() < 4, "cut at {length}");
            }
        }
        let mut outside = vec![VERSION];
        push_tagged(&mut outside, DIRECTORY, b"../x");
        assert!(Part::decode(&outside).is_err());
        let mut slash = vec![VERSION];
        push_tagged(&mut slash, NAMES, b"a");
        push_length(&mut slash, 1);
        push_tagged(&mut slash, 1, b"b/c");
        assert!(Part::decode(&slash).is_err());
        let mut many = vec![VERSION];
        push_tagged(&mut many, NAMES, b"a");
        push_length(&mut many, usize::try_from(u32::MAX).unwrap());
        assert!(Part::decode(&many).is_err(), "and nothing was allocated for it");
    }
}
