//! `ron:kernel/bus`, by hand: a publish copies the payload once and allocates
//! no text.
//!
//! The generated trait would have every topic as a fresh `String`; here topic
//! and payload are looked at where they lie in the guest's memory.

use std::time::Duration;

use bytes::Bytes;
use ron_kernel::message::{Answer, BusError};
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList, WasmStr};

use crate::bindings::types;
use crate::state::{FIRST_TICKS, HostState};

type Result1<T> = wasmtime::Result<(Result<T, types::BusError>,)>;

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut bus = linker.instance("ron:kernel/bus@1.0.0")?;
    bus.func_wrap("publish", publish)?;
    bus.func_wrap_async("request", |store, params| Box::new(request(store, params)))?;
    bus.func_wrap("subscribe", |store, params| subscription(store, params, true))?;
    bus.func_wrap("unsubscribe", |store, params| subscription(store, params, false))?;
    Ok(())
}

/// Reads a topic and a payload, and gives them to `send`, unless the service
/// is over its rate.
fn send<T>(
    store: &mut StoreContextMut<'_, HostState>,
    topic: WasmStr,
    payload: WasmList<u8>,
    send: impl FnOnce(&mut HostState, &str, Bytes) -> Result<T, BusError>,
) -> wasmtime::Result<Result<T, BusError>> {
    let ticks = store.data().ticks.now();
    if !store.data_mut().publish_rate.admit(ticks) {
        return Ok(Err(BusError::Overloaded));
    }
    // An oversized payload is not copied to be refused afterwards.
    let bytes = payload.as_le_slice(&*store);
    if bytes.len() > ron_kernel::message::MAX_FRAME {
        let limit = ron_kernel::message::MAX_FRAME as u64;
        return Ok(Err(BusError::PayloadTooLarge { limit }));
    }
    let payload = Bytes::copy_from_slice(bytes);
    // The text lies in the memory that the store owns, and sending needs the
    // store: a topic is at most 255 bytes, so it is copied to the stack.
    let mut buffer = [0; ron_kernel::topic::MAX_TOPIC_BYTES];
    let text = topic.to_str(&*store)?;
    let Some(copy) = buffer.get_mut(..text.len()) else {
        let error = ron_kernel::topic::TopicError::TooLong(text.len());
        return Ok(Err(error.into()));
    };
    copy.copy_from_slice(text.as_bytes());
    drop(text);
    let topic = std::str::from_utf8(copy)?;
    Ok(send(store.data_mut(), topic, payload))
}

fn publish(
    mut store: StoreContextMut<'_, HostState>,
    (topic, payload): (WasmStr, WasmList<u8>),
) -> Result1<u32> {
    let sent = send(&mut store, topic, payload, |state, topic, payload| {
        state.publisher.publish(topic, payload)
    })?;
    Ok((answered(store.data(), sent),))
}

async fn request(
    mut store: StoreContextMut<'_, HostState>,
    (topic, payload, timeout_ms): (WasmStr, WasmList<u8>, u32),
) -> Result1<Vec<u8>> {
    let sent = send(&mut store, topic, payload, |state, topic, payload| {
        state.publisher.request(topic, payload)
    })?;
    let answer = match sent {
        Ok(waiting) => await_answer(waiting, Duration::from_millis(timeout_ms.into())).await,
        Err(error) => Err(error),
    };
    // Ticks went by while it waited; they were not its own.
    store.set_epoch_deadline(FIRST_TICKS);
    Ok((answered(store.data(), answer.map(|bytes| bytes.to_vec())),))
}

/// An answer, if it comes in time.
pub(super) async fn await_answer(waiting: oneshot::Receiver<Answer>, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, waiting).await {
        Ok(answer) => answer.unwrap_or(Err(BusError::NoResponder)),
        Err(_) => Err(BusError::Timeout),
    }
}

fn subscription(
    store: StoreContextMut<'_, HostState>,
    (filter,): (WasmStr,),
    wanted: bool,
) -> Result1<()> {
    if !store.data().takes_messages {
        return Ok((Err(types::BusError::Other(super::NO_MESSAGES.to_owned())),));
    }
    let filter = filter.to_str(&store)?;
    let kernel = &store.data().kernel;
    let done = if wanted { kernel.subscribe(&filter) } else { kernel.unsubscribe(&filter) };
    Ok((answered(store.data(), done),))
}

/// Counts a refusal and says it in words.
pub(super) fn rejected(state: &HostState, error: &BusError) -> String {
    count(state, error);
    error.to_string()
}

fn count(state: &HostState, error: &BusError) {
    let reason = match error {
        BusError::Denied(_) => RejectReason::Denied,
        BusError::InvalidTopic(_) => RejectReason::InvalidTopic,
        BusError::PayloadTooLarge { .. } => RejectReason::PayloadTooLarge,
        BusError::Overloaded | BusError::Limit(_) => RejectReason::Overloaded,
        BusError::Timeout => RejectReason::Timeout,
        BusError::NoResponder => RejectReason::NoResponder,
        BusError::Failed(_) => RejectReason::Failed,
    };
    state.metrics.observe(&Observation::Rejected { reason });
}

/// Counts a refusal and puts it into the contract's terms.
fn answered<T>(state: &HostState, result: Result<T, BusError>) -> Result<T, types::BusError> {
    result.map_err(|error| {
        count(state, &error);
        match error {
            BusError::Denied(text) => types::BusError::Denied(text),
            BusError::InvalidTopic(rule) => types::BusError::InvalidTopic(rule.to_string()),
            BusError::PayloadTooLarge { limit } => types::BusError::PayloadTooLarge(limit),
            BusError::Overloaded => types::BusError::Overloaded,
            BusError::Timeout => types::BusError::Timeout,
            BusError::NoResponder => types::BusError::NoResponder,
            BusError::Failed(text) => types::BusError::Failed(text),
            BusError::Limit(text) => types::BusError::Other(text),
        }
    })
}
