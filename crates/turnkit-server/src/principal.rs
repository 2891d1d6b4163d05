//! Who asks.

/// A user of a tenant. Everything that is kept belongs to one; to others it does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) tenant_id: String,
    pub(crate) user_id: String,
}

impl Principal {
    /// The one user of a server that listens on loopback only.
    pub(crate) fn local() -> Principal {
        Principal { tenant_id: "local".to_owned(), user_id: "local".to_owned() }
    }

    /// The project that this principal's executions belong to (PROTOCOL 1.4): one for each tenant.
    pub(crate) fn project(&self) -> &str {
        &self.tenant_id
    }
}
