//! Certificates and keys in PEM files, and every way in which such a file can be wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ron_runtime::read_file;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore};

/// Largest file that is read: 4 MiB. A bundle of all of the web's authorities has a tenth.
const MAX_FILE: u64 = 4 << 20;

/// A certificate's file, and its key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The chain, the server's own certificate first.
    pub(crate) cert: PathBuf,
    /// The key of that one, not encrypted.
    pub(crate) key: PathBuf,
}

/// Why a listener has no TLS, or not the new one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is broken.
    #[error("{} is not in PEM: {source:?}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Where.
        source: pem::Error,
    },
    /// A file has nothing of what is looked for.
    #[error("there is no {expected} in {}: expected a PEM file with {label}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What.
        expected: &'static str,
        /// How it would begin.
        label: &'static str,
    },
    /// A key needs a passphrase, and there is nobody to ask.
    #[error(
        "the key in {} is encrypted: expected one without a passphrase, as `openssl pkey` writes it",
        .0.display()
    )]
    Encrypted(PathBuf),
    /// A key of a kind that TLS does not use, or that this host does not know.
    #[error("the key in {} cannot be used: expected RSA, ECDSA or Ed25519", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// What the PEM holds is not X.509.
    #[error("a certificate in {} is broken: {reason}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key of another certificate.
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        cert: PathBuf,
    },
    /// What is in place is not enough for a server.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// A certificate with its key, and its time.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) time: Time,
}

/// When a certificate is good, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) begins: i64,
    pub(super) ends: i64,
}

impl Pair {
    /// Reads the two files.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = key(&self.key)?;
        certificate(chain, key, provider).map_err(|error| match error {
            Unfit::Certificate(reason) => TlsError::Certificate { path: self.cert.clone(), reason },
            Unfit::Mismatch => {
                TlsError::Mismatch { key: self.key.clone(), cert: self.cert.clone() }
            }
            Unfit::Key(source) => TlsError::Key { path: self.key.clone(), source },
        })
    }
}

impl Pair {
    /// All that is wrong with the two, by the key that says which file.
    pub(super) fn faults(&self, provider: &CryptoProvider) -> Vec<(&'static str, TlsError)> {
        let (cert, key) = (certificates(&self.cert).err(), key(&self.key).err());
        if cert.is_none() && key.is_none() {
            let unfit = self.read(provider).err();
            let of = |error: &TlsError| match error {
                TlsError::Certificate { .. } => "cert",
                _ => "key",
            };
            return unfit.into_iter().map(|error| (of(&error), error)).collect();
        }
        let cert = cert.map(|error| ("cert", error));
        cert.into_iter().chain(key.map(|error| ("key", error))).collect()
    }
}

/// Why a chain and a key are no pair.
#[derive(Debug)]
pub(super) enum Unfit {
    Certificate(String),
    Mismatch,
    Key(rustls::Error),
}

/// The pair of this chain, which is not empty, and this key.
pub(super) fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Certificate, Unfit> {
    let own = chain.first().ok_or_else(|| Unfit::Certificate("there is none".to_owned()))?;
    let validity = x509_parser::parse_x509_certificate(own)
        .map(|(_, certificate)| certificate.validity().clone())
        .map_err(|error| Unfit::Certificate(error.to_string()))?;
    let (begins, ends) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unfit::Mismatch,
        rustls::Error::InvalidCertificate(error) => Unfit::Certificate(error.to_string()),
        error => Unfit::Key(error),
    })?;
    Ok(Certificate { key: Arc::new(key), time: Time { begins, ends } })
}

/// Those who may sign clients' certificates.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Certificate {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if all.is_empty() {
        let (expected, label) = ("certificate", "-----BEGIN CERTIFICATE-----");
        return Err(TlsError::Missing { path: path.to_owned(), expected, label });
    }
    Ok(all)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    // The newer form has a label of its own, the older a line within.
    let encrypted = [&b"-----BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    if encrypted.iter().any(|mark| bytes.windows(mark.len()).any(|part| part == *mark)) {
        return Err(TlsError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let (expected, label) = ("private key", "-----BEGIN PRIVATE KEY-----");
            TlsError::Missing { path: path.to_owned(), expected, label }
        }
        source => TlsError::Pem { path: path.to_owned(), source },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_file(path, MAX_FILE).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
