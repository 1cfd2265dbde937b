//! A certificate for development, made when the host starts and kept nowhere.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long it is good. Nobody has it for longer than a process.
const VALID: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How far a client's clock may be behind.
const BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that signs itself, for the names by which this machine is reached from
/// itself.
#[derive(Debug)]
pub(crate) struct SelfSigned {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl SelfSigned {
    /// A new one for `localhost`, `127.0.0.1`, `::1`, and the machine's name where that
    /// is a name.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let system = rustix::system::uname();
        let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let named = system.nodename().to_str().ok();
        let named = named.filter(|name| !name.is_empty() && name.chars().all(part));
        names.extend(named.map(str::to_ascii_lowercase).filter(|name| name != "localhost"));
        Self::of(names)
    }

    /// A new one for these names and addresses.
    fn of(names: Vec<String>) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ron-host, for development");
        let now = SystemTime::now();
        params.not_before = (now - BEHIND).into();
        params.not_after = (now + VALID).into();
        // It vouches for nobody else, even where it is trusted.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key })
    }

    /// What a person compares, as `openssl x509 -fingerprint -sha256` writes it.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.certificate);
        let bytes: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}
