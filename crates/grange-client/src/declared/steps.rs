//! The changes of a plan as requests, in an order in which each is permitted and finds its parent.

use grange_proto::acl::Acl;
use grange_proto::frame::FRAME_BYTES_MAX_DEFAULT;

use crate::declared::model::Kind;
use crate::declared::plan::{Action, Plan};

/// The most bytes of one transaction, about: half of what a server takes by default (`jute.maxbuffer`). A single change
/// that is larger goes alone.
pub const TRANSACTION_BYTES_MAX: usize = 512 << 10;

/// The most changes of one transaction, so that other clients' writes do not wait long behind it.
pub const TRANSACTION_WRITES_MAX: usize = 1000;

/// What a request of a transaction needs besides its texts and data, and one entry of an ACL besides its identity.
const OVERHEAD_BYTES: usize = 48;

const _: () = assert!(
    TRANSACTION_BYTES_MAX + TRANSACTION_WRITES_MAX * OVERHEAD_BYTES < FRAME_BYTES_MAX_DEFAULT,
    "a transaction must fit one frame"
);

/// One or more requests. A step begins when the one before it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All of them or none.
    Transaction(Vec<Write>),
    /// The creation of a znode whose kind the replies to transactions do not know.
    Create(Create),
    /// Changes of ACLs, which ZooKeeper's transactions do not have.
    Acls(Vec<AclWrite>),
}

/// A request of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Creates a znode.
    Create(Create),
    /// Sets data, if it still has this version.
    SetData {
        /// The znode.
        path: String,
        /// What it will hold.
        data: Vec<u8>,
        /// The version of the data that was seen.
        version: i32,
    },
    /// Deletes a znode, if its data still has this version.
    Delete {
        /// The znode.
        path: String,
        /// The version of the data that was seen.
        version: i32,
    },
}

/// The creation of a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The znode.
    pub path: String,
    /// What it holds.
    pub data: Vec<u8>,
    /// Who may do what.
    pub acl: Vec<Acl>,
    /// How it is created.
    pub kind: Kind,
}

/// Sets an ACL, if it still has this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclWrite {
    /// The znode.
    pub path: String,
    /// Who may do what.
    pub acl: Vec<Acl>,
    /// The version of the ACL that was seen.
    pub aversion: i32,
    /// The znode is not yet counted as created or changed.
    pub is_counted: bool,
}

impl Write {
    /// Returns the znode.
    pub fn path(&self) -> &str {
        match self {
            Write::Create(create) => &create.path,
            Write::SetData { path, .. } | Write::Delete { path, .. } => path,
        }
    }

    fn bytes(&self) -> usize {
        let more = match self {
            Write::Create(create) => {
                let acl = create.acl.iter().map(|acl| acl.id.scheme.len() + acl.id.id.len() + OVERHEAD_BYTES);
                create.data.len() + acl.sum::<usize>()
            }
            Write::SetData { data, .. } => data.len(),
            Write::Delete { .. } => 0,
        };
        self.path().len() + more + OVERHEAD_BYTES
    }
}

impl Plan {
    /// Returns the requests: ACLs that other changes need, creations and data, deletions, the other ACLs.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Steps::default();
        steps.acls(self.acl_writes(true));
        for change in &self.changes {
            let path = change.path.clone();
            match &change.action {
                Action::Create { data, acl, kind, first_acl } => {
                    let acl = first_acl.as_ref().unwrap_or(acl).clone();
                    steps.create(Create { path, data: data.clone(), acl, kind: *kind });
                }
                Action::Change { data: Some(data), .. } => {
                    steps.write(Write::SetData { path, data: data.to.clone(), version: data.version });
                }
                Action::Change { data: None, .. } | Action::Delete { .. } => {}
            }
        }
        // Children first.
        for change in self.changes.iter().rev() {
            if let Action::Delete { version } = change.action {
                steps.write(Write::Delete { path: change.path.clone(), version });
            }
        }
        steps.acls(self.acl_writes(false));
        steps.end()
    }

    fn acl_writes(&self, comes_first: bool) -> Vec<AclWrite> {
        let write = |path: &str, acl: &[Acl], aversion, is_counted| {
            Some(AclWrite { path: path.to_owned(), acl: acl.to_vec(), aversion, is_counted })
        };
        let changes = self.changes.iter().filter_map(|change| match &change.action {
            Action::Create { acl, first_acl: Some(_), .. } if !comes_first => write(&change.path, acl, 0, false),
            Action::Change { data, acl: Some(acl) } if acl.comes_first == comes_first => {
                write(&change.path, &acl.to, acl.aversion, data.is_none())
            }
            _ => None,
        });
        changes.collect()
    }
}

#[derive(Default)]
struct Steps {
    steps: Vec<Step>,
    transaction: Vec<Write>,
    bytes: usize,
}

impl Steps {
    fn write(&mut self, write: Write) {
        let bytes = write.bytes();
        if self.bytes + bytes > TRANSACTION_BYTES_MAX || self.transaction.len() == TRANSACTION_WRITES_MAX {
            self.end_transaction();
        }
        self.bytes += bytes;
        self.transaction.push(write);
    }

    fn create(&mut self, create: Create) {
        match create.kind {
            Kind::Persistent | Kind::Sequential => self.write(Write::Create(create)),
            Kind::Container | Kind::Ttl(_) => {
                self.end_transaction();
                self.steps.push(Step::Create(create));
            }
        }
    }

    fn acls(&mut self, writes: Vec<AclWrite>) {
        self.end_transaction();
        if !writes.is_empty() {
            self.steps.push(Step::Acls(writes));
        }
    }

    fn end_transaction(&mut self) {
        self.bytes = 0;
        if !self.transaction.is_empty() {
            self.steps.push(Step::Transaction(std::mem::take(&mut self.transaction)));
        }
    }

    fn end(mut self) -> Vec<Step> {
        self.end_transaction();
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::plan::Change;

    fn created(path: &str, data: Vec<u8>, kind: Kind) -> Change {
        let action = Action::Create { data, acl: Acl::open(), kind, first_acl: None };
        Change { path: path.to_owned(), is_sensitive: false, action }
    }

    fn sizes(changes: Vec<Change>) -> Vec<usize> {
        let size = |step: &Step| match step {
            Step::Transaction(writes) => writes.len(),
            Step::Create(_) => 0,
            Step::Acls(writes) => writes.len(),
        };
        Plan { changes, ..Plan::default() }.steps().iter().map(size).collect()
    }

    #[test]
    fn transactions_are_bounded_in_number_and_bytes() {
        let many = (0..2500).map(|n| created(&format!("/a{n}"), Vec::new(), Kind::Persistent)).collect();
        assert_eq!(sizes(many), [1000, 1000, 500]);
        let large = (0..5).map(|n| created(&format!("/a{n}"), vec![0; 200 << 10], Kind::Persistent)).collect();
        assert_eq!(sizes(large), [2, 2, 1]);
        let larger = (0..2).map(|n| created(&format!("/a{n}"), vec![0; 900 << 10], Kind::Persistent)).collect();
        assert_eq!(sizes(larger), [1, 1]);
    }

    #[test]
    fn containers_keep_their_place_in_the_order() {
        let kinds = [Kind::Persistent, Kind::Container, Kind::Sequential, Kind::Ttl(1)];
        let changes = kinds.iter().enumerate().map(|(n, kind)| created(&format!("/a{n}"), Vec::new(), *kind)).collect();
        assert_eq!(sizes(changes), [1, 0, 1, 0]);
    }

    #[test]
    fn children_are_deleted_before_their_parents() {
        let deleted =
            |path: &str| Change { path: path.to_owned(), is_sensitive: false, action: Action::Delete { version: 1 } };
        let plan = Plan { changes: ["/a", "/a-b", "/a/c"].map(deleted).to_vec(), ..Plan::default() };
        let steps = plan.steps();
        let [Step::Transaction(writes)] = steps.as_slice() else { panic!("one transaction") };
        assert_eq!(writes.iter().map(Write::path).collect::<Vec<_>>(), ["/a/c", "/a-b", "/a"]);
    }
}
