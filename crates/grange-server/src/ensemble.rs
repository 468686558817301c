//! What a member has because it has others: a port for them, links to them, and the question of who founds.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use grange_replica::{Event, HardState, Recovered, ReplicaConfig};

use crate::config::Ensemble;
use crate::failure::Failures;
use crate::founding::Founding;
use crate::four_letter::ServerFacts;
use crate::mailbox::Mailbox;
use crate::peers::{self, PeerBatch, Peers, PeersConfig, SnapshotReceiver, TlsContext};
use crate::random;
use crate::server::StartError;
use crate::storage::snapshot::SnapshotStore;

/// What a member that has others needs besides.
pub(crate) struct EnsembleParts {
    pub(crate) peers: Arc<Peers>,
    /// There as long as this server has no data, and may have to found the ensemble.
    pub(crate) founding: Option<Founding>,
    /// Whether this server has no data.
    pub(crate) is_blank: bool,
    /// To start anew as the founder.
    pub(crate) config: ReplicaConfig,
    /// Whether the links know which ensemble this is.
    pub(crate) is_named: bool,
    /// Whether clients were served when it was last looked at.
    pub(crate) is_serving: bool,
    /// Messages of the step under way.
    pub(crate) batch: PeerBatch,
    pub(crate) is_resigned: bool,
}

/// Where other members connect, and by what they prove who they are.
pub(crate) struct MemberPort {
    listener: TcpListener,
    tls: Option<TlsContext>,
}

impl MemberPort {
    /// Takes the port early: a mistake in the configuration shows before data is read.
    pub(crate) fn prepare(ensemble: &Ensemble) -> Result<Option<MemberPort>, StartError> {
        let Some(own) = ensemble.own() else { return Ok(None) };
        if !peers::fits_hello(own) {
            return Err(StartError::LongLine(ensemble.server_id));
        }
        let tls = ensemble.tls.as_ref().map(TlsContext::load).transpose()?;
        let listener = match &ensemble.socket {
            Some(socket) => socket.try_clone()?,
            None => peers::bind(&own.peers[0], ensemble.listens_on_all).map_err(StartError::ListenToMembers)?,
        };
        if tls.is_none() && !listener.local_addr()?.ip().is_loopback() {
            tracing::warn!("members talk without TLS: whoever reaches their ports can read and change everything");
        }
        Ok(Some(MemberPort { listener, tls }))
    }
}

/// What the links to other members are made of.
pub(crate) struct LinkParts<'a> {
    pub(crate) config: &'a Ensemble,
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) cluster_id: Option<[u8; 16]>,
    pub(crate) is_blank: bool,
    pub(crate) failures: &'a Arc<Failures>,
    pub(crate) facts: &'a ServerFacts,
}

impl LinkParts<'_> {
    pub(crate) fn start(
        self,
        port: MemberPort,
        config: ReplicaConfig,
        snapshot_dir: PathBuf,
    ) -> io::Result<EnsembleParts> {
        let LinkParts { config: ensemble, inbox, snapshots, cluster_id, is_blank, failures, facts } = self;
        let name_key = u64::from_ne_bytes(random::bytes()?);
        let peers = Arc::new(Peers::start(PeersConfig {
            member: config.ensemble.member.clone(),
            run: config.ensemble.run,
            cluster_id,
            is_blank,
            servers: ensemble.servers.clone(),
            listener: port.listener,
            tls: port.tls,
            receiver: SnapshotReceiver::new(Arc::clone(&snapshots), &snapshot_dir, name_key),
            snapshots,
            inbox,
            stats: Arc::clone(&facts.stats.peers),
            failures: Arc::clone(failures),
        })?);
        let _ = facts.peers.set(Arc::clone(&peers));
        tracing::info!(address = %peers.local_addr(), "members can connect");
        let founding = (is_blank && !config.ensemble.founds).then(|| Founding::new(ensemble));
        Ok(EnsembleParts {
            peers,
            founding,
            config,
            is_named: cluster_id.is_some(),
            is_blank,
            is_serving: false,
            batch: PeerBatch::default(),
            is_resigned: false,
        })
    }
}

/// Tells whether a member has never been told anything.
pub(crate) fn is_blank(recovered: &Recovered) -> bool {
    let Recovered { snapshot, hard_state, entries } = recovered;
    snapshot.is_none() && entries.is_empty() && *hard_state == HardState::default()
}
