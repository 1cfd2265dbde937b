//! The way out of one store: who may be spoken to, and what is said of whom may
//! not.
//!
//! HTTP and sockets come here alike. What is decided is in `reach.rs`; here a
//! denial is counted, and told in the service's log, with what would have to be
//! granted: once for each peer, because a guest may try again and again.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ron_kernel::Metrics;
use ron_kernel::metrics::{Observation, RejectReason};
use ron_kernel::service::ContextHandle;

use crate::grants::Grants;
use crate::log::{GuestLog, Level, Source};
use crate::peer::Target;
use crate::reach::{self, Class, Named};
use crate::share::{Place, Share, Shares};

/// The way out of one store. A clone is the same.
#[derive(Clone)]
pub(crate) struct Outbound(Arc<Inner>);

struct Inner {
    grants: Arc<Grants>,
    kernel: Arc<ContextHandle>,
    shares: Arc<Shares>,
    log: GuestLog,
    metrics: Metrics,
    /// Requests at a time.
    requests: usize,
}

/// Why somebody may not be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NotGranted,
    /// A pattern would do, but not for this address.
    Led(IpAddr, Class),
}

impl Outbound {
    pub(crate) fn new(
        grants: Arc<Grants>,
        kernel: Arc<ContextHandle>,
        shares: Arc<Shares>,
        log: GuestLog,
        metrics: Metrics,
        requests: usize,
    ) -> Self {
        Self(Arc::new(Inner { grants, kernel, shares, log, metrics, requests }))
    }

    /// Whether anybody may be spoken to at all.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.grants.outbound.is_empty()
    }

    /// How the target was granted; denies it if it was not.
    pub(crate) fn named(&self, target: &Target, port: u16) -> Result<Named, Denied> {
        let named = reach::named(&self.0.grants.outbound, target, port);
        named.ok_or_else(|| self.deny(target, port, Denied::NotGranted))
    }

    /// Of the addresses that a target led to, those that it may be spoken to at;
    /// denies it if there is none of them.
    pub(crate) fn permitted(
        &self,
        target: &Target,
        how: Named,
        addresses: impl IntoIterator<Item = IpAddr>,
        port: u16,
    ) -> Result<Vec<IpAddr>, Denied> {
        let mut permitted = Vec::new();
        let mut denied = None;
        for address in addresses {
            match reach::permitted(&self.0.grants.outbound, how, address, port) {
                Ok(()) => permitted.push(address),
                Err(class) => denied = denied.or(Some(Denied::Led(address, class))),
            }
        }
        match denied {
            Some(denied) if permitted.is_empty() => Err(self.deny(target, port, denied)),
            _ => Ok(permitted),
        }
    }

    /// Whether a target may be spoken to at an address that it led to. Denies
    /// nothing: there may be another grant for it.
    pub(crate) fn grants(&self, target: &Target, address: IpAddr, port: u16) -> bool {
        let peers = &self.0.grants.outbound;
        let how = reach::named(peers, target, port);
        how.is_some_and(|how| reach::permitted(peers, how, address, port).is_ok())
    }

    /// Whether a name may be looked up; denies it if not.
    pub(crate) fn may_resolve(&self, name: &str) -> bool {
        let may = reach::may_resolve(&self.0.grants.outbound, name);
        if !may {
            self.refuse(
                name,
                format_args!(
                    "looking up {name} was denied: no grant has this name; it would be granted by \
                     grants.outbound = [\"{name}\"]"
                ),
            );
        }
        may
    }

    /// Counts a denial and tells of it.
    pub(crate) fn deny(&self, target: &Target, port: u16, denied: Denied) -> Denied {
        let peer = format!("{target}:{port}");
        match denied {
            Denied::NotGranted => self.refuse(
                &peer,
                format_args!(
                    "speaking to {peer} was denied: it is not granted; it would be by \
                     grants.outbound = [\"{peer}\"]"
                ),
            ),
            Denied::Led(address, class) => self.refuse(
                &peer,
                format_args!(
                    "speaking to {peer} was denied: it is at {address}, {class}, for which a \
                     pattern is no grant; it would be granted by grants.outbound = [\"{peer}\"]"
                ),
            ),
        }
        denied
    }

    /// Counts what is not granted, and tells of it if that is news of `what`.
    pub(crate) fn refuse(&self, what: &str, message: fmt::Arguments<'_>) {
        self.0.metrics.observe(&Observation::Rejected { reason: RejectReason::Denied });
        if self.share().is_news(what) {
            self.0.log.record(Source::Log, Level::Warn, &message.to_string(), &[]);
        }
    }

    /// A place for a request, as long as there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        let most = self.0.requests;
        let place = self.share().enter(most);
        if place.is_none() {
            self.0.metrics.observe(&Observation::Rejected { reason: RejectReason::Overloaded });
            if self.share().is_news("outgoing_requests") {
                let message = format!(
                    "a request to others was refused: {most} are under way; outgoing_requests is \
                     the limit"
                );
                self.0.log.record(Source::Log, Level::Warn, &message, &[]);
            }
        }
        place
    }

    fn share(&self) -> Arc<Share> {
        self.0.shares.of(&self.0.kernel.id)
    }
}
