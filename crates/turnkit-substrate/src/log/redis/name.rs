use std::sync::Arc;

use turnkit_id::ExecutionId;

use crate::{Scope, log::ExecutionKey};

/// What an execution is called in Redis: `<length of its scope>:<scope>:<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Arc<str>);

impl Name {
    pub(super) fn of(key: &ExecutionKey) -> Self {
        let scope = key.scope.as_str();
        Self(format!("{}:{scope}:{}", scope.len(), key.id).into())
    }

    /// None for what no log has written.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = Self(name.into());
        name.key().map(|_| name)
    }

    pub(super) fn key(&self) -> Option<ExecutionKey> {
        let (length, rest) = self.0.split_once(':')?;
        let (scope, id) = rest.split_at_checked(length.parse().ok()?)?;
        let id = ExecutionId::parse(id.strip_prefix(':')?).ok()?;
        Some(ExecutionKey { scope: Scope::new(scope), id })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
