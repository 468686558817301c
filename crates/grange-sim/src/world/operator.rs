//! Those who look after the ensemble: clients that change its members, and the hands that wipe the disks of servers
//! which were taken out.
//!
//! They never ask for what cannot work, which would be a set of voters most of which are lost for good; and no disk is
//! lost while they may be asking. Whatever else makes no sense, they do ask for.

use std::collections::BTreeSet;

use grange_proto::request::{Auth, Reconfig, Request, Watchable};
use grange_proto::{Op, Role, ServerSpec};
use grange_replica::{AppliedKind, AppliedRequest, MemberId, Membership};

use super::client::Client;
use super::finish::Phase;
use super::server::{Server, server_id};
use super::workload::encoded;
use super::{ClientIndex, ServerIndex, Task, World};
use crate::check::parse_members;
use crate::queue::{MS, Micros, SECOND};
use crate::random::Random;

/// Where the members are to be read.
pub(crate) const CONFIG_PATH: &str = "/zookeeper/config";
/// How often servers that were taken out are looked for.
const LOOK: Micros = 300 * MS;
/// How long a reconfig may take while nothing is wrong and everybody is there.
const RECONFIG_MAX: Micros = 3 * SECOND;
/// How long nothing was wrong before it counts as that.
const QUIET_MIN: Micros = 6 * SECOND;
/// Operators ask for changes in the first half of each such time.
const ASKING_PERIOD: Micros = 6 * SECOND;
/// How long a request may be under way that nobody waits for any more.
const UNDER_WAY_MAX: Micros = 2 * SECOND;

/// The members as of the newest change that anybody has applied.
#[derive(Debug, Default)]
pub(crate) struct NewestMembers {
    pub(crate) now: Membership,
    /// The entry that they are of.
    index: u64,
    /// When they changed last.
    pub(crate) changed: Micros,
    /// All that were members some time: one that was taken out before its snapshot came is blank, and nobody knows.
    former: BTreeSet<MemberId>,
    /// Since when the reconfig is under way.
    asked: Micros,
    /// Whether all that it wants to vote ran then, as members or as blank servers.
    were_there: bool,
}

/// What an operator sends first: the password of the superuser.
pub(crate) fn password() -> (Op, Vec<u8>) {
    encoded(&Request::Auth(Auth { kind: 0, scheme: Some(b"digest"), credentials: Some(b"super:admin") }))
}

/// Tells whether a request has to do with the members.
pub(crate) fn is_of_members(request: &AppliedRequest) -> bool {
    use AppliedKind::{Config, ConfigToCome, ReconfigDone, ReconfigGivenUp, Request};
    matches!(request.kind, Config | ConfigToCome | ReconfigDone | ReconfigGivenUp | Request(Op::Reconfig))
}

impl World {
    /// Takes note of the members, if nobody has applied as much before.
    pub(crate) fn note_members(&mut self, server: ServerIndex, index: u64) {
        let Some(process) = &self.servers[server].process else { return };
        let now = process.replica.membership();
        if index <= self.members.index || now == self.members.now {
            return;
        }
        let before = std::mem::replace(&mut self.members.now, now);
        self.members.former.extend(&self.members.now.members);
        self.members.index = index;
        self.members.changed = self.now;
        if self.members.now.wish != before.wish {
            if before.wish.is_some() {
                self.check_end();
            }
            self.members.asked = self.now;
            self.members.were_there = self.are_there();
        }
    }

    /// Returns true if all that the reconfig under way wants to vote can do so soon.
    fn are_there(&self) -> bool {
        let wish = self.members.now.wish.iter().flatten();
        let mut voters = wish.filter(|(_, votes)| *votes).map(|(id, _)| ServerIndex::from(*id) - 1);
        voters.all(|at| {
            let process = self.servers.get(at).and_then(Server::awake);
            let is_new = |at| self.is_blank(at) && !self.members.former.contains(&self.servers[at].identity);
            process.is_some() && (self.is_member(at) || is_new(at))
        })
    }

    /// A reconfig has ended: in good time, unless something was wrong or somebody was missing.
    fn check_end(&mut self) {
        let NewestMembers { asked, were_there, .. } = self.members;
        let was_quiet = self.last_trouble == 0 || asked > self.last_trouble + QUIET_MIN;
        let took = self.now - asked;
        if was_quiet && were_there && took > RECONFIG_MAX {
            let what = format!("nothing was wrong and nobody was missing, and a reconfig took {took} us");
            self.violated("reconfigs are done in good time", what);
        }
    }

    /// Returns true if a server's present data directory is that of a member.
    pub(crate) fn is_member(&self, server: ServerIndex) -> bool {
        self.members.now.members.contains(&self.servers[server].identity)
    }

    /// Returns the voters whose disks are lost.
    fn lost_voters(&self) -> impl Iterator<Item = MemberId> {
        let there: BTreeSet<MemberId> = self.servers.iter().map(|server| server.identity).collect();
        self.members.now.voters.iter().copied().filter(move |id| !there.contains(id))
    }

    /// A disk may be lost only where the others have everything, and nobody changes them: this is no test of what cannot
    /// work.
    pub(crate) fn may_lose(&self, server: ServerIndex) -> bool {
        let now = &self.members.now;
        let is_voter = now.voters.contains(&self.servers[server].identity);
        let asks = |client: &Client| client.is_operator && client.awaits_reconfig(&self.observed);
        now.is_founded
            && !now.is_joint
            && now.wish.is_none()
            && now.voters.len() >= if is_voter { 3 } else { 1 }
            && self.lost_voters().next().is_none()
            && self.reconfig_sent.is_none_or(|sent| self.now >= sent + UNDER_WAY_MAX)
            && !self.clients.iter().any(asks)
            && !self.servers.iter().any(|other| other.troubles.is_damaged)
            && self.is_whole_but(server)
    }

    /// Returns true if every member but this server serves, has applied everything and has nothing under way.
    fn is_whole_but(&self, server: ServerIndex) -> bool {
        let last = self.history.last_zxid();
        let mut others = (0..self.servers.len()).filter(|&other| other != server && self.is_member(other));
        others.all(|other| {
            self.servers[other].process.as_ref().is_some_and(|process| {
                let probe = process.replica.probe();
                process.replica.is_serving()
                    && process.replica.tree().last_zxid() == last
                    && probe.applied == probe.last
                    // A reconfig may wait there, whoever had asked for it.
                    && (self.setup.operators == 0 || !probe.is_busy)
                    && process.replica.membership() == self.members.now
            })
        })
    }

    /// Wipes a server that was taken out, now and then: it comes back blank, as one that may join.
    pub(crate) fn operate(&mut self) {
        self.queue.push(self.now + LOOK, Task::Operator);
        let is_out = |server: &ServerIndex| {
            !self.is_member(*server) && !self.is_blank(*server) && self.servers[*server].process.is_some()
        };
        let out: Vec<ServerIndex> = (0..self.servers.len()).filter(is_out).collect();
        if self.phase == Phase::Chaos && self.members.now.is_founded && !out.is_empty() && self.random.chance(400) {
            let server = self.random.pick(&out);
            self.trace.line(self.now, || format!("server {server} was taken out: it is wiped"));
            let last_trouble = self.last_trouble;
            self.lose_disk(server);
            // That is no trouble for anybody but the clients which have not noticed yet.
            self.last_trouble = last_trouble;
            self.members.changed = self.now;
        }
    }

    /// Returns true if whoever asks for other members asks for what can work.
    fn may_ask(&self) -> bool {
        let settled = self.setup.dead_peer + SECOND;
        self.phase == Phase::Chaos
            // Disks are lost while they rest.
            && self.now % ASKING_PERIOD < ASKING_PERIOD / 2
            && !self.servers.iter().any(|server| server.troubles.is_damaged)
            // Members must have noticed that one is lost, or they count on it.
            && (self.lost_voters().next().is_none() || self.now > self.last_trouble + settled)
    }

    /// Adds requests about the members: a look at them, a change, or both at once.
    pub(crate) fn draw_config_requests(&mut self, client: ClientIndex, out: &mut Vec<(Op, Vec<u8>)>) {
        let may_ask = self.may_ask();
        let specs: Vec<ServerSpec> = self.servers.iter().map(|server| server.spec.clone()).collect();
        let own = &mut self.clients[client];
        if own.config.is_none() || own.random.chance(300) {
            if own.random.chance(500) {
                out.push(encoded(&Request::Sync(CONFIG_PATH)));
            }
            let watch = own.random.chance(500);
            return out.push(encoded(&Request::GetData(Watchable { path: CONFIG_PATH, watch })));
        }
        if !may_ask {
            return;
        }
        if own.random.chance(200) {
            out.push(encoded(&Request::Sync(CONFIG_PATH)));
        }
        own.counter += 1;
        let nonce = nonce(client, own.counter);
        let config = own.config.clone().unwrap_or_default();
        out.push(draw_reconfig(&mut own.random, &config, &specs, &nonce));
    }
}

/// White space that no other request has: so each one is known by its body, and means nothing else by it.
fn nonce(client: ClientIndex, counter: u64) -> String {
    let number = (counter << 4) | client as u64;
    (0..24).map(|bit| if (number >> bit) & 1 == 1 { '\t' } else { ' ' }).collect()
}

fn line(server: ServerIndex, spec: &ServerSpec, role: Role) -> String {
    format!("server.{}={}", server_id(server), ServerSpec { role, ..spec.clone() })
}

fn draw_role(random: &mut Random) -> Role {
    if random.chance(750) { Role::Participant } else { Role::Observer }
}

/// A request for other members than those of `config`.
fn draw_reconfig(random: &mut Random, config: &str, specs: &[ServerSpec], nonce: &str) -> (Op, Vec<u8>) {
    let (known, version) = parse_members(config).unwrap_or_default();
    let config_id = random.weighted(&[(-1, 6), (version, 5), (version - 1, 1)]);
    let any = random.index(specs.len());
    let known_ids: Vec<u8> = known.keys().copied().collect();
    let number = if known_ids.is_empty() { 1 } else { random.pick(&known_ids) };
    let joins = format!("{nonce}{}", line(any, &specs[any], draw_role(random)));
    let leaves = format!("{nonce}{number}");
    let (mut joining, mut leaving, mut new_members) = (None, None, None);
    match random.below(20) {
        0..=6 => joining = Some(joins),
        7..=11 => leaving = Some(leaves),
        12..=13 => (joining, leaving) = (Some(joins), Some(leaves)),
        14 => leaving = Some(format!("{leaves}, {}", known_ids.first().copied().unwrap_or(1))),
        15..=16 => {
            let is_in = |(at, _): &(usize, &ServerSpec)| {
                random.chance(if known.contains_key(&server_id(*at)) { 850 } else { 300 })
            };
            let chosen: Vec<(usize, &ServerSpec)> = specs.iter().enumerate().filter(is_in).collect();
            let lines = chosen.into_iter().map(|(at, spec)| line(at, spec, draw_role(random)));
            new_members = Some(format!("{nonce}{}", lines.collect::<Vec<_>>().join("\n")));
        }
        17..=18 => joining = Some(format!("{nonce}leader={number}")),
        _ => {
            let bad = ["server.300=s300:1:2:participant", "server.x=y", "nonsense", "server.9=s1:2000:3000:observer"];
            joining = Some(format!("{nonce}{}", random.pick(&bad)));
        }
    }
    let request = Reconfig {
        joining: joining.as_deref(),
        leaving: leaving.as_deref(),
        new_members: new_members.as_deref(),
        config_id,
    };
    encoded(&Request::Reconfig(request))
}
