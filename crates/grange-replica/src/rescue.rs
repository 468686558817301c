//! Starting anew from one member when the majority is lost for good.

use crate::config::{Genesis, RecoverError, Recovered, ReplicaConfig};
use crate::engine::{self, EntryPurpose};
use crate::entry::Requests;
use crate::event::{Now, SnapshotImage};
use crate::members::{Members, MembersChange};
use crate::replica::Replica;

/// What one member has, as the beginning of an ensemble of its own.
///
/// The snapshot holds everything in this member's log, also what it does not know to be acknowledged: an acknowledged
/// write that is only in the logs of others is lost, and one that was never acknowledged may be there. The ensemble has
/// a new identity (`genesis.cluster_id`): members of the old one that turn up again never talk to it. Sessions live on
/// if their clients come back in time.
///
/// Errors: as [`Replica::start`], and [`RecoverError::Nothing`] if the member belongs to no ensemble.
pub fn rescue(config: ReplicaConfig, recovered: Recovered, now: Now) -> Result<SnapshotImage, RecoverError> {
    let Recovered { snapshot, hard_state, entries } = recovered;
    let member = config.ensemble.member.clone();
    let cluster_id = config.genesis.cluster_id;
    let mark = snapshot.as_ref().ok_or(RecoverError::Nothing)?.index;
    let behind: Vec<_> = entries.into_iter().filter(|entry| entry.index > mark).collect();
    let alone = Recovered { snapshot, hard_state, entries: Vec::new() };
    let mut replica = Replica::start(config, alone, now)?;
    let mut out = Vec::new();
    for entry in &behind {
        if entry.index != replica.progress.index + 1 {
            return Err(RecoverError::Gap { first: entry.index, wanted: replica.progress.index + 1 });
        }
        replica.progress.note(entry);
        let unreadable = |why: grange_proto::DecodeError| RecoverError::Format {
            what: format!("entry {}", entry.index),
            why: why.to_string(),
        };
        match engine::purpose(entry) {
            EntryPurpose::Nothing => {}
            EntryPurpose::Members => drop(MembersChange::decode(&entry.data).map_err(unreadable)?),
            EntryPurpose::Requests => {
                let requests = Requests::decode(&entry.data).map_err(unreadable)?;
                replica.apply_requests(requests, entry, now, &mut out);
            }
        }
    }
    let Some(mut ensemble) = replica.ensemble.take() else { return Err(RecoverError::Nothing) };
    let zxid = replica.tree.last_zxid().next();
    ensemble.genesis = Genesis { cluster_id, ..ensemble.genesis };
    ensemble.wish = None;
    ensemble.members = Members::founded_by(member, true);
    ensemble.members.set_version(zxid);
    let mut changes = replica.collect_changes();
    replica.tree.set_config(zxid, now.wall_ms, &ensemble.members.config_text(), &mut changes);
    let (index, term) = (replica.progress.index + 1, replica.engine.term().max(replica.progress.term) + 1);
    Ok(replica.snapshots.make(index, term, &replica.tree, &ensemble))
}
