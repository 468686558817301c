//! Walks through a subtree, parents before children, that keep the server busy while they go.

use std::collections::VecDeque;
use std::pin::Pin;

use grange_client::{Acl, Client, ClientError, Stat};

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::answer::refused;
use crate::shell::path::child_of;

/// How many znodes ahead of the current one are asked for their children or their data; bounds the replies held in memory.
const LOOKAHEAD: usize = 64;

type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send + 'a>>;

struct Visit<'a> {
    step: Step,
    children: Option<Reply<'a, Vec<String>>>,
}

/// A znode on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) path: String,
    /// 0 at the root of the walk.
    pub(super) depth: usize,
    /// No sibling comes after it.
    pub(super) is_last: bool,
}

/// What a walk does about a znode that may not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The walk fails.
    Fails,
    /// It is told on standard error, and passed over.
    IsTold,
}

/// The walk. Children come in the order of their names.
pub(super) struct Walk<'a> {
    client: &'a Client,
    /// What is still to be visited, the next one last.
    stack: Vec<Visit<'a>>,
    depth_max: usize,
    denied: Denied,
}

impl<'a> Walk<'a> {
    /// Starts at `root`, which is visited too.
    pub(super) fn new(client: &'a Client, root: &str) -> Walk<'a> {
        let step = Step { path: root.to_owned(), depth: 0, is_last: true };
        Walk { client, stack: vec![Visit { step, children: None }], depth_max: usize::MAX, denied: Denied::Fails }
    }

    /// Goes so many levels down from the root and no further.
    pub(super) fn depth_max(mut self, depth_max: Option<usize>) -> Walk<'a> {
        self.depth_max = depth_max.unwrap_or(usize::MAX);
        self
    }

    /// Says what happens at a znode that may not be read.
    pub(super) fn denied(mut self, denied: Denied) -> Walk<'a> {
        self.denied = denied;
        self
    }

    /// Returns the next znode, or `None` at the end. A znode that is deleted meanwhile is passed over.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, CommandError> {
        loop {
            let ahead = self.stack.len().saturating_sub(LOOKAHEAD);
            for visit in self.stack[ahead..].iter_mut().rev() {
                if visit.children.is_none() && visit.step.depth < self.depth_max {
                    // The request leaves here; the future only brings the reply.
                    visit.children = Some(Box::pin(self.client.list_children(&visit.step.path)));
                }
            }
            let Some(Visit { step, children }) = self.stack.pop() else { return Ok(None) };
            let Some(children) = children else { return Ok(Some(step)) };
            match children.await {
                Ok(names) => {
                    self.push(&step, names);
                    return Ok(Some(step));
                }
                Err(ClientError::NoNode) if step.depth > 0 => {}
                Err(ClientError::NoAuth) if self.denied == Denied::IsTold => {
                    tell_denied(&step.path);
                    return Ok(Some(step));
                }
                Err(error) => return Err(refused(&step.path, error)),
            }
        }
    }

    fn push(&mut self, parent: &Step, mut names: Vec<String>) {
        names.sort_unstable_by(|a, b| b.cmp(a));
        let visits = names.iter().enumerate().map(|(index, name)| {
            let path = child_of(&parent.path, name);
            Visit { step: Step { path, depth: parent.depth + 1, is_last: index == 0 }, children: None }
        });
        self.stack.extend(visits);
    }
}

/// Says that a znode may not be read.
fn tell_denied(path: &str) {
    eprintln!("note: no permission to read {}", harmless_line(path));
}

/// What is asked of each znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Its stat; the data is empty.
    Stat,
    /// Its stat and its data.
    Data,
    /// Its stat, its data and its ACL.
    All,
}

/// A znode with its contents.
#[derive(Debug, Clone)]
pub(super) struct Znode {
    pub(super) step: Step,
    pub(super) stat: Stat,
    pub(super) data: Vec<u8>,
    /// Empty unless it was asked for.
    pub(super) acls: Vec<Acl>,
}

type Found = (Vec<u8>, Stat, Vec<Acl>);

/// A walk that brings stat or data of each znode.
pub(super) struct Contents<'a> {
    walk: Walk<'a>,
    wanted: Wanted,
    asked: VecDeque<(Step, Reply<'a, Found>)>,
    is_walked: bool,
}

impl<'a> Contents<'a> {
    pub(super) fn new(walk: Walk<'a>, wanted: Wanted) -> Contents<'a> {
        Contents { walk, wanted, asked: VecDeque::new(), is_walked: false }
    }

    /// Returns the next znode, or `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Znode>, CommandError> {
        loop {
            while !self.is_walked && self.asked.len() < LOOKAHEAD {
                match self.walk.next().await? {
                    Some(step) => {
                        let reply = self.ask(&step.path);
                        self.asked.push_back((step, reply));
                    }
                    None => self.is_walked = true,
                }
            }
            let Some((step, reply)) = self.asked.pop_front() else { return Ok(None) };
            match reply.await {
                Ok((data, stat, acls)) => return Ok(Some(Znode { step, stat, data, acls })),
                Err(ClientError::NoNode) if step.depth > 0 => {}
                Err(ClientError::NoAuth) if self.walk.denied == Denied::IsTold => tell_denied(&step.path),
                Err(error) => return Err(refused(&step.path, error)),
            }
        }
    }

    /// Sends what is to be asked; the future only brings the replies.
    fn ask(&self, path: &str) -> Reply<'a, Found> {
        let client = self.walk.client;
        match self.wanted {
            Wanted::Stat => {
                let reply = client.check_stat(path);
                Box::pin(async move { Ok((Vec::new(), reply.await?.ok_or(ClientError::NoNode)?, Vec::new())) })
            }
            Wanted::Data => {
                let reply = client.get_data(path);
                Box::pin(async move { reply.await.map(|(data, stat)| (data, stat, Vec::new())) })
            }
            Wanted::All => {
                let (data, acls) = (client.get_data(path), client.get_acl(path));
                Box::pin(async move {
                    let ((data, stat), (acls, _)) = (data.await?, acls.await?);
                    Ok((data, stat, acls))
                })
            }
        }
    }
}
