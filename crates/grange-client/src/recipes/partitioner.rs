//! A set of items that the members of a party share out among themselves: kazoo's `SetPartitioner`.
//!
//! ```text
//! PATH/party/UUID-ID                       ephemeral, one per member; ID is who it is
//! PATH/locks/ITEM/UUID__lock__NNNNNNNNNN   ephemeral; the first one is the holder of ITEM; data: ID
//! ```
//!
//! Members and items are sorted, and the items dealt out one after the other, so everybody who sees the same members finds
//! the same shares. Not everybody does at all times: what makes an item a member's is only its lock. Who waits for one goes on
//! watching the party, and begins again when it changes; who holds one is told to release it. So whoever waits does so
//! for a share of the newest party, and for members that have been told to let go.
//!
//! The session is confirmed once for all that a member holds, by its znode in the party ([`Held`]).

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::debug;
use zookeeper_client::Client;

use super::error::LockError;
use super::failure::{RecipeError, request};
use super::held::{FencingToken, Held};
use super::line::Line;
use super::marker::ensure_path;
use super::names::Role;
use super::parents::child;
use super::party::{Party, PartyLayout};
use super::watch::ChildrenWatch;

/// How long the party must have been the same before its members take what is theirs, unless
/// [`SetPartitioner::with_settling`] says otherwise. kazoo waits for 30 s.
const SETTLING_DEFAULT: Duration = Duration::from_secs(5);

/// How many locks a member waits for, or gives back, at a time; the others of its share come after those.
const LOCKS_UNDER_WAY_MAX: usize = 64;

/// A set of items, and this process as one of those that share it out.
///
/// All members must be given the same items.
#[derive(Debug, Clone)]
pub struct SetPartitioner {
    client: Client,
    path: ZnodePath,
    /// Sorted.
    items: Vec<Item>,
    id: String,
    settling: Duration,
}

/// An item and where its lock is.
#[derive(Debug, Clone)]
struct Item {
    name: String,
    line: Line,
}

/// An item of this member's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionItem {
    /// The item.
    pub name: String,
    /// Grows from holder to holder of this item.
    pub token: FencingToken,
}

/// Where a member stands. Only [`Partition::release`] leads from `Acquired` or `Release` to `Allocating`, and nothing leads
/// out of `Failure`.
#[derive(Debug, Clone)]
pub enum PartitionState {
    /// The party is settling, or others still hold what is to be this member's. It holds nothing.
    Allocating,
    /// This member holds its share, sorted; there is none for it where there are more members than items.
    Acquired(Arc<[PartitionItem]>),
    /// The party has changed. This member still holds these, and the others wait until it has released them.
    Release(Arc<[PartitionItem]>),
    /// The session has ended or may have, or something was refused. This member counts as holding nothing and is no
    /// member any more; what it has locked all the same stays so until the [`Partition`] is dropped or finished.
    Failure(Arc<RecipeError>),
}

impl PartitionState {
    /// Returns what this member holds.
    pub fn items(&self) -> &[PartitionItem] {
        match self {
            PartitionState::Acquired(items) | PartitionState::Release(items) => items,
            PartitionState::Allocating | PartitionState::Failure(_) => &[],
        }
    }
}

impl SetPartitioner {
    /// Returns the set of `items` below `path`; nothing is made. `id` is what others see of this member, and
    /// decides which share is its.
    ///
    /// Errors: [`RecipeError::Name`] if an item, or the id, cannot be part of a path.
    pub fn new(
        client: &Client,
        path: ZnodePath,
        items: impl IntoIterator<Item = impl Into<String>>,
        id: &str,
    ) -> Result<SetPartitioner, RecipeError> {
        check_id(&path, id)?;
        let names: BTreeSet<String> = items.into_iter().map(Into::into).collect();
        let item = |name: String| match ZnodePath::parse(child(&locks_path(&path), &name)) {
            Ok(path) => Ok(Item { name, line: Line::new(client, path, id) }),
            Err(error) => Err(RecipeError::Name { what: "an item", name, why: error.to_string() }),
        };
        let items = names.into_iter().map(item).collect::<Result<_, _>>()?;
        Ok(SetPartitioner { client: client.clone(), path, items, id: id.to_owned(), settling: SETTLING_DEFAULT })
    }

    /// Sets how long the party must have been the same before members take what is theirs; 5 s by default. It is no
    /// matter of safety: a member that comes or goes costs everybody a release, and this is how several at a time cost one.
    pub fn with_settling(self, settling: Duration) -> SetPartitioner {
        SetPartitioner { settling, ..self }
    }

    /// Becomes a member, until the value is finished or dropped.
    pub async fn join(self) -> Result<Partition, RecipeError> {
        let locks = locks_path(&self.path);
        ensure_path(&self.client, &locks).await.map_err(request("cannot make", &locks))?;
        let party_path = party_path(&self.path);
        let party = Party::new(self.client.clone(), party_path.clone(), PartyLayout::Name, &self.id);
        let membership = party.enter().await?;
        let watch = ChildrenWatch::new(self.client.clone(), party_path);
        let (sender, states) = watch::channel(PartitionState::Allocating);
        let (releases, commands) = mpsc::channel(1);
        let allocation = Allocation { partitioner: self, own: party.name().to_owned(), watch, members: None };
        let member = Member { allocation, states: sender, releases: commands };
        let task = tokio::spawn(member.run(membership));
        Ok(Partition { states, releases, task })
    }
}

/// A member's handle. Dropping it gives back what the member holds and leaves the party, in the background.
///
/// ```no_run
/// # async fn example(client: grange_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use grange_client::recipes::{PartitionState, SetPartitioner};
///
/// let set = SetPartitioner::new(&client, "/feeds".parse()?, ["news", "sport", "weather"], "host-a")?;
/// let mut partition = set.join().await?;
/// loop {
///     match partition.state() {
///         PartitionState::Allocating => partition.changed().await,
///         PartitionState::Acquired(items) => tokio::select! {
///             // Ends between two steps, or is dropped where it is.
///             () = partition.changed() => {}
///             () = fetch(&items) => break,
///         },
///         PartitionState::Release(_) => partition.release().await?,
///         PartitionState::Failure(why) => return Err(why.into()),
///     }
/// }
/// partition.finish().await?;
/// # Ok(())
/// # }
/// # async fn fetch(items: &[grange_client::recipes::PartitionItem]) {}
/// ```
#[derive(Debug)]
#[must_use = "who drops it is no member any more"]
pub struct Partition {
    states: watch::Receiver<PartitionState>,
    /// Closed when the member is to leave.
    releases: mpsc::Sender<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RecipeError>>,
}

impl Partition {
    /// Returns the state, and counts it as seen.
    pub fn state(&mut self) -> PartitionState {
        self.states.borrow_and_update().clone()
    }

    /// Resolves when there has been a change of state that [`Partition::state`] has not shown; at once after a
    /// failure. The future may be dropped and loses nothing.
    pub async fn changed(&mut self) {
        if !matches!(*self.states.borrow(), PartitionState::Failure(_)) {
            // An error says that the task has gone without a word, which only the end of the runtime makes it do.
            let _ = self.states.changed().await;
        }
    }

    /// Gives back what this member holds, waits until others may have it, and has the set allocated anew. Does nothing while
    /// nothing is held.
    ///
    /// Errors: the servers could not be told; the state is then `Failure`.
    pub async fn release(&mut self) -> Result<(), Arc<RecipeError>> {
        if matches!(*self.states.borrow(), PartitionState::Allocating) {
            return Ok(());
        }
        let (done, is_done) = oneshot::channel();
        // Fails with the runtime only.
        let _ = self.releases.send(done).await;
        let _ = is_done.await;
        match &*self.states.borrow() {
            PartitionState::Failure(error) => Err(Arc::clone(error)),
            _ => Ok(()),
        }
    }

    /// Gives back what this member holds, leaves the party, and waits until that is done.
    ///
    /// Errors: the servers could not be told. The znodes then go with the session.
    pub async fn finish(self) -> Result<(), RecipeError> {
        drop(self.releases);
        match self.task.await {
            Ok(finished) => finished,
            Err(error) => shut_down(error).await,
        }
    }
}

/// An item that this member holds.
#[derive(Debug)]
struct Taken {
    item: PartitionItem,
    held: Held,
}

/// The task of a member.
#[derive(Debug)]
struct Member {
    allocation: Allocation,
    states: watch::Sender<PartitionState>,
    /// Who waits until all is given back. Closed when the handle is gone.
    releases: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Member {
    /// Takes part until the handle is gone.
    async fn run(mut self, membership: Held) -> Result<(), RecipeError> {
        let mut taken = Vec::new();
        let taken_part = self.take_part(&membership, &mut taken).await;
        let mut membership = Some(membership);
        if let Err(error) = taken_part {
            debug!(path = %self.allocation.partitioner.path, %error, "the share of a set is lost");
            self.states.send_replace(PartitionState::Failure(Arc::new(error)));
            membership = None;
            // What is still locked is, until the owner of the handle shows that the failure was noticed.
            while let Some(done) = self.releases.recv().await {
                let _ = give_back(std::mem::take(&mut taken)).await;
                let _ = done.send(());
            }
        }
        let given_back = give_back(taken).await;
        let left = match membership {
            Some(membership) => membership.release().await,
            None => Ok(()),
        };
        match given_back.and(left) {
            // The znodes have gone with the session.
            Err(error) if !error.is_session_end() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Allocates and holds by turns; returns when the handle is gone. What is still held then is left in `taken`.
    async fn take_part(&mut self, membership: &Held, taken: &mut Vec<Taken>) -> Result<(), RecipeError> {
        loop {
            let Some(allocated) = self.allocate(membership).await? else { return Ok(()) };
            *taken = allocated;
            let Some(done) = self.hold(membership, taken).await? else { return Ok(()) };
            self.states.send_replace(PartitionState::Allocating);
            give_back(std::mem::take(taken)).await?;
            let _ = done.send(());
        }
    }

    /// Returns what this member has taken, or `None` if the handle is gone.
    async fn allocate(&mut self, membership: &Held) -> Result<Option<Vec<Taken>>, RecipeError> {
        let mut allocated = std::pin::pin!(self.allocation.allocate(membership));
        let mut lost = std::pin::pin!(membership.lost());
        loop {
            tokio::select! {
                biased;
                loss = &mut lost => return Err(RecipeError::Lost { path: membership.path(), loss }),
                done = self.releases.recv() => match done {
                    // From a release whose future was dropped, and another one after it.
                    Some(done) => drop(done),
                    None => return Ok(None),
                },
                allocated = &mut allocated => return allocated.map(Some),
            }
        }
    }

    /// Returns whom to tell when all is given back, or `None` if the handle is gone.
    async fn hold(&mut self, membership: &Held, taken: &[Taken]) -> Result<Option<oneshot::Sender<()>>, RecipeError> {
        let items: Arc<[PartitionItem]> = taken.iter().map(|taken| taken.item.clone()).collect();
        let mut losses = JoinSet::new();
        for held in taken.iter().map(|taken| &taken.held).chain([membership]) {
            let (path, lost) = (held.path(), held.lost());
            losses.spawn(async move { RecipeError::Lost { path, loss: lost.await } });
        }
        self.states.send_replace(PartitionState::Acquired(Arc::clone(&items)));
        let mut is_current = true;
        loop {
            tokio::select! {
                biased;
                Some(lost) = losses.join_next() => match lost {
                    Ok(lost) => return Err(lost),
                    Err(error) => shut_down(error).await,
                },
                done = self.releases.recv() => return Ok(done),
                looked = self.allocation.look(), if is_current => {
                    looked?;
                    is_current = false;
                    self.states.send_replace(PartitionState::Release(Arc::clone(&items)));
                }
            }
        }
    }
}

/// What a member needs to find its share and take it.
#[derive(Debug)]
struct Allocation {
    partitioner: SetPartitioner,
    /// The name of this member's znode.
    own: String,
    watch: ChildrenWatch,
    /// The znodes of the party as they were last seen.
    members: Option<Vec<String>>,
}

impl Allocation {
    /// Waits until the party has settled and all that is this member's is taken.
    async fn allocate(&mut self, membership: &Held) -> Result<Vec<Taken>, RecipeError> {
        loop {
            self.settle().await?;
            let members = self.members.as_deref().unwrap_or_default();
            let Some(share) = share(&self.partitioner.items, members, &self.own) else {
                return Err(RecipeError::NotHeld { path: membership.path() });
            };
            let share: Vec<Item> = share.cloned().collect();
            tokio::select! {
                biased;
                // Leaves all lines, and gives back what was taken.
                looked = self.look() => looked?,
                taken = take(share, membership) => return Ok(taken?),
            }
        }
    }

    /// Waits until the party has been the same for long enough.
    async fn settle(&mut self) -> Result<(), RecipeError> {
        if self.members.is_none() {
            self.look().await?;
        }
        while let Ok(looked) = timeout(self.partitioner.settling, self.look()).await {
            looked?;
        }
        Ok(())
    }

    /// Waits until the party has changed.
    async fn look(&mut self) -> Result<(), RecipeError> {
        let told = self.watch.next().await?;
        self.members = Some(told.map(|(names, _)| names).unwrap_or_default());
        Ok(())
    }
}

/// Waits for the locks of these items.
async fn take(share: Vec<Item>, membership: &Held) -> Result<Vec<Taken>, LockError> {
    let acquisitions = share.into_iter().map(|item| {
        let session = membership.lost();
        async move {
            let held = item.line.acquire_beside(Role::Exclusive, session).await?;
            Ok(Taken { item: PartitionItem { name: item.name, token: held.token() }, held })
        }
    });
    let mut taken = Vec::with_capacity(acquisitions.len());
    each(acquisitions, |acquired: Result<Taken, LockError>| {
        taken.push(acquired?);
        Ok(())
    })
    .await?;
    taken.sort_unstable_by(|one, other| one.item.name.cmp(&other.item.name));
    Ok(taken)
}

/// Gives all of them back, and returns the first error.
async fn give_back(taken: Vec<Taken>) -> Result<(), LockError> {
    let mut outcome = Ok(());
    let releases = taken.into_iter().map(|taken| taken.held.release());
    each(releases, |released: Result<(), LockError>| {
        outcome = std::mem::replace(&mut outcome, Ok(())).and(released);
        Ok(())
    })
    .await?;
    outcome
}

/// Runs futures, a bounded number at a time, until one result was not liked; the others are then dropped.
async fn each<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
    mut with: impl FnMut(T) -> Result<(), LockError>,
) -> Result<(), LockError> {
    let mut futures = futures.fuse();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < LOCKS_UNDER_WAY_MAX
            && let Some(future) = futures.next()
        {
            under_way.spawn(future);
        }
        match under_way.join_next().await {
            None => return Ok(()),
            Some(Ok(result)) => with(result)?,
            Some(Err(error)) => shut_down(error).await,
        }
    }
}

/// Passes on a panic; else the task was ended together with the runtime, and so is this one.
async fn shut_down<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_ended) => std::future::pending().await,
    }
}

/// Returns the share of the member whose znode is called `own`, or `None` if it is no member.
///
/// kazoo deals out by the ids alone. Where two members have the same id, the names of their znodes tell them apart here.
fn share<'a>(items: &'a [Item], members: &[String], own: &str) -> Option<impl Iterator<Item = &'a Item> + use<'a>> {
    let mut sorted: Vec<_> = members.iter().map(|name| (id_of(name), name.as_str())).collect();
    sorted.sort_unstable();
    let index = sorted.iter().position(|(_, name)| *name == own)?;
    Some(items.iter().skip(index).step_by(sorted.len()))
}

/// Returns the id of a member as kazoo finds it.
fn id_of(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, id)| id)
}

fn locks_path(path: &ZnodePath) -> String {
    child(path.as_str(), "locks")
}

fn party_path(path: &ZnodePath) -> ZnodePath {
    ZnodePath::parse(child(path.as_str(), "party")).expect("a valid path stays valid with one more component")
}

fn check_id(path: &ZnodePath, id: &str) -> Result<(), RecipeError> {
    let refused = |why: String| RecipeError::Name { what: "a member", name: id.to_owned(), why };
    if id.contains('/') {
        return Err(refused("it must not contain /".to_owned()));
    }
    let name = format!("0-{id}");
    ZnodePath::parse(child(party_path(path).as_str(), &name)).map_err(|error| refused(error.to_string()))?;
    Ok(())
}
