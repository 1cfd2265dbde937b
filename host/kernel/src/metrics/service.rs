//! What services report of themselves, bounded.
//!
//! A service is not trusted with the host's memory or with the size of a
//! scrape. So there is a limit on its series, and its names count too; past it
//! nothing is lost but detail: the value goes to the series of the same metric
//! whose labels all read `other`, of which there is one a name. A limit that
//! dropped values was rejected, as sums over the metric would silently be too
//! small. To make that one series well-defined, a metric keeps within a service
//! the label names of its first use, as every Prometheus library asks for.
//!
//! The tables are by service, each with its own lock: a service that reports
//! heavily waits for nobody but a scrape. Names are shared in one respect, their
//! kind, because a family has one `# TYPE`.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;

use super::families::{Families, Family, Kind, Sample, Value as Shown};
use super::histogram::Buckets;
use super::name::{MAX_LABELS, MetricError, check_labels, check_name, cut, cut_value, shown};

/// A service's limit of series where nothing else is configured.
pub const DEFAULT_SERIES_LIMIT: usize = 64;

/// What the labels of a folded series read.
const OTHER: &str = "other";

const HELP: &str = "Reported by services.";

const FOLDED: &str = "ron_metric_series_folded_total";
const REFUSED: &str = "ron_metric_refused_total";
const FAMILIES: &[Family] = &[
    Family::counter(
        FOLDED,
        "Values that went to an `other` series, past a service's limit of series.",
        &["service"],
    ),
    Family::counter(
        REFUSED,
        "Values that a service reported and the host did not take.",
        &["service", "reason"],
    ),
];

/// The handle with which one service reports of itself. Clones are the same.
///
/// Names and labels follow Prometheus; a counter's name gets `_total` when it
/// has it not. A metric has at most 8 labels, always the same ones, and shows
/// with a label `service` before them. Label values are cut to 128 bytes. A
/// name that is one kind of metric, here or in another service, cannot be used
/// as another. Every value that is not taken is counted in
/// `ron_metric_refused_total`, so a caller that has nobody to tell may drop the
/// error.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    reported: Arc<Reported>,
    table: Arc<Mutex<Table>>,
}

impl ServiceMetrics {
    /// Add `delta` to a counter. It stops at the largest `u64`.
    ///
    /// # Errors
    ///
    /// [`MetricError`] says which rule was broken; the value is not taken.
    pub fn add<K, V>(&self, name: &str, labels: &[(K, V)], delta: u64) -> Result<(), MetricError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        self.update(Kind::Counter, name, labels, Ok(()), |value| {
            if let Value::Counter(count) = value {
                *count = count.saturating_add(delta);
            }
        })
    }

    /// Set a gauge: any value but NaN.
    ///
    /// # Errors
    ///
    /// [`MetricError`] says which rule was broken; the value is not taken.
    pub fn set<K, V>(&self, name: &str, labels: &[(K, V)], value: f64) -> Result<(), MetricError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let rule = if value.is_nan() { Err("a gauge is not NaN") } else { Ok(()) };
        self.update(Kind::Gauge, name, labels, rule, |gauge| {
            if let Value::Gauge(gauge) = gauge {
                *gauge = value;
            }
        })
    }

    /// Observe a value in a histogram: finite and not negative, as the sum of
    /// all is shown as a number that only grows.
    ///
    /// Its buckets follow from the name. One that ends in `_seconds` has those
    /// of `request_latency_seconds`, 100 µs to 10 s; `_bytes` has powers of
    /// four from 64 to 16 MiB; any other has powers of ten from 0.001 to a
    /// million.
    ///
    /// # Errors
    ///
    /// [`MetricError`] says which rule was broken; the value is not taken.
    pub fn observe<K, V>(
        &self,
        name: &str,
        labels: &[(K, V)],
        value: f64,
    ) -> Result<(), MetricError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let good = value.is_finite() && value >= 0.0;
        let rule = if good { Ok(()) } else { Err("a histogram takes finite values from 0") };
        self.update(Kind::Histogram, name, labels, rule, |histogram| {
            if let Value::Histogram(buckets) = histogram {
                buckets.observe(value);
            }
        })
    }

    fn update<K: AsRef<str>, V: AsRef<str>>(
        &self,
        kind: Kind,
        name: &str,
        labels: &[(K, V)],
        value: Result<(), &'static str>,
        apply: impl FnOnce(&mut Value),
    ) -> Result<(), MetricError> {
        let mut table = self.table.lock();
        let result = match value {
            Ok(()) => table.series(&self.reported, kind, name, labels).map(apply),
            Err(rule) => Err(MetricError::Value { name: cut(name), rule }),
        };
        result.inspect_err(|error| *table.refused.entry(error.label()).or_default() += 1)
    }
}

/// What all services report.
#[derive(Debug, Default)]
pub(super) struct Reported {
    services: Mutex<BTreeMap<String, Arc<Mutex<Table>>>>,
    /// Of what kind each name is, and how many services use it. Locked within
    /// a table's lock, never around one.
    kinds: Mutex<HashMap<String, (Kind, usize)>>,
}

impl Reported {
    pub(super) fn handle(this: &Arc<Self>, service: &str, limit: usize) -> ServiceMetrics {
        let mut services = this.services.lock();
        let table = Arc::clone(services.entry(service.to_owned()).or_default());
        drop(services);
        table.lock().limit = limit;
        ServiceMetrics { reported: Arc::clone(this), table }
    }

    pub(super) fn forget(&self, service: &str) {
        let Some(table) = self.services.lock().remove(service) else { return };
        let mut table = table.lock();
        table.forgotten = true;
        let mut kinds = self.kinds.lock();
        for (name, _) in table.metrics.drain() {
            if let Some((_, users)) = kinds.get_mut(&*name) {
                *users -= 1;
                if *users == 0 {
                    kinds.remove(&*name);
                }
            }
        }
    }

    /// Use `name` as a `kind` from now on, in one more service.
    fn claim(&self, kind: Kind, name: &str) -> Result<(), MetricError> {
        let mut kinds = self.kinds.lock();
        let (is, users) = kinds.entry_ref(name).or_insert((kind, 0));
        if *is != kind {
            return Err(MetricError::OtherKind { name: cut(name), is: *is });
        }
        *users += 1;
        Ok(())
    }

    pub(super) fn collect(&self, families: &mut Families) {
        let services = self.services.lock().clone();
        for (service, table) in &services {
            let table = table.lock();
            for (name, own) in &table.metrics {
                let family = families.family(name, HELP, own.kind);
                for (values, value) in &own.series {
                    let labels = own.labels.iter().zip(values.iter());
                    let labels = labels.map(|(name, value)| (&**name, &**value));
                    let labels = std::iter::once(("service", service.as_str())).chain(labels);
                    families.push(family, labels, value.shown());
                }
            }
            families.read(FAMILIES, |give| {
                give(Sample { name: FOLDED, labels: &[service], value: table.folded as f64 });
                for (reason, refused) in &table.refused {
                    let labels = &[service.as_str(), reason];
                    give(Sample { name: REFUSED, labels, value: *refused as f64 });
                }
            });
        }
    }
}

/// What one service reports.
#[derive(Debug, Default)]
struct Table {
    limit: usize,
    /// Series of the service's own making; `other` series are not counted.
    own: usize,
    metrics: HashMap<Box<str>, Reports>,
    folded: u64,
    refused: BTreeMap<&'static str, u64>,
    forgotten: bool,
}

/// One metric of one service.
#[derive(Debug)]
struct Reports {
    kind: Kind,
    /// Sorted.
    labels: Box<[Box<str>]>,
    /// By the labels' values, in the order of `labels`.
    series: HashMap<Box<[Box<str>]>, Value>,
}

impl Table {
    /// The value to update: of the series asked for, or of the `other` one.
    fn series<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        reported: &Reported,
        kind: Kind,
        name: &str,
        labels: &[(K, V)],
    ) -> Result<&mut Value, MetricError> {
        if self.forgotten {
            return Err(MetricError::Forgotten);
        }
        let name = shown(kind, name);
        if !self.metrics.contains_key(&*name) {
            self.introduce(reported, kind, &name, labels)?;
        }
        let metric = self.metrics.get_mut(&*name).expect("it was there or was introduced");
        if metric.kind != kind {
            return Err(MetricError::OtherKind { name: cut(&name), is: metric.kind });
        }
        let mut values = [""; MAX_LABELS];
        let Some(values) = metric.values(labels, &mut values) else {
            check_labels(labels.iter().map(|(label, _)| label.as_ref()))?;
            let expected = metric.labels.join(", ");
            return Err(MetricError::LabelSet { name: cut(&name), expected });
        };
        let others = [OTHER; MAX_LABELS];
        let mut key = Values(values);
        if !metric.series.contains_key(&key) {
            if self.own < self.limit {
                self.own += 1;
            } else {
                self.folded += 1;
                key = Values(&others[..values.len()]);
            }
            if !metric.series.contains_key(&key) {
                metric.series.insert(key.own(), Value::new(kind, &name));
            }
        }
        Ok(metric.series.get_mut(&key).expect("it was there or was inserted"))
    }

    /// Take up a name that the service did not use yet.
    fn introduce<K: AsRef<str>, V>(
        &mut self,
        reported: &Reported,
        kind: Kind,
        name: &str,
        labels: &[(K, V)],
    ) -> Result<(), MetricError> {
        check_name(kind, name)?;
        check_labels(labels.iter().map(|(label, _)| label.as_ref()))?;
        if self.metrics.len() >= self.limit {
            return Err(MetricError::TooManyNames { limit: self.limit });
        }
        reported.claim(kind, name)?;
        let mut labels: Box<[Box<str>]> =
            labels.iter().map(|(label, _)| label.as_ref().into()).collect();
        labels.sort_unstable();
        self.metrics.insert(name.into(), Reports { kind, labels, series: HashMap::new() });
        Ok(())
    }
}

impl Reports {
    /// The values of `given` in the order of this metric's labels, unless they
    /// are of other labels.
    fn values<'a, 'b, K: AsRef<str>, V: AsRef<str>>(
        &self,
        given: &'a [(K, V)],
        values: &'b mut [&'a str; MAX_LABELS],
    ) -> Option<&'b [&'a str]> {
        if given.len() != self.labels.len() {
            return None;
        }
        for (value, label) in values.iter_mut().zip(&self.labels) {
            let (_, found) = given.iter().find(|(given, _)| given.as_ref() == &**label)?;
            *value = cut_value(found.as_ref());
        }
        Some(&values[..given.len()])
    }
}

/// The values of a series' labels, borrowed: looking one up allocates nothing.
struct Values<'a>(&'a [&'a str]);

impl Hash for Values<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A slice of `&str` hashes as one of `Box<str>` does.
        self.0.hash(state);
    }
}

impl Equivalent<Box<[Box<str>]>> for Values<'_> {
    fn equivalent(&self, key: &Box<[Box<str>]>) -> bool {
        self.0.iter().copied().eq(key.iter().map(|value| &**value))
    }
}

impl Values<'_> {
    fn own(&self) -> Box<[Box<str>]> {
        self.0.iter().map(|value| Box::from(*value)).collect()
    }
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Buckets),
}

impl Value {
    fn new(kind: Kind, name: &str) -> Self {
        match kind {
            Kind::Counter => Self::Counter(0),
            Kind::Gauge => Self::Gauge(0.0),
            Kind::Histogram => Self::Histogram(Buckets::of(name)),
        }
    }

    fn shown(&self) -> Shown {
        match self {
            Self::Counter(count) => Shown::Number(*count as f64),
            Self::Gauge(value) => Shown::Number(*value),
            Self::Histogram(buckets) => Shown::Histogram(Box::new(buckets.counts())),
        }
    }
}

#[cfg(test)]
mod tests;
