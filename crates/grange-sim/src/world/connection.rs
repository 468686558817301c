//! Connections of clients: two streams of bytes that arrive later, and an end that each side learns of in its own time.

use std::collections::VecDeque;

use bytes::Bytes;
use grange_proto::connect::{ConnectRequest, ConnectResponse};
use grange_proto::frame::split_frame;
use grange_proto::{SessionId, Zxid};
use grange_replica::{ConnId, ConnectAttempt, Event};

use super::{ClientIndex, ConnIndex, Run, ServerIndex, Task, World};
use crate::queue::{MS, Micros};

/// Where clients are, as far as servers know.
const CLIENT_ADDRESS: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);

/// How often it is tried again to hand something to a process that stands still.
const RETRY: Micros = 20 * MS;

/// Something under way: bytes, or the end.
pub(crate) type Piece = Option<Vec<u8>>;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientIndex,
    pub(crate) server: ServerIndex,
    /// The process that has accepted it.
    run: Option<Run>,
    /// The session that the server has given it.
    pub(crate) session: Option<SessionId>,
    to_server: VecDeque<Piece>,
    to_client: VecDeque<Piece>,
    arrives: [Micros; 2],
    /// Whether the client still has it.
    pub(crate) is_open: bool,
}

impl World {
    /// Opens a connection and sends the first frame on it.
    pub(crate) fn open_connection(&mut self, client: ClientIndex, server: ServerIndex, first: Vec<u8>) -> ConnIndex {
        let conn = self.connections.len();
        self.connections.push(Connection {
            client,
            server,
            run: None,
            session: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            arrives: [self.now; 2],
            is_open: true,
        });
        self.observed.connections.push(Vec::new());
        self.send_to_server(conn, Some(first));
        conn
    }

    pub(crate) fn send_to_server(&mut self, conn: ConnIndex, piece: Piece) {
        let delay = self.random.around(self.setup.latency);
        let connection = &mut self.connections[conn];
        connection.to_server.push_back(piece);
        connection.arrives[0] = connection.arrives[0].max(self.now + delay);
        self.queue.push(connection.arrives[0], Task::ToServer(conn));
    }

    pub(crate) fn send_to_client(&mut self, conn: ConnIndex, piece: Piece) {
        let delay = self.random.around(self.setup.latency);
        self.note_welcome(conn, piece.as_deref());
        let connection = &mut self.connections[conn];
        connection.to_client.push_back(piece);
        connection.arrives[1] = connection.arrives[1].max(self.now + delay);
        self.queue.push(connection.arrives[1], Task::ToClient(conn));
    }

    /// The first frame to a client says which session it has: from here on its frames are signs of life of that one.
    fn note_welcome(&mut self, conn: ConnIndex, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes.filter(|_| self.connections[conn].session.is_none()) else { return };
        if let Ok(Some((payload, _))) = split_frame(bytes, usize::MAX)
            && let Ok(response) = ConnectResponse::decode(payload)
            && response.timeout_ms > 0
        {
            self.connections[conn].session = Some(response.session);
            self.note_life(response.session);
        }
    }

    pub(crate) fn arrives_at_server(&mut self, conn: ConnIndex) {
        let server = self.connections[conn].server;
        if let Some(until) = self.servers[server].paused_until {
            // The process may be gone before it goes on: what waits for it must not wait any longer then.
            return self.queue.push(until.min(self.now + RETRY), Task::ToServer(conn));
        }
        let Some(piece) = self.connections[conn].to_server.pop_front() else { return };
        let now = self.servers[server].clock.now(self.now);
        let connection = &mut self.connections[conn];
        let id = ConnId(conn as u64);
        let Some(process) = &mut self.servers[server].process else {
            if connection.run.is_none() {
                self.send_to_client(conn, None);
            }
            return;
        };
        let event = match (connection.run, piece) {
            (None, Some(bytes)) => {
                connection.run = Some(process.run);
                process.conns.insert(id, conn);
                Event::Connect(attempt(id, &bytes))
            }
            (Some(run), Some(bytes)) if run == process.run && process.conns.contains_key(&id) => {
                Event::Frames { conn: id, frames: Bytes::from(bytes), received_us: now.monotonic_us }
            }
            (Some(run), None) if run == process.run && process.conns.remove(&id).is_some() => Event::Disconnected(id),
            _ => return,
        };
        self.post(server, event);
    }

    pub(crate) fn arrives_at_client(&mut self, conn: ConnIndex) {
        let client = self.connections[conn].client;
        if let Some(until) = self.clients[client].paused_until.filter(|until| *until > self.now) {
            return self.queue.push(until, Task::ToClient(conn));
        }
        let Some(piece) = self.connections[conn].to_client.pop_front() else { return };
        if self.connections[conn].is_open {
            match piece {
                Some(bytes) => self.client_reads(client, conn, &bytes),
                None => self.client_loses(client, conn),
            }
        }
    }

    /// The process that had a connection is gone; its client learns of it unless the machine is gone too.
    pub(crate) fn server_gone(&mut self, conn: ConnIndex, is_silent: bool) {
        if !is_silent {
            self.send_to_client(conn, None);
        }
    }

    /// Breaks a connection: what is under way is lost, and both ends notice.
    pub(crate) fn break_connection(&mut self, conn: ConnIndex) {
        let connection = &mut self.connections[conn];
        connection.to_server.clear();
        connection.to_client.clear();
        self.send_to_server(conn, None);
        self.send_to_client(conn, None);
    }
}

fn attempt(conn: ConnId, bytes: &[u8]) -> ConnectAttempt {
    let (payload, _) = split_frame(bytes, usize::MAX).ok().flatten().expect("clients send whole frames");
    let request = ConnectRequest::decode(payload).expect("clients send what the codec has encoded");
    ConnectAttempt {
        conn,
        peer: CLIENT_ADDRESS.into(),
        last_zxid_seen: Zxid(request.last_zxid_seen.0),
        timeout_ms: request.timeout_ms,
        session: request.session,
        password: request.password.unwrap_or_default().to_vec(),
        read_only: request.read_only,
    }
}
