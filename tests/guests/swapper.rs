//! Hands its count over in a hot swap, and fails at the step that its
//! configuration's `fail` names: `start-error`, `start-panic`,
//! `restore-refuse`, `restore-panic`, `message-panic` or `failing`.
//!
//! Tells `effects.NAME` of each message at `guest.NAME.do`, as
//! `PAYLOAD COUNT`, and of its start, as `started GENERATION`. At
//! `guest.NAME.arm` it is told what its next save shall do: `save-error` or
//! `save-panic`. Its state has as many bytes as `state` says, and at least 8.

use ron_guest::{Error, Handover, Message, Reply, Service, bus, config, health, identity};

struct Swapper {
    count: u64,
    fail: String,
    effects: String,
    armed: String,
}

impl Service for Swapper {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["do", "arm"])?;
        let identity::Instance { service, generation, .. } = identity::get();
        let effects = format!("effects.{service}");
        bus::publish(&effects, format!("started {generation}"))?;
        let fail = config::get("fail").unwrap_or_default();
        match fail.as_str() {
            "start-error" => Err(Error::reject("told to fail in start")),
            "start-panic" => panic!("told to panic in start"),
            _ => Ok(Swapper { count: 0, fail, effects, armed: String::new() }),
        }
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if test_guests::verb(&message) == "arm" {
            self.armed = message.text()?.to_owned();
            return Ok("armed".into());
        }
        if self.fail == "message-panic" {
            panic!("told to panic at a message");
        }
        self.count += 1;
        bus::publish(&self.effects, format!("{} {}", message.text()?, self.count))?;
        if self.fail == "failing" {
            health::failing("told to fail");
        }
        Ok(self.count.to_string().into())
    }
}

impl Handover for Swapper {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        match std::mem::take(&mut self.armed).as_str() {
            "save-error" => Err(Error::reject("told to refuse to save")),
            "save-panic" => panic!("told to panic in save"),
            _ => {
                let mut state = self.count.to_le_bytes().to_vec();
                let bytes = config::parse("state")?.unwrap_or(0);
                state.resize(bytes.max(state.len()), 7);
                Ok(state)
            }
        }
    }

    fn restore(&mut self, _: u32, bytes: Vec<u8>) -> Result<(), Error> {
        match self.fail.as_str() {
            "restore-refuse" => return Err(Error::reject("told to refuse the state")),
            "restore-panic" => panic!("told to panic in restore"),
            _ => {}
        }
        let Some(count) = bytes.first_chunk() else {
            return Err(Error::reject("a count has eight bytes"));
        };
        self.count = u64::from_le_bytes(*count);
        Ok(())
    }
}

ron_guest::service!(Swapper: handover);
