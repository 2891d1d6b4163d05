//! The default transport: HTTP over the host's network.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::MapErr};
use reqwest::{Body, Client, redirect, retry};
use tower_service::Service;

use crate::{BuildError, TransportError};

/// One client, whose connections all of its clones share.
#[derive(Clone)]
pub(super) struct Network(Client);

pub(super) fn client(connect_timeout: Duration) -> Result<Network, BuildError> {
    let tls = turnkit_http::client::tls_config().map_err(|error| BuildError::Http(error.into()))?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("turnkit-sandbox/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        // A variable of the environment would send the token and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout)
        .build();
    client.map(Network).map_err(|error| BuildError::Http(error.without_url().into()))
}

type Told = MapErr<Body, fn(reqwest::Error) -> TransportError>;

impl Service<Request<Full<Bytes>>> for Network {
    type Response = Response<Told>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Told>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let request = request.map(Body::wrap).try_into().map_err(unanswered)?;
            let answer = Response::from(client.execute(request).await.map_err(unanswered)?);
            Ok(answer.map(|body: Body| body.map_err(broken as fn(_) -> _)))
        })
    }
}

fn unanswered(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(error.into())
    } else {
        TransportError::Answer(error.into())
    }
}

fn broken(error: reqwest::Error) -> TransportError {
    TransportError::Broken(error.without_url().into())
}
