//! From what is said of TLS to certificates: what is read before a change, and put in
//! force with it; and what is told of those that are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use ron_kernel::Metrics;
use ron_kernel::metrics::{Family, Sample};

use crate::exit::{Failure, chain};
use crate::listener::{Certificates, Fresh, Part, SelfSigned, Term, TlsError, TlsFiles};
use crate::plan::{ListenerId, Tls};
use crate::settings::{Unfit, join};

/// Certificates in force, and where they are from.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    source: Tls,
    certificates: Option<Certificates>,
    /// Why those that its files hold now are not taken, if they are not. Clones have the
    /// same.
    refused: Arc<Mutex<Option<String>>>,
}

/// Certificates that were read and may be put in force.
pub(crate) struct Staged {
    source: Tls,
    certificates: Option<Certificates>,
    fresh: Option<Fresh>,
    /// They are others than whoever listens had.
    new: bool,
    /// Why those that its files hold are not taken, if they are not.
    refused: Option<String>,
}

/// Where a listener's TLS is said.
pub(crate) struct Said<'a> {
    pub(crate) listener: &'a str,
    /// Its own table; none for the admin listener.
    pub(crate) table: &'a str,
    /// The key of the pair that is shown to whoever names no other.
    pub(crate) tls: &'a str,
}

impl Said<'_> {
    pub(crate) const ADMIN: Said<'static> = Said { listener: "admin", table: "", tls: "admin_tls" };

    fn unfit(&self, part: &Part, error: &TlsError) -> Unfit {
        let pair = match &part.host {
            None => self.tls.to_owned(),
            Some(host) => join("sni", &host.to_string()),
        };
        let dot = if self.table.is_empty() { "" } else { "." };
        let key = format!("{}{dot}{pair}.{}", self.table, part.key);
        let why = chain(error);
        let (wrong, expected) = match why.split_once(": expected ") {
            Some((wrong, expected)) => (wrong.to_owned(), format!("expected {expected}")),
            None => (why, String::new()),
        };
        Unfit { key, wrong, expected }
    }
}

/// The host's own certificate, made when a listener first asks for it.
#[derive(Debug, Default)]
pub(crate) struct Own(Option<SelfSigned>);

impl Own {
    fn certificates(&mut self) -> Result<Certificates, Failure> {
        let own = match self.0.take() {
            Some(own) => own,
            None => {
                SelfSigned::new().map_err(|error| Failure::host("no certificate is made", error))?
            }
        };
        let own = self.0.insert(own);
        Certificates::self_signed(own)
            .map_err(|error| Failure::host("the certificate cannot be used", error))
    }

    /// How a client can tell it, if there is one.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.0.as_ref().map(SelfSigned::fingerprint)
    }
}

impl Certified {
    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Whether they are from there.
    pub(crate) fn is_from(&self, source: &Tls) -> bool {
        self.source == *source
    }

    /// The files that it is from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match &self.source {
            Tls::Files(files) => Some(files),
            Tls::None | Tls::SelfSigned => None,
        };
        files.into_iter().flat_map(TlsFiles::paths)
    }

    /// Reads its files again. What is wrong with them is told, and nothing changes then.
    pub(crate) fn renew(&self, listener: &str) {
        let (Tls::Files(files), Some(certificates)) = (&self.source, &self.certificates) else {
            return;
        };
        let renewed = Certificates::read(files).and_then(|fresh| certificates.renew(fresh));
        *self.refused.lock() = told(listener, renewed);
    }

    /// Why those that its files hold now are not taken, if they are not.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }
}

/// Tells what came of taking certificates, and why they were not taken, if they were not.
fn told(listener: &str, renewed: Result<Option<Vec<Term>>, TlsError>) -> Option<String> {
    match renewed {
        Ok(None) => None,
        Ok(Some(terms)) => {
            if terms.is_empty() {
                tracing::info!(listener, "took the new authorities of clients' certificates");
            }
            for term in terms {
                let until = term.until();
                tracing::info!(
                    listener,
                    certificate = term.name,
                    until,
                    "took the new certificate"
                );
                term.warn(listener, SystemTime::now());
            }
            None
        }
        Err(error) => Some(kept(listener, chain(&error))),
    }
}

/// A certificate stays although its files have changed.
fn kept(listener: &str, why: String) -> String {
    tracing::error!(listener, "the certificate is not taken: {why}; kept the one before");
    why
}

impl Staged {
    /// Reads what `source` says. A file of a listener that has others already, of the
    /// same names, may be wrong: then those stay, and that is told. Otherwise there is
    /// nothing to put in force, and what is wrong is `unfit`.
    ///
    /// # Errors
    ///
    /// When the host has no certificate of its own.
    pub(crate) fn read(
        source: Tls,
        before: Option<&Certified>,
        own: &mut Own,
        said: &Said<'_>,
        unfit: &mut Vec<Unfit>,
    ) -> Result<Option<Self>, Failure> {
        let there = before.and_then(|before| Some((&before.source, before.certificates.clone()?)));
        let (mut new, mut refused) = (false, None);
        let (certificates, fresh) = match (&source, there) {
            (Tls::None, _) => (None, None),
            (Tls::SelfSigned, Some((Tls::SelfSigned, there))) => (Some(there), None),
            (Tls::SelfSigned, _) => (Some(own.certificates()?), None),
            (Tls::Files(files), there) => match (Certificates::read(files), there) {
                (Ok(fresh), Some((Tls::Files(_), there))) => (Some(there), Some(fresh)),
                (Ok(fresh), _) => {
                    new = true;
                    let certificates = fresh.certificates();
                    let unfit = |error| Failure::host("TLS cannot be set up", error);
                    (Some(certificates.map_err(unfit)?), None)
                }
                (Err(error), Some((before, there))) if *before == source => {
                    refused = Some(kept(said.listener, chain(&error)));
                    (Some(there), None)
                }
                (Err(_), _) => {
                    let faults = files.faults().into_iter();
                    unfit.extend(faults.map(|(part, error)| said.unfit(&part, &error)));
                    return Ok(None);
                }
            },
        };
        Ok(Some(Self { source, certificates, fresh, new, refused }))
    }

    /// Warns of certificates that are not good now, and were not there before.
    pub(crate) fn warn(&self, listener: &str) {
        let certificates = self.certificates.as_ref().filter(|_| self.new);
        for term in certificates.map(Certificates::terms).unwrap_or_default() {
            term.warn(listener, SystemTime::now());
        }
    }

    /// Whether whoever listens with `before` does so with these as well.
    pub(crate) fn replaces(&self, before: &Certified) -> bool {
        match (&self.source, &before.source) {
            (Tls::Files(_), Tls::Files(_)) => true,
            (one, other) => one == other,
        }
    }

    /// In force from now on.
    pub(crate) fn commit(self, listener: &str) -> Certified {
        self.warn(listener);
        let Self { source, certificates, fresh, mut refused, .. } = self;
        if let (Some(certificates), Some(fresh)) = (&certificates, fresh) {
            refused = told(listener, certificates.renew(fresh));
        }
        Certified { source, certificates, refused: Arc::new(Mutex::new(refused)) }
    }
}

/// When certificates end, and whether they are those of their files, for whoever scrapes.
#[derive(Clone, Default)]
pub(crate) struct Expiries(Arc<Mutex<BTreeMap<ListenerId, Certified>>>);

const EXPIRY: &[Family] = &[Family::gauge(
    "ron_tls_certificate_expiry_seconds",
    "When a listener's certificate ends, in seconds since the epoch.",
    &["listener", "certificate"],
)];
const STALE: &[Family] = &[Family::gauge(
    "ron_tls_certificate_stale",
    "Whether a listener shows certificates from before, since those in its files cannot be used.",
    &["listener"],
)];

impl Expiries {
    /// Those that these metrics tell.
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let this = Self::default();
        let listeners = Arc::clone(&this.0);
        metrics.pull(STALE, move |out| {
            for (id, certified) in &*listeners.lock() {
                if certified.certificates().is_some() {
                    let value = f64::from(u8::from(certified.refused().is_some()));
                    out(Sample { name: STALE[0].name, labels: &[id.as_str()], value });
                }
            }
        });
        let listeners = Arc::clone(&this.0);
        metrics.pull(EXPIRY, move |out| {
            for (id, certified) in &*listeners.lock() {
                let expiries = certified.certificates().map(|all| all.expiries());
                for (name, at) in expiries.into_iter().flatten() {
                    let labels = &[id.as_str(), name.as_str()];
                    out(Sample { name: EXPIRY[0].name, labels, value: at as f64 });
                }
            }
        });
        this
    }

    /// Those of the public listeners are these from now on.
    pub(super) fn replace(&self, all: impl Iterator<Item = (ListenerId, Certified)>) {
        let mut listeners = self.0.lock();
        listeners.retain(|id, _| *id == ListenerId::admin());
        listeners.extend(all);
    }

    /// That of the admin listener.
    pub(crate) fn admin(&self, certified: Certified) {
        self.0.lock().insert(ListenerId::admin(), certified);
    }
}
