//! The history replayed on the model, and everything that a client was told compared with it.
//!
//! The zxid of a reply says which state it speaks of. So one walk over the history is enough: at each zxid come the
//! replies and events that bear it, of each connection in the order in which they arrived.

use std::collections::BTreeMap;

use grange_proto::frame::LENGTH_BYTES;
use grange_proto::multi::MultiOp;
use grange_proto::response::{ReplyHeader, Response, TextBody, put_reply};
use grange_proto::watch::EventType;
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Xid, Zxid};
use grange_replica::{AppliedKind, AppliedRequest};

use super::Violation;
use super::history::{History, show};
use super::members::Knowledge;
use super::model::{Answer, Model, ModelChange};
use super::watch::{Expected, Watcher};
use crate::queue::Micros;

/// A request of a client.
#[derive(Debug, Clone)]
pub(crate) struct OpRecord {
    /// Whose it is.
    pub(crate) session: SessionId,
    /// Its number on its connection.
    pub(crate) xid: Xid,
    /// The operation.
    pub(crate) op: Op,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// When it was sent.
    pub(crate) sent: Micros,
    /// The zxid that its reply must reach, or, for a write, exceed.
    pub(crate) floor: Zxid,
    /// The answer, if it came.
    pub(crate) reply: Option<Reply>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// When it came.
    pub(crate) at: Micros,
    /// The zxid in its header.
    pub(crate) zxid: Zxid,
    /// The error in its header.
    pub(crate) err: i32,
    /// The whole payload, header included.
    pub(crate) payload: Vec<u8>,
}

/// Something that came in on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// When.
    pub(crate) at: Micros,
    /// The zxid in its header.
    pub(crate) zxid: Zxid,
    /// What.
    pub(crate) kind: FrameKind,
}

/// What came in.
#[derive(Debug, Clone)]
pub(crate) enum FrameKind {
    /// The answer to the request at this place in [`Observed::ops`].
    Reply(usize),
    /// A watch event.
    Event(EventType, String),
}

/// Everything that clients sent and saw.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Requests in the order in which they were sent.
    pub(crate) ops: Vec<OpRecord>,
    /// What came in on each connection.
    pub(crate) connections: Vec<Vec<Frame>>,
    /// Sessions that were refused, and when.
    pub(crate) refused: Vec<(SessionId, Micros)>,
    /// What there is to know for judging the members.
    pub(crate) knowledge: Knowledge,
}

/// Replays the history, and returns the model at its end.
///
/// Errors: the first violation of any checker here.
pub(crate) fn replay(history: &History, observed: &Observed) -> Result<Model, Violation> {
    session_order(history, observed)?;
    for &(session, at) in &observed.refused {
        if !history.is_closed(session, at) {
            let what = format!("session {session} was refused, but nobody had closed it");
            return Err(Violation::new("sessions live until they expire", at, what));
        }
    }
    let mut replay = Replay {
        observed,
        model: Model::new(observed.knowledge.clone()),
        changes: Vec::new(),
        connections: observed.connections.iter().map(|_| Progress::default()).collect(),
        acknowledged: acknowledged(observed),
        reconfigs: reconfigs(observed),
        scratch: Vec::new(),
    };
    let mut frames = frames_by_zxid(observed).into_iter().peekable();
    // What was read before the first write.
    let first = history.requests().first().map(|applied| applied.request.zxid);
    while let Some((_, conn)) = frames.next_if(|(zxid, _)| first.is_none_or(|first| *zxid < first)) {
        replay.frame(conn)?;
    }
    let mut requests = history.requests().iter().peekable();
    while let Some(applied) = requests.next() {
        replay.write(&applied.request, applied.at)?;
        let next = requests.peek().map(|next| next.request.zxid);
        if next == Some(applied.request.zxid) {
            // The next one takes no number of its own: replies that bear this one speak of the same znodes.
            continue;
        }
        while let Some((_, conn)) = frames.next_if(|(zxid, _)| next.is_none_or(|next| *zxid < next)) {
            replay.frame(conn)?;
        }
    }
    match replay.reconfigs.into_values().find(|place| is_applied(&observed.ops[*place])) {
        Some(place) => Err(Violation::new("reconfigs are answered when they end", observed.ops[place].sent, {
            format!("{} was answered, and has not ended", describe_body(&observed.ops[place]))
        })),
        None => Ok(replay.model),
    }
}

/// Each write in the history is one that its session sent, in the order sent, at most once; an acknowledged one is
/// there with the zxid of its reply.
///
/// Errors: `no lost acknowledged write`, `session order`.
fn session_order(history: &History, observed: &Observed) -> Result<(), Violation> {
    let mut sent: BTreeMap<SessionId, Vec<&OpRecord>> = BTreeMap::new();
    for op in observed.ops.iter().filter(|op| is_write(op.op)) {
        sent.entry(op.session).or_default().push(op);
    }
    let mut next: BTreeMap<SessionId, usize> = BTreeMap::new();
    let mut serving = Serving::default();
    for applied in history.requests() {
        let request = &applied.request;
        // What comes by way of another member than the session's, or after the session's end, changes nothing.
        let Some(op) = serving.counts(request) else { continue };
        let next = next.entry(request.session).or_default();
        let own = sent.get(&request.session).map_or(&[][..], Vec::as_slice);
        let bears = |sent: &OpRecord| sent.reply.as_ref().is_none_or(|r| r.zxid == request.zxid);
        // A reconfig is answered later than it is applied; but no two are alike.
        let is_it =
            |sent: &&OpRecord| sent.op == op && sent.body == request.body && (op == Op::Reconfig || bears(sent));
        // An acknowledged one stands where its reply says. Of others, the earliest that fits.
        let place = own[*next..].iter().position(|sent| match op {
            Op::Reconfig => is_it(sent),
            _ => sent.op != Op::Reconfig && is_applied(sent) && bears(sent),
        });
        let place = match place {
            Some(place) => is_it(&own[*next + place]).then_some(place),
            None => own[*next..].iter().take_while(|op| !is_applied(op)).position(is_it),
        };
        match place {
            Some(place) => {
                if let Some(skipped) = own[*next..*next + place].iter().find(|op| is_applied(op)) {
                    return Err(lost(skipped));
                }
                *next += place + 1;
            }
            None => {
                let what = format!("{} was not sent, or was applied twice or out of order", show(request));
                return Err(Violation::new("session order", applied.at, what));
            }
        }
    }
    for (session, own) in &sent {
        let next = next.get(session).copied().unwrap_or(0);
        if let Some(op) = own[next..].iter().find(|op| is_applied(op)) {
            return Err(lost(op));
        }
    }
    Ok(())
}

/// Which member serves each open session.
#[derive(Default)]
struct Serving(BTreeMap<SessionId, u64>);

impl Serving {
    /// Follows the history; returns the operation if it is one of a client that its session may ask for.
    fn counts(&mut self, request: &AppliedRequest) -> Option<Op> {
        let (session, member) = (request.session, request.member);
        match request.kind {
            AppliedKind::Request(Op::CreateSession) => drop(self.0.insert(session, member)),
            AppliedKind::Return => drop(self.0.entry(session).and_modify(|serves| *serves = member)),
            AppliedKind::End => drop(self.0.remove(&session)),
            AppliedKind::Request(op) if self.0.get(&session) == Some(&member) => {
                if op == Op::CloseSession {
                    self.0.remove(&session);
                }
                return Some(op);
            }
            AppliedKind::Request(_) | AppliedKind::Config | AppliedKind::ConfigToCome => {}
            AppliedKind::ReconfigDone | AppliedKind::ReconfigGivenUp => {}
        }
        None
    }
}

fn lost(op: &OpRecord) -> Violation {
    let zxid = op.reply.as_ref().map_or(Zxid::ZERO, |reply| reply.zxid);
    let at = op.reply.as_ref().map_or(op.sent, |reply| reply.at);
    let what =
        format!("{} of session {} was answered with zxid {zxid}, and was not applied there", op.op.name(), op.session);
    Violation::new("no lost acknowledged write", at, what)
}

fn is_write(op: Op) -> bool {
    op.class() == grange_proto::op::Class::Write
}

/// A write that was answered was applied, unless it was refused before it got into the log, or came too late.
fn is_applied(op: &OpRecord) -> bool {
    let refusals = [ErrorCode::SystemError.code(), ErrorCode::SessionExpired.code()];
    op.reply.as_ref().is_some_and(|reply| !refusals.contains(&reply.err))
}

/// The acknowledged writes by zxid.
fn acknowledged(observed: &Observed) -> BTreeMap<Zxid, usize> {
    let is_so = |op: &OpRecord| is_write(op.op) && op.op != Op::Reconfig && is_applied(op);
    let acknowledged = observed.ops.iter().enumerate().filter(|(_, op)| is_so(op));
    acknowledged.filter_map(|(place, op)| Some((op.reply.as_ref()?.zxid, place))).collect()
}

/// The reconfigs by session and body.
fn reconfigs(observed: &Observed) -> BTreeMap<(SessionId, Vec<u8>), usize> {
    let asked = observed.ops.iter().enumerate().filter(|(_, op)| op.op == Op::Reconfig);
    asked.map(|(place, op)| ((op.session, op.body.clone()), place)).collect()
}

/// The connections that have a frame to look at, in the order of the zxid that the frame speaks of.
fn frames_by_zxid(observed: &Observed) -> Vec<(Zxid, usize)> {
    let mut frames = Vec::new();
    for (conn, of_conn) in observed.connections.iter().enumerate() {
        let mut after = Zxid(i64::MAX);
        let start = frames.len();
        for frame in of_conn {
            frames.push((frame.zxid, conn));
        }
        // What a client missed has no zxid: it belongs to the reply behind it, which looks at the state.
        for place in (start..frames.len()).rev() {
            match frames[place].0 {
                Zxid(-1) => frames[place].0 = after,
                zxid => after = zxid,
            }
        }
    }
    frames.sort_by_key(|(zxid, _)| *zxid);
    frames
}

#[derive(Debug, Default)]
struct Progress {
    next: usize,
    watcher: Watcher,
    /// Events without a zxid that came since the last reply.
    missed: Vec<Expected>,
    last: Zxid,
}

struct Replay<'o> {
    observed: &'o Observed,
    model: Model,
    changes: Vec<(Zxid, ModelChange)>,
    connections: Vec<Progress>,
    acknowledged: BTreeMap<Zxid, usize>,
    /// Those that were not judged yet.
    reconfigs: BTreeMap<(SessionId, Vec<u8>), usize>,
    scratch: Vec<u8>,
}

impl Replay<'_> {
    /// Applies the next write of the history and compares the reply to it.
    fn write(&mut self, applied: &AppliedRequest, at: Micros) -> Result<(), Violation> {
        let AppliedRequest { kind, zxid, time_ms, member, session, body, .. } = applied;
        let op = match kind {
            AppliedKind::Request(op) => op,
            AppliedKind::Return => {
                self.model.come_back(*session, *member);
                return Ok(());
            }
            AppliedKind::End => {
                self.model.begin(*zxid, *time_ms);
                self.model.end(*session);
                self.note_changes(*zxid);
                return Ok(());
            }
            _ => {
                return match self.members(applied) {
                    Ok(answered) => answered,
                    Err(why) => {
                        let what = format!("{}, {:?}: {why}", show(applied), String::from_utf8_lossy(body));
                        Err(Violation::new("the members are those that were asked for", at, what))
                    }
                };
            }
        };
        let Ok(request) = Request::decode(*op, &mut Reader::new(body)) else {
            return Err(Violation::new("writes are linearizable", at, format!("{} cannot be decoded", show(applied))));
        };
        self.model.begin(*zxid, *time_ms);
        let outcome = self.model.apply(*session, *member, &request, body);
        self.note_changes(*zxid);
        if *op == Op::Reconfig {
            return match outcome {
                Ok(_) => Ok(()),
                Err(error) => self.reconfig_ends((*session, body.clone()), *zxid, Err(error)),
            };
        }
        let Some(&place) = self.acknowledged.get(zxid) else { return Ok(()) };
        let record = &self.observed.ops[place];
        let ops: Vec<MultiOp<'_>> = if let Request::Multi(ops) = &request { ops.iter().collect() } else { Vec::new() };
        let response = match &outcome {
            Ok(Answer::Multi(answers)) => Ok(Answer::multi_response(answers, &ops)),
            Ok(answer) => Ok(answer.response(*op)),
            Err(error) => Err(*error),
        };
        self.scratch.clear();
        put_reply(&mut self.scratch, record.xid, *zxid, response.as_ref().map_err(|error| *error));
        compare(record, &self.scratch, "writes are linearizable")
    }

    /// Takes in what becomes of the members; returns what is to be said of the answer that somebody got for it.
    ///
    /// Errors: what is wrong with the members.
    fn members(&mut self, applied: &AppliedRequest) -> Result<Result<(), Violation>, String> {
        let AppliedRequest { kind, zxid, time_ms, body, .. } = applied;
        let text = String::from_utf8_lossy(body);
        let (asked, result) = match kind {
            AppliedKind::ConfigToCome => return self.model.members.come(&text).map(Ok),
            AppliedKind::ReconfigDone => (self.model.members.done()?, Ok(())),
            AppliedKind::ReconfigGivenUp => (self.model.members.given_up()?, Err(ErrorCode::NewConfigNoQuorum)),
            _ => {
                self.model.members.show(&text, *zxid)?;
                self.model.begin(*zxid, *time_ms);
                self.model.configure(body);
                self.note_changes(*zxid);
                return Ok(Ok(()));
            }
        };
        Ok(self.reconfig_ends(asked, *zxid, result))
    }

    /// Whoever asked for a reconfig is told of its end, with the newest transaction then.
    fn reconfig_ends(
        &mut self,
        asked: (SessionId, Vec<u8>),
        zxid: Zxid,
        result: Result<(), ErrorCode>,
    ) -> Result<(), Violation> {
        let Some(place) = self.reconfigs.remove(&asked) else { return Ok(()) };
        let record = &self.observed.ops[place];
        let response = self.model.config();
        self.scratch.clear();
        put_reply(&mut self.scratch, record.xid, zxid, result.map(|()| &response));
        match record.reply.as_ref().is_some_and(|reply| reply.err == ErrorCode::SystemError.code()) {
            true => Ok(()),
            false => compare(record, &self.scratch, "reconfigs are answered when they end"),
        }
    }

    fn note_changes(&mut self, zxid: Zxid) {
        self.changes.extend(self.model.changes().iter().map(|change| (zxid, change.clone())));
    }

    /// Looks at the next frame of a connection.
    fn frame(&mut self, conn: usize) -> Result<(), Violation> {
        let observed = self.observed;
        let progress = &mut self.connections[conn];
        let frame = &observed.connections[conn][progress.next];
        progress.next += 1;
        match &frame.kind {
            FrameKind::Event(event, path) => {
                let seen = Expected { zxid: frame.zxid, event: *event, path: path.clone() };
                if frame.zxid == Zxid(-1) {
                    progress.missed.push(seen);
                    return Ok(());
                }
                progress.last = progress.last.max(frame.zxid);
                let until = self.changes.partition_point(|(zxid, _)| *zxid <= frame.zxid);
                progress.watcher.catch_up(&self.changes[..until]);
                let due = progress.watcher.next_due();
                if due.as_ref() != Some(&seen) {
                    let what = format!("connection {conn} was told {seen:?} where {due:?} was due");
                    return Err(Violation::new("watch events", frame.at, what));
                }
                Ok(())
            }
            FrameKind::Reply(place) => self.reply(conn, frame, &observed.ops[*place]),
        }
    }

    fn reply(&mut self, conn: usize, frame: &Frame, record: &OpRecord) -> Result<(), Violation> {
        let progress = &mut self.connections[conn];
        progress.last = frame.zxid;
        progress.watcher.catch_up(&self.changes);
        if let Some(due) = progress.watcher.next_due() {
            let what = format!("connection {conn} saw a reply with {} before {due:?}", frame.zxid);
            return Err(Violation::new("watch events come first", frame.at, what));
        }
        let Some(reply) = &record.reply else { return Ok(()) };
        let Ok(request) = Request::decode(record.op, &mut Reader::new(&record.body)) else { return Ok(()) };
        let missed = std::mem::take(&mut progress.missed);
        let expected = match &request {
            Request::SetWatches(watches) | Request::SetWatches2(watches) => {
                progress.watcher.set_watches(watches, &self.model)
            }
            _ => Vec::new(),
        };
        if missed != expected {
            let what = format!("connection {conn} was told of {missed:?} where it had missed {expected:?}");
            return Err(Violation::new("watch events", frame.at, what));
        }
        progress.watcher.answered(&request, reply.err);
        if is_write(record.op) {
            return Ok(());
        }
        let Some(expected) = self.model.read(record.session, &request) else { return Ok(()) };
        self.scratch.clear();
        put_reply(&mut self.scratch, record.xid, reply.zxid, expected.as_ref().map_err(|error| *error));
        compare(record, &self.scratch, "reads show one state")
    }
}

/// Compares a reply with the frame that it should have been.
fn compare(record: &OpRecord, expected: &[u8], checker: &'static str) -> Result<(), Violation> {
    let Some(reply) = &record.reply else { return Ok(()) };
    let expected = &expected[LENGTH_BYTES..];
    if reply.payload == expected || sorted(record.op, &reply.payload) == sorted(record.op, expected) {
        return Ok(());
    }
    let what = format!(
        "{} {} of session {} at {}: {} where the model says {}",
        record.op.name(),
        describe_body(record),
        record.session,
        reply.zxid,
        describe(record.op, &reply.payload),
        describe(record.op, expected)
    );
    Err(Violation::new(checker, reply.at, what))
}

/// Lists of names come in no particular order.
fn sorted(op: Op, payload: &[u8]) -> String {
    if matches!(op, Op::GetChildren | Op::GetChildren2 | Op::GetEphemerals) {
        describe(op, payload)
    } else {
        hex(payload)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe_body(record: &OpRecord) -> String {
    match Request::decode(record.op, &mut Reader::new(&record.body)) {
        Ok(Request::Multi(ops)) => format!("{:?}", ops.iter().collect::<Vec<_>>()),
        Ok(request) => format!("{request:?}"),
        Err(error) => error.to_string(),
    }
}

fn describe(op: Op, payload: &[u8]) -> String {
    let mut reader = Reader::new(payload);
    let Ok(header) = ReplyHeader::decode(&mut reader) else { return hex(payload) };
    if header.err != 0 {
        return format!("{header:?}");
    }
    match Response::decode(op, &mut reader) {
        Ok(Response::Texts(texts)) => format!("{header:?} {:?}", names(&texts)),
        Ok(Response::TextsStat(texts, stat)) => format!("{header:?} {:?} {stat:?}", names(&texts)),
        Ok(response) => format!("{header:?} {response:?}"),
        Err(error) => format!("{header:?} {error}"),
    }
}

fn names<'a>(texts: &TextBody<'a>) -> Vec<&'a str> {
    let mut names = texts.to_vec();
    names.sort_unstable();
    names
}
