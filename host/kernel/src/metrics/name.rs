//! What a service may call its metrics, and the errors that say which rule was
//! broken.
//!
//! The rules are those of Prometheus and of `promtool check metrics`, so that a
//! scrape stays valid and lints clean whatever a service does; and the host's
//! own names are its own, so that an alert on `service_crashes_total` cannot be
//! forged by a service.

use std::borrow::Cow;

use super::Kind;

/// Most labels a series may have, `service` not counted.
pub(super) const MAX_LABELS: usize = 8;
/// Longest metric or label name, in bytes.
pub(super) const MAX_NAME: usize = 128;
/// Longest label value, in bytes. The rest is cut off: unlike a name, a value
/// is data, and too long a one is no mistake of the program's.
pub(super) const MAX_VALUE: usize = 128;

/// Names that belong to the host: whole, or the beginning of one.
const RESERVED: &[&str] = &["request_latency_seconds", "rejected_total"];
const RESERVED_PREFIXES: &[&str] = &["ron_", "bus_", "service_", "process_"];
/// Suffixes that a histogram's own series have.
const SERIES_SUFFIXES: &[&str] = &["_bucket", "_sum", "_count"];

/// Why a metric that a service reported was not taken. Names in it are cut to a
/// readable length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// The metric's name breaks a rule.
    #[error("metric name `{name}`: {rule}")]
    Name {
        /// As it was given.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// The metric's name belongs to the host.
    #[error(
        "metric name `{name}` belongs to the host, as do request_latency_seconds, \
         rejected_total and all that begin with ron_, bus_, service_ or process_"
    )]
    Reserved {
        /// As it was given.
        name: String,
    },
    /// A label breaks a rule.
    #[error("label `{label}`: {rule}")]
    Label {
        /// As it was given.
        label: String,
        /// The rule.
        rule: &'static str,
    },
    /// Too many labels.
    #[error("{given} labels, where at most {MAX_LABELS} are allowed")]
    TooManyLabels {
        /// How many there were.
        given: usize,
    },
    /// The labels are not those that this metric has had so far.
    #[error("metric `{name}` has the labels [{expected}], as in its first use")]
    LabelSet {
        /// The metric.
        name: String,
        /// Its labels.
        expected: String,
    },
    /// The name is in use, by this service or another, for another kind.
    #[error("metric `{name}` is a {} already", .is.label())]
    OtherKind {
        /// The metric.
        name: String,
        /// What it is.
        is: Kind,
    },
    /// The service has as many names as it may have series.
    #[error("more than {limit} metric names, the service's limit of series")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// The value cannot be taken.
    #[error("metric `{name}`: {rule}")]
    Value {
        /// The metric.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// The service is no longer known to the host.
    #[error("the service was removed")]
    Forgotten,
}

impl MetricError {
    /// The `reason` label of `ron_metric_refused_total`: a closed set.
    #[must_use]
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Name { .. } => "name",
            Self::Reserved { .. } => "reserved",
            Self::Label { .. } | Self::TooManyLabels { .. } => "label",
            Self::LabelSet { .. } => "label-set",
            Self::OtherKind { .. } => "kind",
            Self::TooManyNames { .. } => "limit",
            Self::Value { .. } => "value",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The name under which a metric is shown: a counter's gets `_total` when it
/// has it not, everything else stays.
pub(super) fn shown(kind: Kind, name: &str) -> Cow<'_, str> {
    if kind == Kind::Counter && !name.ends_with("_total") {
        format!("{name}_total").into()
    } else {
        name.into()
    }
}

/// Check a name as [`shown`].
pub(super) fn check_name(kind: Kind, name: &str) -> Result<(), MetricError> {
    let refused = |rule| Err(MetricError::Name { name: cut(name), rule });
    if name.len() > MAX_NAME {
        return refused("a name has at most 128 bytes, the _total of a counter included");
    }
    if name.contains(':') {
        return refused("colons are for recording rules");
    }
    if !is_identifier(name) {
        return refused("a name is a letter or `_`, then letters, digits and `_`");
    }
    if RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|p| name.starts_with(p)) {
        return Err(MetricError::Reserved { name: cut(name) });
    }
    if kind != Kind::Counter {
        if name.ends_with("_total") {
            return refused("only a counter's name ends in _total");
        }
        if SERIES_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            return refused("_bucket, _sum and _count are the endings of a histogram's series");
        }
    }
    Ok(())
}

/// Check the labels of one series.
pub(super) fn check_labels<'a>(
    labels: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<(), MetricError> {
    let given = labels.len();
    if given > MAX_LABELS {
        return Err(MetricError::TooManyLabels { given });
    }
    for (at, label) in labels.clone().enumerate() {
        let refused = |rule| Err(MetricError::Label { label: cut(label), rule });
        if label.len() > MAX_NAME {
            return refused("a label's name has at most 128 bytes");
        }
        if !is_identifier(label) {
            return refused("a label's name is a letter or `_`, then letters, digits and `_`");
        }
        if label.starts_with("__") {
            return refused("names that begin with __ are Prometheus' own");
        }
        if matches!(label, "service" | "le" | "quantile") {
            return refused("service, le and quantile are set by the host");
        }
        if labels.clone().take(at).any(|before| before == label) {
            return refused("each label stands once");
        }
    }
    Ok(())
}

/// A label value, cut to [`MAX_VALUE`] bytes at a character's end.
pub(super) fn cut_value(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

/// A name for an error's text: a guest's is as long as it likes.
pub(super) fn cut(name: &str) -> String {
    name[..name.floor_char_boundary(64)].escape_debug().to_string()
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: Kind, given: &str) -> Result<(), &'static str> {
        check_name(kind, &shown(kind, given)).map_err(|error| error.label())
    }

    #[test]
    fn names_follow_prometheus_and_leave_the_host_its_own() {
        let long = "a".repeat(123);
        for (kind, given, expected) in [
            (Kind::Counter, "orders", Ok(())),
            (Kind::Counter, "orders_total", Ok(())),
            (Kind::Counter, "retry_count", Ok(())),
            (Kind::Counter, "_x9", Ok(())),
            (Kind::Counter, &long[1..], Ok(())),
            (Kind::Counter, &long, Err("name")),
            (Kind::Gauge, &long, Ok(())),
            (Kind::Gauge, "Depth", Ok(())),
            (Kind::Gauge, "", Err("name")),
            (Kind::Gauge, "9x", Err("name")),
            (Kind::Gauge, "a-b", Err("name")),
            (Kind::Gauge, "a:b", Err("name")),
            (Kind::Gauge, "ä", Err("name")),
            (Kind::Gauge, "a\nb 1", Err("name")),
            (Kind::Gauge, "x_total", Err("name")),
            (Kind::Gauge, "x_count", Err("name")),
            (Kind::Histogram, "x_bucket", Err("name")),
            (Kind::Histogram, "x_sum", Err("name")),
            (Kind::Counter, "service_crashes_total", Err("reserved")),
            (Kind::Counter, "rejected", Err("reserved")),
            (Kind::Counter, "rejected_total", Err("reserved")),
            (Kind::Histogram, "request_latency_seconds", Err("reserved")),
            (Kind::Gauge, "ron_x", Err("reserved")),
            (Kind::Gauge, "bus_x", Err("reserved")),
            (Kind::Gauge, "process_x", Err("reserved")),
        ] {
            assert_eq!(name(kind, given), expected, "{kind:?} {given}");
        }
    }

    #[test]
    fn labels_follow_prometheus() {
        let check = |labels: &[&str]| check_labels(labels.iter().copied());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["a", "_b", "c9", "d", "e", "f", "g", "h"]), Ok(()));
        assert_eq!(check(&["x"; 9]), Err(MetricError::TooManyLabels { given: 9 }));
        for label in ["", "9", "a-b", "a:b", "__a", "service", "le", "quantile", &"a".repeat(129)] {
            assert_eq!(check(&[label]).map_err(|error| error.label()), Err("label"), "{label}");
        }
        assert!(check(&["a", "b", "a"]).is_err(), "twice");
    }

    #[test]
    fn values_and_texts_are_cut_at_a_character() {
        assert_eq!(cut_value("short"), "short");
        assert_eq!(cut_value(&"ä".repeat(100)), "ä".repeat(64));
        assert_eq!(cut_value(&format!("a{}", "ä".repeat(100))).len(), 127);
        let error = check_name(Kind::Gauge, &"\n".repeat(9999)).expect_err("not a name");
        assert!(error.to_string().len() < 300 && !error.to_string().contains('\n'));
    }
}
