//! Sends the events of the `tracing` crate to the host.
//!
//! A subscriber of its own: `tracing-subscriber` brings a registry for many
//! threads, and more code than a service has. An event becomes one record; the
//! spans around it become a field `span`, outermost first, and lend it their
//! fields. Spans themselves are not logged.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata, Subscriber, dispatcher};

use crate::logger::Fields;
use crate::record;

/// Makes the `tracing` macros reach the host. `home` is the service's own crate.
pub(crate) fn install(home: &'static str) {
    // A service may have installed a subscriber of its own before; that one stays.
    let _ = dispatcher::set_global_default(Dispatch::new(Spans::new(home)));
}

/// The spans that are alive, and which of them are entered.
struct Spans {
    home: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    alive: BTreeMap<u64, Span>,
    entered: Vec<Id>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<Id>,
    fields: Fields,
    handles: usize,
}

impl Spans {
    fn new(home: &'static str) -> Self {
        Spans { home, state: Mutex::default() }
    }

    /// Never held while the author's code runs: formatting a value may log.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut visitor = Visitor::default();
        attributes.record(&mut visitor);
        let mut state = self.state();
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.clone()),
            None if attributes.is_contextual() => state.entered.last().cloned(),
            None => None,
        };
        // A span keeps those around it alive.
        if let Some(span) = parent.as_ref().and_then(|id| state.alive.get_mut(&id.into_u64())) {
            span.handles += 1;
        }
        state.last += 1;
        let id = state.last;
        let span =
            Span { metadata: attributes.metadata(), parent, fields: visitor.fields, handles: 1 };
        state.alive.insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut visitor = Visitor::default();
        values.record(&mut visitor);
        if let Some(span) = self.state().alive.get_mut(&id.into_u64()) {
            span.fields.append(visitor.fields);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut visitor = Visitor::default();
        event.record(&mut visitor);

        let mut fields = Fields::default();
        let mut path = String::new();
        {
            let state = self.state();
            let innermost = match event.parent() {
                Some(parent) => Some(parent),
                None if event.is_contextual() => state.entered.last(),
                None => None,
            };
            for span in state.path(innermost) {
                if !path.is_empty() {
                    path.push(':');
                }
                path.push_str(span.metadata.name());
                fields.append(span.fields.clone());
            }
        }
        fields.append(visitor.fields);
        if !path.is_empty() {
            fields.push("span", path);
        }
        let metadata = event.metadata();
        if metadata.target() != self.home {
            fields.push("target", metadata.target());
        }
        let level = match *metadata.level() {
            Level::TRACE => record::Level::Trace,
            Level::DEBUG => record::Level::Debug,
            Level::INFO => record::Level::Info,
            Level::WARN => record::Level::Warn,
            Level::ERROR => record::Level::Error,
        };
        record::write(level, &visitor.message, &fields.borrow());
    }

    fn enter(&self, id: &Id) {
        self.state().entered.push(id.clone());
    }

    fn exit(&self, id: &Id) {
        let mut state = self.state();
        // Not always the last: a future leaves its span when another is inside.
        if let Some(place) = state.entered.iter().rposition(|entered| entered == id) {
            state.entered.remove(place);
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(span) = self.state().alive.get_mut(&id.into_u64()) {
            span.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut state = self.state();
        let mut closed = false;
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(span) = state.alive.get_mut(&id.into_u64()) else { break };
            span.handles -= 1;
            if span.handles > 0 {
                break;
            }
            closed = true;
            next = state.alive.remove(&id.into_u64()).and_then(|span| span.parent);
        }
        closed
    }

    fn current_span(&self) -> Current {
        let state = self.state();
        let current =
            state.entered.last().and_then(|id| Some((id, state.alive.get(&id.into_u64())?)));
        match current {
            Some((id, span)) => Current::new(id.clone(), span.metadata),
            None => Current::none(),
        }
    }
}

impl State {
    /// From the outermost span to this one.
    fn path(&self, innermost: Option<&Id>) -> Vec<&Span> {
        let mut path = Vec::new();
        let mut next = innermost;
        while let Some(span) = next.and_then(|id| self.alive.get(&id.into_u64())) {
            path.push(span);
            next = span.parent.as_ref();
        }
        path.reverse();
        path
    }
}

/// Takes the message from among the fields.
#[derive(Default)]
struct Visitor {
    message: String,
    fields: Fields,
}

impl Visit for Visitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push(field.name(), format_args!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, info_span, subscriber};

    use super::*;
    use crate::record::capture;

    /// What the host hears of `run`, in a service whose crate is this module.
    fn heard(run: impl FnOnce()) -> Vec<String> {
        subscriber::with_default(Spans::new(module_path!()), run);
        capture::take()
    }

    #[test]
    fn an_event_is_a_record_with_fields() {
        let records = heard(|| {
            info!(sku = "a1", left = 3, error = ?Some(1), "low");
            debug!(target: "stock", "{} left", 2);
        });
        assert_eq!(
            records,
            ["Level::Info low sku=a1 left=3 error=Some(1)", "Level::Debug 2 left target=stock"]
        );
    }

    #[test]
    fn spans_lend_their_fields() {
        let records = heard(|| {
            let outer = info_span!("order", id = 7, sku = "a1", state = tracing::field::Empty);
            let _outer = outer.enter();
            outer.record("state", "open");
            info_span!("stock", sku = "b2").in_scope(|| info!("low"));
            info!("done");
            info!(parent: None, "alone");
        });
        assert_eq!(
            records,
            [
                "Level::Info low id=7 state=open sku=b2 span=order:stock",
                "Level::Info done id=7 sku=a1 state=open span=order",
                "Level::Info alone",
            ],
        );
    }

    #[test]
    fn a_span_lives_as_long_as_those_inside_it_and_no_longer() {
        let spans = Spans::new(module_path!());
        let dispatch = Dispatch::new(spans);
        dispatcher::with_default(&dispatch, || {
            let alive = || dispatch.downcast_ref::<Spans>().map(|spans| spans.state().alive.len());
            let outer = info_span!("outer");
            let inner = outer.in_scope(|| info_span!("inner"));
            drop(outer);
            assert_eq!(alive(), Some(2));
            drop(inner);
            assert_eq!(alive(), Some(0));
        });
    }
}
