//! Several writes as one.

use grange_proto::multi::{MultiOp, MultiOps, MultiResult};
use grange_proto::request::Create;
use grange_proto::{CreateMode, ErrorCode, Op};

use crate::change::Changes;
use crate::tree::{Tree, WriteContext};

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
    pub(crate) fn multi<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        ops: &MultiOps<'r>,
        changes: &mut Changes,
    ) -> Result<Vec<MultiResult<'r>>, ErrorCode> {
        let change_count = changes.len();
        let mut results = Vec::with_capacity(ops.len());
        self.store.begin();
        for op in ops.iter() {
            let failure = match self.multi_op(cx, &op, changes) {
                Ok(result) => {
                    results.push(result);
                    continue;
                }
                Err(failure) => failure,
            };
            self.store.rollback();
            changes.truncate(change_count);
            return match failure {
                Failure::Request(error) => Err(error),
                Failure::Operation(error) => {
                    results.fill(MultiResult::ROLLED_BACK);
                    results.push(MultiResult::Error(error.code()));
                    results.resize(ops.len(), MultiResult::NOT_TRIED);
                    Ok(results)
                }
            };
        }
        self.store.commit();
        Ok(results)
    }

    fn multi_op<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        op: &MultiOp<'r>,
        changes: &mut Changes,
    ) -> Result<MultiResult<'r>, Failure> {
        Ok(match op {
            MultiOp::Create(request) => self.create_in_multi(cx, request, changes)?,
            MultiOp::Delete(request) => {
                self.delete(cx, request, changes)?;
                MultiResult::Delete
            }
            MultiOp::SetData(request) => MultiResult::SetData(self.set_data(cx, request, changes)?),
            MultiOp::Check(request) => {
                self.check(cx, request)?;
                MultiResult::Check
            }
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => {
                return Err(Failure::Request(ErrorCode::MarshallingError));
            }
        })
    }

    /// In a multi the flags decide, and not the operation, which of the four kinds of create is meant: what becomes
    /// of a time to live, and whether the result has a stat. Source: `org.apache.zookeeper.Op.create`.
    fn create_in_multi<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Create<'r>,
        changes: &mut Changes,
    ) -> Result<MultiResult<'r>, Failure> {
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
        let (path, stat) = self.create(cx, &request, changes)?;
        Ok(match op {
            Op::Create => MultiResult::Create(path),
            _ => MultiResult::CreateStat(path, stat),
        })
    }
}
