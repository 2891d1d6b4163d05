use std::{
    future::Future as _,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use turmoil::net::TcpStream;

use crate::{
    plan::{ConnectionFault, Link},
    world::{Reset, World},
};

/// One end of a connection, cut, held back or chopped at the byte that its fault names, and reset when the host at its other
/// end is killed.
pub(super) struct Faulty {
    /// None once it was cut: the other end sees it closed.
    inner: Option<TcpStream>,
    world: World,
    reset: Arc<Reset>,
    fault: Option<(Link, ConnectionFault)>,
    read: u64,
    written: u64,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Faulty {
    pub(super) fn new(
        inner: TcpStream,
        world: World,
        fault: Option<(Link, ConnectionFault)>,
    ) -> io::Result<Self> {
        let hosts = [inner.local_addr()?, inner.peer_addr()?];
        let reset = world.opened(hosts.map(|address| name(address.ip())));
        let (inner, stall) = (Some(inner), None);
        Ok(Self { inner, world, reset, fault, read: 0, written: 0, stall })
    }

    /// How many bytes may be read at once; none where the connection ends here.
    fn readable(&mut self) -> Option<usize> {
        match self.fault.map(|(_, fault)| fault) {
            Some(ConnectionFault::CutAnswer(at) | ConnectionFault::EndAnswer(at)) => {
                left(at, self.read)
            }
            Some(ConnectionFault::StallAnswer(at, _)) => left(at, self.read).or(Some(CHUNK)),
            Some(ConnectionFault::Pieces(most)) => Some(most),
            _ => Some(CHUNK),
        }
    }

    /// Ready once a stall is over, or where there is none.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((link, fault @ ConnectionFault::StallAnswer(at, lasts))) = self.fault
            && self.read >= at
        {
            self.fault = None;
            self.stall = Some(Box::pin(sleep(lasts)));
            self.world.struck(link, fault);
        }
        if let Some(stall) = &mut self.stall {
            ready!(stall.as_mut().poll(cx));
            self.stall = None;
        }
        Poll::Ready(())
    }

    /// Whether the host at the other end was killed.
    fn poll_reset(&mut self, cx: &Context<'_>) -> io::Result<()> {
        if self.inner.is_some() && self.reset.poll(cx) {
            self.inner = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn cut(&mut self) -> io::Error {
        self.inner = None;
        if let Some((link, fault)) = self.fault.take() {
            self.world.struck(link, fault);
        }
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_reset(cx)?;
        ready!(self.poll_stall(cx));
        let Some(most) = self.readable().filter(|_| self.inner.is_some()) else {
            return Poll::Ready(Err(self.cut()));
        };
        let mut bytes = [0; CHUNK];
        let mut piece = ReadBuf::new(&mut bytes[..most.min(CHUNK).min(buf.remaining())]);
        if let Some(inner) = &mut self.inner {
            ready!(Pin::new(inner).poll_read(cx, &mut piece))?;
        }
        self.read += piece.filled().len() as u64;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_reset(cx)?;
        let most = match self.fault.map(|(_, fault)| fault) {
            Some(ConnectionFault::CutRequest(at)) => left(at, self.written),
            _ => Some(bytes.len()),
        };
        let (Some(most), Some(inner)) = (most, &mut self.inner) else {
            return Poll::Ready(Err(self.cut()));
        };
        let written = ready!(Pin::new(inner).poll_write(cx, &bytes[..most.min(bytes.len())]))?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().map_or(Poll::Ready(Ok(())), |inner| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().map_or(Poll::Ready(Ok(())), |inner| Pin::new(inner).poll_shutdown(cx))
    }
}

/// The host at an address.
fn name(address: IpAddr) -> String {
    turmoil::reverse_lookup(address).unwrap_or_default()
}

/// What is left until `at`; none where it is reached.
fn left(at: u64, so_far: u64) -> Option<usize> {
    let left = usize::try_from(at.saturating_sub(so_far)).unwrap_or(usize::MAX);
    (left > 0).then_some(left)
}

/// The most that is read at once.
const CHUNK: usize = 4096;
