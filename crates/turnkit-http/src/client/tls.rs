use std::{error::Error, sync::Arc};

use rustls::{
    ClientConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};
use thiserror::Error;

/// Why a client can have no TLS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Nobody chose a provider: the process has installed none, and both features are off.
    #[error(
        "choose who does the cryptography of TLS: install a provider of rustls, or build with the feature tls-aws-lc or tls-ring"
    )]
    NoProvider,
    /// The certificates of further authorities are no certificates in PEM.
    #[error("read the certificates")]
    Roots(#[source] Box<dyn Error + Send + Sync>),
    /// The provider cannot do TLS 1.2 or 1.3, or the platform has no usable roots.
    #[error("set up TLS")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
}

/// TLS 1.2 and 1.3 for HTTP/1.1, with servers verified as the platform does it.
///
/// The cryptography is that of the provider that the process has installed as its default; where there is none, that of the
/// feature `tls-aws-lc`, or else `tls-ring`. Nothing is installed here: whose the process is decides for the process.
///
/// Hand it to reqwest by `ClientBuilder::tls_backend_preconfigured`, whose feature is then `rustls-no-provider`. Without it
/// reqwest panics in a process that has no provider installed.
///
/// # Errors
/// [`TlsError`], of which a process without HTTPS learns as well: it is told before the first request.
pub fn tls_config() -> Result<ClientConfig, TlsError> {
    tls_config_with(&[])
}

/// [`tls_config`], which trusts further authorities beside those of the platform: one or more certificates in PEM in each of
/// `roots`. For servers with a private CA.
///
/// # Errors
/// [`TlsError`]; [`TlsError::Roots`] where one of them holds no certificate, or one that cannot be an authority's.
pub fn tls_config_with(roots: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Unusable(error.into());
    let provider = provider().ok_or(TlsError::NoProvider)?;
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let mut config = if roots.is_empty() {
        config.with_platform_verifier().map_err(unusable)?.with_no_client_auth()
    } else {
        let mut certificates = Vec::new();
        for pem in roots {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let found = found.map_err(|error| TlsError::Roots(error.into()))?;
            if found.is_empty() {
                return Err(TlsError::Roots("there is no certificate in PEM in it".into()));
            }
            certificates.extend(found);
        }
        let verifier = Verifier::new_with_extra_roots(certificates, provider)
            .map_err(|error| TlsError::Roots(error.into()))?;
        config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Option<Arc<CryptoProvider>> {
    let built_in: Option<fn() -> CryptoProvider>;
    #[cfg(feature = "tls-aws-lc")]
    {
        built_in = Some(rustls::crypto::aws_lc_rs::default_provider);
    }
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    {
        built_in = Some(rustls::crypto::ring::default_provider);
    }
    #[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
    {
        built_in = None;
    }
    let installed = CryptoProvider::get_default().cloned();
    installed.or_else(|| built_in.map(|make| Arc::new(make())))
}
