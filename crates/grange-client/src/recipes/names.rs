//! What the znodes of contenders are called, and in which order they stand.

use std::fmt;

use uuid::Uuid;

/// How a contender may hold what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Alone.
    Exclusive,
    /// Together with others of this role.
    Shared,
}

/// Whose names new znodes get. All names are understood in any case.
///
/// The stock libraries do not see each other's: kazoo counts only `__lock__` unless it is given
/// `extra_lock_patterns`, and Curator puts what it does not know behind itself. So use the layout of the library that
/// shares the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `<uuid>__lock__N`, and `<uuid>__rlock__N` for readers: kazoo's `Lock`, `WriteLock`, `ReadLock`, `Election`.
    #[default]
    Kazoo,
    /// `_c_<uuid>-lock-N`: Curator's `InterProcessMutex` and `LeaderSelector`.
    Curator,
    /// `_c_<uuid>-__WRIT__N` and `_c_<uuid>-__READ__N`: Curator's `InterProcessReadWriteLock`.
    CuratorReadWrite,
    /// `_c_<uuid>-latch-N`: Curator's `LeaderLatch`.
    CuratorLatch,
}

/// What stands between a name's unique part and its sequence number, and what it means. No marker is the end of
/// another one, so a name has one meaning.
const MARKERS: &[(&str, Role)] = &[
    ("__lock__", Role::Exclusive),
    ("__rlock__", Role::Shared),
    ("lock-", Role::Exclusive),
    ("__WRIT__", Role::Exclusive),
    ("__READ__", Role::Shared),
    ("latch-", Role::Exclusive),
];

/// The fewest digits of a sequence number, a sign included.
const SEQUENCE_CHARACTERS_MIN: usize = 10;

impl Layout {
    /// Returns a name that nobody else uses, without its sequence number.
    pub(crate) fn new_prefix(self, role: Role) -> String {
        let uuid = Uuid::new_v4();
        match (self, role) {
            (Layout::Kazoo, Role::Exclusive) => format!("{}__lock__", uuid.simple()),
            (Layout::Kazoo, Role::Shared) => format!("{}__rlock__", uuid.simple()),
            (Layout::Curator, Role::Exclusive) => format!("_c_{uuid}-lock-"),
            (Layout::CuratorLatch, Role::Exclusive) => format!("_c_{uuid}-latch-"),
            (Layout::CuratorReadWrite, Role::Exclusive) => format!("_c_{uuid}-__WRIT__"),
            (Layout::Curator | Layout::CuratorReadWrite | Layout::CuratorLatch, Role::Shared) => {
                format!("_c_{uuid}-__READ__")
            }
        }
    }
}

/// The znode of a contender, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    sequence: i64,
}

impl Entry<'_> {
    /// Understands the name of a contender; other children are none of our business.
    ///
    /// The server appends `%010d` of a number that may have become negative.
    fn parse(name: &str) -> Option<Entry<'_>> {
        let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let find = |head: &str| MARKERS.iter().find(|(marker, _)| head.ends_with(marker));
        let (number, (_, role)) = match (find(head), head.strip_suffix('-')) {
            (Some(marker), _) => (&name[head.len()..], marker),
            (None, Some(head)) => (&name[head.len()..], find(head)?),
            (None, None) => return None,
        };
        let sequence = if number.len() >= SEQUENCE_CHARACTERS_MIN { number.parse().ok()? } else { return None };
        Some(Entry { name, role: *role, sequence })
    }
}

/// Says where in line an entry stands.
///
/// After 2^31 children the server's counter goes on at -2^31. While both large and negative numbers are in line, the
/// negative ones came later.
#[derive(Debug, Clone, Copy)]
struct Order {
    has_wrapped: bool,
}

impl Order {
    fn of<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Order {
        let (mut has_negative, mut has_large) = (false, false);
        for entry in entries {
            has_negative |= entry.sequence < 0;
            has_large |= entry.sequence > i64::from(i32::MAX / 2);
        }
        Order { has_wrapped: has_negative && has_large }
    }

    /// No two entries have the same key.
    fn key<'a>(self, entry: &Entry<'a>) -> (i64, &'a str) {
        let after_wrap = if self.has_wrapped && entry.sequence < 0 { 1 << 32 } else { 0 };
        (entry.sequence + after_wrap, entry.name)
    }
}

fn entries(children: &[String]) -> impl Iterator<Item = Entry<'_>> {
    children.iter().filter_map(|name| Entry::parse(name))
}

/// The contenders in line, first one first.
pub(crate) fn in_order(children: &[String]) -> Vec<Entry<'_>> {
    let order = Order::of(entries(children));
    let mut line: Vec<_> = entries(children).collect();
    line.sort_by_key(|entry| order.key(entry));
    line
}

/// Whom one has to wait for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nobody.
    Mine,
    /// The contender with this name: the last one before us that excludes us.
    After(String),
    /// Our znode is not there.
    Gone,
}

/// Finds out whose turn it is from the line as `children` show it.
pub(crate) fn turn(children: &[String], own: &str, role: Role) -> Turn {
    let order = Order::of(entries(children));
    let Some(own) = entries(children).find(|entry| entry.name == own) else { return Turn::Gone };
    let excludes = |entry: &Entry<'_>| role == Role::Exclusive || entry.role == Role::Exclusive;
    let before = entries(children).filter(|entry| excludes(entry) && order.key(entry) < order.key(&own));
    match before.max_by_key(|entry| order.key(entry)) {
        Some(entry) => Turn::After(entry.name.to_owned()),
        None => Turn::Mine,
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Exclusive => "exclusive",
            Role::Shared => "shared",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ordered(children: &[&str]) -> Vec<String> {
        in_order(&names(children)).into_iter().map(|entry| entry.name.to_owned()).collect()
    }

    #[test]
    fn names_of_both_libraries_are_understood() {
        for (name, role, sequence) in [
            ("3f__lock__0000000007", Role::Exclusive, 7),
            ("3f__rlock__0000000008", Role::Shared, 8),
            ("_c_3f-90-lock-0000000009", Role::Exclusive, 9),
            ("lock-0000000009", Role::Exclusive, 9),
            ("_c_3f-90-__READ__0000000010", Role::Shared, 10),
            ("_c_3f-90-__WRIT__0000000011", Role::Exclusive, 11),
            ("_c_3f-90-latch-0000000012", Role::Exclusive, 12),
            ("3f__lock__-2147483648", Role::Exclusive, -2_147_483_648),
            ("_c_3f-lock--000000001", Role::Exclusive, -1),
            ("3f__lock__2147483648", Role::Exclusive, 2_147_483_648),
        ] {
            assert_eq!(Entry::parse(name), Some(Entry { name, role, sequence }), "{name}");
        }
    }

    #[test]
    fn other_children_do_not_stand_in_line() {
        for name in
            ["leases", "3f__lock__", "3f__lock__7", "3f__lock__00000000x7", "3f__lock__+000000007", "0000000007"]
        {
            assert_eq!(Entry::parse(name), None, "{name}");
        }
    }

    #[test]
    fn every_layout_makes_names_that_are_understood() {
        for layout in [Layout::Kazoo, Layout::Curator, Layout::CuratorReadWrite, Layout::CuratorLatch] {
            for role in [Role::Exclusive, Role::Shared] {
                let name = format!("{}0000000042", layout.new_prefix(role));
                let entry = Entry::parse(&name).unwrap_or_else(|| panic!("{name}"));
                assert_eq!((entry.role, entry.sequence), (role, 42), "{name}");
            }
        }
    }

    #[test]
    fn the_sequence_decides_whatever_stands_before_it() {
        let line = ["f__lock__0000000003", "_c_a-lock-0000000002", "0__rlock__0000000001", "x"];
        assert_eq!(ordered(&line), [line[2], line[1], line[0]]);
    }

    #[test]
    fn a_counter_that_overflows_keeps_the_order() {
        let line = ["b__lock__-2147483648", "a__lock__2147483647", "c__lock__-2147483647"];
        assert_eq!(ordered(&line), [line[1], line[0], line[2]]);
        // Far away from the overflow, the counter comes back to zero from below.
        let line = ["b__lock__0000000000", "a__lock__-000000001"];
        assert_eq!(ordered(&line), [line[1], line[0]]);
    }

    #[test]
    fn readers_wait_for_writers_and_writers_for_everybody() {
        let line =
            names(&["a__rlock__0000000001", "b__lock__0000000002", "c__rlock__0000000003", "d__rlock__0000000004"]);
        let after = |name: &str| Turn::After(name.to_owned());
        assert_eq!(turn(&line, &line[0], Role::Shared), Turn::Mine);
        assert_eq!(turn(&line, &line[1], Role::Exclusive), after(&line[0]));
        assert_eq!(turn(&line, &line[2], Role::Shared), after(&line[1]));
        assert_eq!(turn(&line, &line[3], Role::Shared), after(&line[1]));
        assert_eq!(turn(&line, "e__lock__0000000005", Role::Exclusive), Turn::Gone);
    }
}
