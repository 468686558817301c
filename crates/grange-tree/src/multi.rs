//! Several writes as one.

use grange_proto::multi::{MultiOp, MultiOps, MultiResult};
use grange_proto::{ErrorCode, Op};

use crate::change::Changes;
use crate::tree::{Tree, WriteContext};

impl Tree {
    /// Does all operations, each on the tree that those before it have left, or none of them.
    ///
    /// If one fails, those before it get the result 0, it gets its error, and those behind it are not tried.
    pub(crate) fn multi<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        ops: &MultiOps<'r>,
        changes: &mut Changes,
    ) -> Vec<MultiResult<'r>> {
        let change_count = changes.len();
        let mut results = Vec::with_capacity(ops.len());
        self.store.begin();
        for op in ops.iter() {
            match self.multi_op(cx, &op, changes) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.store.rollback();
                    changes.truncate(change_count);
                    results.fill(MultiResult::ROLLED_BACK);
                    results.push(MultiResult::Error(error.code()));
                    results.resize(ops.len(), MultiResult::NOT_TRIED);
                    return results;
                }
            }
        }
        self.store.commit();
        results
    }

    fn multi_op<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        op: &MultiOp<'r>,
        changes: &mut Changes,
    ) -> Result<MultiResult<'r>, ErrorCode> {
        Ok(match op {
            MultiOp::Create(request) => {
                let (path, stat) = self.create(cx, request, changes)?;
                if request.op == Op::Create { MultiResult::Create(path) } else { MultiResult::CreateStat(path, stat) }
            }
            MultiOp::Delete(request) => {
                self.delete(cx, request, changes)?;
                MultiResult::Delete
            }
            MultiOp::SetData(request) => MultiResult::SetData(self.set_data(cx, request, changes)?),
            MultiOp::Check(request) => {
                self.check(cx, request)?;
                MultiResult::Check
            }
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => return Err(ErrorCode::MarshallingError),
        })
    }
}
