//! A user's feed as Server-Sent Events (PROTOCOL 4.2, "A feed").

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::timeout;
use turnkit_http::server::{ApiError, InPath, InQuery};
use turnkit_wire::{Event, sse};

use super::Answer;
use super::endpoint::Caller;
use super::event_source::LAST_EVENT_ID;
use super::front_ends::{EVENT_STREAM, header, invalid};
use super::wire::Entry;
use crate::store::{FeedEntry, FeedId};
use crate::{Events, SessionId};

/// How long a feed may be silent before a comment says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    after: Option<String>,
}

/// `GET /api/events`: what changes for the user.
pub(super) async fn events(
    Caller { chat, user }: Caller,
    InQuery(query): InQuery<EventsQuery>,
    headers: HeaderMap,
) -> Answer {
    let after = place(&headers, query.after.as_deref())?;
    Ok(response(chat.events(&user, None, after).await?))
}

/// `GET …/{session}/events`: what of it is about one session.
pub(super) async fn of_session(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<EventsQuery>,
    headers: HeaderMap,
) -> Answer {
    let after = place(&headers, query.after.as_deref())?;
    let session = Some(SessionId::new(session));
    Ok(response(chat.events(&user, session, after).await?))
}

/// Where the feed is to go on: `Last-Event-ID` outweighs what the first request said.
fn place(headers: &HeaderMap, after: Option<&str>) -> Result<Option<FeedId>, ApiError> {
    let id = match headers.get(LAST_EVENT_ID) {
        Some(_) => header(headers, &LAST_EVENT_ID).unwrap_or("?"),
        None => after.unwrap_or_default(),
    };
    let wrong = "the place in a feed must be an id that it has given out";
    let field = if headers.contains_key(LAST_EVENT_ID) { "Last-Event-ID" } else { "after" };
    match id {
        "" => Ok(None),
        id => FeedId::parse(id).map(Some).ok_or_else(|| invalid(wrong, field)),
    }
}

fn response(events: Events) -> Response {
    let begin = format!("retry: 1000\nid: {}\n\n", events.at());
    let body = stream::unfold((events, Some(begin)), async |(mut events, begin)| {
        let chunk = match begin {
            Some(begin) => Bytes::from(begin),
            None => match timeout(KEEP_ALIVE, events.next()).await {
                Ok(entries) => frames(&events.at().feed, &entries?),
                Err(_) => Bytes::from_static(b":\n\n"),
            },
        };
        Some((Ok::<_, Infallible>(chunk), (events, None)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

fn frames(feed: &str, entries: &[FeedEntry]) -> Bytes {
    let mut out = BytesMut::new();
    for entry in entries {
        let id = FeedId { feed: feed.to_owned(), number: entry.number }.to_string();
        // Texts and numbers can always be written, and an id of letters and digits is never refused.
        if let Ok(event) = Event::new(entry.change.as_str(), &Entry::from(entry)) {
            let _ = sse::write_event(&mut out, Some(&id), &event);
        }
    }
    out.freeze()
}
