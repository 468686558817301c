//! Repeated complaints become one line now and then.

use std::time::{Duration, Instant};

/// How long the same complaint is not repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// Complaints that are told apart; beyond it they count as the same.
const REASONS_MAX: usize = 64;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    said: Vec<(String, Instant)>,
}

impl Quiet {
    /// Tells whether a complaint is to be logged: it is new, or old enough to be repeated.
    pub(super) fn may_say(&mut self, reason: &str) -> bool {
        let now = Instant::now();
        self.said.retain(|(_, at)| now - *at < REPEAT_AFTER);
        let is_new = self.said.len() < REASONS_MAX && !self.said.iter().any(|(said, _)| said == reason);
        if is_new {
            self.said.push((reason.to_owned(), now));
        }
        is_new
    }

    /// Forgets everything: what is said now is news again.
    pub(super) fn forget(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_logged_once() {
        let mut quiet = Quiet::default();
        assert!(quiet.may_say("refused"));
        assert!(!quiet.may_say("refused"));
        assert!(quiet.may_say("no route"));
        quiet.forget();
        assert!(quiet.may_say("refused"));
        for number in 0..1000 {
            quiet.may_say(&number.to_string());
        }
        assert_eq!(quiet.said.len(), REASONS_MAX);
    }
}
