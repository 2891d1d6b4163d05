use crate::{Cancel, Inbox, RunRequest};

/// One run of an agent: what is asked, what tells that nobody wants the rest of the answer, and what comes in meanwhile.
#[derive(Debug)]
pub struct Run {
    request: RunRequest,
    cancel: Cancel,
    inbox: Inbox,
}

impl Run {
    /// A run of `request` that stops when `cancel` says so. Its inbox is closed.
    #[must_use]
    pub fn new(request: RunRequest, cancel: Cancel) -> Self {
        Self { request, cancel, inbox: Inbox::closed() }
    }

    /// This run, with an inbox that is open.
    #[must_use]
    pub fn with_inbox(self, inbox: Inbox) -> Self {
        Self { inbox, ..self }
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

    /// By what the agent asks, and is told answers and input (PROTOCOL 3.6). Closed unless the agent says that it
    /// [takes](crate::Agent::takes) any.
    #[must_use]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
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
