//! The queue in znodes: parts are shared by workers of any number of processes and hosts.
//!
//! ```text
//! ROOT            what the job is; a process with another idea of it is refused
//!   head          the sequence number of the oldest part that nobody has taken
//!   main/N        parts, numbered by the server; `head` and upwards, without gaps
//!   late/N        parts of the late phase
//!   taken/mN, lN  parts in somebody's hands: moved here when they are taken
//!   claims/mN, lN ephemeral: who has it; `claims/late` belongs to whoever does the late phase
//! ```
//!
//! Taking costs the same at any length: the head names the part, and one transaction moves the head and the part. The
//! only lists ever read are `taken` and `claims`, which are as long as there are workers, and `late`, once. A worker
//! that dies loses its ephemeral claims; a part in `taken` without a claim is claimed by the next worker that is idle.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use grange_client::{Acls, Client, ClientError, CreateMode, CreateOptions, MultiWriteError, OneshotWatcher};

use crate::sync::part::{Part, Phase};
use crate::sync::queue::{Claim, ClaimId, QueueError, Take, WorkQueue};
use crate::temporary::temporary_name;

/// Parts of one transaction: each is at most 128 KiB, and a frame at most 1 MiB.
const PARTS_PER_TRANSACTION: usize = 4;

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const SEQUENTIAL: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A handle of a queue in znodes.
#[derive(Clone, Debug)]
pub struct ZnodeQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    root: String,
    /// What we write into claims, to know our own again.
    mark: Vec<u8>,
    /// Names in `taken` and `claims` of what we hold.
    held: Mutex<HashMap<ClaimId, String>>,
    next_claim: AtomicU64,
    idle_workers: AtomicUsize,
    /// Parts that we have put for idle workers of this process and that none of them has taken yet.
    offered: AtomicUsize,
}

/// The part of the queue that is next: where, and the version of the head that says so.
struct Head {
    number: u64,
    version: i32,
}

impl ZnodeQueue {
    /// Joins the job at the znode `root`, or makes it; the parent of `root` is made if it is missing.
    ///
    /// `parameters` describe the job. Errors: [`QueueError::Differs`] if the job is there with other parameters.
    pub async fn open(client: Client, root: &str, parameters: &[u8]) -> Result<Self, QueueError> {
        if let Some((parent, _)) = root.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            client.mkdir(parent, &PERSISTENT).await.map_err(server)?;
        }
        create_if_missing(&client, root, parameters).await?;
        let (found, _) = client.get_data(root).await.map_err(server)?;
        if found != parameters {
            return Err(QueueError::Differs { found: String::from_utf8_lossy(&found).into_owned() });
        }
        for (child, data) in [("main", ""), ("late", ""), ("taken", ""), ("claims", ""), ("head", "0")] {
            create_if_missing(&client, &format!("{root}/{child}"), data.as_bytes()).await?;
        }
        let shared = Shared {
            client,
            root: root.to_owned(),
            mark: temporary_name(),
            held: Mutex::default(),
            next_claim: AtomicU64::new(0),
            idle_workers: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes the job's znodes, after it is over. Errors: [`QueueError::Server`], among others if it is not over.
    pub async fn remove(&self) -> Result<(), QueueError> {
        for child in ["/main", "/late", "/taken", "/claims", "/head", ""] {
            match self.client().delete(&self.path(child), None).await {
                Ok(()) | Err(ClientError::NoNode) => {}
                Err(error) => return Err(server(error)),
            }
        }
        Ok(())
    }

    fn client(&self) -> &Client {
        &self.shared.client
    }

    fn path(&self, below: &str) -> String {
        format!("{}{below}", self.shared.root)
    }

    async fn head(&self) -> Result<Head, QueueError> {
        let (data, stat) = self.client().get_data(&self.path("/head")).await.map_err(server)?;
        let number = std::str::from_utf8(&data).ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| QueueError::Server("the head of the queue is no number".into()))?;
        Ok(Head { number, version: stat.version })
    }

    /// Takes the oldest part of the main phase, if there is one.
    async fn take_main(&self) -> Result<Option<Claim>, QueueError> {
        loop {
            let head = self.head().await?;
            let from = self.path(&format!("/main/{:010}", head.number));
            let data = match self.client().get_data(&from).await {
                Ok((data, _)) => data,
                Err(ClientError::NoNode) if self.is_empty_at(&head).await? => return Ok(None),
                Err(ClientError::NoNode) => continue,
                Err(error) => return Err(server(error)),
            };
            let name = format!("m{:010}", head.number);
            let mut transaction = self.client().new_multi_writer();
            let next = (head.number + 1).to_string();
            let add = transaction.add_set_data(&self.path("/head"), next.as_bytes(), Some(head.version));
            add.and_then(|()| transaction.add_delete(&from, None)).map_err(server)?;
            self.add_move(&mut transaction, &name, &data)?;
            match transaction.commit().await {
                Ok(_) => return Ok(Some(self.hold(name, &data)?)),
                Err(MultiWriteError::OperationFailed { .. }) => {}
                Err(MultiWriteError::RequestFailed { source }) => {
                    // The answer was lost, the transaction perhaps not: then the claim is there and is ours.
                    if self.is_ours(&name).await? {
                        return Ok(Some(self.hold(name, &data)?));
                    }
                    retry_or_fail(source)?;
                }
            }
        }
    }

    /// Whether there is no part at all. If there is one, the head leads to it afterwards.
    async fn is_empty_at(&self, head: &Head) -> Result<bool, QueueError> {
        let main = self.client().check_stat(&self.path("/main")).await.map_err(server)?;
        if main.is_some_and(|stat| stat.num_children == 0) {
            return Ok(true);
        }
        // Somebody was faster and has moved the head, or a part has just come; or else the server left a number out.
        let numbers = self.children("/main").await?;
        let oldest = numbers.iter().filter_map(|name| name.parse::<u64>().ok()).min();
        if let Some(oldest) = oldest.filter(|&oldest| oldest > head.number) {
            let moved = self.client().set_data(&self.path("/head"), oldest.to_string().as_bytes(), Some(head.version));
            match moved.await {
                Ok(_) | Err(ClientError::BadVersion) => {}
                Err(error) => retry_or_fail(error)?,
            }
        }
        Ok(false)
    }

    fn add_move(
        &self,
        transaction: &mut grange_client::MultiWriter<'_>,
        name: &str,
        data: &[u8],
    ) -> Result<(), QueueError> {
        transaction.add_create(&self.path(&format!("/taken/{name}")), data, &PERSISTENT).map_err(server)?;
        transaction.add_create(&self.path(&format!("/claims/{name}")), &self.shared.mark, &EPHEMERAL).map_err(server)
    }

    fn hold(&self, name: String, data: &[u8]) -> Result<Claim, QueueError> {
        let id = ClaimId(self.shared.next_claim.fetch_add(1, Ordering::Relaxed));
        let part = Part::decode(data)?;
        self.held().insert(id, name);
        Ok(Claim { id, part })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<ClaimId, String>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_ours(&self, name: &str) -> Result<bool, QueueError> {
        match self.client().get_data(&self.path(&format!("/claims/{name}"))).await {
            Ok((data, _)) => Ok(data == self.shared.mark),
            Err(ClientError::NoNode) => Ok(false),
            Err(error) => retry_or_fail(error).map(|()| false),
        }
    }

    async fn children(&self, below: &str) -> Result<Vec<String>, QueueError> {
        self.client().list_children(&self.path(below)).await.map_err(server)
    }

    /// Claims a part whose worker has died.
    async fn take_orphan(&self, taken: &[String]) -> Result<Option<Claim>, QueueError> {
        let claimed: HashSet<String> = self.children("/claims").await?.into_iter().collect();
        for name in taken.iter().filter(|name| !claimed.contains(*name)) {
            if !self.claim(name).await? {
                continue;
            }
            match self.client().get_data(&self.path(&format!("/taken/{name}"))).await {
                Ok((data, _)) => return Ok(Some(self.hold(name.clone(), &data)?)),
                // Completed between the two lists.
                Err(ClientError::NoNode) => self.release(name).await?,
                Err(error) => return Err(server(error)),
            }
        }
        Ok(None)
    }

    async fn claim(&self, name: &str) -> Result<bool, QueueError> {
        match self.client().create(&self.path(&format!("/claims/{name}")), &self.shared.mark, &EPHEMERAL).await {
            Ok(_) => Ok(true),
            Err(ClientError::NodeExists) => Ok(false),
            Err(error) => Err(server(error)),
        }
    }

    async fn release(&self, name: &str) -> Result<(), QueueError> {
        match self.client().delete(&self.path(&format!("/claims/{name}")), None).await {
            Ok(()) | Err(ClientError::NoNode) => Ok(()),
            Err(error) => Err(server(error)),
        }
    }

    /// Takes all late parts. One worker gets them all, because their order matters.
    async fn take_late(&self) -> Result<Vec<Claim>, QueueError> {
        let mut names = self.children("/late").await?;
        if names.is_empty() || !self.claim("late").await? {
            return Ok(Vec::new());
        }
        names.sort();
        let mut claims = Vec::with_capacity(names.len());
        for number in names {
            let from = self.path(&format!("/late/{number}"));
            let data = match self.client().get_data(&from).await {
                Ok((data, _)) => data,
                Err(ClientError::NoNode) => continue,
                Err(error) => return Err(server(error)),
            };
            let name = format!("l{number}");
            let mut transaction = self.client().new_multi_writer();
            transaction.add_delete(&from, None).map_err(server)?;
            self.add_move(&mut transaction, &name, &data)?;
            match transaction.commit().await {
                Ok(_) => claims.push(self.hold(name, &data)?),
                Err(MultiWriteError::OperationFailed { .. }) => {}
                Err(MultiWriteError::RequestFailed { source }) => return Err(server(source)),
            }
        }
        if claims.is_empty() {
            self.release("late").await?;
        }
        Ok(claims)
    }

    async fn put_some(&self, phase: Phase, parts: &[Part]) -> Result<(), QueueError> {
        loop {
            let mut transaction = self.client().new_multi_writer();
            let directory = match phase {
                Phase::Main => "/main/",
                Phase::Late => "/late/",
            };
            for part in parts {
                transaction.add_create(&self.path(directory), &part.encode(), &SEQUENTIAL).map_err(server)?;
            }
            match transaction.commit().await {
                Ok(_) => return Ok(()),
                // If it was done all the same, the parts are there twice, and do no harm.
                Err(MultiWriteError::RequestFailed { source }) => retry_or_fail(source)?,
                Err(error) => return Err(QueueError::Server(error.to_string())),
            }
        }
    }

    /// Waits for something that may change the answer of [`WorkQueue::try_take`], unless it has changed already.
    async fn wait(&self) -> Result<Option<Take>, QueueError> {
        let head = self.head().await?;
        let next = self.path(&format!("/main/{:010}", head.number));
        let (found, arrival) = self.client().check_and_watch_stat(&next).await.map_err(server)?;
        let (_, taken) = self.client().list_and_watch_children(&self.path("/taken")).await.map_err(server)?;
        let (_, claims) = self.client().list_and_watch_children(&self.path("/claims")).await.map_err(server)?;
        if found.is_some() {
            return Ok(None);
        }
        // Everything may have happened before the watches were set.
        match self.try_take().await? {
            Take::Nothing => {}
            take => return Ok(Some(take)),
        }
        let changed = |watcher: OneshotWatcher| async move { watcher.changed().await.session_state };
        tokio::select! {
            _ = changed(arrival) => {}
            _ = changed(taken) => {}
            _ = changed(claims) => {}
        }
        Ok(None)
    }
}

impl WorkQueue for ZnodeQueue {
    async fn put(&self, phase: Phase, parts: Vec<Part>) -> Result<(), QueueError> {
        self.shared.offered.fetch_add(parts.len(), Ordering::Relaxed);
        for some in parts.chunks(PARTS_PER_TRANSACTION) {
            self.put_some(phase, some).await?;
        }
        Ok(())
    }

    async fn try_take(&self) -> Result<Take, QueueError> {
        if let Some(claim) = self.take_main().await? {
            let less = |offered: usize| Some(offered.saturating_sub(1));
            // Always `Ok`: the closure never refuses.
            let _ = self.shared.offered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            return Ok(Take::Parts(vec![claim]));
        }
        self.shared.offered.store(0, Ordering::Relaxed);
        let taken = self.children("/taken").await?;
        if let Some(claim) = self.take_orphan(&taken).await? {
            return Ok(Take::Parts(vec![claim]));
        }
        if taken.iter().any(|name| name.starts_with('m')) {
            return Ok(Take::Nothing);
        }
        let late = self.take_late().await?;
        if !late.is_empty() {
            return Ok(Take::Parts(late));
        }
        // Parts only ever come from parts that are taken, so in this order nothing can be missed.
        let is_over = taken.is_empty() && self.children("/late").await?.is_empty();
        Ok(if is_over && self.children("/taken").await?.is_empty() { Take::Over } else { Take::Nothing })
    }

    async fn take(&self) -> Result<Take, QueueError> {
        let _idle = Idle::count(&self.shared.idle_workers);
        loop {
            match self.try_take().await? {
                Take::Nothing => {}
                take => return Ok(take),
            }
            if let Some(take) = self.wait().await? {
                return Ok(take);
            }
        }
    }

    async fn complete(&self, claims: Vec<ClaimId>, late: Vec<Part>) -> Result<(), QueueError> {
        // Late parts first: a part must not be gone before what it leaves is there. Twice is no harm.
        self.put_late(late).await?;
        let names: Vec<String> = claims.iter().filter_map(|id| self.held().remove(id)).collect();
        for name in &names {
            loop {
                let mut transaction = self.client().new_multi_writer();
                for directory in ["taken", "claims"] {
                    transaction.add_delete(&self.path(&format!("/{directory}/{name}")), None).map_err(server)?;
                }
                match transaction.commit().await {
                    // Gone already: done by an earlier try, or taken over by another worker after ours seemed dead.
                    Ok(_) | Err(MultiWriteError::OperationFailed { .. }) => break,
                    Err(MultiWriteError::RequestFailed { source }) => retry_or_fail(source)?,
                }
            }
        }
        if names.iter().any(|name| name.starts_with('l')) {
            self.release("late").await?;
        }
        Ok(())
    }

    fn wanted(&self) -> usize {
        let idle = self.shared.idle_workers.load(Ordering::Relaxed);
        idle.saturating_sub(self.shared.offered.load(Ordering::Relaxed))
    }
}

impl ZnodeQueue {
    async fn put_late(&self, parts: Vec<Part>) -> Result<(), QueueError> {
        for some in parts.chunks(PARTS_PER_TRANSACTION) {
            self.put_some(Phase::Late, some).await?;
        }
        Ok(())
    }
}

/// Counts a worker as idle for as long as it lives.
struct Idle<'a>(&'a AtomicUsize);

impl<'a> Idle<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn create_if_missing(client: &Client, path: &str, data: &[u8]) -> Result<(), QueueError> {
    match client.create(path, data, &PERSISTENT).await {
        Ok(_) | Err(ClientError::NodeExists) => Ok(()),
        Err(error) => Err(server(error)),
    }
}

/// A lost connection comes back by itself while the session lives; everything else ends the job.
fn retry_or_fail(error: ClientError) -> Result<(), QueueError> {
    if error == ClientError::ConnectionLoss { Ok(()) } else { Err(server(error)) }
}

fn server(error: ClientError) -> QueueError {
    QueueError::Server(error.to_string())
}
