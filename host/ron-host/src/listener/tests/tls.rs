//! TLS: what is agreed on, whose certificate is shown, whose is asked for, and what a
//! file can be wrong in.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion, version,
};

/// An authority of these tests, and where its files go.
struct Files {
    place: TempDir,
    authority: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("text")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("signed").der().clone();
        let place = tempfile::tempdir().expect("a directory");
        let files = Self { place, authority: Issuer::new(params, key), root };
        files.write("ca.pem", &pem("CERTIFICATE", &files.root));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    /// A certificate for `name`, with its key.
    fn issue(&self, name: &str, days: i64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let now = std::time::SystemTime::now();
        let offset = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        params.not_before = (now - Duration::from_secs(100 * 24 * 60 * 60)).into();
        params.not_after = if days > 0 { now + offset } else { now - offset }.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// The same, in files of that name.
    fn pair(&self, file: &str, name: &str) -> Pair {
        let (certificate, key) = self.issue(name, 10);
        Pair {
            cert: self.write(&format!("{file}.pem"), &pem("CERTIFICATE", &certificate)),
            key: self.write(&format!("{file}.key"), &pem("PRIVATE KEY", key.secret_der())),
        }
    }

    fn tls(&self, name: &str) -> TlsFiles {
        TlsFiles { pair: self.pair("server", name), client_ca: None, sni: Vec::new() }
    }

    fn client(&self) -> Client {
        Client { roots: vec![self.root.clone()], alpn: Vec::new(), own: None, versions: ALL }
    }
}

const ALL: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

#[derive(Clone)]
struct Client {
    roots: Vec<CertificateDer<'static>>,
    alpn: Vec<&'static str>,
    own: Option<Arc<(CertificateDer<'static>, PrivateKeyDer<'static>)>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Client {
    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).expect("a root");
        }
        // It offers what the host prefers, and what it does without.
        let provider = Arc::new(super::super::tls::provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("known versions")
            .with_root_certificates(roots);
        let mut config = match self.own.as_deref() {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![certificate.clone()];
                config.with_client_auth_cert(chain, key.clone_key()).expect("a pair")
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, server: &Server, name: &str) -> io::Result<TlsStream<TcpStream>> {
        connect(&self.connector(), server, name).await
    }
}

async fn connect(
    connector: &TlsConnector,
    server: &Server,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    connector.connect(name, server.connect().await).await
}

/// Asks over this connection, and what the service was told of it.
async fn asked(server: &Server, stream: &mut TlsStream<TcpStream>) -> io::Result<TlsInfo> {
    stream.write_all(get("/").as_bytes()).await?;
    // What is refused is closed before there is anything.
    let first = [stream.read_u8().await?];
    let mut rest = (&first[..]).chain(stream);
    assert_eq!(receive(&mut rest).await.status, 200);
    let mut seen = server.service.seen.lock();
    let seen = seen.pop().expect("it was asked");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.uri, "https://x/", "whatever the request says of it");
    let info = seen.extensions.get::<Arc<ConnectionInfo>>().expect("it is known");
    Ok(info.tls.clone().expect("it is TLS"))
}

fn load(files: &TlsFiles) -> Result<Certificates, TlsError> {
    Certificates::read(files)?.certificates()
}

fn reload(certificates: &Certificates, files: &TlsFiles) -> Result<Option<Vec<Term>>, TlsError> {
    certificates.renew(Certificates::read(files)?)
}

async fn secure(files: &TlsFiles) -> (Server, Certificates) {
    let certificates = load(files).expect("good files");
    (start_with(Limits::default(), Some(certificates.clone())).await, certificates)
}

/// Whom the server's certificate is for.
fn shown(stream: &TlsStream<TcpStream>) -> String {
    let chain = stream.get_ref().1.peer_certificates().expect("shown");
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).expect("X.509");
    certificate.subject().to_string()
}

#[tokio::test]
async fn protocols_are_agreed_on() {
    let files = Files::new();
    let (server, certificates) = secure(&files.tls("api.example")).await;
    for (alpn, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = Client { alpn: alpn.to_vec(), ..files.client() };
        let mut stream = client.connect(&server, "api.example").await.expect("agreed");
        assert_eq!(
            stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name()),
            Some(NamedGroup::X25519MLKEM768)
        );
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes));
        if agreed == Some("h2") {
            let response = http2(stream).await.send_request(request("GET", "/", "")).await;
            assert_eq!(Reply::of(response.expect("answered")).await.status, 200);
            continue;
        }
        let info = asked(&server, &mut stream).await.expect("answered");
        let sni = Some("api.example".to_owned());
        let alpn = agreed.map(str::to_owned);
        assert_eq!(info, TlsInfo { sni, alpn, client_subject: None });
    }
    let other = Client { alpn: vec!["h3"], ..files.client() };
    assert!(other.connect(&server, "api.example").await.is_err());
    for (only, version) in
        [(&ALL[..1], ProtocolVersion::TLSv1_2), (&ALL[1..], ProtocolVersion::TLSv1_3)]
    {
        let connector = Client { versions: only, ..files.client() }.connector();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(&connector, &server, "api.example").await.expect("agreed");
            asked(&server, &mut stream).await.expect("answered");
            let (_, session) = stream.get_ref();
            assert_eq!(
                (session.protocol_version(), session.handshake_kind()),
                (Some(version), Some(kind))
            );
        }
    }
    let config = certificates.config();
    assert!(config.ticketer.enabled());
    assert_eq!(config.max_early_data_size, 0);
}

#[tokio::test]
async fn the_name_decides_whose_certificate_is_shown() {
    let files = Files::new();
    let sni = [("own.svc.example", "own"), ("api.example", "api"), ("*.svc.example", "below")];
    let pairs = sni.map(|(host, file)| (host.parse().expect("a host"), files.pair(file, host)));
    let tls = TlsFiles { sni: pairs.to_vec(), ..files.tls("main.test") };
    let (server, certificates) = secure(&tls).await;
    for (name, expected) in [
        ("api.example", "CN=api.example"),
        ("www.svc.example", "CN=*.svc.example"),
        ("own.svc.example", "CN=own.svc.example"),
        ("main.test", "CN=main.test"),
    ] {
        let stream = files.client().connect(&server, name).await.expect("it is good for it");
        assert_eq!(shown(&stream), expected);
    }
    let error = files.client().connect(&server, "other.test").await.expect_err("none is for it");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let expiries = certificates.expiries();
    assert_eq!(
        expiries.keys().collect::<Vec<_>>(),
        ["*.svc.example", "api.example", "default", "own.svc.example"]
    );
    let now = std::time::UNIX_EPOCH.elapsed().expect("after it").as_secs();
    let days = |seconds: i64| (seconds - i64::try_from(now).expect("small")) as f64 / 86_400.0;
    assert!(expiries.values().all(|at| (9.9..10.1).contains(&days(*at))), "{expiries:?}");
}

#[tokio::test]
async fn clients_show_a_certificate_where_they_have_to() {
    let (files, others) = (Files::new(), Files::new());
    let tls = TlsFiles { client_ca: Some(files.path("ca.pem")), ..files.tls("api.example") };
    let (server, certificates) = secure(&tls).await;
    let own = |files: &Files| Some(Arc::new(files.issue("ci.example", 10)));
    let known = Client { own: own(&files), ..files.client() };
    let connector = known.connector();
    let mut stream = connect(&connector, &server, "api.example").await.expect("known");
    let info = asked(&server, &mut stream).await.expect("answered");
    assert_eq!(info.client_subject.as_deref(), Some("CN=ci.example"));
    for stranger in [None, own(&others)] {
        let client = Client { own: stranger, ..files.client() };
        // With TLS 1.3 the client's part of the handshake ends before it is refused.
        let refused = match client.connect(&server, "api.example").await {
            Ok(mut stream) => asked(&server, &mut stream).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    assert!(server.service.seen.lock().is_empty());
    // Who was known to another authority shows a certificate again.
    let strict = TlsFiles { client_ca: Some(others.path("ca.pem")), ..tls.clone() };
    reload(&certificates, &strict).expect("good files");
    let refused = match connect(&connector, &server, "api.example").await {
        Ok(mut stream) => asked(&server, &mut stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a ticket is no certificate");
    asked(&server, &mut stream).await.expect("an open connection lives on");
}

#[tokio::test]
async fn certificates_are_replaced_in_place() {
    let files = Files::new();
    let tls = files.tls("one.test");
    let (server, certificates) = secure(&tls).await;
    let connector = files.client().connector();
    let old = connect(&connector, &server, "one.test").await.expect("shown");
    files.pair("server", "two.test");
    reload(&certificates, &tls).expect("good files");
    let new = files.client().connect(&server, "two.test").await.expect("the new one is shown");
    assert_eq!(shown(&new), "CN=two.test");
    let mut old = old;
    asked(&server, &mut old).await.expect("an open connection lives on");
    let mut resumed = connect(&connector, &server, "one.test").await.expect("by its ticket");
    asked(&server, &mut resumed).await.expect("answered");
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));

    // Half of a pair: the one that was there stays.
    let (_, key) = files.issue("three.test", 10);
    files.write("server.key", &pem("PRIVATE KEY", key.secret_der()));
    let error = reload(&certificates, &tls).expect_err("no pair");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
    assert!(error.to_string().contains("is not that of the certificate in"), "{error}");
    let kept = files.client().connect(&server, "two.test").await.expect("shown");
    assert_eq!(shown(&kept), "CN=two.test");
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let files = Files::new();
    let good = files.tls("api.example");
    let (certificate, _) = files.issue("api.example", 10);
    let check = |tls: TlsFiles, parts: &[&str]| {
        let error = load(&tls).expect_err("it is wrong").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    };
    let key =
        |path: PathBuf| TlsFiles { pair: Pair { key: path, ..good.pair.clone() }, ..good.clone() };
    let cert =
        |path: PathBuf| TlsFiles { pair: Pair { cert: path, ..good.pair.clone() }, ..good.clone() };
    check(cert(files.path("none")), &["none", "cannot be read"]);
    check(cert(files.write("empty", "")), &["no certificate in", "empty", "BEGIN CERTIFICATE"]);
    check(cert(good.pair.key.clone()), &["no certificate in", "server.key"]);
    check(cert(files.write("junk", &pem("CERTIFICATE", b"junk"))), &["junk", "broken"]);
    check(cert(files.write("cut", "-----BEGIN CERTIFICATE-----\nAAAA\n")), &["cut", "not in PEM"]);
    check(key(files.path("none")), &["none", "cannot be read"]);
    check(key(good.pair.cert.clone()), &["no private key in", "server.pem", "BEGIN PRIVATE KEY"]);
    check(key(files.write("junk", &pem("PRIVATE KEY", b"junk"))), &["junk", "expected RSA, ECDSA"]);
    let encrypted = files.write("encrypted", &pem("ENCRYPTED PRIVATE KEY", b"x"));
    check(key(encrypted), &["encrypted", "without a passphrase"]);
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    check(key(files.write("older", older)), &["older", "without a passphrase"]);
    check(key(files.pair("other", "b").key), &["other.key is not that of", "server.pem"]);
    let ca = |path: PathBuf| TlsFiles { client_ca: Some(path), ..good.clone() };
    check(ca(files.path("none")), &["none", "cannot be read"]);
    check(ca(good.pair.key.clone()), &["no certificate in", "server.key"]);
    let row = Pair {
        cert: files.write("row", &pem("CERTIFICATE", &certificate)),
        key: good.pair.key.clone(),
    };
    let sni = vec![("api.example".parse().expect("a host"), row)];
    check(TlsFiles { sni, ..good.clone() }, &["server.key is not that of", "row"]);
}

#[test]
fn an_expired_certificate_is_used_with_a_warning() {
    let files = Files::new();
    let (certificate, key) = files.issue("api.example", -1);
    let pair = Pair {
        cert: files.write("old.pem", &pem("CERTIFICATE", &certificate)),
        key: files.write("old.key", &pem("PRIVATE KEY", key.secret_der())),
    };
    let tls = TlsFiles { pair, client_ca: None, sni: Vec::new() };
    let certificates = load(&tls).expect("it is used");
    let terms = certificates.terms();
    let [term] = &terms[..] else { panic!("{terms:?}") };
    let now = std::time::SystemTime::now();
    let ((), log) = access::logged(|| term.warn("public", now));
    assert!(log.contains("WARN") && log.contains("a certificate has expired at 2"), "{log}");
    for part in ["listener=\"public\"", "certificate=\"default\"", "old.pem", &term.until()] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    let before = now - Duration::from_secs(200 * 24 * 60 * 60);
    let ((), log) = access::logged(|| term.warn("public", before));
    assert!(log.contains("WARN") && log.contains("is not valid before 2"), "{log}");
    let good = now - Duration::from_secs(2 * 24 * 60 * 60);
    assert_eq!(access::logged(|| term.warn("public", good)).1, "");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let files = Files::new();
    let certificates = load(&files.tls("api.example")).expect("good files");
    let limits = Limits { handshake_timeout: 3 * SECOND, ..Limits::default() };
    let server = start_with(limits, Some(certificates)).await;
    // Nothing, and the beginning of a ClientHello.
    for bytes in ["", "\u{16}\u{3}\u{1}\u{1}"] {
        let begun = Instant::now();
        let mut stream = server.send(bytes).await;
        assert!(closed(&mut stream).await);
        let took = begun.elapsed();
        assert!(took >= 3 * SECOND && took < 4 * SECOND, "{took:?}");
    }
    // What is no TLS at all is not waited for.
    let begun = Instant::now();
    let mut stream = server.send(&get("/")).await;
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    assert!(!all.starts_with(b"HTTP") && begun.elapsed() < SECOND);
}

#[tokio::test]
async fn a_certificate_for_development_is_good_for_this_machine() {
    let own = SelfSigned::new().expect("made");
    let fingerprint = own.fingerprint();
    assert_eq!((fingerprint.len(), fingerprint.matches(':').count()), (95, 31), "{fingerprint}");
    assert_ne!(fingerprint, SelfSigned::new().expect("made").fingerprint());
    let certificates = Certificates::self_signed(&own).expect("good");
    let server = start_with(Limits::default(), Some(certificates)).await;
    let files = Files::new();
    let client = Client { roots: vec![own.certificate()], ..files.client() };
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut stream = client.connect(&server, name).await.expect("it is trusted");
        asked(&server, &mut stream).await.expect("answered");
        assert_eq!(shown(&stream), "CN=ron-host, for development");
    }
    assert!(client.connect(&server, "api.example").await.is_err());
    assert!(files.client().connect(&server, "localhost").await.is_err(), "to those who trust it");
}

/// OpenSSL agrees.
#[tokio::test]
async fn openssl_agrees() {
    let files = Files::new();
    let (server, _) = secure(&files.tls("api.example")).await;
    let (addr, ca) = (server.running.addr().to_string(), files.path("ca.pem"));
    let run = move |ca: &Path| {
        std::process::Command::new("openssl")
            .args(["s_client", "-brief", "-verify_return_error", "-alpn", "h2,http/1.1"])
            .args(["-servername", "api.example", "-verify_hostname", "api.example"])
            .args(["-connect", &addr, "-CAfile"])
            .arg(ca)
            .stdin(std::process::Stdio::null())
            .output()
    };
    let output = tokio::task::spawn_blocking(move || run(&ca)).await.expect("no panic");
    let output = output.expect("openssl is there, as for other tests");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("TLSv1.3") && text.contains("Verification: OK"), "{text}");
}
