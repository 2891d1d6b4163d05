//! Routes that know neither the product's state nor its extractor.
//!
//! A product says who asks by a type of its own. Were each handler generic over that, every product would compile all of them, and once
//! more for each such type. So only the little that finds out who asks is generic, and what answers is compiled here.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use futures_core::future::BoxFuture;
use http::request::Parts;

use crate::{Chat, Principal};

/// Who asks, and the chat that is asked: the state that axum gives the handlers here, each of which takes it as its first argument.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) chat: Chat,
    pub(super) user: Principal,
}

impl FromRequestParts<Caller> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, caller: &Caller) -> Result<Caller, Infallible> {
        Ok(caller.clone())
    }
}

/// A method of a path, and what answers it once it is known who asks.
pub(super) struct Endpoint {
    method: MethodFilter,
    path: &'static str,
    handler: Arc<dyn Fn(Request, Caller) -> BoxFuture<'static, Response> + Send + Sync>,
}

impl Endpoint {
    /// An endpoint that is answered by `handler`, which extracts a [`Caller`] and whatever else it needs.
    pub(super) fn new<T: 'static, H: Handler<T, Caller> + Sync>(
        method: MethodFilter,
        path: &'static str,
        handler: H,
    ) -> Endpoint {
        let handler = move |request, caller| -> BoxFuture<'static, Response> {
            Box::pin(handler.clone().call(request, caller))
        };
        Endpoint { method, path, handler: Arc::new(handler) }
    }

    /// Adds the endpoint to a product's router. `U` is the product's extractor of who asks; what it rejects is answered by its rejection.
    pub(super) fn add_to<S, U>(self, router: Router<S>, chat: &Chat) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
        U: FromRequestParts<S> + Into<Principal> + Send + 'static,
    {
        let (handler, chat) = (self.handler, chat.clone());
        let ask = async move |user: U, request: Request| {
            handler(request, Caller { chat, user: user.into() }).await
        };
        router.route(self.path, on(self.method, ask))
    }
}
