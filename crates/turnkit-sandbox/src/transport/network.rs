//! The default transport: HTTP over the host's network.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;
use http::{Request, Response};
use reqwest::{Client, redirect, retry};

use super::{ResponseBody, Transport};
use crate::{BuildError, TransportError};

pub(super) fn client(connect_timeout: Duration) -> Result<Arc<dyn Transport>, BuildError> {
    let client = Client::builder()
        .user_agent(concat!("turnkit-sandbox/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        // A variable of the environment would send the token and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout)
        .build();
    client
        .map(|client| Arc::new(client) as Arc<dyn Transport>)
        .map_err(|error| BuildError::Http(error.without_url().into()))
}

impl Transport for Client {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>> {
        let client = self.clone();
        Box::pin(async move {
            let request = request.try_into().map_err(unanswered)?;
            client.execute(request).await.map(streamed).map_err(unanswered)
        })
    }
}

fn streamed(answer: reqwest::Response) -> Response<ResponseBody> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let broken = |error: reqwest::Error| TransportError::Broken(error.without_url().into());
    let body: ResponseBody = Box::pin(answer.bytes_stream().map_err(broken));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn unanswered(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(error.into())
    } else {
        TransportError::Answer(error.into())
    }
}
