//! A number in the data of a znode, changed by compare-and-set: kazoo's `Counter`, and Curator's `SharedCount`.
//!
//! **Promises.** A change is made once, also when the reply to it is lost: it is one transaction with a write to a
//! znode of this handle's own, an ephemeral child of the counter (see `marker.rs`). What a change reports as before and after
//! is what the number was directly before and after it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::sync::Mutex;
use zookeeper_client::{Client, Error as ClientError};

use super::failure::{RecipeError, request};
use super::marker::{CommitError, Marker, change_error, ensure_path, random_below};
use crate::retry::retry;

/// How often a change is tried while others change the counter.
const ATTEMPTS_MAX: u32 = 200;

/// The longest pause before the next attempt; the pause is random, so that contenders get out of step.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What a counter holds: a whole number, or one with a fraction, as kazoo writes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(i64),
    /// A number that was written with a point or an exponent; finite.
    Fraction(f64),
}

/// Why text is not a number that a counter can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number of 64 bits, or a finite number with a point")]
pub struct NumberError;

impl Number {
    fn sum(self, other: Number) -> Option<Number> {
        #[expect(clippy::cast_precision_loss, reason = "a sum with a fraction is one, as in Python")]
        let fraction = |number| match number {
            Number::Whole(number) => number as f64,
            Number::Fraction(number) => number,
        };
        match (self, other) {
            (Number::Whole(one), Number::Whole(two)) => one.checked_add(two).map(Number::Whole),
            (one, two) => Some(Number::Fraction(fraction(one) + fraction(two))).filter(|sum| sum.is_finite()),
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Number::Whole(_) => true,
            Number::Fraction(number) => number.is_finite(),
        }
    }
}

impl FromStr for Number {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Number, NumberError> {
        let number = match text.contains(['.', 'e', 'E']) {
            false => text.parse().ok().map(Number::Whole),
            true => text.parse().ok().map(Number::Fraction),
        };
        number.filter(Number::is_finite).ok_or(NumberError)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            // With a point, so that it stays a fraction.
            Number::Fraction(number) => write!(f, "{number:?}"),
        }
    }
}

/// How the number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CounterLayout {
    /// As text: kazoo's `Counter`.
    #[default]
    Text,
    /// As four bytes, the most significant one first: Curator's `SharedCount`, and kazoo's with `support_curator`.
    Curator,
}

impl CounterLayout {
    fn decode(self, data: &[u8]) -> Result<Number, String> {
        if data.is_empty() {
            return Ok(Number::Whole(0));
        }
        match self {
            CounterLayout::Text => std::str::from_utf8(data)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| format!("holds {} bytes that are not a number as text", data.len())),
            CounterLayout::Curator => data
                .try_into()
                .map(|bytes| Number::Whole(i32::from_be_bytes(bytes).into()))
                .map_err(|_| format!("holds {} bytes; Curator's counters have 4", data.len())),
        }
    }

    fn encode(self, number: Number) -> Result<Vec<u8>, String> {
        match (self, number) {
            (CounterLayout::Text, number) => Ok(number.to_string().into_bytes()),
            (CounterLayout::Curator, Number::Whole(number)) => i32::try_from(number)
                .map(|number| number.to_be_bytes().to_vec())
                .map_err(|_| format!("cannot hold {number} in Curator's 4 bytes")),
            (CounterLayout::Curator, Number::Fraction(number)) => {
                Err(format!("cannot hold the fraction {number:?} in Curator's 4 bytes"))
            }
        }
    }
}

/// What is done to a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// This is added.
    Add(Number),
    /// This is what it becomes.
    Set(Number),
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Changed {
    /// The number before it.
    pub before: Number,
    /// The number after it.
    pub after: Number,
}

/// A handle on a counter.
#[derive(Debug)]
pub struct Counter {
    client: Client,
    path: ZnodePath,
    layout: CounterLayout,
    /// Made with the first change.
    marker: Mutex<Option<Marker>>,
}

impl Counter {
    /// Returns the counter at `path`. Nothing is made until it is changed; a znode that is not there counts as 0.
    pub fn new(client: Client, path: ZnodePath, layout: CounterLayout) -> Counter {
        Counter { client, path, layout, marker: Mutex::new(None) }
    }

    /// Returns the number.
    pub async fn value(&self) -> Result<Number, RecipeError> {
        match retry(|| self.client.get_data(self.path.as_str())).await {
            Ok((data, _)) => self.layout.decode(&data).map_err(|why| self.number(why)),
            Err(ClientError::NoNode) => Ok(Number::Whole(0)),
            Err(error) => Err(request("cannot read the counter", &self.path)(error)),
        }
    }

    /// Changes the number, once.
    pub async fn change(&self, change: Change) -> Result<Changed, RecipeError> {
        let failed = request("cannot change the counter", &self.path);
        let path = self.path.as_str();
        let mut own = self.marker.lock().await;
        let marker = match own.as_mut() {
            Some(marker) => marker,
            None => {
                ensure_path(&self.client, path).await.map_err(&failed)?;
                own.insert(Marker::create(&self.client, &self.path).await.map_err(&failed)?)
            }
        };
        for _ in 0..ATTEMPTS_MAX {
            let (data, stat) = retry(|| self.client.get_data(path)).await.map_err(&failed)?;
            let before = self.layout.decode(&data).map_err(|why| self.number(why))?;
            let after = match change {
                Change::Set(number) => number,
                Change::Add(number) => before
                    .sum(number)
                    .ok_or_else(|| self.number(format!("is {before}, and {number} more is too much")))?,
            };
            let data = self.layout.encode(after).map_err(|why| self.number(why))?;
            match marker.commit(|writer| writer.add_set_data(path, &data, Some(stat.version))).await {
                Ok(()) => return Ok(Changed { before, after }),
                Err(CommitError::Refused { source: ClientError::BadVersion, .. }) => {
                    let share = u32::try_from(random_below(1000)).unwrap_or(0);
                    tokio::time::sleep(PAUSE_MAX * share / 1000).await;
                }
                Err(error) => return Err(change_error("cannot change the counter", &self.path, error)),
            }
        }
        Err(RecipeError::Contended { path: self.path.clone(), attempts: ATTEMPTS_MAX })
    }

    fn number(&self, why: String) -> RecipeError {
        RecipeError::Number { path: self.path.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_kazoo_reads_them() {
        for (text, written) in [("5", "5"), ("-7", "-7"), ("3.0", "3.0"), ("1e3", "1000.0"), ("0.5", "0.5")] {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), written);
        }
        for text in ["", "x", "1.0.0", "1e999", "nan", "inf", "9223372036854775808", "0x10"] {
            assert_eq!(text.parse::<Number>(), Err(NumberError), "{text}");
        }
    }

    #[test]
    fn sums_neither_overflow_nor_lose_the_fraction() {
        let sum =
            |one: &str, two: &str| one.parse::<Number>().unwrap().sum(two.parse().unwrap()).map(|sum| sum.to_string());
        assert_eq!(sum("2", "3").unwrap(), "5");
        assert_eq!(sum("2", "0.5").unwrap(), "2.5");
        assert_eq!(sum("9223372036854775807", "1"), None);
        assert_eq!(sum("1e308", "1e308"), None);
    }

    #[test]
    fn curators_form_has_four_bytes() {
        let curator = CounterLayout::Curator;
        assert_eq!(curator.encode(Number::Whole(258)), Ok(vec![0, 0, 1, 2]));
        assert_eq!(curator.decode(&[255, 255, 255, 255]), Ok(Number::Whole(-1)));
        assert_eq!(curator.decode(b""), Ok(Number::Whole(0)));
        assert!(curator.decode(b"12345").unwrap_err().contains("holds 5 bytes"));
        assert!(curator.encode(Number::Whole(1 << 31)).is_err() && curator.encode(Number::Fraction(0.5)).is_err());
        assert!(CounterLayout::Text.decode(b"\xff").is_err());
    }
}
