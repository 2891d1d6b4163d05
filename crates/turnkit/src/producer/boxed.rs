use std::{fmt, future::Future, pin::Pin};

use super::{Produced, TurnProducer};
use crate::BoxError;

/// A producer of any type, for hosts that choose one at run time. Costs one allocation an event.
pub struct BoxProducer(Box<dyn ErasedProducer>);

impl BoxProducer {
    /// Erases the type of `producer`. Its errors keep their code and what else they tell.
    pub fn new(producer: impl TurnProducer + 'static) -> Self {
        Self(Box::new(producer))
    }
}

impl TurnProducer for BoxProducer {
    type Error = BoxProducerError;

    fn next(&mut self) -> impl Future<Output = Result<Produced, BoxProducerError>> + Send {
        self.0.next()
    }

    fn cancel(&mut self) -> impl Future<Output = ()> + Send {
        self.0.cancel()
    }

    fn prompt(&self) -> Option<&str> {
        self.0.prompt()
    }

    fn error_code(error: &BoxProducerError) -> Option<&str> {
        error.code.as_deref()
    }

    fn is_retryable(error: &BoxProducerError) -> bool {
        error.retryable
    }

    fn is_temporary(error: &BoxProducerError) -> bool {
        error.temporary
    }
}

impl fmt::Debug for BoxProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxProducer").finish_non_exhaustive()
    }
}

/// The error of a [`BoxProducer`]. Converts into the error of the producer inside.
#[derive(Debug)]
pub struct BoxProducerError {
    source: BoxError,
    code: Option<String>,
    retryable: bool,
    temporary: bool,
}

impl BoxProducerError {
    fn new<P: TurnProducer>(error: P::Error) -> Self {
        Self {
            code: P::error_code(&error).map(str::to_owned),
            retryable: P::is_retryable(&error),
            temporary: P::is_temporary(&error),
            source: error.into(),
        }
    }
}

impl From<BoxProducerError> for BoxError {
    fn from(error: BoxProducerError) -> Self {
        error.source
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait ErasedProducer: Send {
    fn next(&mut self) -> BoxFuture<'_, Result<Produced, BoxProducerError>>;
    fn cancel(&mut self) -> BoxFuture<'_, ()>;
    fn prompt(&self) -> Option<&str>;
}

impl<P: TurnProducer> ErasedProducer for P {
    fn next(&mut self) -> BoxFuture<'_, Result<Produced, BoxProducerError>> {
        Box::pin(async { TurnProducer::next(self).await.map_err(BoxProducerError::new::<P>) })
    }

    fn cancel(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(TurnProducer::cancel(self))
    }

    fn prompt(&self) -> Option<&str> {
        TurnProducer::prompt(self)
    }
}
