//! Planted bugs: what a store would do that forgot a condition. The servers are the real ones; between them and their database a statement is
//! changed on its way. What does not find these finds nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use clap::ValueEnum;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

/// A mistake of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bug {
    /// A lease that is not fenced: whoever claims a turn gets it, also from a worker that lives.
    UnfencedLease,
    /// A save without its condition: an answer that is saved already is saved once more.
    UnconditionalSave,
    /// A wake-up that is lost: what another process has given up is heard of by nobody.
    LostWakeUp,
}

impl Bug {
    /// Words of statements, and what comes to the database in their place.
    fn changes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::UnfencedLease => {
                &[("w.renewed_at >= clock_timestamp() - ", "w.renewed_at >= clock_timestamp() + ")]
            }
            Self::UnconditionalSave => &[(
                "FROM turnkit_turns WHERE execution_id = $1 AND state <> 'complete')",
                "FROM turnkit_turns WHERE execution_id = $1)",
            )],
            Self::LostWakeUp => &[
                ("NOTIFY turnkit_freed", "NOTIFY nobody"),
                ("t.created_at < clock_timestamp() - ", "t.created_at > clock_timestamp() + "),
            ],
        }
    }
}

/// What stands between servers and a PostgreSQL.
pub(crate) struct Planter {
    pub(crate) address: SocketAddr,
    planted: Arc<AtomicUsize>,
}

impl Planter {
    pub(crate) async fn start(bug: Bug, database: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let planted = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&planted);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(database).await else {
                        return;
                    };
                    let ((asked, mut told), (mut answers, server)) =
                        (client.into_split(), server.into_split());
                    // Each side learns of a break by the end of its connection.
                    tokio::select! {
                        _ = io::copy(&mut answers, &mut told) => {}
                        _ = pass_on(asked, server, bug, &count) => {}
                    }
                });
            }
        });
        Ok(Self { address, planted })
    }

    /// How many statements were changed.
    pub(crate) fn planted(&self) -> usize {
        self.planted.load(Ordering::Relaxed)
    }
}

async fn pass_on(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    bug: Bug,
    count: &AtomicUsize,
) -> Result<()> {
    // The very first message has no kind.
    let length = client.read_u32().await?;
    let mut body = vec![0; length.saturating_sub(4) as usize];
    client.read_exact(&mut body).await?;
    server.write_u32(length).await?;
    server.write_all(&body).await?;
    let mut client = io::BufReader::new(client);
    let mut server = io::BufWriter::new(server);
    loop {
        let kind = client.read_u8().await?;
        let length = client.read_u32().await?;
        body.resize(length.saturating_sub(4) as usize, 0);
        client.read_exact(&mut body).await?;
        if matches!(kind, b'Q' | b'P') {
            for (words, others) in bug.changes() {
                count.fetch_add(replace(&mut body, words, others), Ordering::Relaxed);
            }
        }
        server.write_u8(kind).await?;
        server.write_u32(u32::try_from(body.len() + 4)?).await?;
        server.write_all(&body).await?;
        if client.buffer().is_empty() {
            server.flush().await?;
        }
    }
}

/// Puts `others` in the place of `words` wherever they stand, and says how often that was.
fn replace(text: &mut Vec<u8>, words: &str, others: &str) -> usize {
    let places: Vec<usize> = text
        .windows(words.len())
        .enumerate()
        .filter_map(|(at, window)| (window == words.as_bytes()).then_some(at))
        .collect();
    for at in places.iter().rev() {
        text.splice(*at..at + words.len(), others.bytes());
    }
    places.len()
}
