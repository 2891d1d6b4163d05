use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    plan::{ConnectionFault, Link},
    world::World,
};

/// The asking end of a connection, cut, held back or chopped at the byte that its fault names.
pub(super) struct Faulty<S> {
    /// None once it was cut: the other end sees it closed.
    inner: Option<S>,
    world: World,
    link: Link,
    fault: Option<ConnectionFault>,
    read: u64,
    written: u64,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Faulty<S> {
    pub(super) fn new(inner: S, world: World, link: Link, fault: Option<ConnectionFault>) -> Self {
        Self {
            inner: Some(inner),
            world,
            link,
            fault,
            read: 0,
            written: 0,
            stall: None,
        }
    }

    /// How many bytes may be read at once; none where the connection ends here.
    fn readable(&mut self) -> Option<usize> {
        match self.fault {
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
        if let Some(fault @ ConnectionFault::StallAnswer(at, lasts)) = self.fault
            && self.read >= at
        {
            self.fault = None;
            self.stall = Some(Box::pin(sleep(lasts)));
            self.world.struck(self.link, fault);
        }
        if let Some(stall) = &mut self.stall {
            ready!(stall.as_mut().poll(cx));
            self.stall = None;
        }
        Poll::Ready(())
    }

    fn cut(&mut self) -> io::Error {
        self.inner = None;
        if let Some(fault) = self.fault.take() {
            self.world.struck(self.link, fault);
        }
        io::ErrorKind::ConnectionReset.into()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = match self.fault {
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
        self.inner
            .as_mut()
            .map_or(Poll::Ready(Ok(())), |inner| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().map_or(Poll::Ready(Ok(())), |inner| {
            Pin::new(inner).poll_shutdown(cx)
        })
    }
}

/// What is left until `at`; none where it is reached.
fn left(at: u64, so_far: u64) -> Option<usize> {
    let left = usize::try_from(at.saturating_sub(so_far)).unwrap_or(usize::MAX);
    (left > 0).then_some(left)
}

/// The most that is read at once.
const CHUNK: usize = 4096;
