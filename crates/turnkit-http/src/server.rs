//! What HTTP servers share.
//!
//! ```no_run
//! use axum::{Router, extract::Request, middleware, routing::post};
//! use std::future::ready;
//! use turnkit_http::server::{ApiError, Hosts, InBody, guard, linger};
//! use turnkit_http::server::listener::{self, ConnectionLimits};
//!
//! # #[derive(serde::Deserialize)]
//! # struct Greeting { name: String }
//! async fn greet(InBody(greeting): InBody<Greeting>) -> Result<String, ApiError> {
//!     if greeting.name.is_empty() {
//!         return Err(ApiError::invalid_request("name must not be empty").field("name"));
//!     }
//!     Ok(format!("hello {}", greeting.name))
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let routes = Router::new()
//!     .route("/greet", post(greet))
//!     .fallback(|| ready(ApiError::no_route()))
//!     .method_not_allowed_fallback(|| ready(ApiError::method_not_allowed()))
//!     .layer(middleware::from_fn_with_state(Hosts::loopback(), guard))
//!     .layer(middleware::map_request(|request: Request| ready(linger(request))));
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! listener::serve(socket, routes, &ConnectionLimits::default(), std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod body;
mod error;
mod guard;
mod headers;
mod linger;
pub mod listener;
mod origins;
mod uri;

pub use self::{
    body::{BodyLimits, Fault, InBody, NotAnObject, Nothing, object},
    error::{ApiError, json_response},
    guard::{Hosts, guard},
    headers::{bearer_token, single_header},
    linger::linger,
    origins::{NoOrigin, Origins},
    uri::{InPath, InQuery},
};
pub use crate::bearer::is_bearer_token;
