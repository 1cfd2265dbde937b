//! `wasmcloud:messaging/consumer`: publishing and requests, over the bus.
//!
//! A subject is a topic; both follow NATS. A handler of wasmCloud's answers a request
//! by publishing to its message's `reply-to`, so that name is made for each delivery,
//! and what is published to it goes to who asked and not over the bus. It is good
//! while the message is handled, and needs no grant.

use std::time::Duration;

use bytes::Bytes;
use ron_kernel::message::Message;

use super::bus::{await_answer, rejected};
use crate::adopted::messaging::{consumer, types};
use crate::state::HostState;

/// Where `reply-to` leads; the number of the message comes after it.
const INBOX: &str = "_INBOX.ron.";

/// The message that is handled, as far as it can be answered.
#[derive(Debug)]
pub(crate) struct InFlight {
    message: Message,
    reply_to: String,
}

impl InFlight {
    /// `None` if nobody waits for an answer.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let reply_to = || format!("{INBOX}{}.{}", message.id, message.attempt);
        message.wants_reply().then(|| Self { message: message.clone(), reply_to: reply_to() })
    }

    pub(crate) fn reply_to(&self) -> &str {
        &self.reply_to
    }
}

impl types::Host for HostState {}

impl consumer::Host for HostState {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<types::BrokerMessage, String>> {
        if !self.may_send() {
            return Ok(Err("overloaded: it publishes faster than its limit".into()));
        }
        let limit = Duration::from_millis(timeout_ms.into());
        let answer = match self.publisher.request(&subject, Bytes::from(body)) {
            Ok(waiting) => await_answer(waiting, limit).await,
            Err(error) => Err(error),
        };
        Ok(match answer {
            Ok(body) => Ok(types::BrokerMessage { subject, body: body.into(), reply_to: None }),
            Err(error) => Err(rejected(self, &error)),
        })
    }

    async fn publish(
        &mut self,
        message: types::BrokerMessage,
    ) -> wasmtime::Result<Result<(), String>> {
        if !self.may_send() {
            return Ok(Err("overloaded: it publishes faster than its limit".into()));
        }
        let types::BrokerMessage { subject, body, reply_to } = message;
        if let Some(asked) = &self.in_flight
            && asked.reply_to == subject
        {
            if body.len() > ron_kernel::message::MAX_FRAME {
                let limit = ron_kernel::message::MAX_FRAME as u64;
                let error = ron_kernel::message::BusError::PayloadTooLarge { limit };
                return Ok(Err(rejected(self, &error)));
            }
            asked.message.answer(Bytes::from(body));
            return Ok(Ok(()));
        }
        if subject.starts_with(INBOX) {
            return Ok(Err(format!("{subject} is no message's that is handled now")));
        }
        if reply_to.is_some() {
            let why = "a message with a reply-to cannot be published on this host: answers go to \
                       who asked by consumer.request";
            return Ok(Err(why.into()));
        }
        Ok(match self.publisher.publish(&subject, Bytes::from(body)) {
            Ok(_) => Ok(()),
            Err(error) => Err(rejected(self, &error)),
        })
    }
}

impl HostState {
    /// Whether it is within its rate.
    fn may_send(&mut self) -> bool {
        let now = self.ticks.now();
        self.publish_rate.admit(now)
    }
}
