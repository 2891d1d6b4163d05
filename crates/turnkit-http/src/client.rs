//! What HTTP clients share. None of it sends anything.
//!
//! ```
//! use turnkit_http::client::{BaseUrl, BearerToken};
//!
//! let base = BaseUrl::parse("https://agents.example/v1")?;
//! assert_eq!(base.under(&["agents", "a/b"]), "https://agents.example/v1/agents/a%2Fb");
//! let authorization = BearerToken::from("s3cret").header()?;
//! assert!(authorization.is_sensitive());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod base_url;
mod error_body;
#[cfg(feature = "tls")]
mod tls;
mod token;

#[cfg(feature = "tls")]
pub use self::tls::{TlsError, tls_config, tls_config_with};
pub use self::{
    answer::{is_transient, retry_after},
    base_url::{BaseUrl, InvalidBaseUrl},
    error_body::ErrorBody,
    token::{BearerToken, InvalidToken},
};
