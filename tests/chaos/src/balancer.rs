//! A balancer over processes that come and go, whose connections can be cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

/// Each connection goes to the next server that takes it.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<()>,
}

impl Balancer {
    pub(crate) async fn start(servers: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cuts = watch::Sender::new(());
        let (servers, next) = (Arc::new(servers), Arc::new(AtomicUsize::new(0)));
        let cut = cuts.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (servers, mut cut) = (Arc::clone(&servers), cut.subscribe());
                let first = next.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    for place in first..first + servers.len() {
                        let server = TcpStream::connect(servers[place % servers.len()]);
                        let Ok(Ok(mut server)) = timeout(Duration::from_secs(1), server).await
                        else {
                            continue;
                        };
                        tokio::select! {
                            // Both sides learn of a break by the end of their connection.
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            _ = cut.changed() => {}
                        }
                        return;
                    }
                });
            }
        });
        Ok(Self { address, cuts })
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}
