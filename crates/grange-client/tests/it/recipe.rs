//! The recipes as one: something that one holds at a time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use grange_client::recipes::{Contender, Election, Held, Lock, LockError, ReadWriteLock, Semaphore};
use grange_client::{Client, ZnodePath};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::server::{Fixture, PATIENCE};

/// What faults are tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipe {
    Lock,
    /// The write side.
    ReadWriteLock,
    /// With one lease.
    Semaphore,
    Election,
}

pub(crate) const RECIPES: [Recipe; 4] = [Recipe::Lock, Recipe::ReadWriteLock, Recipe::Semaphore, Recipe::Election];

/// A recipe at a path.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) recipe: Recipe,
    pub(crate) path: ZnodePath,
}

impl Place {
    fn semaphore(&self, client: &Client, id: &str) -> Semaphore {
        Semaphore::new(client, self.path.clone(), id, NonZeroU32::MIN)
    }

    pub(crate) async fn acquire(&self, client: &Client, id: &str) -> Result<Held, LockError> {
        let path = self.path.clone();
        match self.recipe {
            Recipe::Lock => Lock::new(client, path, id).acquire().await,
            Recipe::ReadWriteLock => ReadWriteLock::new(client, path, id).write().acquire().await,
            Recipe::Semaphore => self.semaphore(client, id).acquire().await,
            Recipe::Election => Election::new(client, path, id).lead().await,
        }
    }

    pub(crate) async fn try_acquire(&self, client: &Client, id: &str) -> Result<Option<Held>, LockError> {
        let path = self.path.clone();
        match self.recipe {
            Recipe::Lock | Recipe::Election => Lock::new(client, path, id).try_acquire().await,
            Recipe::ReadWriteLock => ReadWriteLock::new(client, path, id).write().try_acquire().await,
            Recipe::Semaphore => self.semaphore(client, id).try_acquire().await,
        }
    }

    pub(crate) async fn acquire_within(&self, client: &Client, wait: Duration) -> Result<Held, LockError> {
        let path = self.path.clone();
        match self.recipe {
            Recipe::Lock => Lock::new(client, path, "").acquire_within(wait).await,
            Recipe::ReadWriteLock => ReadWriteLock::new(client, path, "").write().acquire_within(wait).await,
            Recipe::Semaphore => self.semaphore(client, "").acquire_within(wait).await,
            Recipe::Election => Election::new(client, path, "").lead_within(wait).await,
        }
    }

    /// Who holds it and who waits, in order.
    pub(crate) async fn contenders(&self, client: &Client) -> Vec<Contender> {
        let path = self.path.clone();
        match self.recipe {
            Recipe::Lock | Recipe::ReadWriteLock => Lock::new(client, path, "").contenders().await.unwrap(),
            Recipe::Election => Election::new(client, path, "").contenders().await.unwrap(),
            Recipe::Semaphore => {
                let found = self.semaphore(client, "").contenders().await.unwrap();
                found.holders.into_iter().chain(found.waiting).collect()
            }
        }
    }

    /// What they call themselves; a `*` marks who holds it.
    pub(crate) async fn ids(&self, client: &Client) -> Vec<String> {
        let text = |contender: Contender| {
            let mark = if contender.holds { "*" } else { "" };
            format!("{}{mark}", String::from_utf8(contender.id.unwrap()).unwrap())
        };
        self.contenders(client).await.into_iter().map(text).collect()
    }

    /// Waits until these stand there.
    pub(crate) async fn stand(&self, client: &Client, ids: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.ids(client).await;
            if found == ids {
                return;
            }
            assert!(Instant::now() < deadline, "{:?} has {found:?} instead of {ids:?}", self.recipe);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Runs a test on each recipe, all at a time.
pub(crate) async fn for_each_recipe<T>(fixture: Fixture, test: impl Fn(Arc<Fixture>, Place) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let fixture = Arc::new(fixture);
    let mut tests = JoinSet::new();
    for recipe in RECIPES {
        let path = format!("{}/{recipe:?}", fixture.path).parse().unwrap();
        tests.spawn(test(Arc::clone(&fixture), Place { recipe, path }));
    }
    while let Some(done) = tests.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
