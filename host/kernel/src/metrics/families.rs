//! What is shown at a scrape: families of samples, from the registry and from
//! elsewhere, in one valid text.
//!
//! [`Family`] and [`Sample`] are the kernel's own words for a metric, so that
//! what keeps a number need not know how it is exposed. The text is written by
//! `prometheus`' encoder; that each name stands once, sorted, and each series
//! once, is seen to here, because the encoder takes what it gets.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

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
pub(super) struct Families {
    by_name: BTreeMap<String, MetricFamily>,
}

impl Families {
    /// A label without a value is one that a series has not: to Prometheus they are the
    /// same, and people read less.
    pub(super) fn new(gathered: Vec<MetricFamily>) -> Self {
        let without = |mut family: MetricFamily| {
            for metric in family.mut_metric() {
                let mut labels = metric.take_label();
                labels.retain(|label| !label.value().is_empty());
                metric.set_label(labels);
            }
            (family.name().to_owned(), family)
        };
        Self { by_name: gathered.into_iter().map(without).collect() }
    }

    /// The samples of one source.
    pub(super) fn read(
        &mut self,
        families: &'static [Family],
        read: impl Fn(&mut dyn FnMut(Sample<'_>)),
    ) {
        read(&mut |sample| {
            let family = families.iter().find(|family| family.name == sample.name);
            let Some(family) = family.filter(|f| f.labels.len() == sample.labels.len()) else {
                tracing::error!(name = sample.name, "a sample is of none of its source's families");
                return;
            };
            let labels =
                family.labels.iter().zip(sample.labels).map(|(name, value)| pair(name, value));
            let metric = metric(labels.collect(), family.kind, sample.value);
            self.family(family.name, family.help, family.kind).mut_metric().push(metric);
        });
    }

    /// The family `name`, made if it is new.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind) -> &mut MetricFamily {
        // Not `entry`, which wants an owned name for each sample.
        if !self.by_name.contains_key(name) {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(match kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            self.by_name.insert(name.to_owned(), family);
        }
        self.by_name.get_mut(name).expect("it was there or was inserted")
    }

    /// The text; a family without series is not in it.
    pub(super) fn encode(self) -> String {
        let families: Vec<_> = self
            .by_name
            .into_values()
            .filter_map(|mut family| {
                let mut metrics = family.take_metric();
                metrics.sort_by(|a, b| labels(a).cmp(labels(b)));
                metrics.dedup_by(|a, b| a.get_label() == b.get_label());
                let some = !metrics.is_empty();
                family.set_metric(metrics);
                some.then_some(family)
            })
            .collect();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            // It fails only on a family without a name or without a metric,
            // and neither is left here.
            tracing::error!(%error, "metrics were not encoded in full");
        }
        text
    }
}

fn labels(metric: &Metric) -> impl Iterator<Item = (&str, &str)> {
    metric.get_label().iter().map(|pair| (pair.name(), pair.value()))
}

pub(super) fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// A counter's or a gauge's series.
pub(super) fn metric(labels: Vec<LabelPair>, kind: Kind, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
