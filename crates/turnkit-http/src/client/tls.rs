use std::{error::Error, sync::Arc};

use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_platform_verifier::BuilderVerifierExt;
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
    let unusable = |error: rustls::Error| TlsError::Unusable(error.into());
    let provider = provider().ok_or(TlsError::NoProvider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(unusable)?;
    let mut config = config.with_no_client_auth();
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
