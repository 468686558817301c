//! Who is alive: the last sign of life of each session, and when it would expire.
//!
//! A sign of life only stores a time. A session stands in the bucket of the tick in which it would have expired when
//! it was put there; when that tick comes, it is either overdue or moves to a later bucket. So a sign of life costs
//! one store, and a tick costs what is due in it.
//!
//! Sessions age only while the member runs. When it was stopped (SIGSTOP, a debugger, a disk that hung), the signs of
//! life of its clients wait in the buffers of their sockets, and it must not judge before it has read them.

use std::collections::BTreeMap;

use grange_proto::SessionId;
use hashbrown::HashMap;

use crate::TICK_MS;

/// Milliseconds between two steps from which on the member counts as having stood still. Steps come at least every
/// [`TICK_MS`]; a busy machine delays some of them, which is no reason to move deadlines.
const STANDSTILL_MS_MIN: u64 = 5 * TICK_MS;

/// The sessions that this member watches over.
pub(crate) struct Sessions {
    tick_ms: u64,
    alive: HashMap<SessionId, Life, foldhash::fast::FixedState>,
    buckets: BTreeMap<u64, Vec<SessionId>>,
    /// How long a sign of life may be on its way here.
    delay_ms: u64,
    /// When the member was last seen to run.
    last_ms: Option<u64>,
    /// For how long it has stood still. Every other time in here is the clock's less this.
    stood_still_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    timeout_ms: u64,
    heard_ms: u64,
    bucket: u64,
}

impl Sessions {
    /// Starts without sessions; expiry comes in steps of `tick_ms`.
    pub(crate) fn new(tick_ms: u32, seed: u64) -> Sessions {
        let alive = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        let tick_ms = u64::from(tick_ms.max(1));
        Sessions { tick_ms, alive, buckets: BTreeMap::new(), delay_ms: 0, last_ms: None, stood_still_ms: 0 }
    }

    /// Says how long a sign of life may be on its way here; counts for sessions that are watched over from now on.
    pub(crate) fn set_delay(&mut self, delay_ms: u64) {
        self.delay_ms = delay_ms;
    }

    /// Takes note that the member runs; called once for each step, before anything else.
    ///
    /// Returns for how long it has stood still.
    pub(crate) fn runs(&mut self, now_ms: u64) -> u64 {
        let gap_ms = self.last_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
        if gap_ms >= STANDSTILL_MS_MIN {
            self.stood_still_ms += gap_ms - TICK_MS;
        }
        self.last_ms = Some(now_ms);
        if gap_ms >= STANDSTILL_MS_MIN { gap_ms } else { 0 }
    }

    fn age(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.stood_still_ms)
    }

    /// Starts to watch over a session, or gives it a new timeout; either way it was heard now.
    pub(crate) fn watch_over(&mut self, session: SessionId, timeout_ms: i32, now_ms: u64) {
        let now_ms = self.age(now_ms);
        let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0) + self.delay_ms;
        let bucket = self.bucket(now_ms + timeout_ms);
        let stands_in = self.alive.get(&session).map(|life| life.bucket);
        // One that stands in an earlier bucket is moved on when that one is due.
        let bucket = match stands_in {
            Some(earlier) if earlier <= bucket => earlier,
            _ => {
                self.buckets.entry(bucket).or_default().push(session);
                bucket
            }
        };
        self.alive.insert(session, Life { timeout_ms, heard_ms: now_ms, bucket });
    }

    /// Takes in a sign of life.
    #[inline]
    pub(crate) fn heard(&mut self, session: SessionId, now_ms: u64) {
        let now_ms = self.age(now_ms);
        if let Some(life) = self.alive.get_mut(&session) {
            life.heard_ms = now_ms;
        }
    }

    /// Forgets all sessions: another member watches over them.
    pub(crate) fn forget_all(&mut self) {
        self.alive.clear();
        self.buckets.clear();
    }

    /// Forgets a session.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.alive.remove(&session);
    }

    /// Returns in how many milliseconds a session expires if nothing comes.
    pub(crate) fn expires_in_ms(&self, session: SessionId, now_ms: u64) -> Option<u64> {
        let life = self.alive.get(&session)?;
        Some((life.heard_ms + life.timeout_ms).saturating_sub(self.age(now_ms)))
    }

    /// Takes out the sessions that are overdue, in the order in which they became so.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<SessionId> {
        let now_ms = self.age(now_ms);
        let mut expired = Vec::new();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > now_ms {
                break;
            }
            let due = *bucket.key();
            for session in bucket.remove() {
                self.settle(session, due, now_ms, &mut expired);
            }
        }
        expired
    }

    fn settle(&mut self, session: SessionId, due: u64, now_ms: u64, expired: &mut Vec<SessionId>) {
        let Some(life) = self.alive.get_mut(&session) else { return };
        if life.bucket != due {
            return;
        }
        let bucket = round_up(life.heard_ms + life.timeout_ms, self.tick_ms);
        if bucket <= now_ms {
            self.alive.remove(&session);
            expired.push(session);
        } else {
            life.bucket = bucket;
            self.buckets.entry(bucket).or_default().push(session);
        }
    }

    fn bucket(&self, at_ms: u64) -> u64 {
        round_up(at_ms, self.tick_ms)
    }
}

/// Returns the end of the tick that `at_ms` falls into. Source: `ExpiryQueue.roundToNextInterval`.
fn round_up(at_ms: u64, tick_ms: u64) -> u64 {
    (at_ms / tick_ms + 1) * tick_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    #[test]
    fn a_session_expires_between_its_timeout_and_a_tick_later() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.watch_over(A, 4000, 500);
        assert!(sessions.expire(4500).is_empty());
        assert!(sessions.expire(4999).is_empty());
        assert_eq!(sessions.expire(5000), [A]);
        assert!(sessions.expire(60_000).is_empty());
    }

    #[test]
    fn a_sign_of_life_gives_the_whole_timeout_again() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.watch_over(A, 4000, 0);
        sessions.watch_over(B, 4000, 0);
        sessions.heard(A, 4500);
        assert_eq!(sessions.expire(5000), [B]);
        assert!(sessions.expire(8999).is_empty());
        assert_eq!(sessions.expire(9000), [A]);
    }

    #[test]
    fn a_new_timeout_counts_whether_shorter_or_longer() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.watch_over(A, 10_000, 0);
        sessions.watch_over(A, 2000, 0);
        sessions.watch_over(B, 2000, 0);
        sessions.watch_over(B, 10_000, 0);
        assert_eq!(sessions.expire(3000), [A]);
        assert!(sessions.expire(10_999).is_empty());
        assert_eq!(sessions.expire(11_000), [B]);
    }

    #[test]
    fn a_sign_of_life_may_be_on_its_way() {
        let mut sessions = Sessions::new(100, 0);
        sessions.set_delay(200);
        sessions.watch_over(A, 4000, 0);
        assert!(sessions.expire(4199).is_empty());
        sessions.heard(A, 4150);
        assert!(sessions.expire(8300).is_empty());
        assert_eq!(sessions.expire(8400), [A]);
    }

    #[test]
    fn a_standstill_of_the_member_does_not_age_sessions() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.runs(0);
        sessions.watch_over(A, 4000, 0);
        sessions.watch_over(B, 4000, 0);
        sessions.runs(60_000);
        assert!(sessions.expire(60_000).is_empty(), "what A and B sent meanwhile is not read yet");
        sessions.heard(A, 61_100);
        for now_ms in (60_000..64_980).step_by(20) {
            sessions.runs(now_ms);
            assert!(sessions.expire(now_ms).is_empty(), "{now_ms}");
        }
        assert_eq!(sessions.expires_in_ms(B, 63_980), Some(0), "it has had its timeout");
        sessions.runs(64_980);
        assert_eq!(sessions.expire(64_980), [B]);
    }

    #[test]
    fn a_busy_machine_does_not_move_deadlines() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.watch_over(A, 4000, 0);
        for now_ms in (0..=5000).step_by(90) {
            sessions.runs(now_ms);
        }
        assert_eq!(sessions.expire(5000), [A]);
    }

    #[test]
    fn a_forgotten_session_never_expires() {
        let mut sessions = Sessions::new(1000, 0);
        sessions.watch_over(A, 2000, 0);
        sessions.forget(A);
        assert!(sessions.expire(60_000).is_empty());
        assert_eq!(sessions.expires_in_ms(A, 0), None);
    }
}
