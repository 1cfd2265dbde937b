//! What is shown at a scrape: families of samples, in one valid text.
//!
//! [`Family`] and [`Sample`] are the kernel's own words for a metric, so that
//! what keeps a number need not know how it is exposed. The text is written here, in
//! Prometheus' format 0.0.4, and not by `prometheus`' encoder: ten thousand services have
//! a quarter of a million series, and each would be a handful of allocations there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use hashbrown::HashMap;
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::histogram::Counts;

/// The label that says whose a series is.
const SERVICE: &str = "service";

/// What sort of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observed values, by size. Only services report these.
    Histogram,
}

impl Kind {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// How much a scrape shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every series of every service.
    #[default]
    Service,
    /// The series of all services added up, without the label `service`. A sum that would
    /// fall because a service is no more stays as it is: a counter only grows.
    Host,
}

/// A metric: its name, and what all its series have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name; a counter's ends in `_total`, and no other does.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Counter or gauge: a source that is pulled has no histograms.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

impl Family {
    /// A counter; `name` ends in `_total`.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { name, help, kind: Kind::Counter, labels }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, labels }
    }
}

impl Family {
    /// Whether it is named as the host's own families are.
    pub(super) fn is_well_named(&self) -> bool {
        let total = self.name.ends_with("_total");
        self.name.starts_with("ron_") && total == (self.kind == Kind::Counter)
    }
}

/// The value of one series of a [`Family`] now.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The family's name.
    pub name: &'a str,
    /// A value for each of the family's labels, in their order.
    pub labels: &'a [&'a str],
    /// The value.
    pub value: f64,
}

/// Everything that one scrape shows.
#[derive(Default)]
pub(super) struct Families {
    detail: Detail,
    all: Vec<Shown>,
    by_name: BTreeMap<String, usize>,
}

/// A family with its series.
struct Shown {
    help: String,
    kind: Kind,
    /// The labels of all series, one after the other.
    text: String,
    series: Vec<Series>,
    /// Those that are added up, by their labels.
    sums: HashMap<Box<str>, usize>,
}

struct Series {
    labels: Range<usize>,
    value: Value,
}

/// What one series has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Histogram(Box<Counts>),
}

impl Value {
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Number(own), Self::Number(other)) => *own += other,
            (Self::Histogram(own), Self::Histogram(other)) => own.add(other),
            // A family is of one kind.
            (Self::Number(_), Self::Histogram(_)) | (Self::Histogram(_), Self::Number(_)) => {}
        }
    }
}

/// Sums of counters as they were shown last, so that none falls when a service goes.
#[derive(Debug, Default)]
pub(super) struct Ratchet(HashMap<(String, Box<str>), Held>);

#[derive(Debug)]
struct Held {
    /// Whether the sum was in the last text; what is not shown is not kept.
    shown: bool,
    /// What the services that there were had at the last look.
    last: Value,
    /// What those had that are no more.
    gone: Value,
}

impl Ratchet {
    /// What is to be shown for a sum.
    fn hold(&mut self, name: &str, labels: &str, now: &Value) -> Value {
        let none = match now {
            Value::Number(_) => Value::Number(0.0),
            Value::Histogram(counts) => Value::Histogram(Box::new(counts.none())),
        };
        let held = (self.0).entry((name.to_owned(), labels.into())).or_insert_with(|| Held {
            shown: true,
            last: none.clone(),
            gone: none,
        });
        held.shown = true;
        match (&held.last, now, &mut held.gone) {
            (Value::Number(last), Value::Number(now), Value::Number(gone)) => {
                *gone += (last - now).max(0.0);
            }
            (Value::Histogram(last), Value::Histogram(now), Value::Histogram(gone))
                if now.count < last.count =>
            {
                gone.lose(last, now);
            }
            _ => {}
        }
        held.last = now.clone();
        let mut shown = now.clone();
        shown.add(&held.gone);
        shown
    }

    /// Forgets what was not shown since this was called last.
    fn settle(&mut self) {
        self.0.retain(|_, held| std::mem::take(&mut held.shown));
    }
}

impl Families {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, ..Self::default() }
    }

    /// Those of a registry. A label without a value is one that a series has not: to
    /// Prometheus they are the same, and people read less.
    pub(super) fn gathered(&mut self, families: &[MetricFamily]) {
        for family in families {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                MetricType::HISTOGRAM => Kind::Histogram,
                _ => Kind::Gauge,
            };
            let at = self.family(family.name(), family.help(), kind);
            for metric in family.get_metric() {
                let labels = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
                let labels = labels.filter(|(_, value)| !value.is_empty());
                self.push(at, labels, value(metric, kind));
            }
        }
    }

    /// The samples of one source.
    pub(super) fn read(
        &mut self,
        families: &'static [Family],
        read: impl Fn(&mut dyn FnMut(Sample<'_>)),
    ) {
        let mut known: Vec<Option<usize>> = vec![None; families.len()];
        read(&mut |sample| {
            let family = families.iter().zip(&mut known).find(|(family, _)| {
                family.name == sample.name && family.labels.len() == sample.labels.len()
            });
            let Some((family, at)) = family else {
                tracing::error!(name = sample.name, "a sample is of none of its source's families");
                return;
            };
            let at = match at {
                Some(at) => *at,
                none => *none.insert(self.family(family.name, family.help, family.kind)),
            };
            let labels = family.labels.iter().copied().zip(sample.labels.iter().copied());
            self.push(at, labels, Value::Number(sample.value));
        });
    }

    /// The family `name`, made if it is new.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.all.len();
        self.by_name.insert(name.to_owned(), at);
        self.all.push(Shown {
            help: help.to_owned(),
            kind,
            text: String::new(),
            series: Vec::new(),
            sums: HashMap::new(),
        });
        at
    }

    /// One more series of a family.
    pub(super) fn push<'a>(
        &mut self,
        family: usize,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: Value,
    ) {
        let folds = self.detail == Detail::Host;
        let shown = &mut self.all[family];
        let start = shown.text.len();
        for (name, value) in labels {
            if folds && name == SERVICE {
                continue;
            }
            if shown.text.len() > start {
                shown.text.push(',');
            }
            shown.text.push_str(name);
            shown.text.push_str("=\"");
            escape(value, true, &mut shown.text);
            shown.text.push('"');
        }
        let labels = start..shown.text.len();
        if folds {
            let own = &shown.text[labels.clone()];
            if let Some(at) = shown.sums.get(own) {
                shown.series[*at].value.add(&value);
                shown.text.truncate(start);
                return;
            }
            shown.sums.insert(own.into(), shown.series.len());
        }
        shown.series.push(Series { labels, value });
    }

    /// The text, by name and labels, each series once; a family without series is not in
    /// it.
    pub(super) fn encode(self, ratchet: &mut Ratchet) -> String {
        let Self { detail, mut all, by_name } = self;
        let mut text = String::new();
        for (name, at) in by_name {
            let Shown { help, kind, text: labels, series, .. } = &mut all[at];
            if series.is_empty() {
                continue;
            }
            let of = |series: &Series| &labels[series.labels.clone()];
            series.sort_by(|a, b| of(a).cmp(of(b)));
            series.dedup_by(|a, b| of(a) == of(b));
            let lines: usize = series.iter().map(|one| of(one).len() + name.len() + 8).sum();
            text.reserve(lines + 2 * (name.len() + help.len()));
            text.push_str("# HELP ");
            text.push_str(&name);
            text.push(' ');
            escape(help, false, &mut text);
            write(&mut text, format_args!("\n# TYPE {name} {}\n", kind.label()));
            for one in &*series {
                let labels = of(one);
                if detail == Detail::Host && *kind != Kind::Gauge {
                    let held = ratchet.hold(&name, labels, &one.value);
                    line(&mut text, &name, labels, &held);
                } else {
                    line(&mut text, &name, labels, &one.value);
                }
            }
        }
        ratchet.settle();
        text
    }
}

/// What a metric of a registry has.
fn value(metric: &Metric, kind: Kind) -> Value {
    match kind {
        Kind::Counter => Value::Number(metric.get_counter().get_value()),
        Kind::Gauge => Value::Number(metric.get_gauge().get_value()),
        Kind::Histogram => Value::Histogram(Box::new(Counts::of(metric.get_histogram()))),
    }
}

/// The line of a series, or those of a histogram.
fn line(text: &mut String, name: &str, labels: &str, value: &Value) {
    match value {
        Value::Number(value) => sample(text, name, "", labels, None, *value),
        Value::Histogram(counts) => {
            let bounds = counts.bounds.iter().zip(&counts.cumulative);
            for (bound, count) in bounds {
                sample(text, name, "_bucket", labels, Some(*bound), *count as f64);
            }
            sample(text, name, "_bucket", labels, Some(f64::INFINITY), counts.count as f64);
            sample(text, name, "_sum", labels, None, counts.sum);
            sample(text, name, "_count", labels, None, counts.count as f64);
        }
    }
}

fn sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    bound: Option<f64>,
    value: f64,
) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || bound.is_some() {
        text.push('{');
        text.push_str(labels);
        if let Some(bound) = bound {
            if !labels.is_empty() {
                text.push(',');
            }
            text.push_str("le=\"");
            number(text, bound);
            text.push('"');
        }
        text.push('}');
    }
    text.push(' ');
    number(text, value);
    text.push('\n');
}

/// A number as the format has it.
fn number(text: &mut String, value: f64) {
    /// Whole numbers below are exact, and written quicker as such.
    const EXACT: f64 = 9e15;
    if value == f64::INFINITY {
        text.push_str("+Inf");
    } else if value == f64::NEG_INFINITY {
        text.push_str("-Inf");
    } else if value == value.trunc() && value.abs() < EXACT {
        write(text, format_args!("{}", value as i64));
    } else {
        write(text, format_args!("{value}"));
    }
}

/// A string takes everything.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// A text in which nothing ends what it stands in.
fn escape(value: &str, quotes: bool, text: &mut String) {
    let special = |c: char| matches!(c, '\\' | '\n') || (quotes && c == '"');
    let mut rest = value;
    while let Some(at) = rest.find(special) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        text.push_str(match from.as_bytes()[0] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &from[1..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: f64) -> String {
        let mut text = String::new();
        number(&mut text, value);
        text
    }

    #[test]
    fn numbers_are_written_as_the_format_has_them() {
        assert_eq!(shown(3.0), "3");
        assert_eq!(shown(-0.5), "-0.5");
        assert_eq!(shown(1e-7), "0.0000001");
        assert_eq!(shown(1e18), "1000000000000000000");
        assert_eq!(shown(f64::INFINITY), "+Inf");
        assert_eq!(shown(f64::NEG_INFINITY), "-Inf");
        assert_eq!(shown(f64::NAN), "NaN");
    }

    #[test]
    fn what_is_added_up_never_falls_unless_it_is_a_gauge() {
        const FAMILIES: &[Family] = &[
            Family::counter("ron_done_total", "Done.", &["service", "how"]),
            Family::gauge("ron_open", "Open.", &["service"]),
        ];
        let mut ratchet = Ratchet::default();
        let mut scrape = |done: &[(&str, f64)]| {
            let mut families = Families::new(Detail::Host);
            families.read(FAMILIES, |give| {
                for (service, value) in done {
                    let labels = &[*service, "well"];
                    give(Sample { name: "ron_done_total", labels, value: *value });
                    give(Sample { name: "ron_open", labels: &labels[..1], value: *value });
                }
            });
            let histogram = families.family("took_seconds", "Took.", Kind::Histogram);
            for (service, value) in done {
                let mut counts = Counts::empty(&[1.0, 10.0]);
                (0..*value as u64).for_each(|_| counts.observe(2.0));
                let labels = std::iter::once(("service", *service));
                families.push(histogram, labels, Value::Histogram(Box::new(counts)));
            }
            let text = families.encode(&mut ratchet);
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = |done: u64, open: u64| {
            [
                format!("ron_done_total{{how=\"well\"}} {done}"),
                format!("ron_open {open}"),
                "took_seconds_bucket{le=\"1\"} 0".to_owned(),
                format!("took_seconds_bucket{{le=\"10\"}} {done}"),
                format!("took_seconds_bucket{{le=\"+Inf\"}} {done}"),
                format!("took_seconds_sum {}", 2 * done),
                format!("took_seconds_count {done}"),
            ]
        };
        assert_eq!(scrape(&[("a", 3.0), ("b", 4.0)]), expected(7, 7));
        assert_eq!(scrape(&[("b", 4.0)]), expected(7, 4));
        assert_eq!(scrape(&[("b", 6.0)]), expected(9, 6));
        assert_eq!(scrape(&[("b", 6.0), ("a", 1.0)]), expected(10, 7));
    }
}
