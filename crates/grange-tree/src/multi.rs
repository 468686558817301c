//! Several writes as one.

use std::borrow::Cow;
use std::cmp::Ordering;

use grange_proto::multi::{MultiOp, MultiOps, MultiResult, MultiResults};
use grange_proto::request::Create;
use grange_proto::{CreateMode, ErrorCode, Op};

use crate::change::Changes;
use crate::sequential::SequentialPath;
use crate::tree::{Tree, WriteContext};
use crate::warm::WARM_MAX;

/// Why an operation ends a multi.
enum Failure {
    /// Its own error, which stands in its place among the results.
    Operation(ErrorCode),
    /// An error of the whole request, which has no results then.
    Request(ErrorCode),
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Failure {
        Failure::Operation(error)
    }
}

impl Tree {
    /// Does all operations, each on the tree that those before it have left, or none of them.
    ///
    /// If one fails, those before it get the result 0, it gets its error, and those behind it are not tried.
    /// Errors: `MarshallingError` if a create asks for a time to live that it cannot carry.
    pub(crate) fn multi(
        &mut self,
        cx: &WriteContext<'_>,
        ops: &MultiOps<'_>,
        changes: &mut Changes,
    ) -> Result<MultiResults, ErrorCode> {
        let change_count = changes.len();
        let mut results = MultiResults::with_capacity(ops.len());
        let mut sequential = SequentialPath::default();
        self.store.begin();
        let mut ahead = ops.iter();
        for (place, op) in ops.iter().enumerate() {
            if place.is_multiple_of(WARM_MAX) && ops.len() > 1 {
                self.store.warm(ahead.by_ref().take(WARM_MAX).filter_map(|op| named_path(&op)));
            }
            let Err(failure) = self.multi_op(cx, &op, &mut sequential, changes, &mut results) else { continue };
            self.store.rollback();
            changes.truncate(change_count);
            return match failure {
                Failure::Request(error) => Err(error),
                Failure::Operation(error) => Ok(failed_at(place, error, ops.len())),
            };
        }
        self.store.commit();
        Ok(results)
    }

    fn multi_op(
        &mut self,
        cx: &WriteContext<'_>,
        op: &MultiOp<'_>,
        sequential: &mut SequentialPath,
        changes: &mut Changes,
        results: &mut MultiResults,
    ) -> Result<(), Failure> {
        match op {
            MultiOp::Create(request) => self.create_in_multi(cx, request, sequential, changes, results)?,
            MultiOp::Delete(request) => {
                self.delete(cx, request, changes)?;
                results.push(&MultiResult::Delete);
            }
            MultiOp::SetData(request) => results.push(&MultiResult::SetData(self.set_data(cx, request, changes)?)),
            MultiOp::Check(request) => {
                self.check(cx, request)?;
                results.push(&MultiResult::Check);
            }
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => {
                return Err(Failure::Request(ErrorCode::MarshallingError));
            }
        }
        Ok(())
    }

    /// In a multi the flags decide, and not the operation, which of the four kinds of create is meant: what becomes
    /// of a time to live, and whether the result has a stat. Source: `org.apache.zookeeper.Op.create`.
    fn create_in_multi(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Create<'_>,
        sequential: &mut SequentialPath,
        changes: &mut Changes,
        results: &mut MultiResults,
    ) -> Result<(), Failure> {
        let mode = CreateMode::from_flags(request.flags).ok_or(ErrorCode::BadArguments)?;
        if mode.is_ttl() && request.ttl_ms.is_none() {
            return Err(Failure::Request(ErrorCode::MarshallingError));
        }
        let op = match mode {
            CreateMode::Container => Op::CreateContainer,
            _ if mode.is_ttl() => Op::CreateTtl,
            _ => Op::Create,
        };
        let request = Create { op, ttl_ms: request.ttl_ms.filter(|_| mode.is_ttl()), ..*request };
        let (path, key) = self.create_znode(cx, &request, sequential, changes)?;
        let path = Cow::Borrowed(path);
        results.push(&match op {
            Op::Create => MultiResult::Create(path),
            _ => MultiResult::CreateStat(path, self.store.stat(key)),
        });
        Ok(())
    }
}

/// Returns the path of the znode that an operation is about; that of a sequential one is not known before it is created.
fn named_path<'a>(op: &MultiOp<'a>) -> Option<&'a str> {
    match op {
        MultiOp::Create(create) if CreateMode::from_flags(create.flags).is_none_or(CreateMode::is_sequential) => None,
        _ => Some(op.path()),
    }
}

/// The results of a multi of `count` operations of which the one at `place` failed.
fn failed_at(place: usize, error: ErrorCode, count: usize) -> MultiResults {
    let mut results = MultiResults::with_capacity(count);
    for other in 0..count {
        results.push(&match other.cmp(&place) {
            Ordering::Less => MultiResult::ROLLED_BACK,
            Ordering::Equal => MultiResult::Error(error.code()),
            Ordering::Greater => MultiResult::NOT_TRIED,
        });
    }
    results
}
