//! The parts of a request's URI.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;

/// The parameters of a path, as [`Path`] takes them. What cannot be decoded names nothing: 404 `not_found`.
#[derive(Clone, Copy, Debug)]
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(parameters)) => Ok(Self(parameters)),
            Err(_) => Err(ApiError::no_route()),
        }
    }
}

/// The query of a URI, as [`Query`] takes it; 400 `invalid_request` otherwise, without a word of serde's.
///
/// Members are best `Option<String>`: then the route can say what is wrong with a number.
#[derive(Clone, Copy, Debug)]
pub struct InQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(members)) => Ok(Self(members)),
            Err(_) => Err(ApiError::invalid_request(
                "the query must be name=value pairs, each name there once at most",
            )),
        }
    }
}
