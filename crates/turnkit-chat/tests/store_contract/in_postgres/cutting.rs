//! A proxy that knows where a transaction is, and cuts its connection there, once; or lets nobody hear what is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where the connection of a transaction that writes is cut. Those that read are the store's own looks as well, which come when they will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Before its first statement has come to the server.
    BeforeRequest,
    /// The server has done a statement, and its answer is lost.
    AfterRequest,
    /// The server has committed, and says so to nobody.
    AfterCommit,
}

/// One cut at a time, for whichever connection comes to the place first.
pub(super) struct CuttingProxy {
    pub(super) address: SocketAddr,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    next: Mutex<Option<Cut>>,
    is_deaf: AtomicBool,
}

impl CuttingProxy {
    pub(super) async fn start(server: SocketAddr) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::<Plan>::default();
        let shared = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = Arc::clone(&shared);
                // A connection that breaks is the point of it all.
                tokio::spawn(async move { relay(client, server, &plan).await.ok() });
            }
        });
        CuttingProxy { address, plan }
    }

    pub(super) fn cut(&self, cut: Cut) {
        *self.plan.next.lock().unwrap() = Some(cut);
    }

    /// From now on whoever listens stays connected, and hears nothing.
    pub(super) fn hold_back_what_is_told(&self) {
        self.plan.is_deaf.store(true, Ordering::Relaxed);
    }

    /// Whether the cut that was asked for has been made.
    pub(super) fn has_cut(&self) -> bool {
        self.plan.next.lock().unwrap().is_none()
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, plan: &Plan) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut pending, mut has_begun) = (Vec::new(), false);
    let (mut writes, mut listens) = (false, false);
    let (mut asked, mut told) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let length = length?;
                if length == 0 {
                    return Ok(());
                }
                pending.extend_from_slice(&asked[..length]);
                while let Some(message) = message(&mut pending, &mut has_begun) {
                    let place = match (message[0], &message[5.min(message.len())..]) {
                        (b'Q', text) if text.starts_with(b"START TRANSACTION") => {
                            writes = !text.windows(9).any(|words| words == b"READ ONLY");
                            Some(Cut::BeforeRequest)
                        }
                        (b'Q', text) if text.starts_with(b"COMMIT") => Some(Cut::AfterCommit),
                        // The end of a statement: it is done by then.
                        (b'S', _) => Some(Cut::AfterRequest),
                        (b'Q', text) => {
                            listens |= text.starts_with(b"LISTEN");
                            None
                        }
                        _ => None,
                    };
                    let place = place.filter(|_| writes);
                    let is_now = place.is_some() && {
                        let mut next = plan.next.lock().unwrap();
                        *next == place && next.take().is_some()
                    };
                    if is_now && place == Some(Cut::BeforeRequest) {
                        return Ok(());
                    }
                    server.write_all(&message).await?;
                    if is_now {
                        // Once something comes, it is done.
                        return server.read(&mut told).await.map(drop);
                    }
                }
            }
            length = server.read(&mut told) => {
                let length = length?;
                if length == 0 {
                    return Ok(());
                }
                if !(listens && plan.is_deaf.load(Ordering::Relaxed)) {
                    client.write_all(&told[..length]).await?;
                }
            }
        }
    }
}

/// The first whole message of a client. The very first has no kind.
fn message(pending: &mut Vec<u8>, has_begun: &mut bool) -> Option<Vec<u8>> {
    let kind = usize::from(*has_begun);
    let length = pending.get(kind..kind + 4)?;
    let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + kind;
    if pending.len() < length {
        return None;
    }
    *has_begun = true;
    Some(pending.drain(..length).collect())
}
