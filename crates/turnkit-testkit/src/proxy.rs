//! A TCP proxy that cuts, resets, stalls, splits, delays and doubles connections, as planned (PROTOCOL 4.3).

use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet, yield_now},
    time::sleep,
};

/// A proxy in front of one server, with one [`Fault`] for each connection. Dropping it closes everything.
///
/// ```no_run
/// # use turnkit_testkit::proxy::{CuttingProxy, Fault, Point};
/// # async fn example(server: std::net::SocketAddr) -> std::io::Result<()> {
/// // The first connection breaks after 1,000 bytes of the answer, every later one works.
/// let proxy = CuttingProxy::start(server, |connection| match connection {
///     0 => Fault::Cut(Point::Bytes(1000)),
///     _ => Fault::None,
/// }).await?;
/// println!("listening on {}", proxy.url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicU64>,
    /// Changes when all connections that there are shall be cut.
    cuts: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

/// What happens to one connection. Requests pass as they are; faults are in the way of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The answer ends (FIN) at this point.
    Cut(Point),
    /// The connection is reset (RST) at this point.
    Reset(Point),
    /// Nothing more comes from this point on, and the connection stays open.
    Stall(Point),
    /// The answer comes in pieces of so many bytes.
    Split(usize),
    /// Each piece of the answer comes so much later.
    Delay(Duration),
    /// The request reaches the server twice, on two connections; the answer of the second is passed on.
    AnswerTwice,
}

/// A point in the answer, its HTTP head included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// After so many bytes.
    Bytes(u64),
    /// After so many blank lines (LF LF): ends of SSE frames.
    Frames(u64),
}

impl CuttingProxy {
    /// Listens on a free port of the loopback. `plan` is asked for each connection, counted from 0.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(
        server: SocketAddr,
        plan: impl FnMut(u64) -> Fault + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let server = Arc::new(Mutex::new(server));
        let accepted = Arc::new(AtomicU64::new(0));
        let cuts = watch::Sender::new(());
        let accepting =
            accept(listener, Arc::clone(&server), plan, Arc::clone(&accepted), cuts.clone());
        let accepting = tokio::spawn(accepting);
        Ok(Self { address, server, accepted, cuts, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads later connections to another server, as after a restart.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Cuts every connection that there is, wherever it is in its answer.
    pub fn cut_all(&self) {
        self.cuts.send_replace(());
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: Arc<Mutex<SocketAddr>>,
    mut plan: impl FnMut(u64) -> Fault,
    accepted: Arc<AtomicU64>,
    cuts: watch::Sender<()>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let fault = plan(accepted.fetch_add(1, Ordering::Relaxed));
        let server = *server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cut = cuts.subscribe();
        connections.spawn(async move {
            tokio::select! {
                end = relay(client, server, fault) => end,
                _ = cut.changed() => Ok(()),
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A side that fails ends the connection for both, which is how either learns of it.
async fn relay(mut client: TcpStream, server: SocketAddr, fault: Fault) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut shadow = match fault {
        Fault::AnswerTwice => Some(connect(server).await?),
        _ => None,
    };
    let mut server = connect(server).await?;
    let (mut requests, mut answers) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let end = tokio::select! {
        passed = pass_requests(&mut requests, &mut to_server, shadow.as_mut()) => passed,
        passed = pass_answers(&mut from_server, &mut answers, fault) => passed,
    };
    match fault {
        Fault::Reset(_) => client.set_zero_linger()?,
        _ => client.shutdown().await?,
    }
    end
}

async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn pass_requests(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    shadow: Option<&mut TcpStream>,
) -> io::Result<()> {
    let Some(shadow) = shadow else {
        return tokio::io::copy(from, to).await.map(drop);
    };
    let (unread, mut first) = shadow.split();
    tokio::select! {
        passed = double(from, &mut first, to) => passed,
        broken = discard(unread) => broken,
    }
}

/// Reads on for ever: the end of an answer that nobody sees ends nothing.
async fn discard(mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    pending().await
}

async fn double(
    from: &mut (impl AsyncRead + Unpin),
    first: &mut (impl AsyncWrite + Unpin),
    second: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let piece = read(from, &mut buffer).await?;
        if piece.is_empty() {
            return Ok(());
        }
        first.write_all(piece).await?;
        second.write_all(piece).await?;
    }
}

async fn pass_answers(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    fault: Fault,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut meter = Meter::new(fault);
    if meter.is_spent() {
        return end(fault).await;
    }
    loop {
        let chunk = read(from, &mut buffer).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let passed = meter.pass(chunk);
        write(to, &chunk[..passed], fault).await?;
        if meter.is_spent() {
            return end(fault).await;
        }
    }
}

async fn read<'a>(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &'a mut [u8],
) -> io::Result<&'a [u8]> {
    let length = from.read(buffer).await?;
    Ok(&buffer[..length])
}

async fn write(to: &mut (impl AsyncWrite + Unpin), chunk: &[u8], fault: Fault) -> io::Result<()> {
    match fault {
        Fault::Delay(by) => sleep(by).await,
        Fault::Split(bytes) => return split(to, chunk, bytes.max(1)).await,
        _ => {}
    }
    to.write_all(chunk).await
}

async fn split(to: &mut (impl AsyncWrite + Unpin), chunk: &[u8], bytes: usize) -> io::Result<()> {
    for piece in chunk.chunks(bytes) {
        to.write_all(piece).await?;
        yield_now().await;
    }
    Ok(())
}

async fn end(fault: Fault) -> io::Result<()> {
    match fault {
        Fault::Stall(_) => pending().await,
        _ => Ok(()),
    }
}

/// How much of an answer is still to pass.
struct Meter {
    left: Option<Point>,
    last: u8,
}

impl Meter {
    fn new(fault: Fault) -> Self {
        let left = match fault {
            Fault::Cut(point) | Fault::Reset(point) | Fault::Stall(point) => Some(point),
            Fault::None | Fault::Split(_) | Fault::Delay(_) | Fault::AnswerTwice => None,
        };
        Self { left, last: 0 }
    }

    fn is_spent(&self) -> bool {
        matches!(self.left, Some(Point::Bytes(0) | Point::Frames(0)))
    }

    /// How many bytes of `chunk` pass.
    fn pass(&mut self, chunk: &[u8]) -> usize {
        match &mut self.left {
            None => chunk.len(),
            Some(Point::Bytes(left)) => {
                let passed = chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= passed as u64;
                passed
            }
            Some(Point::Frames(left)) => pass_frames(chunk, left, &mut self.last),
        }
    }
}

fn pass_frames(chunk: &[u8], left: &mut u64, last: &mut u8) -> usize {
    for (index, &byte) in chunk.iter().enumerate() {
        let ends_frame = byte == b'\n' && *last == b'\n';
        // A third LF is the first of another blank line only after a further line.
        *last = if ends_frame { 0 } else { byte };
        *left -= u64::from(ends_frame);
        if *left == 0 {
            return index + 1;
        }
    }
    chunk.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each connection with how many there were before it, then with `answer`, and closes it.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for connection in 0_u8.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut request = [0; 4];
                client.read_exact(&mut request).await.unwrap();
                assert_eq!(&request, b"ask\n");
                client.write_all(&[b'0' + connection]).await.unwrap();
                client.write_all(answer).await.unwrap();
            }
        });
        address
    }

    async fn ask(answer: &'static [u8], fault: Fault) -> (Vec<u8>, io::Result<usize>) {
        let proxy = CuttingProxy::start(server(answer).await, move |_| fault).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"ask\n").await.unwrap();
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer).await;
        assert_eq!(proxy.connections(), 1);
        (answer, end)
    }

    #[tokio::test]
    async fn without_a_fault_the_answer_passes_unchanged() {
        assert_eq!(ask(b"answer", Fault::None).await.0, b"0answer");
        assert_eq!(ask(b"answer", Fault::Split(2)).await.0, b"0answer");
        assert_eq!(ask(b"answer", Fault::Delay(Duration::from_millis(1))).await.0, b"0answer");
    }

    #[tokio::test]
    async fn a_cut_ends_the_answer_after_exactly_so_many_bytes() {
        for bytes in 0..=7 {
            let (answer, end) = ask(b"answer", Fault::Cut(Point::Bytes(bytes))).await;
            assert_eq!(answer, b"0answer"[..usize::try_from(bytes).unwrap()]);
            assert_eq!(end.unwrap() as u64, bytes);
        }
    }

    #[tokio::test]
    async fn a_cut_after_frames_ends_with_a_blank_line() {
        let answer = b"a\n\nb\n\n\nc\n\n";
        assert_eq!(ask(answer, Fault::Cut(Point::Frames(1))).await.0, b"0a\n\n");
        assert_eq!(ask(answer, Fault::Cut(Point::Frames(2))).await.0, b"0a\n\nb\n\n");
        assert_eq!(ask(answer, Fault::Cut(Point::Frames(9))).await.0, b"0a\n\nb\n\n\nc\n\n");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_to_who_reads() {
        let (_, end) = ask(b"answer", Fault::Reset(Point::Bytes(3))).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_stall_holds_the_connection_open_and_silent() {
        let plan = |connection| match connection {
            0 => Fault::Stall(Point::Bytes(2)),
            _ => Fault::None,
        };
        let proxy = CuttingProxy::start(server(b"answer").await, plan).await.unwrap();
        let mut stalled = TcpStream::connect(proxy.address()).await.unwrap();
        stalled.write_all(b"ask\n").await.unwrap();
        let mut start = [0; 2];
        stalled.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"0a");

        let mut later = TcpStream::connect(proxy.address()).await.unwrap();
        later.write_all(b"ask\n").await.unwrap();
        let mut whole = Vec::new();
        later.read_to_end(&mut whole).await.unwrap();
        assert_eq!(whole, b"1answer");
        assert_eq!(stalled.try_read(&mut start).unwrap_err().kind(), io::ErrorKind::WouldBlock);

        drop(proxy);
        assert!(matches!(stalled.read(&mut start).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn all_connections_are_cut_and_later_ones_are_not() {
        let proxy = CuttingProxy::start(server(b"answer").await, |_| Fault::Stall(Point::Bytes(3)));
        let proxy = proxy.await.unwrap();
        for connection in [b'0', b'1'] {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            client.write_all(b"ask\n").await.unwrap();
            let mut start = [0; 3];
            client.read_exact(&mut start).await.unwrap();
            assert_eq!(start, [connection, b'a', b'n']);
            proxy.cut_all();
            assert!(matches!(client.read(&mut start).await, Ok(0) | Err(_)));
        }
    }

    #[tokio::test]
    async fn an_answer_twice_asks_twice_and_passes_the_second_answer() {
        assert_eq!(ask(b"answer", Fault::AnswerTwice).await.0, b"1answer");
    }
}
