//! The TLS type of the kernel's contract, and the one place that names rustls.
//!
//! The kernel makes no configuration: it chooses no crypto provider and reads no
//! certificate. Which server configuration every transport takes is part of the
//! frozen surface, so that two of them cannot drift apart in what they accept.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The configuration of a TLS listener, as every transport of this host takes
/// it.
///
/// It is rustls' own, of the version that `tokio-rustls` 0.26 re-exports, and
/// an alias rather than a wrapper: what builds one elsewhere fits as it is. The
/// kernel chooses no crypto provider; who builds the configuration does.
pub type TlsServerConfig = tokio_rustls::rustls::ServerConfig;

/// The configuration of now, asked for at each handshake: certificates are
/// replaced while a listener runs.
#[derive(Clone)]
pub struct TlsSource(Arc<dyn Fn() -> Arc<TlsServerConfig> + Send + Sync>);

impl TlsSource {
    /// One that is what `now` gives.
    pub fn new(now: impl Fn() -> Arc<TlsServerConfig> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Ends TLS on a connection that speaks HTTP/1.1 and nothing else, whatever the
    /// configuration offers.
    pub(crate) async fn http1<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = (self.0)();
        if config.alpn_protocols != [b"http/1.1"] {
            Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSource").finish_non_exhaustive()
    }
}
