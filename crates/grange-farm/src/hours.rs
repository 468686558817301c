//! Ranges of hours of the day, by the clock on the wall.
//!
//! What counts is what a clock at this place shows, summer time and all: an hour that is shown twice is in its range both
//! times, and one that is left out is not there.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Time, time};
use jiff::{ToSpan, Zoned};

/// How many days are looked at for the next moment that is in a range. A range is left out for a day or two when clocks
/// are put forward, or when a country changes the side of the date line.
const DAYS_MAX: i64 = 7;

const HOUR_MINUTES: u16 = 60;
const DAY_MINUTES: u16 = 24 * HOUR_MINUTES;

/// Ranges of hours, any of which will do.
///
/// Shape: `FROM-TO` with commas between them, each end an hour (`22`) or hour and minute (`22:30`). FROM belongs to the range
/// and TO does not; a range whose TO is before its FROM ends on the next day; 24 is the end of the day. Source: the flag
/// `--allowed-hour-ranges` of ZkFarmer, which knows whole hours only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    ranges: Vec<Range>,
    text: String,
}

/// In minutes of the day: `from` is less than a day's, and `to` is neither 0 nor `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: u16,
    to: u16,
}

/// Why text is not ranges of hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{range}' {why}")]
pub struct HoursError {
    /// What is wrong.
    pub range: String,
    /// Why.
    pub why: &'static str,
}

impl Hours {
    /// Tells whether a time is in one of the ranges.
    pub fn contain(&self, time: Time) -> bool {
        let minute = minute_of(time);
        self.ranges.iter().any(|range| range.contains(minute))
    }

    /// Returns the first moment from `now` on that is in one of the ranges: `now` itself if it is. `None` if there is none
    /// within a week.
    pub fn next(&self, now: &Zoned) -> Option<Zoned> {
        if self.contain(now.time()) {
            return Some(now.clone());
        }
        // A range is entered when it begins, or when clocks are changed.
        let last = now.checked_add(DAYS_MAX.days()).ok()?;
        let zone = now.time_zone();
        let changes = zone.following(now.timestamp()).map(|change| change.timestamp().to_zoned(zone.clone()));
        let changes = changes.take_while(|moment| *moment <= last);
        let begins = self.ranges.iter().flat_map(|range| (0..=DAYS_MAX).flat_map(|days| range.begins(now, days)));
        begins.chain(changes).filter(|moment| moment > now && self.contain(moment.time())).min()
    }
}

impl Range {
    fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// Returns when the range begins so many days later: twice if the clock shows that time twice.
    fn begins(self, now: &Zoned, days: i64) -> impl Iterator<Item = Zoned> + use<> {
        let date = now.date().checked_add(days.days()).ok();
        let ambiguous = date.map(|date| now.time_zone().to_ambiguous_zoned(date.to_datetime(time_of(self.from))));
        let both = ambiguous.map(|moment| [moment.clone().earlier().ok(), moment.later().ok()]);
        both.into_iter().flatten().flatten()
    }

    fn parse(text: &str) -> Result<Range, &'static str> {
        let Some((from, to)) = text.split_once('-') else {
            return Err("is no range of hours; write one like 22-6 or 12:30-13:45");
        };
        let (from, to) = (minute(from.trim())?, minute(to.trim())?);
        if from == DAY_MINUTES {
            return Err("begins at the end of the day; write 0 for the beginning of the next one");
        }
        if from == to {
            return Err("begins where it ends; write 0-24 for the whole day");
        }
        Ok(Range { from, to: if to == 0 { DAY_MINUTES } else { to } })
    }
}

/// Reads one end of a range.
fn minute(text: &str) -> Result<u16, &'static str> {
    let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
    let number = |digits: &str, max| {
        let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|number| is_number && *number <= max)
    };
    let (Some(hour), Some(minute)) = (number(hour, DAY_MINUTES / HOUR_MINUTES), number(minute, HOUR_MINUTES - 1))
    else {
        return Err("has an end that is no time of day: hours are 0 to 24, minutes 0 to 59");
    };
    let minute = hour * HOUR_MINUTES + minute;
    if minute > DAY_MINUTES { Err("ends after the end of the day, which is 24") } else { Ok(minute) }
}

fn minute_of(time: Time) -> u16 {
    let part = |number: i8| u16::try_from(number).expect("hours and minutes are not negative");
    part(time.hour()) * HOUR_MINUTES + part(time.minute())
}

fn time_of(minute: u16) -> Time {
    let part = |number: u16| i8::try_from(number).expect("hours and minutes are small");
    time(part(minute / HOUR_MINUTES), part(minute % HOUR_MINUTES), 0, 0)
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Hours, HoursError> {
        let parse =
            |range: &str| Range::parse(range.trim()).map_err(|why| HoursError { range: range.trim().to_owned(), why });
        let ranges = text.split(',').map(parse).collect::<Result<_, _>>()?;
        Ok(Hours { ranges, text: text.to_owned() })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::DateTime;
    use jiff::tz::TimeZone;

    use super::*;

    /// Summer time from 2:00 to 3:00 on 29 March 2026, back from 3:00 to 2:00 on 25 October.
    const PARIS: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    /// Goes back from midnight to 23:00 of the day before, on 1 November; forward from midnight to 1:00 on 8 March.
    const HAVANA: &str = "CST5CDT,M3.2.0/0,M11.1.0/1";

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    /// Returns the next moment with its offset, for a time at the earlier or later of two offsets.
    fn next(zone: &str, ranges: &str, now: &str, is_later: bool) -> String {
        let zone = TimeZone::posix(zone).unwrap();
        let now = zone.to_ambiguous_zoned(now.parse::<DateTime>().unwrap());
        let now = if is_later { now.later() } else { now.earlier() }.unwrap();
        let next = hours(ranges).next(&now).unwrap();
        next.strftime("%Y-%m-%dT%H:%M:%S%z").to_string()
    }

    #[test]
    fn ranges_may_have_minutes_and_go_beyond_midnight() {
        for (ranges, inside, outside) in [
            ("0-24", &["00:00", "12:00", "23:59:59.9"][..], &[][..]),
            ("8-18", &["08:00", "17:59:59"], &["07:59:59", "18:00"]),
            ("22-6", &["22:00", "23:59", "00:00", "05:59"], &["06:00", "21:59"]),
            ("22-24", &["22:00", "23:59"], &["00:00", "21:59"]),
            ("22-0", &["22:00", "23:59"], &["00:00", "21:59"]),
            ("12:30-13:45", &["12:30", "13:44:59"], &["12:29:59", "13:45"]),
            ("1-2, 3-4", &["01:00", "03:59"], &["00:59", "02:00", "04:00"]),
            ("06:05-6:04", &["06:05", "00:00", "06:03"], &["06:04"]),
        ] {
            let hours = hours(ranges);
            assert_eq!(hours.to_string(), ranges);
            for time in inside {
                assert!(hours.contain(time.parse().unwrap()), "{time} in {ranges}");
            }
            for time in outside {
                assert!(!hours.contain(time.parse().unwrap()), "{time} in {ranges}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_named() {
        for (ranges, range) in [
            ("", ""),
            ("8", "8"),
            ("1-2,", ""),
            ("1-2,8-8", "8-8"),
            ("0-0", "0-0"),
            ("24-24", "24-24"),
            ("24-6", "24-6"),
            ("8-25", "8-25"),
            ("8-24:01", "8-24:01"),
            ("8-9:60", "8-9:60"),
            ("8:-9", "8:-9"),
            ("-1-9", "-1-9"),
            ("+1-9", "+1-9"),
            ("8-9-10", "8-9-10"),
            ("008-9", "008-9"),
            ("eight-nine", "eight-nine"),
        ] {
            let error = ranges.parse::<Hours>().unwrap_err();
            assert_eq!(error.range, range, "{ranges}: {error}");
        }
    }

    #[test]
    fn the_next_moment_is_now_or_the_beginning_of_a_range() {
        for (ranges, now, expected) in [
            ("0-24", "2026-01-05T12:34:56", "2026-01-05T12:34:56+0100"),
            ("8-18", "2026-01-05T07:00", "2026-01-05T08:00:00+0100"),
            ("8-18", "2026-01-05T18:00", "2026-01-06T08:00:00+0100"),
            ("22-6", "2026-01-05T06:00", "2026-01-05T22:00:00+0100"),
            ("22-6", "2026-01-05T05:59:59", "2026-01-05T05:59:59+0100"),
            ("1-2,13:30-14", "2026-01-05T03:00", "2026-01-05T13:30:00+0100"),
            ("1-2,13:30-14", "2026-12-31T15:00", "2027-01-01T01:00:00+0100"),
            ("0-1", "2026-02-28T23:59:59", "2026-03-01T00:00:00+0100"),
        ] {
            assert_eq!(next(PARIS, ranges, now, false), expected, "{ranges} after {now}");
        }
    }

    #[test]
    fn an_hour_that_is_left_out_is_not_waited_for() {
        for (ranges, now, expected) in [
            // The clock goes from 1:59:59 to 3:00.
            ("2:30-4", "2026-03-29T01:00", "2026-03-29T03:00:00+0200"),
            ("2-3", "2026-03-29T01:00", "2026-03-30T02:00:00+0200"),
            ("2:15-2:45", "2026-03-28T03:00", "2026-03-30T02:15:00+0200"),
            ("3-4", "2026-03-29T01:59", "2026-03-29T03:00:00+0200"),
            ("22-2:30", "2026-03-29T03:00", "2026-03-29T22:00:00+0200"),
        ] {
            assert_eq!(next(PARIS, ranges, now, false), expected, "{ranges} after {now}");
        }
        assert_eq!(next(HAVANA, "0-1", "2026-03-07T12:00", false), "2026-03-09T00:00:00-0400");
        assert_eq!(next(HAVANA, "0:30-2", "2026-03-07T12:00", false), "2026-03-08T01:00:00-0400");
    }

    #[test]
    fn an_hour_that_comes_twice_is_in_its_range_twice() {
        for (ranges, now, is_later, expected) in [
            // 2:00 to 3:00 come first at +0200 and then at +0100.
            ("2-2:30", "2026-10-25T01:00", false, "2026-10-25T02:00:00+0200"),
            ("2-2:30", "2026-10-25T02:45", false, "2026-10-25T02:00:00+0100"),
            ("2:15-2:30", "2026-10-25T02:45", false, "2026-10-25T02:15:00+0100"),
            ("2:15-2:30", "2026-10-25T02:45", true, "2026-10-26T02:15:00+0100"),
            ("1-2:30", "2026-10-25T02:45", false, "2026-10-25T02:00:00+0100"),
            ("2:15-2:30", "2026-10-25T02:20", true, "2026-10-25T02:20:00+0100"),
            ("3-4", "2026-10-25T02:59", false, "2026-10-25T03:00:00+0100"),
        ] {
            assert_eq!(next(PARIS, ranges, now, is_later), expected, "{ranges} after {now}");
        }
        // Midnight is put off: the day before has one more hour.
        assert_eq!(next(HAVANA, "0-1", "2026-10-31T23:30", false), "2026-11-01T00:00:00-0400");
        assert_eq!(next(HAVANA, "0-0:30", "2026-11-01T00:45", false), "2026-11-01T00:00:00-0500");
    }
}
