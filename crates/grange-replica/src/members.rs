//! Who belongs to the ensemble, and how that changes.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use grange_proto::wire::{DecodeError, Reader, put_bool, put_i64, put_length, put_text};
use grange_proto::{Role, ServerSpec, Zxid};

/// Names a member in everything that is voted on: drawn at random with its data directory, never used again.
///
/// A server that lost its disk comes back as another member, so it cannot vote twice where its old self has voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A member, or a server that may become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: MemberId,
    /// Its number in `server.N` and in `myid`.
    pub server_id: u8,
    /// Its addresses and the part it is to play.
    pub spec: ServerSpec,
}

impl Member {
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.id.0.cast_signed());
        out.push(self.server_id);
        put_text(out, &self.spec.to_string());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Member, DecodeError> {
        let id = MemberId(reader.i64()?.cast_unsigned());
        let server_id = reader.u8()?;
        let text = reader.text()?;
        let spec = match text {
            // A server that stood alone when it was founded has no address for others.
            NO_ADDRESS => ServerSpec::nowhere(),
            text => text.parse().map_err(|_| DecodeError::Unknown(i32::from(server_id), "address of a member"))?,
        };
        Ok(Member { id, server_id, spec })
    }
}

/// How [`ServerSpec::nowhere`] is written.
const NO_ADDRESS: &str = ":participant";

/// Bytes of the shortest encoded member.
const MEMBER_BYTES_MIN: usize = 8 + 1 + 4;

/// Who votes, and who only follows. While `outgoing` is not empty, majorities of both sets of voters are needed.
///
/// All lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Conf {
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) outgoing: Vec<u64>,
    pub(crate) learners_next: Vec<u64>,
}

impl Conf {
    /// Returns true while the ensemble is on its way from one set of voters to another.
    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns true if `id` is in it in any way.
    pub(crate) fn contains(&self, id: MemberId) -> bool {
        [&self.voters, &self.learners, &self.outgoing, &self.learners_next].iter().any(|ids| ids.contains(&id.0))
    }

    /// Returns true if `id` is in it when the change under way has come to its end.
    pub(crate) fn contains_for_good(&self, id: MemberId) -> bool {
        [&self.voters, &self.learners, &self.learners_next].iter().any(|ids| ids.contains(&id.0))
    }

    /// Returns true if `id` alone decides.
    pub(crate) fn is_only(&self, id: MemberId) -> bool {
        self.voters == [id.0] && !self.is_joint()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for ids in [&self.voters, &self.learners, &self.outgoing, &self.learners_next] {
            put_length(out, ids.len());
            ids.iter().for_each(|id| put_i64(out, id.cast_signed()));
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Conf, DecodeError> {
        let mut ids = || -> Result<Vec<u64>, DecodeError> {
            let count = reader.count(8)?;
            (0..count).map(|_| reader.i64().map(i64::cast_unsigned)).collect()
        };
        Ok(Conf { voters: ids()?, learners: ids()?, outgoing: ids()?, learners_next: ids()? })
    }
}

/// Servers by their numbers.
pub(crate) type Servers = BTreeMap<u8, ServerSpec>;

/// Appends servers: a vector of number `u8` and line.
pub(crate) fn put_servers(out: &mut Vec<u8>, servers: &Servers) {
    put_length(out, servers.len());
    for (&server_id, spec) in servers {
        out.push(server_id);
        put_text(out, &spec.to_string());
    }
}

/// Takes servers.
pub(crate) fn take_servers(reader: &mut Reader<'_>) -> Result<Servers, DecodeError> {
    let count = reader.count(5)?;
    (0..count)
        .map(|_| {
            let server_id = reader.u8()?;
            let spec = reader.text()?.parse();
            Ok((server_id, spec.map_err(|_| DecodeError::Unknown(i32::from(server_id), "address of a server"))?))
        })
        .collect()
}

/// What becomes of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It votes from now on.
    Vote(MemberId),
    /// It follows without a vote.
    Learn(MemberId),
    /// It is a member no more.
    Leave(MemberId),
}

/// A change of the members, as an entry of the log holds it.
///
/// Shape: the time `i64`; two `bool`s that say whether it completes the founding and whether it fulfils the reconfig
/// under way; a vector of steps (kind byte, id `i64`); a vector of the members that are new or have new addresses; and
/// the servers that are to be members once they are there. Without steps it ends the way from one set of voters to
/// another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MembersChange {
    pub(crate) time_ms: i64,
    pub(crate) completes_founding: bool,
    pub(crate) fulfils_wish: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) members: Vec<Member>,
    pub(crate) expected: Servers,
}

impl MembersChange {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_i64(&mut out, self.time_ms);
        put_bool(&mut out, self.completes_founding);
        put_bool(&mut out, self.fulfils_wish);
        put_length(&mut out, self.steps.len());
        for step in &self.steps {
            let (kind, id) = match step {
                Step::Vote(id) => (0, id),
                Step::Learn(id) => (1, id),
                Step::Leave(id) => (2, id),
            };
            out.push(kind);
            put_i64(&mut out, id.0.cast_signed());
        }
        put_length(&mut out, self.members.len());
        self.members.iter().for_each(|member| member.encode(&mut out));
        put_servers(&mut out, &self.expected);
        out
    }

    pub(crate) fn decode(data: &[u8]) -> Result<MembersChange, DecodeError> {
        let mut reader = Reader::new(data);
        let time_ms = reader.i64()?;
        let (completes_founding, fulfils_wish) = (reader.bool()?, reader.bool()?);
        let count = reader.count(9)?;
        let steps = (0..count)
            .map(|_| {
                let kind = reader.u8()?;
                let id = MemberId(reader.i64()?.cast_unsigned());
                match kind {
                    0 => Ok(Step::Vote(id)),
                    1 => Ok(Step::Learn(id)),
                    2 => Ok(Step::Leave(id)),
                    kind => Err(DecodeError::Unknown(i32::from(kind), "step of a member")),
                }
            })
            .collect::<Result<_, _>>()?;
        let count = reader.count(MEMBER_BYTES_MIN)?;
        let members = (0..count).map(|_| Member::decode(&mut reader)).collect::<Result<_, _>>()?;
        let expected = take_servers(&mut reader)?;
        Ok(MembersChange { time_ms, completes_founding, fulfils_wish, steps, members, expected })
    }
}

/// The members and the parts they play: the same on every member at the same entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    pub(crate) conf: Conf,
    records: BTreeMap<u64, Member>,
    /// Servers that belong to the ensemble and have not been there yet; they will be observers.
    expected: Servers,
    /// False until all servers that were to found the ensemble together are members.
    pub(crate) is_founded: bool,
    /// The transaction of the last change that clients were shown.
    version: Zxid,
}

impl Members {
    /// The members of a new ensemble: the founder alone.
    pub(crate) fn founded_by(member: Member, is_founded: bool) -> Members {
        let conf = Conf { voters: vec![member.id.0], ..Conf::default() };
        let records = BTreeMap::from([(member.id.0, member)]);
        Members { conf, records, expected: Servers::new(), is_founded, version: Zxid::ZERO }
    }

    /// Walks the members in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.records.values()
    }

    /// Returns a member.
    pub(crate) fn get(&self, id: MemberId) -> Option<&Member> {
        self.records.get(&id.0)
    }

    /// Returns the member that has a server's number.
    pub(crate) fn with_server_id(&self, server_id: u8) -> Option<&Member> {
        self.iter().find(|member| member.server_id == server_id)
    }

    /// Takes in a change whose effect on the voting is `conf`.
    pub(crate) fn change(&mut self, change: &MembersChange, conf: Conf, version: Zxid) {
        self.records.extend(change.members.iter().map(|member| (member.id.0, member.clone())));
        self.records.retain(|&id, _| conf.contains(MemberId(id)));
        if change.fulfils_wish {
            self.expected = change.expected.clone();
        }
        self.expected.retain(|server_id, _| !self.records.values().any(|member| member.server_id == *server_id));
        self.is_founded |= change.completes_founding;
        self.conf = conf;
        if !self.conf.is_joint() {
            self.version = version;
        }
    }

    /// Returns the servers with the parts they play now, those that are expected included.
    pub(crate) fn servers(&self) -> Servers {
        let members = self.iter().filter(|member| !member.spec.peers.is_empty()).map(|member| {
            let role = if self.conf.voters.contains(&member.id.0) { Role::Participant } else { Role::Observer };
            (member.server_id, ServerSpec { role, ..member.spec.clone() })
        });
        self.expected.clone().into_iter().chain(members).collect()
    }

    /// Returns the servers with the parts they are to play: one that lost its disk has its vote again when it has caught
    /// up, and nobody has to ask for that.
    pub(crate) fn intended(&self) -> Servers {
        let members = self.iter().filter(|member| !member.spec.peers.is_empty());
        let mut servers = self.servers();
        servers.extend(
            members
                .filter(|member| self.conf.contains_for_good(member.id) && member.spec.role == Role::Participant)
                .map(|member| (member.server_id, member.spec.clone())),
        );
        servers
    }

    /// Returns the servers that are to be members once they are there.
    pub(crate) fn expected(&self) -> &Servers {
        &self.expected
    }

    /// Returns true for a server that was never meant to have others.
    pub(crate) fn stands_alone(&self) -> bool {
        self.iter().all(|member| member.spec.peers.is_empty())
    }

    pub(crate) fn set_version(&mut self, version: Zxid) {
        self.version = version;
    }

    /// Returns the transaction of the last change that clients were shown.
    pub(crate) fn version(&self) -> Zxid {
        self.version
    }

    /// Returns the data of `/zookeeper/config`.
    pub(crate) fn config_text(&self) -> String {
        let mut text = String::new();
        for (server_id, spec) in self.servers() {
            writeln!(text, "server.{server_id}={spec}").expect("text takes everything");
        }
        write!(text, "version={:x}", self.version.0).expect("text takes everything");
        text
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.conf.encode(out);
        put_length(out, self.records.len());
        self.iter().for_each(|member| member.encode(out));
        put_servers(out, &self.expected);
        put_bool(out, self.is_founded);
        put_i64(out, self.version.0);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Members, DecodeError> {
        let conf = Conf::decode(reader)?;
        let count = reader.count(MEMBER_BYTES_MIN)?;
        let records =
            (0..count).map(|_| Member::decode(reader).map(|member| (member.id.0, member))).collect::<Result<_, _>>()?;
        let expected = take_servers(reader)?;
        Ok(Members { conf, records, expected, is_founded: reader.bool()?, version: Zxid(reader.i64()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u8) -> Member {
        let spec = format!("h{id}:1:2;3").parse().unwrap();
        Member { id: MemberId(id.into()), server_id: id, spec }
    }

    #[test]
    fn the_version_is_that_of_what_is_shown() {
        let mut members = Members::founded_by(member(1), true);
        let change = MembersChange { members: vec![member(2)], ..MembersChange::default() };
        let on_its_way = Conf { voters: vec![1, 2], outgoing: vec![1], ..Conf::default() };
        members.change(&change, on_its_way, Zxid(5));
        assert_eq!(members.version(), Zxid::ZERO, "nobody has seen another one");
        let there = Conf { voters: vec![1, 2], ..Conf::default() };
        members.change(&MembersChange::default(), there, Zxid(6));
        assert_eq!(members.version(), Zxid(6));
    }

    #[test]
    fn one_that_lost_its_disk_is_meant_to_vote_again() {
        let mut members = Members::founded_by(member(1), true);
        let change = MembersChange { members: vec![member(2)], ..MembersChange::default() };
        members.change(&change, Conf { voters: vec![1], learners: vec![2], ..Conf::default() }, Zxid(5));
        assert_eq!(members.servers()[&2].role, Role::Observer);
        assert_eq!(members.intended()[&2].role, Role::Participant);
    }
}
