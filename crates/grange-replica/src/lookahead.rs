//! Looking ahead of what is about to be applied or read, so that the tree waits for memory once for many znodes.

use grange_proto::frame::split_frame;
use grange_proto::request::RequestHeader;
use grange_proto::{Op, Reader};
use grange_tree::{Tree, WARM_MAX};

use crate::entry::{Item, Requests};

/// For fewer requests than these it costs more than it saves.
const AHEAD_MIN: usize = 4;

/// Counts requests, and says where to look ahead of them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    done: usize,
}

impl Pace {
    /// Counts a request; true if those from this one on are to be looked at now.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.done.is_multiple_of(WARM_MAX);
        self.done += 1;
        is_due
    }
}

/// Looks at the next requests of an entry.
pub(crate) fn at_writes(tree: &Tree, requests: &Requests<'_>) {
    let mut requests = requests.clone();
    // What cannot be read ends the look ahead; whoever applies it says what is wrong.
    let items = std::iter::from_fn(|| requests.next().ok().flatten()).take(WARM_MAX);
    warm(tree, items.map(|item| if let Item::Request(item) = item { path_of(item.op, item.body) } else { None }));
}

/// Looks at the next requests of a connection.
pub(crate) fn at_reads(tree: &Tree, mut frames: &[u8]) {
    let requests = std::iter::from_fn(|| {
        let (payload, behind) = split_frame(frames, usize::MAX).ok().flatten()?;
        frames = behind;
        Some(payload)
    });
    warm(
        tree,
        requests.take(WARM_MAX).map(|payload| {
            let mut reader = Reader::new(payload);
            let header = RequestHeader::decode(&mut reader).ok()?;
            // Writes are looked at when they are applied.
            let op = Op::from_code(header.op_code).filter(|op| op.class() == grange_proto::op::Class::Read)?;
            path_of(op, reader.rest())
        }),
    );
}

fn warm<'a>(tree: &Tree, about: impl Iterator<Item = Option<&'a str>>) {
    let (mut paths, mut count) = ([""; WARM_MAX], 0);
    for path in about.flatten() {
        paths[count] = path;
        count += 1;
    }
    if count >= AHEAD_MIN {
        tree.warm(paths[..count].iter().copied());
    }
}

/// Returns the znode that a request is about, if it is about one.
fn path_of(op: Op, body: &[u8]) -> Option<&str> {
    match op {
        Op::Create | Op::Create2 | Op::CreateContainer | Op::CreateTtl | Op::Delete | Op::SetData | Op::SetAcl => {}
        Op::GetData | Op::Exists | Op::GetChildren | Op::GetChildren2 | Op::GetAcl => {}
        _ => return None,
    }
    Reader::new(body).text().ok()
}
