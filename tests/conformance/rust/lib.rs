//! The conformance component in Rust; `tests/conformance/README.md` says what it does.

use std::time::Duration;

use ron_guest::log::Level;
use ron_guest::{
    Batch, Bulk, Error, Event, Handover, Message, Outcomes, Reply, Service, bus, config, health,
    identity, log, metrics, timer,
};

#[derive(Default)]
struct Conformance {
    counter: u64,
}

const LABELS: &[(&str, &str)] = &[("kind", "test")];

impl Service for Conformance {
    fn start() -> Result<Self, Error> {
        if let Some(text) = config::get("fail_start") {
            return Err(Error::reject(text));
        }
        bus::subscribe("do.>")?;
        log::info!("conformance: started");
        Ok(Self::default())
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if let Some(name) = message.timer() {
            bus::publish("seen.timer", name)?;
            return Ok(Reply::none());
        }
        let Some(what) = message.topic.strip_prefix("do.") else {
            return Err(unknown(&message));
        };
        if what == "echo" {
            return Ok(message.payload.into());
        }
        let text = message.text()?;
        // Its words; what is missing is empty.
        let words = |count| {
            let mut words = text.splitn(count, ' ').map(str::to_owned);
            move || words.next().unwrap_or_default()
        };
        let done = || "done".to_owned();
        let answer = match what {
            "silent" => return Ok(Reply::none()),
            "message" => {
                let Message { id, topic, source, attempt, wants_reply, .. } = &message;
                format!("{id} {topic} {source} {attempt} {wants_reply} {}", text.len())
            }
            "retry" if message.attempt == 1 => return Err(Error::retry("once more")),
            "retry" => message.attempt.to_string(),
            "reject" => return Err(Error::reject("never")),
            "crash" => panic!("told to crash"),
            "spin" => loop {
                std::hint::black_box(());
            },
            "grow" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
            "publish" => {
                let mut next = words(2);
                said(bus::publish(&next(), next()), |count| count.to_string())
            }
            "publish-size" => {
                let mut next = words(2);
                let (topic, size) = (next(), next().parse()?);
                said(bus::publish(&topic, vec![0; size]), |count| count.to_string())
            }
            "request" => {
                let mut next = words(3);
                let (topic, timeout) = (next(), millis(&next())?);
                match bus::request(&topic, next(), timeout) {
                    Ok(answer) => return Ok(answer.into()),
                    Err(error) => told(&error),
                }
            }
            "subscribe" => said(bus::subscribe(text), |()| done()),
            "unsubscribe" => said(bus::unsubscribe(text), |()| done()),
            "config" => config::get(text).map_or("none".into(), |value| format!("= {value}")),
            "config-all" => {
                let mut entries = config::entries();
                entries.sort();
                let lines = entries.iter().map(|(key, value)| format!("{key}={value}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            "config-version" => config::version().to_string(),
            "identity" => {
                let own = identity::get();
                format!("{} {} {}", own.service, own.generation, own.replica)
            }
            "health" => {
                let mut next = words(2);
                let (status, detail) = (next(), next());
                match (status.as_str(), detail.as_str()) {
                    ("ok", _) => health::ok(),
                    ("degraded", detail) => health::degraded(detail),
                    (_, detail) => health::failing(detail),
                }
                done()
            }
            "log" => {
                let mut next = words(2);
                let level: Level = next().parse()?;
                log::log!(level, answer = 42, word = "größe"; "{}", next());
                done()
            }
            "add" => {
                let mut next = words(2);
                metrics::add(&next(), LABELS, next().parse()?);
                done()
            }
            "set" => {
                let mut next = words(2);
                metrics::set(&next(), LABELS, next().parse()?);
                done()
            }
            "observe" => {
                let mut next = words(2);
                metrics::observe(&next(), LABELS, next().parse()?);
                done()
            }
            "after" => {
                let mut next = words(2);
                said(timer::after(&next(), millis(&next())?), |()| done())
            }
            "every" => {
                let mut next = words(2);
                said(timer::every(&next(), millis(&next())?), |()| done())
            }
            "cancel" => {
                timer::cancel(text);
                done()
            }
            "next" => {
                self.counter += 1;
                self.counter.to_string()
            }
            "put" => {
                self.counter = text.parse()?;
                done()
            }
            "item" => {
                bus::publish("seen.item", text)?;
                if text.ends_with('9') {
                    return Err(Error::reject("ninth"));
                }
                return Ok(Reply::none());
            }
            _ => return Err(unknown(&message)),
        };
        Ok(answer.into())
    }

    fn event(&mut self, event: Event) {
        let text = match event {
            Event::Health { service, ok } => format!("health {service} {ok}"),
            Event::ConfigUpdated { version } => format!("config-updated {version}"),
            Event::ServiceCrashed { service, reason } => {
                format!("service-crashed {service} {} {}", reason.label, reason.message)
            }
            Event::Shutdown => "shutdown".into(),
        };
        // Nobody may be there to hear it.
        let _ = bus::publish("seen.event", text);
    }

    fn stop(&mut self) {
        let _ = bus::publish("seen.stop", "");
    }
}

impl Handover for Conformance {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        match config::get("fail_save") {
            Some(text) => Err(Error::reject(text)),
            None => Ok(self.counter.to_string().into_bytes()),
        }
    }

    fn restore(&mut self, schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        if schema != Self::SCHEMA {
            return Err(Error::reject(format!("schema {schema}")));
        }
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        self.counter = number.ok_or_else(|| Error::reject("not a number"))?;
        Ok(())
    }
}

impl Bulk for Conformance {
    fn batch(&mut self, batch: &Batch) -> Outcomes {
        metrics::add("batched_total", LABELS, batch.len() as u64);
        batch.each(|entry| self.message(entry.into()))
    }
}

fn unknown(message: &Message) -> Error {
    Error::reject(format!("unknown topic {}", message.topic))
}

fn millis(text: &str) -> Result<Duration, Error> {
    Ok(Duration::from_millis(text.parse()?))
}

fn said<T>(done: Result<T, bus::Error>, text: impl FnOnce(T) -> String) -> String {
    done.map_or_else(|error| told(&error), text)
}

fn told(error: &bus::Error) -> String {
    match error {
        bus::Error::Denied(text) => format!("error denied {text}"),
        bus::Error::InvalidTopic(text) => format!("error invalid-topic {text}"),
        bus::Error::PayloadTooLarge { limit } => format!("error payload-too-large {limit}"),
        bus::Error::Overloaded => "error overloaded".into(),
        bus::Error::Timeout => "error timeout".into(),
        bus::Error::NoResponder => "error no-responder".into(),
        bus::Error::Failed(text) => format!("error failed {text}"),
        other => format!("error other {other}"),
    }
}

ron_guest::service!(Conformance: handover + bulk);
