//! The TLS type of the kernel's contract, and the one place that names rustls.
//!
//! The kernel ends no TLS itself. Which server configuration every transport
//! takes is part of the frozen surface all the same, so that two of them cannot
//! drift apart in what they accept.

/// The configuration of a TLS listener, as every transport of this host takes
/// it.
///
/// It is rustls' own, of the version that `tokio-rustls` 0.26 re-exports, and
/// an alias rather than a wrapper: what builds one elsewhere fits as it is. The
/// kernel chooses no crypto provider; who builds the configuration does.
pub type TlsServerConfig = tokio_rustls::rustls::ServerConfig;
