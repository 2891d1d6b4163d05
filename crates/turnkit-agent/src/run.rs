use crate::{Cancel, RunRequest};

/// One run of an agent: what is asked, and what tells that nobody wants the rest of the answer.
#[derive(Debug)]
pub struct Run {
    request: RunRequest,
    cancel: Cancel,
}

impl Run {
    /// A run of `request` that stops when `cancel` says so.
    #[must_use]
    pub fn new(request: RunRequest, cancel: Cancel) -> Self {
        Self { request, cancel }
    }

    /// What is asked.
    #[must_use]
    pub fn request(&self) -> &RunRequest {
        &self.request
    }

    /// What tells that the run is stopped. Reading it cancels nothing.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What is asked, for an agent that keeps it.
    #[must_use]
    pub fn into_request(self) -> RunRequest {
        self.request
    }
}

/// A run by hand, which nobody cancels.
impl From<RunRequest> for Run {
    fn from(request: RunRequest) -> Self {
        Self::new(request, Cancel::never())
    }
}
