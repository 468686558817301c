//! TLS between members: both sides show a certificate that an authority of the trust store vouches for.
//!
//! The name in a certificate is not compared with the address: members are moved and renamed, and whoever has a
//! certificate of the ensemble's own authority may be a member. Only TLS 1.3 is spoken.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

use crate::config::TlsFiles;

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read {what} from {}", .path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A file is PEM, but without the part that is needed.
    #[error("there is no {what} in {}; it must be PEM", .path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What was read does not fit together.
    #[error("the {what} in {} cannot be used", .path.display())]
    Unfit {
        /// What was read.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The trust store is of no use.
    #[error("the certificates of the authorities in {} cannot be used", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
}

/// What both ends of a connection need.
#[derive(Debug, Clone)]
pub(crate) struct TlsContext {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl TlsContext {
    /// Reads the files; they are not looked at again.
    pub(crate) fn load(files: &TlsFiles) -> Result<TlsContext, TlsError> {
        let TlsFiles { key_store, trust_store } = files;
        let chain = certificates(key_store, "certificate")?;
        let key = PrivateKeyDer::from_pem_file(key_store).map_err(|source| match source {
            pem::Error::NoItemsFound => {
                TlsError::Missing { what: "private key without a password", path: key_store.clone() }
            }
            source => TlsError::Pem { what: "the private key", path: key_store.clone(), source },
        })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(trust_store, "certificate of an authority")? {
            let unfit =
                |source| TlsError::Unfit { what: "certificate of an authority", path: trust_store.clone(), source };
            roots.add(authority).map_err(unfit)?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|source| TlsError::Authorities { path: trust_store.clone(), source })?;
        let unfit = |source| TlsError::Unfit { what: "key and certificate", path: key_store.clone(), source };
        let servers = Arc::new(ChainVerifier { roots, algorithms: provider.signature_verification_algorithms });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        // Nobody would read them, and unread bytes turn a clean end into a reset.
        server.send_tls13_tickets = 0;
        let client =
            client_builder(provider, &servers).map_err(unfit)?.with_client_auth_cert(chain, key).map_err(unfit)?;
        Ok(TlsContext { client: Arc::new(client), server: Arc::new(server) })
    }

    pub(super) fn client(&self) -> Result<ClientConnection, rustls::Error> {
        let name = ServerName::try_from("grange.invalid").expect("this is a name, and nobody compares it");
        ClientConnection::new(Arc::clone(&self.client), name)
    }

    pub(super) fn server(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.server))
    }
}

fn client_builder(
    provider: Arc<CryptoProvider>,
    servers: &Arc<ChainVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(servers) as Arc<dyn ServerCertVerifier>))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { what: "certificates", path: path.to_owned(), source };
    let read: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if read.is_empty() { Err(TlsError::Missing { what, path: path.to_owned() }) } else { Ok(read) }
}

/// Accepts a server whose certificate comes from one of the authorities, whatever name is in it.
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Never asked: only TLS 1.3 is spoken.
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
