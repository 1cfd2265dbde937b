//! `ron-host bench`: has a host put a load on its bus, and shows what came of it.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::args::wait;
use super::show::table;
use super::{Ctl, CtlError, Done, from_file, out, quiet};
use crate::control::client::{Ask, Lines, quoted};
use crate::control::default_path;
use crate::control::wire::{BenchLine, BenchReport, BenchSecond, Latency};

/// Bytes that are sent, unless it is said what.
const SIZE: usize = 64;

/// Put a load on the bus of a running host, and measure it.
#[derive(Debug, Args)]
#[command(after_help = "\
The host sends the messages itself, on the threads of its services, as one of them would.
Each task sends the next message when the one before is done. With --rate, a message that is
late for that counts from when it was due, so that latencies leave nobody out (coordinated
omission); without, tasks send as fast as they are answered.

Ctrl-C ends it early, and shows what came of it until then. The exit code is 1 when messages
failed.

Examples:
  ron-host bench request pricing.quote --tasks 16
  ron-host bench request pricing.quote 'EUR 12' --rate 5000 --duration 1m
  ron-host bench publish orders.new --size 1024 --rate 50000")]
pub(crate) struct BenchArgs {
    /// Whether each message is to be answered
    #[arg(value_enum)]
    what: What,
    /// Where to
    topic: String,
    /// What to say
    payload: Option<String>,
    /// A file with what to say
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// Say this many bytes, 64 unless it is said what to say
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["payload", "file"],
        value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: Option<u32>,
    /// How many send beside each other; 1024 at most
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    tasks: u16,
    /// Messages a second, of all tasks together [default: as fast as they are done]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// For how long: 10s, 1m; an hour at most
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = wait)]
    duration: Duration,
    /// Nothing counts before
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = wait)]
    warm_up: Duration,
    /// How long an answer is waited for
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = wait)]
    timeout: Duration,
    /// The host's control socket [default: as `ron-host ctl`]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print JSON: a line each second, and in the last what came of it
    #[arg(long)]
    json: bool,
}

/// Whether there are answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Each message is answered, and its time lasts until then
    Request,
    /// Its time lasts until mailboxes have it
    Publish,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate: f64 = text.parse().map_err(|_| "expected a number of messages a second")?;
    (rate > 0.0 && rate <= 1e9).then_some(rate).ok_or("expected more than 0, and 1e9 at most")
}

/// Runs it to its end.
pub(crate) fn bench(args: BenchArgs) -> ExitCode {
    let path = args.control.clone().unwrap_or_else(default_path);
    let ctl = Ctl { path, json: args.json };
    super::told(args.json, async { ctl.bench(args).await })
}

impl Ctl {
    async fn bench(&self, args: BenchArgs) -> Done {
        let load = match (&args.payload, &args.file) {
            (Some(payload), _) => payload.clone().into(),
            (None, Some(path)) => from_file(path)?,
            (None, None) => Bytes::from(vec![b'x'; args.size.map_or(SIZE, |size| size as usize)]),
        };
        let ms = |time: Duration| time.as_millis();
        let mut target = format!(
            "/v1/bench?topic={}&answers={}&tasks={}&duration_ms={}&warm_up_ms={}&timeout_ms={}",
            quoted(&args.topic),
            args.what == What::Request,
            args.tasks,
            ms(args.duration),
            ms(args.warm_up),
            ms(args.timeout),
        );
        if let Some(rate) = args.rate {
            target += &format!("&rate={rate}");
        }
        let size = load.len();
        let mut lines = Lines::of(self.ask(Ask::post(target, load)).await?);
        self.note(&heading(&args, size));
        let mut report = None;
        let mut stopped = false;
        loop {
            let whole = tokio::select! {
                whole = lines.next() => whole?,
                _ = tokio::signal::ctrl_c() => {
                    if std::mem::replace(&mut stopped, true) {
                        return Err(CtlError::Outcome("ended, and nothing is known of it".into()));
                    }
                    // Its answer goes on to what came of it.
                    self.ask(Ask::post("/v1/bench/stop", Bytes::new())).await?;
                    continue;
                }
            };
            let Some(whole) = whole else { break };
            for line in whole.lines() {
                if self.json {
                    out(&(quiet(line) + "\n"))?;
                }
                match serde_json::from_str::<BenchLine>(line) {
                    Ok(BenchLine::Second(second)) => self.note(&second_line(&second)),
                    Ok(BenchLine::Report(read)) => report = Some(read),
                    // A host of a later version may have more to tell.
                    Err(_) => {}
                }
            }
        }
        let Some(report) = report else {
            return Err(CtlError::Outcome("the host ended before the load did".into()));
        };
        if !self.json {
            out(&text(&report))?;
        }
        let failed: u64 = report.errors.values().sum();
        match failed {
            0 => Ok(()),
            _ => Err(CtlError::Outcome(format!("{} messages failed", number(failed)))),
        }
    }
}

fn heading(args: &BenchArgs, size: usize) -> String {
    let verb = match args.what {
        What::Request => "requesting",
        What::Publish => "publishing to",
    };
    let s = if args.tasks == 1 { "" } else { "s" };
    let rate = match args.rate {
        Some(rate) => format!("{rate} a second"),
        None => "as fast as it goes".to_owned(),
    };
    let time = |time: Duration| humantime::format_duration(time).to_string();
    format!(
        "{verb} {}: {size} bytes, {} task{s}, {rate}, for {} after {} of warm-up; Ctrl-C ends it",
        args.topic,
        args.tasks,
        time(args.duration),
        time(args.warm_up),
    )
}

fn second_line(second: &BenchSecond) -> String {
    let BenchSecond { at_s, done, errors, p50_us, p99_us, max_us } = second;
    let mut line = format!("{at_s:>5.0} s {:>11}/s", number(*done));
    if *done > 0 {
        let _ = write!(
            line,
            "   p50 {}   p99 {}   max {}",
            time(*p50_us),
            time(*p99_us),
            time(*max_us)
        );
    }
    if *errors > 0 {
        let _ = write!(line, "   {} failed", number(*errors));
    }
    line
}

/// What a person wants to know of it.
fn text(report: &BenchReport) -> String {
    let mut text = String::new();
    let what = if report.answers { "answered" } else { "taken in" };
    let mib = report.per_second * report.payload_bytes as f64 / f64::from(1 << 20);
    let _ = writeln!(
        text,
        "throughput  {}/s, {mib:.1} MiB/s: {} {what} in {:.1} s",
        number(report.per_second.round() as u64),
        number(report.done),
        report.seconds,
    );
    if !report.answers && report.delivered != report.done {
        let _ = writeln!(text, "mailboxes   took {} in", number(report.delivered));
    }
    if !report.errors.is_empty() {
        let errors = report.errors.iter().map(|(code, n)| format!("{} {code}", number(*n)));
        let _ = writeln!(text, "failed      {}", errors.collect::<Vec<_>>().join(", "));
    }
    if report.missed > 0 {
        let _ = writeln!(
            text,
            "not sent    {}: the tasks could not keep up with that rate, and more --tasks may",
            number(report.missed)
        );
    }
    if report.dropped > 0 {
        let _ = writeln!(text, "dropped     {} by full mailboxes", number(report.dropped));
    }
    if let Some(late) = &report.late {
        let at = |percentile: f64| {
            let found = late.percentiles.iter().find(|own| own.percentile == percentile);
            found.map_or_else(|| "-".to_owned(), |own| time(own.us))
        };
        let (p50, p99, max) = (at(50.0), at(99.0), time(late.max_us));
        let _ = writeln!(text, "sent late   p50 {p50}, p99 {p99}, max {max}");
    }
    if let Some(latency) = &report.latency {
        text.push_str(&latencies(latency));
    }
    text
}

fn latencies(latency: &Latency) -> String {
    let Latency { min_us, mean_us, stdev_us, percentiles, .. } = latency;
    let mut text = format!(
        "latency     min {}, mean {}, standard deviation {}\n",
        time(*min_us),
        time(*mean_us),
        time(*stdev_us)
    );
    let rows: Vec<_> = percentiles
        .iter()
        .map(|row| vec![format!("{} %", row.percentile), time(row.us), number(row.beyond)])
        .collect();
    for line in table(&["PERCENTILE", "LATENCY", "BEYOND"], &rows).lines() {
        let _ = writeln!(text, "            {line}");
    }
    text
}

/// With its thousands apart.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time to three digits, with its unit.
fn time(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1000.0 => (us, "us"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::Percentile;

    #[test]
    fn times_have_three_digits() {
        for (us, text) in [
            (0.31, "0.31 us"),
            (27.14, "27.1 us"),
            (999.4, "999 us"),
            (1234.0, "1.23 ms"),
            (2_500_000.0, "2.50 s"),
        ] {
            assert_eq!(time(us), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), text);
        }
    }

    #[test]
    fn a_report_says_what_was_not_done() {
        let report = BenchReport {
            topic: "a.b".into(),
            answers: true,
            payload_bytes: 1 << 20,
            tasks: 1,
            rate: Some(10.0),
            seconds: 2.0,
            done: 12_345,
            delivered: 12_345,
            per_second: 6172.5,
            errors: [("timeout".to_owned(), 3)].into(),
            missed: 7,
            dropped: 2,
            latency: Some(Latency {
                min_us: 1.0,
                mean_us: 2.0,
                stdev_us: 0.5,
                max_us: 4.0,
                percentiles: vec![
                    Percentile { percentile: 50.0, us: 2.0, beyond: 6000 },
                    Percentile { percentile: 100.0, us: 4.0, beyond: 0 },
                ],
            }),
            late: None,
        };
        assert_eq!(
            text(&report),
            "throughput  6,173/s, 6172.5 MiB/s: 12,345 answered in 2.0 s\n\
             failed      3 timeout\n\
             not sent    7: the tasks could not keep up with that rate, and more --tasks may\n\
             dropped     2 by full mailboxes\n\
             latency     min 1.00 us, mean 2.00 us, standard deviation 0.50 us\n            \
             PERCENTILE  LATENCY  BEYOND\n                  \
             50 %  2.00 us   6,000\n                 \
             100 %  4.00 us       0\n"
        );
    }
}
