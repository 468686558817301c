//! TLS to the servers: whom to trust, and the certificate by which the client is known.

use std::fmt;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use zookeeper_client::{Error as ClientError, TlsCa, TlsCerts, TlsIdentity, TlsOptions};

use crate::private_file::{self, PrivateFileError};

/// The most bytes read from a file of certificates: a system's whole collection has a quarter of it.
const CERTIFICATES_BYTES_MAX: u64 = 1024 * 1024;

/// How long a server's last word on the client's certificate is waited for: in TLS 1.3 it follows the handshake.
const VERDICT_TIMEOUT: Duration = Duration::from_millis(500);

/// Certificates that were read and fit together.
#[derive(Clone)]
pub struct Tls {
    ca: TlsCa,
    roots: Arc<RootCertStore>,
    identity: Option<TlsIdentity>,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A client's certificate with those that it was signed by, in PEM.
pub(crate) struct Chain(String);

/// Why certificates or keys cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in the file, or what is there is damaged.
    #[error("{} holds no certificates in PEM (-----BEGIN CERTIFICATE-----)", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file of the key cannot be read, or not by its owner only.
    #[error(transparent)]
    KeyFile(#[from] PrivateFileError),
    /// There is no key in the file, or a password protects it.
    #[error("{} holds no private key in PEM that is not encrypted", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not fit the certificate: {why}", .path.display())]
    Misfit {
        /// The file of the key.
        path: PathBuf,
        /// What the TLS library says.
        why: rustls::Error,
    },
    /// A file that this program understands is refused by the client library.
    #[error("{} is not understood", .path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ClientError,
    },
}

impl Tls {
    /// Trusts the servers whose certificates were signed by one of those in a file; revocation lists in it count.
    pub fn trusting(path: &Path) -> Result<Tls, TlsError> {
        let text = read(path)?;
        let none = || TlsError::NoCertificate { path: path.to_owned() };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&text).map_err(|_| none())? {
            roots.add(certificate).map_err(|_| none())?;
        }
        if roots.is_empty() || revocations(&text).is_err() {
            return Err(none());
        }
        let ca = TlsCa::from_pem(&text).map_err(|source| TlsError::Client { path: path.to_owned(), source })?;
        let roots = Arc::new(roots);
        let config = builder(&roots).with_no_client_auth();
        Ok(Tls { ca, roots, identity: None, config: Arc::new(config) })
    }

    /// Reads the certificate by which the client is known.
    pub(crate) fn read_chain(path: &Path) -> Result<Chain, TlsError> {
        let text = read(path)?;
        match certificates(&text) {
            Ok(found) if !found.is_empty() => Ok(Chain(text)),
            _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
        }
    }

    /// Adds a certificate and its key, whose file nobody but its owner may have access to.
    pub(crate) fn with_identity(self, chain: Chain, key_path: &Path) -> Result<Tls, TlsError> {
        let key_text = private_file::read(key_path)?;
        let path = || key_path.to_owned();
        let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|_| TlsError::NoKey { path: path() })?;
        let certificates = certificates(&chain.0).expect("they were read before");
        let config = builder(&self.roots)
            .with_client_auth_cert(certificates, key)
            .map_err(|why| TlsError::Misfit { path: path(), why })?;
        let identity =
            TlsIdentity::from_pem(&chain.0, &key_text).map_err(|source| TlsError::Client { path: path(), source })?;
        Ok(Tls { identity: Some(identity), config: Arc::new(config), ..self })
    }

    /// Returns the settings in the words of the client library.
    pub(crate) fn options(&self) -> TlsOptions {
        // The client library asks for the process's provider, and panics where two are linked and none was chosen.
        // It fails only if one was chosen before, which is as good.
        let _ = ring::default_provider().install_default();
        let certificates = TlsCerts::builder().with_ca(self.ca.clone());
        let certificates = match &self.identity {
            Some(identity) => certificates.with_identity(identity.clone()),
            None => certificates,
        };
        TlsOptions::new().with_certs(certificates.build().expect("there is a CA"))
    }

    /// Returns true if a certificate can be for a host of this name.
    pub(crate) fn can_name(host: &str) -> bool {
        ServerName::try_from(host).is_ok()
    }

    /// Makes a handshake on a fresh connection, to say what is wrong with it. Blocks for the stream's timeouts.
    ///
    /// Errors: what either side found wrong with the other's certificate.
    pub(crate) fn handshake(&self, host: &str, mut stream: TcpStream) -> io::Result<()> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        stream.set_read_timeout(Some(VERDICT_TIMEOUT))?;
        match Stream::new(&mut connection, &mut stream).read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
            // Silence is what a server that waits for a request has to say.
            _ => Ok(()),
        }
    }
}

fn builder(roots: &Arc<RootCertStore>) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has a cipher suite for each default version")
        .with_root_certificates(Arc::clone(roots))
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
}

fn revocations(text: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, pem::Error> {
    CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect()
}

fn read(path: &Path) -> Result<String, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(CERTIFICATES_BYTES_MAX + 1);
    let bytes = file.read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > CERTIFICATES_BYTES_MAX) {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_that_do_not_fit_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let own = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        let cert = file("cert.pem", &own.cert.pem(), 0o644);
        let key = file("key.pem", &own.signing_key.serialize_pem(), 0o600);
        let exposed = file("exposed.pem", &own.signing_key.serialize_pem(), 0o640);
        let foreign = file("foreign.pem", &other.signing_key.serialize_pem(), 0o600);
        let empty = file("empty.pem", "nothing", 0o600);

        let with_key = |key: &Path| {
            let tls = Tls::trusting(&cert).unwrap();
            tls.with_identity(Tls::read_chain(&cert).unwrap(), key)
        };
        assert!(with_key(&key).is_ok());
        let error = |key: &Path| with_key(key).unwrap_err().to_string();
        assert!(error(&exposed).contains("exposed.pem has mode 0640"), "{}", error(&exposed));
        assert!(error(&foreign).contains("foreign.pem does not fit the certificate"), "{}", error(&foreign));
        assert!(error(&empty).contains("empty.pem holds no private key"), "{}", error(&empty));
        assert!(Tls::trusting(&empty).unwrap_err().to_string().contains("holds no certificates"));
        assert!(Tls::trusting(&directory.path().join("absent")).unwrap_err().to_string().starts_with("cannot read"));
        assert!(!format!("{:?}", with_key(&key).unwrap()).contains("PRIVATE"));
    }
}
