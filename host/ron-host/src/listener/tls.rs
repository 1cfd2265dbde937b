//! TLS of a listener: what it offers, and certificates that are replaced in place.
//!
//! TLS 1.2 and 1.3 with rustls' own suites; the key exchange that a quantum computer
//! does not undo comes first. ALPN is `h2, http/1.1`, or what a
//! listener of byte streams offers. A session is resumed by a ticket,
//! whose key rotates and is in memory alone; nothing is accepted before the handshake
//! has ended (0-RTT can be replayed).
//!
//! The whole configuration is replaced, not a certificate within it, since authorities
//! are replaced with it. A handshake takes the one that is there when it begins, so a
//! connection lives on with its own. Tickets stay good, but for a change of the
//! authorities: who resumes a session shows no certificate again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use ron_kernel::TlsServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    Acceptor, ClientHello, NoClientAuth, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, version};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, LazyConfigAcceptor, StartHandshake, TlsAcceptor};

use super::connection::TlsInfo;
use super::pem::{self, Certificate, Time};
pub(crate) use super::pem::{Pair, TlsError};
use super::routes::Host;
use super::self_signed::SelfSigned;

/// The name of the certificate that is shown to who asks for none of the others.
const DEFAULT: &str = "default";

/// Where a listener's certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// What is shown where no other fits.
    pub(crate) pair: Pair,
    /// Who signs clients' certificates. A client without one is refused then.
    pub(crate) client_ca: Option<PathBuf>,
    /// What is shown to who asks for these names.
    pub(crate) sni: Vec<(Host, Pair)>,
}

/// A listener's certificates of now. A clone is the same.
#[derive(Clone)]
pub(crate) struct Certificates(Arc<RwLock<Loaded>>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.read().terms).finish()
    }
}

/// Certificates that were read, and are not in force.
pub(crate) struct Fresh(Read);

impl Fresh {
    /// These, for a listener that has none.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub(crate) fn certificates(self) -> Result<Certificates, TlsError> {
        self.0.loaded(None).map(Certificates::new)
    }
}

impl TlsFiles {
    /// Every file that it names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = std::iter::once(&self.pair).chain(self.sni.iter().map(|(_, pair)| pair));
        let pairs = pairs.flat_map(|pair| [pair.cert.as_path(), pair.key.as_path()]);
        pairs.chain(self.client_ca.as_deref())
    }

    /// All that is wrong with them, by the file that it is in.
    pub(crate) fn faults(&self) -> Vec<(Part, TlsError)> {
        let provider = provider();
        let named = self.sni.iter().map(|(host, pair)| (Some(host), pair));
        let pairs = std::iter::once((None, &self.pair)).chain(named);
        let mut faults = Vec::new();
        for (host, pair) in pairs {
            let part = |key| Part { host: host.cloned(), key };
            faults
                .extend(pair.faults(&provider).into_iter().map(|(key, error)| (part(key), error)));
        }
        let authorities = self.client_ca.as_deref().and_then(|path| pem::authorities(path).err());
        faults.extend(authorities.map(|error| (Part { host: None, key: "client_ca" }, error)));
        faults
    }
}

/// One of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of the pair for this name; none for those that are for all.
    pub(crate) host: Option<Host>,
    /// The key that says it.
    pub(crate) key: &'static str,
}

/// The certificates that are shown, and for whom.
type Shown = Vec<(Option<Host>, Vec<CertificateDer<'static>>)>;

struct Loaded {
    config: Arc<TlsServerConfig>,
    shown: Shown,
    tickets: Arc<dyn ProducesTickets>,
    authorities: Option<RootCertStore>,
    terms: Vec<Term>,
}

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// That of its row, or `default`.
    pub(crate) name: String,
    /// Where it is from, if it is from a file.
    file: Option<PathBuf>,
    time: Time,
}

impl Term {
    /// Until when it is good, for a person.
    pub(crate) fn until(&self) -> String {
        date(self.time.ends)
    }

    /// Warns of one that is not good at `now`. It is used all the same: a client that does
    /// not look has its service, and a host that does not start helps nobody.
    pub(crate) fn warn(&self, listener: &str, now: SystemTime) {
        let Self { name, file, time } = self;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let file = file.as_deref().map(Path::display);
        if time.ends < now {
            let ended = self.until();
            tracing::warn!(
                listener,
                certificate = name,
                file = file.map(tracing::field::display),
                "a certificate has expired at {ended}; it is shown all the same"
            );
        } else if time.begins > now {
            let begins = date(time.begins);
            tracing::warn!(
                listener,
                certificate = name,
                file = file.map(tracing::field::display),
                "a certificate is not valid before {begins}; it is shown all the same"
            );
        }
    }
}

/// Seconds since the epoch, as a date.
fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // Beyond the year 9999 there is no such form.
    let at = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    let mut text = String::new();
    match fmt::Write::write_fmt(
        &mut text,
        format_args!("{}", humantime::format_rfc3339_seconds(at)),
    ) {
        Ok(()) => text,
        Err(_) => "the end of time".to_owned(),
    }
}

impl Certificates {
    /// Reads these files.
    ///
    /// # Errors
    ///
    /// Which file is wrong, how, and what was expected.
    pub(crate) fn read(files: &TlsFiles) -> Result<Fresh, TlsError> {
        Read::files(files).map(Fresh)
    }

    /// One certificate that is in no file.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub(crate) fn self_signed(own: &SelfSigned) -> Result<Self, TlsError> {
        let unfit = |error| TlsError::Setup(format!("{error:?}"));
        let default =
            pem::certificate(vec![own.certificate()], own.key(), &provider()).map_err(unfit)?;
        let default = (None, default);
        Read { default, named: Vec::new(), authorities: None }.loaded(None).map(Self::new)
    }

    fn new(loaded: Loaded) -> Self {
        Self(Arc::new(RwLock::new(loaded)))
    }

    /// Takes these from the next handshake on, and gives those that are new. Nothing, if
    /// all are as before; there may be none if authorities are.
    ///
    /// # Errors
    ///
    /// When there is no randomness. Then all stays as it is.
    pub(crate) fn renew(&self, fresh: Fresh) -> Result<Option<Vec<Term>>, TlsError> {
        let mut loaded = self.0.write();
        let shown = fresh.0.shown();
        if shown == loaded.shown && same(fresh.0.authorities.as_ref(), loaded.authorities.as_ref())
        {
            return Ok(None);
        }
        let new = shown.iter().map(|one| !loaded.shown.contains(one)).collect::<Vec<_>>();
        *loaded = fresh.0.loaded(Some(&loaded))?;
        let terms = loaded.terms.iter().zip(new);
        Ok(Some(terms.filter(|(_, new)| *new).map(|(term, _)| term.clone()).collect()))
    }

    /// What is told of each.
    pub(crate) fn terms(&self) -> Vec<Term> {
        self.0.read().terms.clone()
    }

    /// When each ends, in seconds since the epoch, by its name: that of its row, or
    /// `default`.
    pub(crate) fn expiries(&self) -> BTreeMap<String, i64> {
        let loaded = self.0.read();
        loaded.terms.iter().map(|term| (term.name.clone(), term.time.ends)).collect()
    }

    /// The configuration of now.
    pub(crate) fn config(&self) -> Arc<TlsServerConfig> {
        Arc::clone(&self.0.read().config)
    }

    /// Begins a handshake, in which HTTP's protocols are offered.
    pub(super) fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        TlsAcceptor::from(self.config()).accept(stream)
    }

    /// Goes on with a handshake, in which these protocols are offered.
    pub(super) fn accept_for(
        &self,
        asked: StartHandshake<TcpStream>,
        alpn: &[String],
    ) -> Accept<TcpStream> {
        let mut config = self.config();
        // A copy is a score of counters: what is costly in it is shared.
        let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec());
        Arc::make_mut(&mut config).alpn_protocols = alpn.collect();
        asked.into_stream(config)
    }
}

/// What a client asks for in its handshake.
pub(super) async fn hello(stream: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    LazyConfigAcceptor::new(Acceptor::default(), stream).await
}

/// Ends a handshake because nobody answers to the name that is asked for.
pub(super) async fn refuse_name(asked: StartHandshake<TcpStream>) -> io::Result<()> {
    // A record with a fatal alert, `unrecognized_name`, of which rustls has no way to send
    // it. Nothing is encrypted yet.
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    let mut stream = asked.io;
    stream.write_all(&ALERT).await?;
    stream.shutdown().await
}

/// What the files held.
struct Read {
    default: (Option<PathBuf>, Certificate),
    named: Vec<(Host, PathBuf, Certificate)>,
    authorities: Option<RootCertStore>,
}

impl Read {
    fn files(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = provider();
        let default = (Some(files.pair.cert.clone()), files.pair.read(&provider)?);
        let named = files
            .sni
            .iter()
            .map(|(host, pair)| Ok((host.clone(), pair.cert.clone(), pair.read(&provider)?)));
        let named = named.collect::<Result<_, TlsError>>()?;
        let authorities = files.client_ca.as_deref().map(pem::authorities).transpose()?;
        Ok(Self { default, named, authorities })
    }

    fn shown(&self) -> Shown {
        let named =
            self.named.iter().map(|(host, _, own)| (Some(host.clone()), own.key.cert.clone()));
        std::iter::once((None, self.default.1.key.cert.clone())).chain(named).collect()
    }

    /// In the order of what is shown.
    fn terms(&self) -> Vec<Term> {
        let (file, default) = &self.default;
        let default = Term { name: DEFAULT.to_owned(), file: file.clone(), time: default.time };
        let named = self.named.iter().map(|(host, file, own)| Term {
            name: host.to_string(),
            file: Some(file.clone()),
            time: own.time,
        });
        std::iter::once(default).chain(named).collect()
    }

    /// What is to be in force, after `before`.
    fn loaded(self, before: Option<&Loaded>) -> Result<Loaded, TlsError> {
        let (shown, terms) = (self.shown(), self.terms());
        let Self { default: (_, default), named, authorities } = self;
        let setup = |error: &dyn fmt::Display| TlsError::Setup(error.to_string());
        let provider = Arc::new(provider());
        let tickets = match before {
            Some(before) if same(before.authorities.as_ref(), authorities.as_ref()) => {
                Arc::clone(&before.tickets)
            }
            _ => aws_lc_rs::Ticketer::new().map_err(|error| setup(&error))?,
        };
        let clients: Arc<dyn ClientCertVerifier> = match &authorities {
            None => Arc::new(NoClientAuth),
            Some(roots) => {
                let (roots, provider) = (Arc::new(roots.clone()), Arc::clone(&provider));
                WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| setup(&error))?
            }
        };
        let named = named.into_iter().map(|(host, _, own)| (host, own.key)).collect();
        let mut config = TlsServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| setup(&error))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(ByName { named, default: default.key }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&tickets);
        // The default, written down because it is a promise.
        config.max_early_data_size = 0;
        Ok(Loaded { config: Arc::new(config), shown, tickets, authorities, terms })
    }
}

fn same(one: Option<&RootCertStore>, other: Option<&RootCertStore>) -> bool {
    one.map(|roots| &roots.roots) == other.map(|roots| &roots.roots)
}

/// A client's connection after its handshake.
pub(super) type Stream = TlsStream<TcpStream>;

/// What TLS computes with.
pub(super) fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

/// The certificate for the name that a client asks for.
#[derive(Debug)]
struct ByName {
    named: Vec<(Host, Arc<CertifiedKey>)>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let best = name.and_then(|name| {
            let fits = self.named.iter().filter(|(host, _)| host.fits(&name));
            fits.max_by_key(|(host, _)| host.rank()).map(|(_, key)| key)
        });
        Some(Arc::clone(best.unwrap_or(&self.default)))
    }
}

/// What a handshake told of the client.
pub(super) fn info<S>(stream: &TlsStream<S>) -> TlsInfo {
    let (_, session) = stream.get_ref();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let subject = session.peer_certificates().and_then(|chain| {
        let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        Some(certificate.subject().to_string())
    });
    TlsInfo {
        sni: session.server_name().map(str::to_owned),
        alpn: session.alpn_protocol().map(text),
        client_subject: subject,
    }
}
