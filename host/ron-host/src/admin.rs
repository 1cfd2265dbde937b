//! The admin listener of a deployment: where it is, and its TLS.
//!
//! As with the public ones, what can fail is staged before anything changes, and the
//! socket outlives who accepts, so that a new certificate needs no new port.

use std::net::SocketAddr;
use std::path::Path;

use ron_kernel::http::ServerHandle;
use ron_kernel::{Metrics, TlsSource};

use crate::exit::Failure;
use crate::front::{Bound, Certified, Own, Said, StagedTls, unbound};
use crate::listener::Certificates;
use crate::plan::Plan;
use crate::settings::Unfit;

/// See this module's header.
pub(crate) struct Admin {
    metrics: Metrics,
    /// As it was asked for; the port may be 0.
    planned: SocketAddr,
    bound: Bound,
    certified: Certified,
    server: ServerHandle,
}

/// What can be put in its place.
pub(crate) struct Staged {
    planned: SocketAddr,
    bound: Bound,
    tls: StagedTls,
}

impl Staged {
    /// Binds the address and reads the certificates that `plan` says. There is none when
    /// either is `unfit`.
    ///
    /// # Errors
    ///
    /// When the host has no certificate of its own.
    pub(crate) fn new(
        plan: &Plan,
        before: Option<&Admin>,
        own: &mut Own,
        unfit: &mut Vec<Unfit>,
    ) -> Result<Option<Self>, Failure> {
        let bound = match before.filter(|before| before.planned == plan.admin) {
            Some(before) => before.bound.again(),
            None => Bound::at(plan.admin),
        };
        let source = plan.admin_tls.source(&Default::default());
        let certified = before.map(|before| &before.certified);
        let tls = StagedTls::read(source, certified, own, &Said::ADMIN, unfit)?;
        let bound = bound.map_err(|error| unfit.push(unbound("admin", plan.admin, &error)));
        let staged = bound.ok().zip(tls);
        Ok(staged.map(|(bound, tls)| Self { planned: plan.admin, bound, tls }))
    }

    /// Serves from now on.
    ///
    /// # Errors
    ///
    /// When the host has no descriptors left.
    pub(crate) fn commit(self, metrics: &Metrics) -> Result<Admin, Failure> {
        let Self { planned, bound, tls } = self;
        let certified = tls.commit("admin");
        let unfit = |error| Failure::host("the admin listener has no socket", error);
        let source = certified.certificates().cloned().map(source);
        let server = metrics.serve_on(bound.listener().map_err(unfit)?, source);
        Ok(Admin { metrics: metrics.clone(), planned, bound, certified, server })
    }
}

fn source(certificates: Certificates) -> TlsSource {
    TlsSource::new(move || certificates.config())
}

impl Admin {
    /// From now on as it was staged; gives who is to be shut down, if anybody is.
    pub(crate) fn replace(&mut self, staged: Staged) -> Option<ServerHandle> {
        if staged.planned == self.planned && staged.tls.replaces(&self.certified) {
            self.certified = staged.tls.commit("admin");
            self.note();
            return None;
        }
        let moved = staged.planned != self.planned;
        match staged.commit(&self.metrics) {
            Ok(new) => {
                let old = std::mem::replace(self, new);
                if moved {
                    let address = self.address();
                    tracing::info!(%address, "the admin listener has moved");
                }
                Some(old.server)
            }
            Err(failure) => {
                tracing::error!("{}; it stays as it was", failure.lines().join("; "));
                None
            }
        }
    }

    /// As a client names it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.certified.certificates().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    fn address(&self) -> SocketAddr {
        self.bound.address().unwrap_or(self.planned)
    }

    /// Its certificates.
    pub(crate) fn certified(&self) -> &Certified {
        &self.certified
    }

    /// A file has another content.
    pub(crate) fn file_changed(&self, path: &Path) {
        if self.certified.files().any(|own| own == path) {
            self.certified.renew("admin");
            self.note();
        }
    }

    /// Has `/readyz?verbose` say when it shows a certificate that is not the one in its
    /// files.
    fn note(&self) {
        let note = self.certified.refused().map(|why| format!("kept the one before: {why}"));
        self.metrics.health().note("admin_certificate", note);
    }

    /// Ends it.
    pub(crate) async fn shutdown(self) {
        self.server.shutdown().await;
    }
}
