//! Shell patterns as rsync has them: `*` and `?` stop at `/`, `**` does not, classes, `\` escapes.

/// Whether the whole of `text` matches `pattern`. Time is bounded by the product of their lengths per `*`.
pub(crate) fn wildmatch(pattern: &[u8], text: &[u8]) -> bool {
    // `failed[p][t]` would be exponential to recompute with many stars; a set of visited states bounds it.
    let mut visited = vec![false; (pattern.len() + 1) * (text.len() + 1)];
    let mut states = vec![(0, 0)];
    while let Some((p, t)) = states.pop() {
        if std::mem::replace(&mut visited[p * (text.len() + 1) + t], true) {
            continue;
        }
        match step(&pattern[p..], text.get(t).copied()) {
            Step::End if t == text.len() => return true,
            Step::End | Step::Fail => {}
            Step::One(length) => states.push((p + length, t + 1)),
            Step::Star { length, crosses } => {
                states.push((p + length, t));
                if text.get(t).is_some_and(|&b| crosses || b != b'/') {
                    states.push((p, t + 1));
                }
            }
        }
    }
    false
}

enum Step {
    End,
    Fail,
    /// So many pattern bytes match one byte of text.
    One(usize),
    /// So many stars match any run of bytes; `crosses` slashes too.
    Star {
        length: usize,
        crosses: bool,
    },
}

fn step(pattern: &[u8], next: Option<u8>) -> Step {
    let one = |matches: bool, length| if matches && next.is_some() { Step::One(length) } else { Step::Fail };
    match pattern {
        [] => Step::End,
        [b'*', ..] => {
            let length = pattern.iter().take_while(|&&b| b == b'*').count();
            Step::Star { length, crosses: length > 1 }
        }
        [b'?', ..] => one(next != Some(b'/'), 1),
        [b'[', rest @ ..] => match class(rest, next.unwrap_or(b'/')) {
            Some((matches, length)) => one(matches && next != Some(b'/'), 1 + length),
            None => Step::Fail,
        },
        [b'\\', escaped, ..] => one(next == Some(*escaped), 2),
        [literal, ..] => one(next == Some(*literal), 1),
    }
}

/// Matches `byte` with the class that begins after a `[`: whether it is in, and the length up to and with the `]`.
/// `None` if the class has no end.
fn class(body: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(body.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let mut at = start;
    let mut found = false;
    loop {
        let low = *body.get(at)?;
        if low == b']' && at > start {
            return Some((found != negated, at + 1));
        }
        if body[at..].starts_with(b"[:") {
            let end = at + 2 + body[at + 2..].windows(2).position(|pair| pair == b":]")?;
            found |= named_class(&body[at + 2..end], byte)?;
            at = end + 2;
            continue;
        }
        let (low, length) = literal(&body[at..])?;
        at += length;
        match body.get(at..) {
            Some([b'-', next, ..]) if *next != b']' => {
                let (high, length) = literal(&body[at + 1..])?;
                at += 1 + length;
                found |= (low..=high).contains(&byte);
            }
            _ => found |= low == byte,
        }
    }
}

/// One byte of a class, `\` taken off: the byte and how long it was written.
fn literal(body: &[u8]) -> Option<(u8, usize)> {
    match body {
        [b'\\', escaped, ..] => Some((*escaped, 2)),
        [byte, ..] => Some((*byte, 1)),
        [] => None,
    }
}

fn named_class(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => byte == b' ' || byte == b'\t',
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::wildmatch;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(wildmatch(pattern.as_bytes(), text.as_bytes()), "{pattern} must match {text}");
        }
        for text in no {
            assert!(!wildmatch(pattern.as_bytes(), text.as_bytes()), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn stars() {
        check("a*c", &["ac", "abc", "a*c"], &["a/c", "abcd", ""]);
        check("a**c", &["ac", "a/b/c"], &["a/b"]);
        check("*", &["", "x"], &["a/b"]);
    }

    #[test]
    fn classes() {
        check("[a-c]", &["a", "c"], &["d", "", "/"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[^a-]", &["b"], &["a", "-", "/"]);
        check("[\\]]", &["]"], &["\\"]);
        check("[[:upper:]_]x", &["Ax", "_x"], &["ax"]);
        check("[a", &[], &["[a", "a"]);
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!wildmatch(pattern.as_bytes(), "a".repeat(400).as_bytes()));
    }
}
