//! Who asks.

/// A user of a tenant. Every session belongs to one; to all others it does not exist (PROTOCOL 4.2).
///
/// How a request's principal is known is the product's business: a login of its own, tokens, a header that a proxy sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    /// The tenant. It is the project of the tenant's execution ids (PROTOCOL 1.4), so it must not be blank.
    pub tenant_id: String,
    /// The user, unique within the tenant.
    pub user_id: String,
}

impl Principal {
    /// The user `user_id` of the tenant `tenant_id`.
    pub fn new(tenant_id: impl Into<String>, user_id: impl Into<String>) -> Principal {
        Principal { tenant_id: tenant_id.into(), user_id: user_id.into() }
    }
}
