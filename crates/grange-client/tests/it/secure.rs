//! TLS and SASL, against Apache's server: ours has neither for clients yet.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use grange_client::{ConnectError, ConnectOptions, RawConnectOptions, close, connect};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::apache::{APACHE_JAR, Apache, free_address};

/// A server with a port for TLS, which asks for the client's certificate, and with SASL DIGEST-MD5 on both ports.
struct Secure {
    plain: SocketAddr,
    tls: SocketAddr,
    directory: TempDir,
    _server: Apache,
}

impl Secure {
    fn start() -> Option<Secure> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::new();
        fs::write(path("ca.pem"), authority.certificate.pem()).unwrap();
        fs::write(path("other-ca.pem"), Authority::new().certificate.pem()).unwrap();
        let (certificate, key) = authority.issue("127.0.0.1");
        fs::write(path("server.pem"), key + &certificate).unwrap();
        let (certificate, key) = authority.issue("client");
        fs::write(path("client.pem"), certificate).unwrap();
        fs::write(path("client.key"), key).unwrap();
        fs::set_permissions(path("client.key"), Permissions::from_mode(0o600)).unwrap();
        fs::write(path("jaas.conf"), JAAS).unwrap();
        let tls = free_address();
        let lines = format!(
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\nsecureClientPort={}\n\
             secureClientPortAddress=127.0.0.1\nssl.keyStore.location={}\nssl.trustStore.location={}\n\
             authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n",
            tls.port(),
            path("server.pem").display(),
            path("ca.pem").display()
        );
        let login = format!("-Djava.security.auth.login.config={}", path("jaas.conf").display());
        let server = Apache::start_with(directory.path(), &lines, &[login, "-cp".to_owned(), class_path()])?;
        Some(Secure { plain: server.address(), tls, directory, _server: server })
    }

    /// The options of somebody with these variables; files are in the server's directory.
    fn options(&self, address: SocketAddr, files: &[(&str, &str)], auth: &str) -> ConnectOptions {
        let raw = RawConnectOptions {
            servers: Some(address.to_string()),
            config: Some("/dev/null".into()),
            ..RawConnectOptions::default()
        };
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        ConnectOptions::resolve(raw, |name| match name {
            "GRANGE_AUTH" => Some(auth.to_owned()),
            // Three rounds of attempts say as much as more of them.
            "GRANGE_CONNECT_TIMEOUT" => Some("10".to_owned()),
            _ => files.iter().find(|(variable, _)| *variable == name).map(|(_, file)| path(file)),
        })
        .unwrap()
    }
}

/// The parts of Netty that Debian's server needs for TLS and does not name itself.
const NETTY: &[&str] = &[
    "buffer",
    "codec",
    "common",
    "handler",
    "resolver",
    "transport",
    "transport-native-epoll",
    "transport-native-unix-common",
];

fn class_path() -> String {
    let parts = NETTY.iter().map(|part| format!("/usr/share/java/netty-{part}.jar"));
    [APACHE_JAR.to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join(":")
}

const JAAS: &str = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_alice=\"secret\"; };\n";

/// The variables of a client with a certificate.
const CLIENT: &[(&str, &str)] =
    &[("GRANGE_TLS_CA", "ca.pem"), ("GRANGE_TLS_CERT", "client.pem"), ("GRANGE_TLS_KEY", "client.key")];

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Authority { certificate, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

async fn refused(options: &ConnectOptions) -> String {
    connect(options).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_logins_count_on_apache() {
    let Some(server) = Secure::start() else { return };
    let client = connect(&server.options(server.tls, CLIENT, "sasl:alice:secret")).await.unwrap();
    let users = client.list_auth_users().await.unwrap();
    let users = format!("{users:?}");
    assert!(users.contains("\"sasl\"") && users.contains("\"alice\""), "{users}");
    assert!(!client.list_children("/").await.unwrap().is_empty());
    close(client).await;
    close(connect(&server.options(server.plain, &[], "sasl:alice:secret")).await.unwrap()).await;

    let error = connect(&server.options(server.plain, &[], "sasl:alice:wrong")).await.unwrap_err();
    assert!(matches!(error, ConnectError::AuthRefused), "{error}");
    let error = refused(&server.options(server.tls, &[("GRANGE_TLS_CA", "other-ca.pem")], "")).await;
    assert!(error.contains("no TLS: invalid peer certificate"), "{error}");
    let error = refused(&server.options(server.tls, &CLIENT[..1], "")).await;
    assert!(error.contains("no TLS: received fatal alert"), "{error}");
    let error = refused(&server.options(server.plain, CLIENT, "")).await;
    assert!(error.contains("no TLS: "), "{error}");
}
