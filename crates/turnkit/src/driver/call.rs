//! Calls of hooks: bounded in time, with panics caught and failures kept.

use std::{future::Future, time::Duration};

use tracing::Instrument;

use super::{future::Bounded, outlet::Outlet};
use crate::{
    BoxError, Hook, HookError,
    contain::{Panicked, contain},
    error::HookFault,
    turn::Settings,
};

/// How many failures an outcome holds (PROTOCOL 2.2).
const MAX_ERRORS: usize = 32;

pub(super) struct Calls {
    timeout: Duration,
    errors: Vec<HookError>,
}

impl Calls {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { timeout: settings.hook_timeout, errors: Vec::new() }
    }

    /// Runs a hook that the answer depends on.
    pub(super) async fn run<T>(
        &mut self,
        outlet: &mut Outlet,
        hook: Hook,
        call: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, HookFault> {
        let answer = Bounded::new(call.instrument(span(hook)), self.timeout, outlet).await;
        answer.inspect_err(|fault| fault.report(hook))
    }

    /// Runs a hook whose failure is kept and changes nothing else.
    pub(super) async fn run_aside(
        &mut self,
        outlet: &mut Outlet,
        hook: Hook,
        call: impl Future<Output = Result<(), BoxError>>,
    ) {
        let call = Bounded::new(call.instrument(span(hook)), self.timeout, outlet);
        if let Err(fault) = call.await {
            self.keep(hook, fault);
        }
    }

    /// Runs a hook that is not asynchronous, and keeps its failure for the report.
    pub(super) fn run_now(&mut self, hook: Hook, call: impl FnOnce() -> Result<(), BoxError>) {
        match contain(call) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.keep(hook, HookFault::Failed(error)),
            Err(Panicked) => self.keep(hook, HookFault::Panicked),
        }
    }

    pub(super) fn into_errors(self) -> Vec<HookError> {
        self.errors
    }

    #[cold]
    fn keep(&mut self, hook: Hook, fault: HookFault) {
        fault.report(hook);
        self.note(hook, fault);
    }

    /// Keeps a failure that was reported.
    pub(super) fn note(&mut self, hook: Hook, fault: HookFault) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(HookError::new(hook, fault));
        }
    }
}

/// Tells, within the turn's span, what a hook logs and how long it takes.
fn span(hook: Hook) -> tracing::Span {
    tracing::info_span!("hook", hook = hook.as_str())
}
