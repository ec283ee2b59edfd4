//! Where a number that was dialled leads (extensions now; trunks and rules beside them later). After the registrar,
//! before calls. Knows the directory and nobody's state.

use std::sync::Arc;

use crate::directory::{Directory, Extension, ExtensionId, TenantId};

/// Where a number leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// An extension of the same tenant.
    Extension(Arc<Extension>),
    /// Nowhere, for this reason.
    Nowhere(NoRoute),
}

/// Why a number leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Nobody has it.
    #[error("nobody has this number")]
    Unknown,
    /// An emergency number, and there is no line to the outside.
    #[error("an emergency number, and no trunk leads to the outside")]
    Emergency,
    /// Whoever's permissions count may not call.
    #[error("the extension that calls, or forwarded or transferred the call, is gone or disabled")]
    Forbidden,
}

impl NoRoute {
    /// The status that it is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Self::Unknown | Self::Emergency => 404,
            Self::Forbidden => 403,
        }
    }
}

/// Where `number` leads that is dialled with the permissions of `by`. An extension that is disabled is as good as none.
pub fn route(directory: &Directory, tenant: TenantId, by: ExtensionId, number: &str, emergency: bool) -> Route {
    if !directory.extension_by_id(by).is_some_and(|by| by.enabled && by.tenant == tenant) {
        return Route::Nowhere(NoRoute::Forbidden);
    }
    match directory.extension(tenant, number).filter(|extension| extension.enabled) {
        Some(extension) => Route::Extension(Arc::clone(extension)),
        None if emergency => Route::Nowhere(NoRoute::Emergency),
        None => Route::Nowhere(NoRoute::Unknown),
    }
}
