//! A running server: its threads, from the start to the end.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use grange_replica::{EnsembleConfig, Event, Genesis, Member, RecoverError, Recovered, Replica, ReplicaConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Config, DataPlace, Ensemble, StorageConfig};
use crate::driver::Driver;
use crate::ensemble::{LinkParts, MemberPort, is_blank};
use crate::failure::{Failures, ServerFailure};
use crate::founding::Founding;
use crate::four_letter::ServerFacts;
use crate::log_writer::{LogHandle, LogRequest, LogThread, LogWriter};
use crate::mailbox::Mailbox;
use crate::net::{
    Admission, BoundPort, Command, ListenError, Outbox, REQUEST_BYTES_IN_FLIGHT_TOTAL_MAX, WORKERS_MAX, Worker,
    WorkerConfig,
};
use crate::peers::{Peers, TlsError};
use crate::random;
use crate::recovery::{self, DataError, Opened};
use crate::snapshotter::{SnapshotJob, Snapshotter};
use crate::stats::EdgeStats;
use crate::storage::dir::{DataDir, OpenError};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::log::Log;
use crate::storage::retention::Retention;
use crate::storage::snapshot::SnapshotStore;
use crate::storage::space::DiskGuard;
use crate::unsynced::UnsyncedDisk;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Clients cannot be listened to.
    #[error("clients cannot connect")]
    Listen(#[from] ListenError),
    /// The data directory cannot be opened.
    #[error("the data directory cannot be opened")]
    Directory(#[from] OpenError),
    /// What is in it cannot be used.
    #[error("the data cannot be used")]
    Data(#[from] DataError),
    /// The parts of the data do not fit together.
    #[error("the member cannot be restored")]
    Recover(#[from] RecoverError),
    /// The system has no thread, poll, random number or temporary directory to give.
    #[error("the system does not give what a server needs")]
    System(#[from] io::Error),
    /// The certificates for connections between members cannot be used.
    #[error("members cannot prove who they are")]
    Tls(#[from] TlsError),
    /// Other members cannot be listened to.
    #[error("other members cannot connect")]
    ListenToMembers(#[source] ListenError),
    /// The line of this server is beyond a bound.
    #[error("the line server.{0} is too long")]
    LongLine(u8),
    /// A thread failed before clients could be served.
    #[error("the server failed while it started")]
    Failed(#[source] Arc<ServerFailure>),
}

/// A server that runs on threads of its own; it stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    inbox: Arc<Mailbox<Event>>,
    workers: Vec<Outbox>,
    log: Arc<Mailbox<LogRequest>>,
    snapshots: Arc<Mailbox<SnapshotJob>>,
    finish: Arc<AtomicBool>,
    failure: watch::Receiver<Option<Arc<ServerFailure>>>,
    io_threads: Vec<JoinHandle<()>>,
    replica_thread: Option<JoinHandle<()>>,
    peers: Option<Arc<Peers>>,
    disk_threads: Vec<JoinHandle<()>>,
    /// Keeps the lock until every thread has ended.
    _data_dir: DataDir,
    /// Goes after everything in it.
    _temporary: Option<TempDir>,
}

impl Server {
    /// Opens the data, binds the port, and serves. Returns as soon as clients can connect.
    ///
    /// A member of an ensemble takes connections of clients before it has a leader, and closes them until it has one.
    /// Errors: [`StartError`]; nothing is left running then.
    pub fn start(config: Config) -> Result<Server, StartError> {
        let started = Instant::now();
        warn_of_ignored_keys(&config);
        if matches!(config.storage.place, DataPlace::Directory { .. }) {
            raise_file_limit();
            use_small_pages();
        }
        let port = BoundPort::bind(config.listen)?;
        let member_port = MemberPort::prepare(&config.ensemble)?;
        let local_addr = port.address();
        let temporary = match &config.storage.place {
            DataPlace::Temporary => Some(crate::temporary::make()?),
            DataPlace::Directory { .. } => None,
        };
        let data_dir = open_data_dir(&config.storage, temporary.as_ref())?;
        let disk: Arc<dyn Disk> = if config.storage.sync { Arc::new(RealDisk) } else { Arc::new(UnsyncedDisk) };
        let opened = recovery::open(&data_dir, config.storage.segment_bytes, disk)?;
        let facts = Arc::new(server_facts(&config, local_addr, &data_dir));
        let parts = Parts::new(&config, &facts)?;
        let server = parts.assemble(
            &config,
            opened,
            Ports { clients: port, members: member_port },
            facts,
            data_dir,
            temporary,
        )?;
        tracing::info!(address = %local_addr, took_ms = started.elapsed().as_millis(), "clients can connect");
        Ok(server)
    }

    /// Returns the address where clients connect; the port is never 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until the server has failed, and returns why. Never returns while it is well.
    pub async fn failed(&self) -> Arc<ServerFailure> {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.map(|found| found.clone()) {
            Ok(Some(failure)) => failure,
            // Every thread has ended without a failure.
            _ => std::future::pending().await,
        }
    }

    /// Answers what is in flight, closes all connections, makes everything durable, and ends all threads.
    ///
    /// Sessions live on for clients to return to. Takes a few seconds at most, plus the time of a snapshot if the log
    /// has become long. Errors: what had made the server fail, or made it fail now.
    pub fn stop(mut self) -> Result<(), Arc<ServerFailure>> {
        self.end();
        match &*self.failure.borrow() {
            Some(failure) => Err(Arc::clone(failure)),
            None => Ok(()),
        }
    }

    /// Returns why the server could not be started.
    fn end_failed(mut self) -> StartError {
        self.end();
        let failure = self.failure.borrow().clone();
        StartError::Failed(
            failure.unwrap_or_else(|| Arc::new(ServerFailure::Panicked { thread: "replica".to_owned() })),
        )
    }

    fn end(&mut self) {
        let join = |thread: JoinHandle<()>| thread.join().expect("a thread of the server catches its panics");
        self.workers.iter().for_each(|worker| worker.push(Command::Drain));
        self.io_threads.drain(..).for_each(join);
        self.finish.store(true, Ordering::Release);
        // Wakes the replica thread; it looks at the flag before the step.
        self.inbox.push(Event::Tick);
        self.replica_thread.take().into_iter().for_each(join);
        self.peers.take().into_iter().for_each(|peers| peers.stop());
        self.log.close();
        self.snapshots.close();
        self.disk_threads.drain(..).for_each(join);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the threads are connected by.
struct Parts {
    clock: Clock,
    inbox: Arc<Mailbox<Event>>,
    workers: Vec<Worker>,
    outboxes: Vec<Outbox>,
    log: Arc<Mailbox<LogRequest>>,
    snapshots: Arc<Mailbox<SnapshotJob>>,
    failures: Arc<Failures>,
}

impl Parts {
    fn new(config: &Config, facts: &Arc<ServerFacts>) -> io::Result<Parts> {
        let clock = Clock::start();
        let inbox = Arc::new(Mailbox::default());
        let count = config.io_threads.get().min(WORKERS_MAX);
        let workers = (0..count)
            .map(|number| {
                let worker = WorkerConfig {
                    number,
                    inbox: Arc::clone(&inbox),
                    in_flight_bytes_max: REQUEST_BYTES_IN_FLIGHT_TOTAL_MAX / count,
                    clock,
                };
                Worker::new(worker, Arc::clone(facts))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let outboxes: Vec<Outbox> = workers.iter().map(Worker::outbox).collect();
        let log = Arc::new(Mailbox::default());
        let snapshots = Arc::new(Mailbox::default());
        let failures = Failures::new({
            let (inbox, outboxes) = (Arc::clone(&inbox), outboxes.clone());
            let (log, snapshots, facts) = (Arc::clone(&log), Arc::clone(&snapshots), Arc::downgrade(facts));
            move || {
                // The others elect a new leader at once.
                if let Some(peers) = facts.upgrade().as_ref().and_then(|facts| facts.peers.get()) {
                    peers.close();
                }
                inbox.close();
                outboxes.iter().for_each(|outbox| outbox.push(Command::Stop));
                log.close();
                snapshots.close();
            }
        });
        Ok(Parts { clock, inbox, workers, outboxes, log, snapshots, failures })
    }

    /// Starts the replica and every thread.
    fn assemble(
        self,
        config: &Config,
        opened: Opened,
        ports: Ports,
        facts: Arc<ServerFacts>,
        data_dir: DataDir,
        temporary: Option<TempDir>,
    ) -> Result<Server, StartError> {
        let Parts { clock, inbox, workers, outboxes, log, snapshots, failures } = self;
        let Opened { recovered, log: log_file, snapshots: store } = opened;
        let log_bytes = log_bytes(&recovered);
        let store = Arc::new(store);
        let is_blank = is_blank(&recovered);
        let replica_config = replica_config(config, ensemble_config(&config.ensemble, &data_dir)?)?;
        let replica = Replica::start(replica_config.clone(), recovered, clock.now())?;
        let links = LinkParts {
            config: &config.ensemble,
            inbox: Arc::clone(&inbox),
            snapshots: Arc::clone(&store),
            cluster_id: replica.cluster_id(),
            is_blank,
            failures: &failures,
            facts: &facts,
        };
        let members = ports.members.map(|port| links.start(port, replica_config, data_dir.snapshot_dir()));
        let ensemble = members.transpose()?;
        let mut server = Server {
            local_addr: facts.local_addr,
            inbox: Arc::clone(&inbox),
            workers: outboxes.clone(),
            log: Arc::clone(&log),
            snapshots: Arc::clone(&snapshots),
            finish: Arc::default(),
            failure: failures.subscribe(),
            io_threads: Vec::new(),
            replica_thread: None,
            peers: ensemble.as_ref().map(|ensemble| Arc::clone(&ensemble.peers)),
            disk_threads: Vec::new(),
            _data_dir: data_dir,
            _temporary: temporary,
        };
        let disk = DiskParts { facts: &facts, log: &log, snapshots: &snapshots, inbox: &inbox, failures: &failures };
        let writer = disk.start(&config.storage, log_file, store, &mut server.disk_threads)?;
        let finish = Arc::clone(&server.finish);
        let (serving, is_serving) = mpsc::channel();
        // The others may be started later; clients are refused until then.
        let waits = ensemble.is_none();
        let driver = Driver {
            replica,
            inbox,
            workers: outboxes.clone(),
            log: LogHandle::new(writer, log),
            snapshots,
            clock,
            serving: waits.then_some(serving),
            ensemble,
            finish,
            log_bytes,
        };
        server.replica_thread = Some(failures.spawn("replica", move || driver.run())?);
        // What is in the log is applied before anybody can connect.
        if waits && is_serving.recv().is_err() {
            return Err(server.end_failed());
        }
        start_workers(workers, ports.clients, &outboxes, &failures, &mut server.io_threads)?;
        Ok(server)
    }
}

/// Lets clients connect; the first worker accepts for all of them.
fn start_workers(
    workers: Vec<Worker>,
    port: BoundPort,
    outboxes: &[Outbox],
    failures: &Arc<Failures>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(), StartError> {
    let mut listener = Some(port.listen()?);
    for (number, mut worker) in workers.into_iter().enumerate() {
        if let Some(listener) = listener.take() {
            worker.listen(listener, outboxes.to_vec())?;
        }
        threads.push(failures.spawn(&format!("io-{number}"), move || worker.run())?);
    }
    Ok(())
}

/// What the threads of the disk are connected by.
struct DiskParts<'a> {
    facts: &'a ServerFacts,
    log: &'a Arc<Mailbox<LogRequest>>,
    snapshots: &'a Arc<Mailbox<SnapshotJob>>,
    inbox: &'a Arc<Mailbox<Event>>,
    failures: &'a Arc<Failures>,
}

impl DiskParts<'_> {
    /// Starts the log thread and the snapshot thread.
    fn start(
        self,
        storage: &StorageConfig,
        log_file: Log,
        store: Arc<SnapshotStore>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> io::Result<Arc<Mutex<LogWriter>>> {
        let DiskParts { facts, log, snapshots, inbox, failures } = self;
        let writer = Arc::new(Mutex::new(LogWriter::new(
            log_file,
            DiskGuard::new(&facts.log_dir, DiskGuard::RESERVE_BYTES_DEFAULT),
            storage.snapshots_kept.map(|keep| Retention { snapshots_keep: keep, ..Retention::default() }),
            Arc::clone(&store),
            Arc::clone(snapshots),
            Arc::clone(&facts.stats),
        )));
        let thread = LogThread { writer: Arc::clone(&writer), requests: Arc::clone(log), inbox: Arc::clone(inbox) };
        threads.push(failures.spawn("log", move || thread.run())?);
        let stats = Arc::clone(&facts.stats);
        let snapshotter = Snapshotter { store, jobs: Arc::clone(snapshots), inbox: Arc::clone(inbox), stats };
        threads.push(failures.spawn("snapshot", move || {
            snapshotter.run();
            Ok(())
        })?);
        Ok(writer)
    }
}

/// Where clients and members connect.
struct Ports {
    clients: BoundPort,
    /// `None` for a server that stands alone.
    members: Option<MemberPort>,
}

pub(crate) fn open_data_dir(storage: &StorageConfig, temporary: Option<&TempDir>) -> Result<DataDir, OpenError> {
    match (&storage.place, temporary) {
        (DataPlace::Directory { data, log: Some(log) }, _) => DataDir::open_with_log_dir(data, log),
        (DataPlace::Directory { data, log: None }, _) => DataDir::open(data),
        (DataPlace::Temporary, Some(directory)) => DataDir::open(directory.path()),
        (DataPlace::Temporary, None) => unreachable!("the directory is made where the place is temporary"),
    }
}

/// Lets the process have as many files open as it may: each connection is one, and the usual limit is 1,024.
///
/// Not for a server inside another program, whose limit is that program's affair.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the number of open files stays limited");
    }
}

/// Keeps the kernel from backing the heap with pages of 2 MiB.
///
/// Each is zeroed when its first byte is touched, which is a stall, and most of it may never be used: a tree of 10^6
/// znodes takes 20 % less memory without them.
///
/// Not for a server inside another program either.
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the heap may use huge pages");
    }
}

fn warn_of_ignored_keys(config: &Config) {
    if let Some(first) = config.ignored.first() {
        let names: Vec<&str> = config.ignored.iter().map(|key| key.name.as_str()).collect();
        tracing::warn!(keys = names.join(", "), first = %first.origin, "keys of the configuration have no effect here");
    }
}

fn server_facts(config: &Config, local_addr: SocketAddr, data_dir: &DataDir) -> ServerFacts {
    ServerFacts {
        whitelist: config.four_letter,
        local_addr,
        data_dir: data_dir.root().to_owned(),
        log_dir: data_dir.log_dir().to_owned(),
        sessions: config.sessions,
        limits: config.limits,
        backlog: config.listen.backlog,
        ensemble: config.ensemble.clone(),
        peers: OnceLock::new(),
        started: Instant::now(),
        admission: Admission::new(&config.limits),
        stats: Arc::new(EdgeStats::default()),
    }
}

fn log_bytes(recovered: &Recovered) -> u64 {
    recovered.entries.iter().map(|entry| entry.data.len() as u64).sum()
}

pub(crate) fn replica_config(config: &Config, ensemble: EnsembleConfig) -> io::Result<ReplicaConfig> {
    Ok(ReplicaConfig {
        ensemble,
        tick_ms: config.sessions.tick_ms,
        session_timeout_ms_min: config.sessions.timeout_ms_min,
        session_timeout_ms_max: config.sessions.timeout_ms_max,
        policy: config.policy,
        super_digest: config.super_digest.clone(),
        reaping: config.reaping,
        snapshots: config.snapshots,
        genesis: Genesis { cluster_id: random::bytes()?, session_key: random::bytes()? },
        seed: u64::from_ne_bytes(random::bytes()?),
    })
}

/// Describes this member as the replica has to know it.
pub(crate) fn ensemble_config(settings: &Ensemble, data_dir: &DataDir) -> Result<EnsembleConfig, OpenError> {
    let alone = EnsembleConfig::alone(data_dir.member_id(), data_dir.next_run()?);
    let spec = settings.own().cloned().unwrap_or(alone.member.spec);
    Ok(EnsembleConfig {
        member: Member { server_id: settings.server_id, spec, ..alone.member },
        founds: Founding::is_at_once(settings),
        servers: settings.servers.clone(),
        read_only_mode: settings.read_only_mode,
        linearizable_reads: settings.linearizable_reads,
        ..alone
    })
}
