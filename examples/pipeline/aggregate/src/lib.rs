//! Keeps count, mean and extremes of each sensor's readings, and hands them over to the
//! version that replaces it.

use std::collections::BTreeMap;

use ron_guest::{Error, Handover, Message, Reply, Service, bus, log, metrics};
use serde::{Deserialize, Serialize};

/// As `enrich` publishes it.
#[derive(Deserialize)]
struct Reading {
    sensor: String,
    place: String,
    celsius: f64,
}

#[derive(Serialize, Deserialize)]
struct Summary {
    place: String,
    count: u64,
    mean: f64,
    lowest: f64,
    highest: f64,
}

/// By sensor.
#[derive(Default)]
struct Aggregate(BTreeMap<String, Summary>);

impl Service for Aggregate {
    fn start() -> Result<Self, Error> {
        bus::subscribe("readings.enriched")?;
        bus::subscribe("readings.summary")?;
        Ok(Self::default())
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if message.topic == "readings.summary" {
            return Ok(serde_json::to_vec(&self.0)?.into());
        }
        let Reading { sensor, place, celsius } = serde_json::from_slice(&message.payload)?;
        let none = Summary { place, count: 0, mean: 0.0, lowest: celsius, highest: celsius };
        metrics::set("celsius", &[("sensor", &sensor)], celsius);
        let own = self.0.entry(sensor).or_insert(none);
        own.count += 1;
        own.mean += (celsius - own.mean) / own.count as f64;
        own.lowest = own.lowest.min(celsius);
        own.highest = own.highest.max(celsius);
        Ok(Reply::none())
    }
}

impl Handover for Aggregate {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(&self.0)?)
    }

    fn restore(&mut self, schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        if schema != Self::SCHEMA {
            return Err(Error::reject(format!(
                "a state of schema {schema}; expected {}",
                Self::SCHEMA
            )));
        }
        self.0 = serde_json::from_slice(&bytes)?;
        let readings: u64 = self.0.values().map(|summary| summary.count).sum();
        log::info!("took over {readings} readings");
        Ok(())
    }
}

ron_guest::service!(Aggregate: handover);
