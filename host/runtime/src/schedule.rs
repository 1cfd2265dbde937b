//! When a job is due: a pattern as cron has it, read in UTC.
//!
//! `croner` matches the pattern and brings no calendar library: it searches over
//! whatever type implements its trait, and seconds since 1970 are enough for a
//! time that has no zone. Local time is left out on purpose: an hour that comes
//! twice a year, or never, is nothing that a job's author has in mind.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{
    CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday, days_in_month,
    days_in_year,
};
use thiserror::Error;

const FIELDS: [&str; 6] =
    ["second", "minute", "hour", "day of the month", "month", "day of the week"];
const DAY: i64 = 24 * 3600;
/// 1970-01-01 was a Thursday.
const FIRST_WEEKDAY: u32 = 4;
/// Characters of a pattern.
const LONGEST: usize = 256;

/// When a job is due, in UTC: `minute hour day-of-month month day-of-week`, with a
/// field for seconds before them or without.
///
/// A field is `*`, a number, a name (`JAN`, `MON`), a range `1-5`, a list `1,15` or
/// steps `*/5`. Where both days are said, one that fits either is due, as cron has
/// it. `L`, `W` and `#`, and names such as `@daily`, are understood too. A clone is the
/// same value.
#[derive(Clone)]
pub struct Schedule(Arc<Pattern>);

struct Pattern {
    cron: Cron,
    text: String,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// It has another number of fields.
    #[error("it has {0} fields")]
    Fields(usize),
    /// A field is none.
    #[error("{0}")]
    Malformed(String),
    /// There is no such day: the 31st of February.
    #[error("it is never due")]
    Never,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fields = text.split_whitespace().count();
        let named = fields == 1 && text.trim_start().starts_with('@');
        if !matches!(fields, 5 | 6) && !named {
            return Err(ScheduleError::Fields(fields));
        }
        if text.len() > LONGEST {
            let wrong = format!("it is longer than {LONGEST} characters");
            return Err(ScheduleError::Malformed(wrong));
        }
        let malformed = |error| ScheduleError::Malformed(wrong(text, &error));
        let cron = parse(text).map_err(malformed)?;
        let schedule = Self(Arc::new(Pattern { cron, text: text.to_owned() }));
        // Once in four hundred years is the rarest that a calendar has.
        schedule.next(Duration::ZERO).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }
}

fn parse(text: &str) -> Result<Cron, CronError> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text)
}

/// Which field is wrong: the first that croner refuses among stars. It does not say
/// which it was.
fn wrong(text: &str, error: &CronError) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let names = &FIELDS[FIELDS.len().saturating_sub(fields.len())..];
    let refused = |at: &usize| {
        let mut alone = vec!["*"; fields.len()];
        alone[*at] = fields[*at];
        parse(&alone.join(" ")).is_err()
    };
    match (0..fields.len()).find(refused) {
        Some(at) if fields.len() > 1 => format!("{:?} is no {}", fields[at], names[at]),
        _ => error.to_string(),
    }
}

impl Schedule {
    /// The first time after `after` at which the job is due, to the second; both
    /// since 1970 began. `None` beyond the year 5000.
    #[must_use]
    pub fn next(&self, after: Duration) -> Option<Duration> {
        let after = Utc(i64::try_from(after.as_secs()).ok()?);
        let next = self.0.cron.find_next_occurrence(&after, false).ok()?;
        u64::try_from(next.0).ok().map(Duration::from_secs)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?})", self.0.text)
    }
}

/// The same text is the same schedule.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Schedule {}

/// A time as croner searches over it: seconds since 1970, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Utc(i64);

impl CronDateTime for Utc {
    fn to_civil(&self) -> CivilDateTime {
        let (mut days, second) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (mut year, mut month) = (1970, 1);
        while days >= i64::from(days_in_year(year)) {
            days -= i64::from(days_in_year(year));
            year += 1;
        }
        while days >= i64::from(days_in_month(year, month)) {
            days -= i64::from(days_in_month(year, month));
            month += 1;
        }
        let part = |of: i64| u32::try_from(of).unwrap_or_default();
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(year, month, part(days) + 1),
            CivilTime::from_parts_unchecked(
                part(second / 3600),
                part(second / 60 % 60),
                part(second % 60),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let days = u32::try_from(self.0.div_euclid(DAY).rem_euclid(7)).unwrap_or_default();
        Weekday::from_days_from_sunday(FIRST_WEEKDAY + days)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let before: i64 = (1970..civil.year()).map(|year| i64::from(days_in_year(year))).sum();
        let days = before + i64::from(civil.date().day_of_year()) - 1;
        let time = civil.hour() * 3600 + civil.minute() * 60 + civil.second();
        Ok(Resolution::Single(Self(days * DAY + i64::from(time))))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(seconds).map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(text: &str) -> Duration {
        let at = humantime::parse_rfc3339(text).expect("a time");
        at.duration_since(UNIX_EPOCH).expect("it is later")
    }

    #[test]
    fn the_next_time_is_the_first_one_after() {
        #[track_caller]
        fn check(pattern: &str, after: &str, expected: &str) {
            let schedule: Schedule = pattern.parse().expect("a schedule");
            let next = schedule.next(at(after)).expect("there is one");
            assert_eq!(humantime::format_rfc3339(UNIX_EPOCH + next).to_string(), expected);
        }
        let noon = "2026-11-25T12:00:00Z"; // a Wednesday
        check("*/5 * * * *", noon, "2026-11-25T12:05:00Z");
        check("*/5 * * * *", "2026-11-25T12:04:59.999Z", "2026-11-25T12:05:00Z");
        check("0 12 * * *", noon, "2026-11-26T12:00:00Z");
        check("*/10 * * * * *", noon, "2026-11-25T12:00:10Z");
        check("30 4 1,15 * *", noon, "2026-12-01T04:30:00Z");
        check("0 0 * * MON", noon, "2026-11-30T00:00:00Z");
        check("0 0 * * 7", noon, "2026-11-29T00:00:00Z");
        check("0 9-17 * * MON-FRI", "2026-11-27T17:00:00Z", "2026-11-30T09:00:00Z");
        // Either day, as cron has it.
        check("0 0 13 * FRI", noon, "2026-11-27T00:00:00Z");
        check("0 0 29 FEB *", noon, "2028-02-29T00:00:00Z");
        check("59 23 31 DEC *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z");
        check("0 0 L * *", noon, "2026-11-30T00:00:00Z");
        check("@daily", noon, "2026-11-26T00:00:00Z");
        check("* * * * *", "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
        check("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z");
    }

    #[test]
    fn each_time_follows_the_one_before() {
        let schedule: Schedule = "*/7 * * * *".parse().expect("a schedule");
        let mut now = at("2023-12-31T00:00:00Z");
        for _ in 0..2000 {
            let next = schedule.next(now).expect("there is one");
            assert!(next > now && (next.as_secs() / 60 % 60).is_multiple_of(7));
            now = next;
        }
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        #[track_caller]
        fn check(pattern: &str, expected: &str) {
            let error = pattern.parse::<Schedule>().expect_err("no schedule");
            assert_eq!(error.to_string(), expected);
        }
        check("", "it has 0 fields");
        check("* * * *", "it has 4 fields");
        check("0 0 * * * * 2027", "it has 7 fields");
        check("0 0 31 2 *", "it is never due");
        check("61 * * * *", "\"61\" is no minute");
        check("60 0 * * * *", "\"60\" is no second");
        check("0 24 * * *", "\"24\" is no hour");
        check("0 0 0 * *", "\"0\" is no day of the month");
        check("0 0 1 13 XYZ", "\"13\" is no month");
        check("* * * * XYZ", "\"XYZ\" is no day of the week");
        for pattern in
            ["61 * * * *", "* * * * XYZ", "*/0 * * * *", "@often", "a b c d e", "5-1 * * * *"]
        {
            let error = pattern.parse::<Schedule>().expect_err(pattern);
            assert!(matches!(error, ScheduleError::Malformed(_)), "{pattern}: {error}");
        }
        let long = format!("{} * * * *", ["1"; 200].join(","));
        check(&long, "it is longer than 256 characters");
    }
}
