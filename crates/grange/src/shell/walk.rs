//! A walk through a subtree, parents before children, that keeps the server busy while it goes.

use std::pin::Pin;

use grange_client::{Client, ClientError};

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::child_of;

/// How many znodes ahead of the current one are asked for their children; bounds the replies held in memory.
const LOOKAHEAD: usize = 64;

type Children<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, ClientError>> + Send + 'a>>;

struct Visit<'a> {
    path: String,
    children: Option<Children<'a>>,
}

/// The walk. Children come in the order of their names.
pub(super) struct Walk<'a> {
    client: &'a Client,
    /// What is still to be visited, the next one last.
    stack: Vec<Visit<'a>>,
    is_at_root: bool,
}

impl<'a> Walk<'a> {
    /// Starts at `root`, which is visited too.
    pub(super) fn new(client: &'a Client, root: &str) -> Walk<'a> {
        let root = Visit { path: root.to_owned(), children: None };
        Walk { client, stack: vec![root], is_at_root: true }
    }

    /// Returns the next path, or `None` at the end. A znode that is deleted meanwhile is passed over.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CommandError> {
        loop {
            let ahead = self.stack.len().saturating_sub(LOOKAHEAD);
            for visit in self.stack[ahead..].iter_mut().rev() {
                if visit.children.is_none() {
                    // The request leaves here; the future only brings the reply.
                    visit.children = Some(Box::pin(self.client.list_children(&visit.path)));
                }
            }
            let Some(Visit { path, children }) = self.stack.pop() else { return Ok(None) };
            let children = children.expect("the top of the stack was asked for its children above");
            let is_root = std::mem::take(&mut self.is_at_root);
            match children.await {
                Ok(mut names) => {
                    names.sort_unstable_by(|a, b| b.cmp(a));
                    let visits = names.iter().map(|name| Visit { path: child_of(&path, name), children: None });
                    self.stack.extend(visits);
                    return Ok(Some(path));
                }
                Err(ClientError::NoNode) if !is_root => {}
                Err(error) => return Err(refused(&path, error)),
            }
        }
    }
}
