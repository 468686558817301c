//! Four-letter words: questions of operators and their tools, asked on a fresh connection instead of a handshake.
//!
//! The text of every answer is that of Apache ZooKeeper 3.8, because exporters and scripts parse it. A word is
//! answered in steps: what the replica knows is asked from it by [`Inspect`], one report after the other.

mod process;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

use grange_replica::{ConnectionReport, Inspect, Mode, Report, SessionReport, Summary};

pub(crate) use process::ServerFacts;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A four-letter word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Word { $($(#[$doc])* $name,)* }

        impl Word {
            /// Every word.
            pub const ALL: &'static [Word] = &[$(Word::$name,)*];

            /// Returns the four letters.
            pub const fn text(self) -> &'static str {
                match self { $(Word::$name => $text,)* }
            }
        }
    };
}

words! {
    /// The settings.
    Conf = "conf",
    /// Every connection with its figures.
    Cons = "cons",
    /// Starts counting the connections' figures anew.
    Crst = "crst",
    /// Bytes on the disk.
    Dirs = "dirs",
    /// Sessions and their ephemeral znodes.
    Dump = "dump",
    /// The environment of the process.
    Envi = "envi",
    /// The trace mask, which has no effect here.
    Gtmk = "gtmk",
    /// Sets the trace mask; eight more bytes follow.
    Stmk = "stmk",
    /// Whether the process is there.
    Ruok = "ruok",
    /// Starts counting the server's figures anew.
    Srst = "srst",
    /// The server's figures.
    Srvr = "srvr",
    /// The server's figures and every connection.
    Stat = "stat",
    /// Watches by session.
    Wchc = "wchc",
    /// Watches by path.
    Wchp = "wchp",
    /// Watches in numbers.
    Wchs = "wchs",
    /// Figures for monitoring.
    Mntr = "mntr",
    /// Whether the server only serves reads.
    Isro = "isro",
    /// The digest of the tree.
    Hash = "hash",
}

impl Word {
    /// Finds the word that the first four bytes of a connection are, `None` if they are the length of a frame.
    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Option<Word> {
        Word::ALL.iter().copied().find(|word| word.text().as_bytes() == bytes)
    }

    /// Returns how many bytes of argument follow the word.
    pub(crate) fn argument_bytes(self) -> usize {
        if self == Word::Stmk { 8 } else { 0 }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// The words that are answered; others get a line that says so. `srvr` always is, and by default nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whitelist(u32);

impl Default for Whitelist {
    fn default() -> Whitelist {
        Whitelist(Word::Srvr.bit())
    }
}

impl Whitelist {
    /// Reads words between commas; `*` is all of them. What is no word is left out, as in Apache's server.
    pub fn parse(text: &str) -> Whitelist {
        let mut bits = Word::Srvr.bit();
        for name in text.split(',').map(str::trim) {
            match Word::ALL.iter().find(|word| word.text() == name) {
                _ if name == "*" => bits = u32::MAX,
                Some(word) => bits |= word.bit(),
                None => {}
            }
        }
        Whitelist(bits)
    }

    /// Adds a word.
    #[must_use]
    pub fn with(self, word: Word) -> Whitelist {
        Whitelist(self.0 | word.bit())
    }

    /// Tells whether `word` is answered.
    pub fn allows(self, word: Word) -> bool {
        self.0 & word.bit() != 0
    }
}

/// What is to be done next for an answer.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask the replica, and come back with its report.
    Ask(Inspect),
    /// Send this and close.
    Answer(String),
}

/// A word that is being answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    word: Word,
    peer: SocketAddr,
    facts: Arc<ServerFacts>,
    summary: Option<Summary>,
    sessions: Vec<SessionReport>,
}

impl Exchange {
    /// Starts to answer `word`, which came from `peer`; `argument` is what followed it.
    pub(crate) fn begin(word: Word, argument: &[u8], peer: SocketAddr, facts: &Arc<ServerFacts>) -> (Exchange, Step) {
        let exchange = Exchange { word, peer, facts: Arc::clone(facts), summary: None, sessions: Vec::new() };
        let step = if facts.whitelist.allows(word) {
            match word {
                Word::Ruok => Step::Answer("imok".to_owned()),
                Word::Conf => Step::Answer(text::conf(facts)),
                Word::Dirs => Step::Answer(text::dirs(facts)),
                Word::Envi => Step::Answer(text::envi()),
                Word::Gtmk => Step::Answer(text::TRACE_MASK.to_string()),
                Word::Stmk => Step::Answer(text::trace_mask(argument)),
                _ => Step::Ask(Inspect::Summary),
            }
        } else {
            Step::Answer(format!("{} is not executed because it is not in the whitelist.\n", word.text()))
        };
        (exchange, step)
    }

    /// Goes on with the report that the last step asked for.
    pub(crate) fn advance(&mut self, report: Report) -> Step {
        match report {
            Report::Summary(summary) => self.with_summary(summary),
            Report::Connections(connections) => Step::Answer(self.with_connections(&connections)),
            Report::Sessions(sessions) => {
                self.sessions = sessions;
                Step::Ask(Inspect::Connections)
            }
            Report::Watches(watches) if self.word == Word::Wchc => Step::Answer(text::watches_by_session(&watches)),
            Report::Watches(watches) => Step::Answer(text::watches_by_path(&watches)),
            Report::Done if self.word == Word::Crst => Step::Answer("Connection stats reset.\n".to_owned()),
            Report::Done => Step::Answer("Server stats reset.\n".to_owned()),
        }
    }

    fn with_summary(&mut self, summary: Summary) -> Step {
        if summary.mode == Mode::NotServing {
            let answer = match self.word {
                Word::Isro => "null".to_owned(),
                _ => "This ZooKeeper instance is not currently serving requests\n".to_owned(),
            };
            return Step::Answer(answer);
        }
        let step = match self.word {
            Word::Srvr => Step::Answer(text::srvr(&summary, &self.facts)),
            Word::Mntr => Step::Answer(text::mntr(&summary, &self.facts)),
            Word::Wchs => Step::Answer(text::watch_summary(&summary)),
            Word::Hash => Step::Answer(text::hash(&summary)),
            Word::Isro if summary.mode == Mode::ReadOnly => Step::Answer("ro".to_owned()),
            Word::Isro => Step::Answer("rw".to_owned()),
            Word::Dump => Step::Ask(Inspect::Sessions),
            Word::Wchc | Word::Wchp => Step::Ask(Inspect::Watches),
            Word::Crst => Step::Ask(Inspect::ResetConnectionStatistics),
            Word::Srst => Step::Ask(Inspect::ResetStatistics),
            _ => Step::Ask(Inspect::Connections),
        };
        self.summary = Some(summary);
        step
    }

    fn with_connections(&self, connections: &[ConnectionReport]) -> String {
        match (self.word, &self.summary) {
            (Word::Cons, _) => text::cons(self.peer, connections),
            (Word::Dump, _) => text::dump(self.peer, &self.sessions, connections, &self.facts),
            (_, Some(summary)) => text::stat(self.peer, connections, summary, &self.facts),
            (_, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_answered() {
        assert!(Whitelist::default().allows(Word::Srvr));
        assert!(!Whitelist::default().allows(Word::Ruok));
        let some = Whitelist::parse(" ruok ,mntr,nonsense");
        assert!(
            some.allows(Word::Ruok) && some.allows(Word::Mntr) && some.allows(Word::Srvr) && !some.allows(Word::Cons)
        );
        assert!(Word::ALL.iter().all(|word| Whitelist::parse("*").allows(*word)));
    }

    #[test]
    fn a_word_is_not_taken_for_a_length() {
        assert_eq!(Word::from_bytes(*b"ruok"), Some(Word::Ruok));
        assert_eq!(Word::from_bytes([0, 0, 0, 44]), None);
        assert!(Word::ALL.iter().all(|word| word.text().len() == 4));
    }
}
