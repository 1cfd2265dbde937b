//! From what is said of TLS to certificates: what is read before a change, and put in
//! force with it.

use std::path::Path;

use crate::exit::{Failure, chain};
use crate::listener::{Certificates, Fresh, SelfSigned, TlsFiles};
use crate::plan::Tls;

/// Certificates in force, and where they are from.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    source: Tls,
    certificates: Option<Certificates>,
}

/// Certificates that were read and may be put in force.
pub(crate) struct Staged {
    source: Tls,
    certificates: Option<Certificates>,
    fresh: Option<Fresh>,
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
        match Certificates::read(files).and_then(|fresh| certificates.renew(fresh)) {
            Ok(true) => tracing::info!(%listener, "took the new certificate"),
            Ok(false) => {}
            Err(error) => kept(listener, &chain(&error)),
        }
    }
}

/// A certificate stays although its files have changed.
fn kept(listener: &str, why: &str) {
    tracing::error!(%listener, "the certificate is not taken: {why}; kept the one before");
}

impl Staged {
    /// Reads what `source` says. A file of a listener that has others already, of the
    /// same names, may be wrong: then those stay, and that is told.
    ///
    /// # Errors
    ///
    /// What is wrong with the files; `key` is what said them, and `origin` where.
    pub(crate) fn read(
        source: Tls,
        before: Option<&Certified>,
        own: &mut Own,
        listener: &str,
        (key, origin): (&str, &str),
    ) -> Result<Self, Failure> {
        let there = before.and_then(|before| Some((&before.source, before.certificates.clone()?)));
        let (certificates, fresh) = match (&source, there) {
            (Tls::None, _) => (None, None),
            (Tls::SelfSigned, Some((Tls::SelfSigned, there))) => (Some(there), None),
            (Tls::SelfSigned, _) => (Some(own.certificates()?), None),
            (Tls::Files(files), there) => match (Certificates::read(files), there) {
                (Ok(fresh), Some((Tls::Files(_), there))) => (Some(there), Some(fresh)),
                (Ok(fresh), _) => {
                    let certificates = fresh.certificates();
                    let unfit = |error| Failure::host("TLS cannot be set up", error);
                    (Some(certificates.map_err(unfit)?), None)
                }
                (Err(error), Some((before, there))) if *before == source => {
                    kept(listener, &chain(&error));
                    (Some(there), None)
                }
                (Err(error), _) => {
                    let why = chain(&error);
                    return Err(Failure::config(format!("{key} ({origin}): {why}")));
                }
            },
        };
        Ok(Self { source, certificates, fresh })
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
        let Self { source, certificates, fresh } = self;
        if let (Some(certificates), Some(fresh)) = (&certificates, fresh) {
            match certificates.renew(fresh) {
                Ok(true) => tracing::info!(%listener, "took the new certificate"),
                Ok(false) => {}
                Err(error) => kept(listener, &chain(&error)),
            }
        }
        Certified { source, certificates }
    }
}
