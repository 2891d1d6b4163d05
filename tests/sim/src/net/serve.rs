use std::{convert::Infallible, net::Ipv4Addr};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tower::ServiceExt as _;
use turmoil::net::TcpListener;
use turnkit::BoxError;

use super::{PORT, faulty::Faulty};
use crate::world::World;

/// Serves `routes` on this host for ever.
pub(crate) async fn serve(world: &World, routes: Router) -> Result<Infallible, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let stream = Faulty::new(stream, world.clone(), None)?;
        tokio::spawn(one(stream, routes.clone()));
    }
}

async fn one(stream: Faulty, routes: Router) {
    let answer = service_fn(move |request: Request<Incoming>| routes.clone().oneshot(request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // Whoever was at its other end knows how it ended.
    drop(connection.await);
}
