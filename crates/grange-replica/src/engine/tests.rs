use super::*;

fn alone(entries: Vec<LogEntry>, hard_state: HardState) -> Engine {
    let conf = Conf { voters: vec![1], ..Conf::default() };
    let start = Start { id: MemberId(1), conf, snapshot: (0, 0), hard_state, entries, seed: 1 };
    Engine::start(start).unwrap()
}

fn data(out: &mut Output) -> Vec<Bytes> {
    let entries = out.committed.drain(..).map(Committed::into_inner);
    entries.filter(|entry| purpose(entry) == EntryPurpose::Requests).map(|entry| entry.data).collect()
}

#[test]
fn an_entry_is_committed_only_after_its_batch_is_durable() {
    let mut engine = alone(Vec::new(), HardState::default());
    let mut out = Output::default();
    engine.poll(&mut out);
    let vote = out.batches.pop().unwrap();
    assert!(vote.must_sync && vote.hard_state.is_some_and(|hard_state| hard_state.vote == 1));
    engine.synced(vote.number);
    engine.poll(&mut out);
    assert!(engine.is_leader());
    engine.propose(Bytes::from_static(b"one"));
    engine.poll(&mut out);
    assert!(data(&mut out).is_empty(), "nothing is durable yet");
    let last = out.batches.last().unwrap().number;
    engine.synced(last);
    engine.poll(&mut out);
    assert_eq!(data(&mut out), [Bytes::from_static(b"one")]);
}

/// Makes everything durable and returns what is applied by that.
fn settle(engine: &mut Engine) -> Vec<LogEntry> {
    let mut applied = Vec::new();
    loop {
        let mut out = Output::default();
        engine.poll(&mut out);
        applied.extend(out.committed.drain(..).map(Committed::into_inner));
        match out.batches.last() {
            Some(batch) => engine.synced(batch.number),
            None => return applied,
        }
    }
}

#[test]
fn a_change_of_the_members_is_applied_only_when_it_is_durable_that_it_was_committed() {
    let mut engine = alone(Vec::new(), HardState::default());
    settle(&mut engine);
    engine.propose_members(&MembersChange { steps: vec![Step::Learn(MemberId(2))], ..MembersChange::default() });
    engine.propose(Bytes::from_static(b"behind"));
    let mut out = Output::default();
    engine.poll(&mut out);
    let entries = out.batches.pop().unwrap();
    let change = entries.entries[0].index;
    engine.synced(entries.number);
    let mut out = Output::default();
    engine.poll(&mut out);
    assert!(out.committed.is_empty());
    let commit = out.batches.pop().unwrap();
    assert!(commit.must_sync && commit.hard_state.unwrap().commit >= change);
    engine.synced(commit.number);
    let applied = settle(&mut engine);
    assert_eq!(applied.iter().map(|entry| entry.index).collect::<Vec<_>>(), [change, change + 1]);
}

#[test]
fn a_member_applies_the_changes_of_the_members_it_has_before_it_asks_for_votes() {
    let change = MembersChange { steps: vec![Step::Vote(MemberId(2)), Step::Vote(MemberId(3))], ..Default::default() };
    let data = Bytes::from(change.encode());
    let entry = LogEntry { index: 1, term: 1, tag: wire::TAG_MEMBERS, data };
    let mut engine = alone(vec![entry], HardState { term: 1, vote: 1, commit: 1 });
    assert!(!engine.is_leader());
    assert_eq!(settle(&mut engine).len(), 1);
    engine.apply_members(&change);
    engine.applied(1);
    for _ in 0..10 * ELECTION_TICKS {
        engine.tick();
        settle(&mut engine);
    }
    assert!(!engine.is_leader(), "it needs another one's vote");
}

#[test]
fn entries_from_before_a_stop_are_committed_again() {
    let entry = LogEntry { index: 1, term: 1, tag: 0, data: Bytes::from_static(b"old") };
    let mut engine = alone(vec![entry], HardState { term: 1, vote: 1, commit: 0 });
    let mut out = Output::default();
    for _ in 0..3 {
        engine.poll(&mut out);
        if let Some(last) = out.batches.last() {
            engine.synced(last.number);
        }
    }
    assert_eq!(data(&mut out), [Bytes::from_static(b"old")]);
    assert_eq!(engine.term(), 2);
}

/// A member of three that follows 1, and what a leader of `term` sends it.
fn follower() -> Engine {
    let conf = Conf { voters: vec![1, 2, 3], ..Conf::default() };
    let hard_state = HardState { term: 1, ..HardState::default() };
    let start = Start { id: MemberId(2), conf, snapshot: (0, 0), hard_state, entries: Vec::new(), seed: 1 };
    Engine::start(start).unwrap()
}

fn from_leader(kind: MessageType, term: u64, entries: Vec<Entry>) -> Bytes {
    let mut message = Message { from: 1, to: 2, term, ..Message::default() };
    message.set_msg_type(kind);
    message.entries = entries.into();
    let mut bytes = Vec::new();
    assert!(wire::encode(&message, &mut bytes));
    bytes.into()
}

/// Takes what goes out now.
fn kinds(engine: &mut Engine, out: &mut Output) -> Vec<MessageType> {
    engine.poll(out);
    let decoded = out.messages.drain(..).map(|(_, bytes)| wire::decode(&Bytes::from(bytes).slice(1..)).unwrap());
    decoded.map(|message| message.get_msg_type()).collect()
}

#[test]
fn a_leader_hears_of_a_follower_while_that_waits_for_its_disk() {
    let (mut engine, mut out) = (follower(), Output::default());
    let entry = Entry { index: 1, term: 1, data: Bytes::from_static(b"one"), ..Entry::default() };
    engine.step(MemberId(1), &from_leader(MessageType::MsgAppend, 1, vec![entry])).unwrap();
    assert_eq!(kinds(&mut engine, &mut out), [], "nothing is promised before it is durable");
    engine.step(MemberId(1), &from_leader(MessageType::MsgHeartbeat, 1, Vec::new())).unwrap();
    assert_eq!(kinds(&mut engine, &mut out), [MessageType::MsgHeartbeatResponse]);
    engine.synced(out.batches.last().unwrap().number);
    assert_eq!(kinds(&mut engine, &mut out), [MessageType::MsgAppendResponse]);
}

#[test]
fn a_follower_answers_for_a_term_only_once_it_is_durable() {
    let (mut engine, mut out) = (follower(), Output::default());
    engine.step(MemberId(1), &from_leader(MessageType::MsgHeartbeat, 2, Vec::new())).unwrap();
    assert_eq!(kinds(&mut engine, &mut out), []);
    engine.step(MemberId(1), &from_leader(MessageType::MsgHeartbeat, 2, Vec::new())).unwrap();
    assert_eq!(kinds(&mut engine, &mut out), []);
    engine.synced(out.batches.last().unwrap().number);
    assert_eq!(kinds(&mut engine, &mut out), [MessageType::MsgHeartbeatResponse; 2]);
}

#[test]
fn a_leader_that_votes_no_more_when_the_members_have_changed_hands_leadership_over() {
    // As if the leader before it had begun the change that it ends: from 1 alone to 2 alone.
    let conf = Conf { voters: vec![2], outgoing: vec![1], ..Conf::default() };
    let hard_state = HardState { term: 1, ..HardState::default() };
    let start = Start { id: MemberId(1), conf, snapshot: (0, 0), hard_state, entries: Vec::new(), seed: 1 };
    let mut engine = Engine::start(start).unwrap();
    let answer = |engine: &mut Engine, kind, term, index| {
        let mut message = Message { from: 2, to: 1, term, index, ..Message::default() };
        message.set_msg_type(kind);
        let mut bytes = Vec::new();
        assert!(wire::encode(&message, &mut bytes));
        engine.step(MemberId(2), &bytes.into()).unwrap();
        settle(engine)
    };
    while engine.campaigns == 0 {
        engine.tick();
    }
    settle(&mut engine);
    answer(&mut engine, MessageType::MsgRequestPreVoteResponse, 2, 0);
    answer(&mut engine, MessageType::MsgRequestVoteResponse, 2, 0);
    assert!(engine.is_leader());
    answer(&mut engine, MessageType::MsgAppendResponse, 2, 1);
    let change = MembersChange::default();
    engine.propose_members(&change);
    settle(&mut engine);
    let applied = answer(&mut engine, MessageType::MsgAppendResponse, 2, 2);
    assert_eq!(applied.last().map(|entry| entry.index), Some(2));
    assert_eq!(engine.apply_members(&change).voters, [2]);
    engine.applied(2);
    let mut out = Output::default();
    assert!(kinds(&mut engine, &mut out).contains(&MessageType::MsgTimeoutNow));
    assert!(!engine.is_leader());
    answer(&mut engine, MessageType::MsgAppendResponse, 2, 2);
}
