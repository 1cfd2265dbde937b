//! Does what its configuration says, a step after the other: the key is the
//! step's number, the value `request TOPIC PAYLOAD` or `publish TOPIC PAYLOAD`.
//! Logs each step's outcome with the field `step`, and `the script is over`.
//!
//! A step that finds nobody is done again: services start in no order.

use std::time::Duration;

use ron_guest::{Error, Message, Reply, Service, bus, config, log, timer};

/// Shorter than a handler's deadline.
const PATIENCE: Duration = Duration::from_secs(4);

struct Script {
    step: u32,
}

impl Service for Script {
    fn start() -> Result<Self, Error> {
        timer::after("step", Duration::ZERO)?;
        Ok(Script { step: 1 })
    }

    fn message(&mut self, _tick: Message) -> Result<Reply, Error> {
        let step = self.step;
        let Some(text) = config::get(&step.to_string()) else {
            log::info!("the script is over");
            return Ok(Reply::none());
        };
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (act, topic, payload) = (word(), word(), word());
        let outcome = match act {
            "request" => bus::request(topic, payload, PATIENCE)
                .map(|answer| String::from_utf8_lossy(&answer).into_owned()),
            "publish" => match bus::publish(topic, payload) {
                Ok(0) => Err(bus::Error::NoResponder),
                other => other.map(|count| count.to_string()),
            },
            _ => return Err(Error::reject(format!("step {step} is no step: {text}"))),
        };
        match outcome {
            Err(bus::Error::NoResponder) => timer::after("step", Duration::from_millis(10))?,
            outcome => {
                match outcome {
                    Ok(answer) => log::info!(step; "{answer}"),
                    Err(error) => log::warn!(step; "{error:?}"),
                }
                self.step += 1;
                timer::after("step", Duration::ZERO)?;
            }
        }
        Ok(Reply::none())
    }
}

ron_guest::service!(Script);
