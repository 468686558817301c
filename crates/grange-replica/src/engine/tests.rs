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
