//! Calls of the contract's imports, each named by a line of text.

use std::time::Duration;

use ron_guest::{Error, bus, config, health, identity, log, metrics, timer};

/// `call` names one function, `rest` its arguments, a space between them.
pub fn call(call: &str, rest: &str) -> Result<String, Error> {
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok(match call {
        "bus.publish" => said(bus::publish(first, second)),
        // `bus.publish-bytes TOPIC N` publishes N zeros.
        "bus.publish-bytes" => said(bus::publish(first, vec![0; second.parse()?])),
        "bus.request" => {
            let answer = bus::request(first, second, Duration::from_secs(1));
            said(answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        }
        "bus.subscribe" => said(bus::subscribe(first).map(|()| "done")),
        "bus.unsubscribe" => said(bus::unsubscribe(first).map(|()| "done")),

        "config.get" => config::get(first).unwrap_or("none".into()),
        "config.entries" => {
            let lines: Vec<_> =
                config::entries().iter().map(|(key, value)| format!("{key}={value}")).collect();
            lines.join("\n")
        }
        "config.version" => config::version().to_string(),

        "identity" => {
            let identity::Instance { service, generation, replica } = identity::get();
            format!("{service} {generation} {replica}")
        }

        // `timer.FUNCTION NAME MILLISECONDS`
        "timer.after" => {
            said(timer::after(first, Duration::from_millis(second.parse()?)).map(|()| "done"))
        }
        "timer.every" => {
            said(timer::every(first, Duration::from_millis(second.parse()?)).map(|()| "done"))
        }

        _ => {
            act(call, rest, first, second)?;
            "done".into()
        }
    })
}

/// What the bus answered, in words.
fn said(result: Result<impl ToString, bus::Error>) -> String {
    result.map_or_else(|error| format!("error: {error:?}"), |answer| answer.to_string())
}

/// The functions that return nothing.
fn act(call: &str, rest: &str, first: &str, second: &str) -> Result<(), Error> {
    match call {
        "health.ok" => health::ok(),
        "health.degraded" => health::degraded(rest),
        "health.failing" => health::failing(rest),

        // `log.LEVEL TEXT`, with two fields, as a module of that name would.
        "log.trace" => log::trace!(target: "probe", probe = "yes", length = rest.len(); "{rest}"),
        "log.debug" => log::debug!(target: "probe", probe = "yes", length = rest.len(); "{rest}"),
        "log.info" => log::info!(target: "probe", probe = "yes", length = rest.len(); "{rest}"),
        "log.warn" => log::warn!(target: "probe", probe = "yes", length = rest.len(); "{rest}"),
        "log.error" => log::error!(target: "probe", probe = "yes", length = rest.len(); "{rest}"),
        "stdout" => println!("{rest}"),
        #[allow(clippy::print_stderr, reason = "what becomes of stderr is the question")]
        "stderr" => eprintln!("{rest}"),

        // `metrics.FUNCTION NAME VALUE`, with one label.
        "metrics.add" => metrics::add(first, &[("probe", "yes")], second.parse()?),
        "metrics.set" => metrics::set(first, &[("probe", "yes")], second.parse()?),
        "metrics.observe" => metrics::observe(first, &[("probe", "yes")], second.parse()?),
        // `metrics.series NAME N` adds 1 to each of N series.
        "metrics.series" => {
            for series in 0..second.parse::<u32>()? {
                metrics::add(first, &[("series", &series.to_string())], 1);
            }
        }

        "timer.cancel" => timer::cancel(first),

        _ => return Err(Error::reject(format!("nothing is called `{call}`"))),
    }
    Ok(())
}
