//! Several servers on loopback: founding, serving, stopping, coming back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_server::config::Key;
use grange_server::{Config, RawConfig, Server};
use tempfile::TempDir;

use crate::client::{Client, PATIENCE, Session, connect_request};
use crate::four_letter::ask;

/// The servers of one ensemble, by their numbers from 1 on.
struct Ensemble {
    lines: String,
    sockets: Vec<Arc<TcpListener>>,
    dirs: Vec<TempDir>,
    servers: Vec<Option<Server>>,
}

impl Ensemble {
    /// Prepares `count` servers; none runs yet.
    fn prepare(count: usize) -> Ensemble {
        Ensemble::prepare_at(&vec![("127.0.0.1", IpAddr::V4(Ipv4Addr::LOCALHOST)); count])
    }

    /// Prepares a server for each host: how the configuration writes it, and the address it listens on.
    fn prepare_at(hosts: &[(&str, IpAddr)]) -> Ensemble {
        let sockets: Vec<_> =
            hosts.iter().map(|(_, address)| Arc::new(TcpListener::bind((*address, 0)).unwrap())).collect();
        let line = |(id, (socket, (host, _))): (usize, (&Arc<TcpListener>, &(&str, IpAddr)))| {
            format!("server.{id}={host}:{}:0\n", socket.local_addr().unwrap().port())
        };
        let lines = (1..).zip(sockets.iter().zip(hosts)).map(line).collect();
        let dirs = hosts.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        Ensemble { lines, sockets, dirs, servers: hosts.iter().map(|_| None).collect() }
    }

    fn config(&self, id: usize) -> Config {
        let file = self.dirs[id - 1].path().join("zoo.cfg");
        std::fs::write(&file, format!("4lw.commands.whitelist=*\n{}", self.lines)).unwrap();
        let mut raw = RawConfig::default();
        raw.read_file(&file).unwrap();
        raw.set_flag(Key::Listen, "test", "127.0.0.1:0");
        raw.set_flag(Key::DataDir, "test", self.data(id).to_str().unwrap());
        raw.set_flag(Key::MyId, "test", id.to_string());
        raw.set_flag(Key::TickTime, "test", "50");
        raw.set_flag(Key::MaxSessionTimeout, "test", "60000");
        let mut config = Config::try_from(raw).unwrap();
        config.ensemble.socket = Some(Arc::clone(&self.sockets[id - 1]));
        config
    }

    fn data(&self, id: usize) -> std::path::PathBuf {
        self.dirs[id - 1].path().join("data")
    }

    fn start(&mut self, id: usize) {
        let server = Server::start(self.config(id)).unwrap();
        self.servers[id - 1] = Some(server);
    }

    /// Stops a server; its port for members is another one afterwards only if nobody needs it.
    fn stop(&mut self, id: usize) {
        self.servers[id - 1].take().unwrap().stop().unwrap();
        // Stopping shuts the socket down, so it has to be made anew; the port is free for that.
        let address = self.sockets[id - 1].local_addr().unwrap();
        let placeholder = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        drop(std::mem::replace(&mut self.sockets[id - 1], placeholder));
        self.sockets[id - 1] = Arc::new(TcpListener::bind(address).unwrap());
    }

    fn address(&self, id: usize) -> SocketAddr {
        self.servers[id - 1].as_ref().unwrap().local_addr()
    }

    /// Returns `leader`, `follower`, or nothing while a server does not serve.
    fn mode(&self, id: usize) -> Option<String> {
        let answer = ask(self.address(id), b"srvr");
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Waits until every server that runs serves, and returns which one leads.
    fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let running: Vec<usize> = (1..=self.servers.len()).filter(|id| self.servers[id - 1].is_some()).collect();
        loop {
            let modes: Vec<_> = running.iter().map(|id| self.mode(*id)).collect();
            let leaders: Vec<usize> = running
                .iter()
                .zip(&modes)
                .filter_map(|(id, mode)| (mode.as_deref() == Some("leader")).then_some(*id))
                .collect();
            if modes.iter().all(Option::is_some) && leaders.len() == 1 {
                return leaders[0];
            }
            assert!(Instant::now() < deadline, "there is no leader: {modes:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Tells whether a new session can create a znode within a moment, at any server.
    fn writes(&self, path: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            for server in self.servers.iter().flatten() {
                let mut client = Client::connect(server.local_addr());
                client.send(&connect_request(None, 10_000));
                if client.connect_response().is_some() {
                    return client.create(path, b"", 0) == 0;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Waits until a server shows `path`, which another one has taken.
    fn sees(&self, id: usize, path: &str, data: &[u8]) {
        let (mut client, _) = Client::open(self.address(id), 10_000);
        let deadline = Instant::now() + PATIENCE;
        while client.get(path).as_deref() != Some(data) {
            assert!(Instant::now() < deadline, "server {id} does not have {path}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_refused(address: SocketAddr) -> bool {
    let mut client = Client::connect(address);
    client.send(&connect_request(None, 10_000));
    client.connect_response().is_none()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn three_servers_found_an_ensemble_when_all_are_there() {
    let mut ensemble = Ensemble::prepare(3);
    ensemble.start(1);
    ensemble.start(2);
    // They run, answer operators, and serve nobody.
    assert_eq!(ask(ensemble.address(1), b"isro"), "null");
    assert!(is_refused(ensemble.address(1)), "a client tries another server");
    assert!(is_empty(&ensemble.data(1).join("snapshot")), "two of three found nothing");
    ensemble.start(3);
    let leader = ensemble.leader();
    let (mut client, _) = Client::open(ensemble.address(leader), 10_000);
    assert_eq!(client.create("/a", b"by the leader", 0), 0);
    for id in 1..=3 {
        ensemble.sees(id, "/a", b"by the leader");
    }
    let follower = 1 + leader % 3;
    let (mut client, _) = Client::open(ensemble.address(follower), 10_000);
    assert_eq!(client.create("/b", b"by a follower", 0), 0);
    for id in 1..=3 {
        ensemble.sees(id, "/b", b"by a follower");
    }
    let conf = ask(ensemble.address(follower), b"conf");
    assert!(conf.contains(&format!("serverId={follower}\n")) && conf.contains("server.3=127.0.0.1:"), "{conf}");
    assert!(ask(ensemble.address(follower), b"mntr").contains("zk_server_state\tfollower\n"));
}

#[test]
fn the_others_go_on_when_one_stops_and_it_catches_up() {
    let mut ensemble = Ensemble::prepare(3);
    (1..=3).for_each(|id| ensemble.start(id));
    let leader = ensemble.leader();
    let (mut client, session) = Client::open(ensemble.address(leader), 30_000);
    assert_eq!(client.create("/a", b"1", 0), 0);
    ensemble.stop(leader);
    let next = ensemble.leader();
    assert_ne!(next, leader);
    let mut client = reconnect(ensemble.address(next), session);
    assert_eq!(client.get("/a").unwrap(), b"1", "what was acknowledged is there");
    assert_eq!(client.create("/b", b"2", 0), 0);
    ensemble.start(leader);
    ensemble.leader();
    ensemble.sees(leader, "/b", b"2");
    // All at once, and all again.
    (1..=3).for_each(|id| ensemble.stop(id));
    (1..=3).for_each(|id| ensemble.start(id));
    ensemble.leader();
    (1..=3).for_each(|id| ensemble.sees(id, "/b", b"2"));
}

fn reconnect(address: SocketAddr, session: Session) -> Client {
    let mut client = Client::connect(address);
    client.send(&connect_request(Some(session), 30_000));
    assert_eq!(client.connect_response().unwrap().session, session.id, "the session lives on");
    client
}

#[test]
fn a_server_that_lost_its_disk_is_added_again() {
    let mut ensemble = Ensemble::prepare(3);
    (1..=3).for_each(|id| ensemble.start(id));
    let leader = ensemble.leader();
    let (mut client, _) = Client::open(ensemble.address(leader), 30_000);
    assert_eq!(client.create("/a", b"1", 0), 0);
    // The one that would found.
    let lost = if leader == 1 { 2 } else { 1 };
    ensemble.stop(lost);
    std::fs::remove_dir_all(ensemble.data(lost)).unwrap();
    ensemble.start(lost);
    ensemble.leader();
    ensemble.sees(lost, "/a", b"1");
    // Once it votes the ensemble goes on without another one.
    let other = (1..=3).find(|id| *id != lost && *id != leader).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        ensemble.stop(other);
        if ensemble.writes("/b") {
            break;
        }
        assert!(Instant::now() < deadline, "server {lost} does not vote");
        ensemble.start(other);
        ensemble.leader();
    }
    ensemble.sees(lost, "/b", b"");
}

#[test]
fn servers_find_each_other_by_name_and_by_addresses_of_both_kinds() {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let has_v6 = TcpListener::bind((v6, 0)).is_ok();
    let second = if has_v6 { ("[::1]", v6) } else { ("127.0.0.1", v4) };
    let mut ensemble = Ensemble::prepare_at(&[("localhost", v4), second, ("127.0.0.1", v4)]);
    (1..=3).for_each(|id| ensemble.start(id));
    let leader = ensemble.leader();
    let (mut client, _) = Client::open(ensemble.address(leader), 10_000);
    assert_eq!(client.create("/a", b"by any name", 0), 0);
    (1..=3).for_each(|id| ensemble.sees(id, "/a", b"by any name"));
    let config = String::from_utf8(client.get("/zookeeper/config").unwrap()).unwrap();
    assert!(config.contains(&format!("server.2={}:", second.0)), "{config}");
}
