//! One client: a session, a turn in it, and how old each event is when it arrives.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::Deserialize;
use tokio::net::TcpStream;
use turnkit_wire::{Event, ndjson};

/// What a client got of its turn.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) events: u64,
    /// Microseconds from the agent to here, for each event that says when it was made.
    pub(crate) delays: Vec<u32>,
}

/// Runs a turn from its session to `session.run.completed`.
pub(crate) async fn turn(address: SocketAddr, n: u32) -> Result<Taken> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(driver);
    let session = session(&mut connection, address).await.context("open a session")?;
    let body = format!(r#"{{"turnId":"load-{n}","message":"A long answer, please: {n}"}}"#);
    let path = format!("/api/sessions/{session}/turns");
    let response = post(&mut connection, address, &path, body).await.context("start the turn")?;
    ensure!(response.status() == StatusCode::OK, "the turn was refused: {}", response.status());
    let taken = read(response.into_body()).await;
    driver.abort();
    taken
}

async fn session(connection: &mut SendRequest<Full<Bytes>>, address: SocketAddr) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Session {
        session_id: String,
    }
    let response = post(connection, address, "/api/sessions", "{}".into()).await?;
    ensure!(response.status() == StatusCode::CREATED, "refused: {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice::<Session>(&body)?.session_id)
}

async fn post(
    connection: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &str,
    body: String,
) -> Result<Response<Incoming>> {
    let request = Request::post(path)
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body.into()))?;
    connection.ready().await?;
    Ok(connection.send_request(request).await?)
}

async fn read(mut body: Incoming) -> Result<Taken> {
    let mut taken = Taken::default();
    let mut decoder = ndjson::Decoder::new();
    let mut last = None;
    while let Some(frame) = body.frame().await {
        let now = unix_micros();
        decoder.push(frame.context("the body broke off")?.into_data().unwrap_or_default());
        while let Some(event) = decoder.next_event() {
            let event = event?;
            taken.events += 1;
            taken.delays.extend(sent_at(&event).map(|sent| delay(sent, now)));
            last = Some(event);
        }
    }
    let last = last.context("the body was empty")?;
    ensure!(last.kind() == "session.run.completed", "the turn ended with {}", last.as_json());
    Ok(taken)
}

/// The member that the demo agent puts at the end of an event.
fn sent_at(event: &Event) -> Option<u64> {
    const MEMBER: &str = r#""sentAt":"#;
    let json = event.as_json();
    let at = memmem::rfind(json.as_bytes(), MEMBER.as_bytes())? + MEMBER.len();
    json.get(at..)?.strip_suffix('}')?.parse().ok()
}

fn delay(sent: u64, now: u64) -> u32 {
    u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX)
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
