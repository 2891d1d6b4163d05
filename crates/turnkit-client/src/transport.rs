use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::BoxError;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError>;

/// `service` with its types boxed.
pub(crate) fn boxed<S, B>(service: S) -> Transport
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = service.map_response(|response: Response<B>| {
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    });
    BoxCloneSyncService::new(service.map_err(Into::into))
}

/// HTTP/1.1 over the host's network.
#[cfg(feature = "reqwest")]
pub(crate) fn network(
    connect_timeout: std::time::Duration,
) -> Result<Transport, crate::BuildError> {
    let tls = turnkit_http::client::tls_config()
        .map_err(|error| crate::BuildError::Http(error.into()))?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("turnkit-client/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        // A variable of the environment would send the token and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout)
        .build()
        .map_err(|error| crate::BuildError::Http(error.without_url().into()))?;
    let send = move |request: Request<Full<Bytes>>| {
        let client = client.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = reqwest::Request::try_from(Request::from_parts(head, body.to_bytes()))?;
            let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let response = Response::<reqwest::Body>::from(response);
            let body = |body: reqwest::Body| body.map_err(reqwest::Error::without_url);
            Ok::<_, reqwest::Error>(response.map(body))
        }
    };
    Ok(boxed(tower::service_fn(send)))
}
