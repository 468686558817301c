//! Which request a connection sends as its k-th.
//!
//! Everything is a pure function of k and of the connection, so that the request a reply belongs to is known without
//! remembering it, and two runs do the same work.

use grange_proto::Xid;

use crate::layout::{Layout, NumberedPath, directory_count};
use crate::plan::Operation;
use crate::template::{Template, Watch};

/// The requests of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    templates: Vec<Template>,
    choice: Choice,
    numbers: Numbers,
}

/// Which template the k-th request uses.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Only,
    /// The first and the second in turn; both of a pair have the same number.
    Alternate,
    /// The first for this many of a hundred, else the second.
    FirstPercent(u8),
}

/// Which znode the k-th request is for.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    Sequence,
    Fixed(u64),
    Stride { first: u64, step: u64 },
    Random { seed: u64, below: u64 },
}

/// What of a plan shapes the requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) operation: Operation,
    pub(crate) layout: &'a Layout,
    pub(crate) value_bytes: usize,
    pub(crate) nodes: u64,
    pub(crate) connections: usize,
}

impl Workload {
    /// Builds the requests of connection number `connection`.
    pub(crate) fn new(shape: Shape<'_>, connection: usize) -> Workload {
        let Shape { operation, layout, value_bytes, nodes, connections } = shape;
        let value = vec![b'x'; value_bytes];
        let (node, own) = (layout.preloaded(), layout.own(connection));
        let first = u64::try_from(connection).expect("checked against the most connections");
        let step = u64::try_from(connections).expect("checked against the most connections");
        let random = Numbers::Random { seed: mix(first), below: nodes };
        let stride = Numbers::Stride { first, step };
        let get = |watch| Template::get_data(&node, watch, value_bytes);
        let (templates, choice, numbers) = match operation {
            Operation::Set => (vec![Template::set_data(&node, &value)], Choice::Only, random),
            Operation::Get => (vec![get(Watch::None)], Choice::Only, random),
            Operation::Exists => (vec![Template::exists(&node)], Choice::Only, random),
            Operation::Children => {
                let directories = Numbers::Random { seed: mix(first), below: directory_count(nodes) };
                (vec![Template::children(&layout.directories())], Choice::Only, directories)
            }
            Operation::Mixed(reads) => {
                (vec![get(Watch::None), Template::set_data(&node, &value)], Choice::FirstPercent(reads), random)
            }
            Operation::Delete => (vec![Template::delete(&node)], Choice::Only, stride),
            Operation::Fill => (vec![Template::create(&node, &value)], Choice::Only, stride),
            Operation::Create => (vec![Template::create(&own, &value)], Choice::Only, Numbers::Sequence),
            Operation::Ephemeral => {
                let pair = vec![Template::create_ephemeral(&own, &value), Template::delete(&own)];
                (pair, Choice::Alternate, Numbers::Sequence)
            }
            Operation::Watch => {
                (vec![get(Watch::Armed), Template::set_data(&node, &value)], Choice::Alternate, Numbers::Fixed(first))
            }
            Operation::Sync | Operation::Sessions => {
                let root = NumberedPath::fixed(layout.root().to_owned());
                (vec![Template::sync(&root)], Choice::Only, Numbers::Fixed(0))
            }
        };
        Workload { templates, choice, numbers }
    }

    /// Appends the k-th request.
    #[inline]
    pub(crate) fn append(&self, k: u64, out: &mut Vec<u8>) {
        let (template, nth) = self.template(k);
        let number = match self.numbers {
            Numbers::Sequence => nth,
            Numbers::Fixed(number) => number,
            Numbers::Stride { first, step } => first + nth * step,
            Numbers::Random { seed, below } => mix(seed ^ nth) % below,
        };
        template.append(out, xid(k), number);
    }

    /// Returns the size of a successful reply to the k-th request, `None` if it varies.
    #[inline]
    pub(crate) fn reply_bytes(&self, k: u64) -> Option<usize> {
        self.template(k).0.reply_bytes()
    }

    #[inline]
    fn template(&self, k: u64) -> (&Template, u64) {
        match self.choice {
            Choice::Only => (&self.templates[0], k),
            Choice::Alternate => (&self.templates[usize::from(k % 2 == 1)], k / 2),
            Choice::FirstPercent(percent) => {
                let first = mix(!k) % 100 < u64::from(percent);
                (&self.templates[usize::from(!first)], k)
            }
        }
    }

    /// Returns the size of the largest request.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.templates.iter().map(Template::frame_bytes).max().unwrap_or(0)
    }
}

/// Returns the xid of a connection's k-th request: 1 to `i32::MAX`, and again.
#[inline]
pub(crate) fn xid(k: u64) -> Xid {
    const XIDS: u64 = i32::MAX.unsigned_abs() as u64;
    Xid(i32::try_from(k % XIDS + 1).expect("a remainder of i32::MAX, plus 1, is an i32"))
}

/// Spreads a counter over all 64 bits (the finalizer of splitmix64).
#[inline]
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use grange_proto::frame::split_frame;
    use grange_proto::request::RequestHeader;
    use grange_proto::{Op, Reader, Request};

    use super::*;

    fn requests(operation: Operation, connection: usize, count: u64) -> Vec<(i32, Op, String)> {
        let layout = Layout::new("/b");
        let shape = Shape { operation, layout: &layout, value_bytes: 1, nodes: 5000, connections: 4 };
        let workload = Workload::new(shape, connection);
        let mut out = Vec::new();
        (0..count).for_each(|k| workload.append(k, &mut out));
        let mut rest = &out[..];
        let mut requests = Vec::new();
        while let Some((payload, behind)) = split_frame(rest, 10_000).unwrap() {
            let mut reader = Reader::new(payload);
            let header = RequestHeader::decode(&mut reader).unwrap();
            let op = Op::from_code(header.op_code).unwrap();
            let path = match Request::decode(op, &mut reader).unwrap() {
                Request::SetData(body) => body.path.to_owned(),
                Request::GetData(body) => format!("{}{}", body.path, if body.watch { " watch" } else { "" }),
                Request::Create(body) => format!("{} {}", body.path, body.flags),
                Request::Delete(body) => body.path.to_owned(),
                other => format!("{other:?}"),
            };
            requests.push((header.xid.0, op, path));
            rest = behind;
        }
        requests
    }

    #[test]
    fn connections_share_the_preloaded_znodes() {
        let mut paths: Vec<_> = (0..4)
            .flat_map(|connection| requests(Operation::Delete, connection, 1250))
            .map(|(_, _, path)| path)
            .collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 5000);
        assert_eq!(paths.last().unwrap(), "/b/d000004/n999");
    }

    #[test]
    fn pairs_are_for_the_same_znode() {
        let expected = [
            (1, Op::Create, "/b/c00003/n000000000 1".to_owned()),
            (2, Op::Delete, "/b/c00003/n000000000".to_owned()),
            (3, Op::Create, "/b/c00003/n000000001 1".to_owned()),
        ];
        assert_eq!(requests(Operation::Ephemeral, 3, 3), expected);
        let expected =
            [(1, Op::GetData, "/b/d000000/n002 watch".to_owned()), (2, Op::SetData, "/b/d000000/n002".to_owned())];
        assert_eq!(requests(Operation::Watch, 2, 2), expected);
    }

    #[test]
    fn a_mixture_has_its_share_of_reads() {
        let reads = requests(Operation::Mixed(90), 0, 10_000).iter().filter(|(_, op, _)| *op == Op::GetData).count();
        assert!((8800..9200).contains(&reads), "{reads}");
        assert!(requests(Operation::Mixed(0), 0, 100).iter().all(|(_, op, _)| *op == Op::SetData));
        assert!(requests(Operation::Mixed(100), 0, 100).iter().all(|(_, op, _)| *op == Op::GetData));
    }

    #[test]
    fn xids_stay_positive() {
        let last = u64::from(i32::MAX.unsigned_abs());
        assert_eq!([0, last - 1, last, last + 1].map(xid), [1, i32::MAX, 1, 2].map(Xid));
    }
}
