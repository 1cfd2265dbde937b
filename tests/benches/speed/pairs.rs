//! A measured thing and its floor, sampled in turn by criterion.

use std::cell::RefCell;
use std::time::Duration;

use criterion::Criterion;

/// Runs so many iterations and says how long they took.
pub(crate) type Run<'r> = &'r mut dyn FnMut(u64) -> Duration;

struct Row {
    name: String,
    floor: f64,
    ours: f64,
    ratio: f64,
    goal: Goal,
}

/// What the ratio should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Measured over floor, at most.
    AtMost(f64),
    /// Floor over measured, at least: so many times faster.
    Faster(f64),
    /// Shown for what it is.
    None,
}

/// All pairs of a run.
pub(crate) struct Pairs {
    criterion: Criterion,
    filter: Option<String>,
    rows: Vec<Row>,
}

impl Pairs {
    /// Reads criterion's command line.
    pub(crate) fn from_args() -> Self {
        let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
        let criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .sample_size(30)
            .configure_from_args();
        Self { criterion, filter, rows: Vec::new() }
    }

    /// Whether a name was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// Measures one pair.
    pub(crate) fn measure(&mut self, name: &str, goal: Goal, floor: Run<'_>, ours: Run<'_>) {
        if !self.wants(name) {
            return;
        }
        let samples = RefCell::new(Vec::new());
        let mut floor_first = false;
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                floor_first = !floor_first;
                let per = |took: Duration| took.as_nanos() as f64 / iterations as f64;
                let (floor, took) = if floor_first {
                    let floor = floor(iterations);
                    (floor, ours(iterations))
                } else {
                    let took = ours(iterations);
                    (floor(iterations), took)
                };
                samples.borrow_mut().push((per(floor), per(took)));
                took
            });
        });
        let mut samples = samples.into_inner();
        // The warm-up's samples come first and have few iterations.
        let kept = samples.split_off(samples.len().saturating_sub(30));
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = kept.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        self.rows.push(Row {
            name: name.to_owned(),
            floor: median(|sample| sample.0),
            ours: median(|sample| sample.1),
            ratio: median(|sample| sample.1 / sample.0),
            goal,
        });
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        if self.rows.is_empty() {
            return;
        }
        println!("\n{:<44} {:>12} {:>12} {:>8}  goal", "pair", "floor", "measured", "ratio");
        for row in &self.rows {
            let (ratio, goal, met) = match row.goal {
                Goal::AtMost(goal) => (row.ratio, format!("<= {goal}"), row.ratio <= goal),
                Goal::None => (row.ratio, "none".to_owned(), true),
                Goal::Faster(goal) => {
                    let faster = 1.0 / row.ratio;
                    (faster, format!(">= {goal} times faster"), faster >= goal)
                }
            };
            println!(
                "{:<44} {:>9.0} ns {:>9.0} ns {:>8.2}  {goal}{}",
                row.name,
                row.floor,
                row.ours,
                ratio,
                if met { "" } else { "  MISSED" }
            );
        }
    }
}
