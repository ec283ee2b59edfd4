//! The configuration as the core sees it: tenants and extensions, in memory. Made anew by whoever changes the store
//! and handed over whole; readers keep the one they have. No call waits for the database.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A tenant as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub u32);

/// An extension as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtensionId(pub u32);

/// A company on this appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: TenantId,
    /// Its name, for people.
    pub name: String,
    /// Host parts of URIs that mean it, in lower case.
    pub domains: Vec<String>,
    /// The realm of its challenges (RFC 7616 §3.3), fixed when it was made: passwords are hashed with it.
    pub realm: String,
    /// The one that a bare address or an unknown domain means; exactly one is.
    pub is_default: bool,
}

/// What a password, user and realm give (RFC 7616 §3.4.2), by algorithm. A secret: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// MD5(user:realm:password).
    pub md5: [u8; 16],
    /// SHA-256(user:realm:password).
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ha1(secret)")
    }
}

/// A user with a telephone number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its number in the store.
    pub id: ExtensionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is dialled, 3 to 64 digits; the user of its URIs and of its credentials.
    pub number: String,
    /// Whom it belongs to, as shown.
    pub name: String,
    /// What others see when it calls; empty: number and name.
    pub caller_id: String,
    /// A disabled one is answered as if it did not exist.
    pub enabled: bool,
    /// What its credentials are checked with.
    pub ha1: Ha1,
}

type Seed = BuildHasherDefault<std::hash::DefaultHasher>;

/// All tenants and extensions.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    domains: HashMap<String, TenantId, Seed>,
    default: Option<TenantId>,
    extensions: BTreeMap<ExtensionId, Arc<Extension>>,
    numbers: HashMap<(TenantId, String), Arc<Extension>, Seed>,
}

impl Directory {
    /// The directory of these. The caller saw to it that numbers, domains and the default are unique.
    pub fn new(
        tenants: impl IntoIterator<Item = Tenant>,
        extensions: impl IntoIterator<Item = Arc<Extension>>,
    ) -> Self {
        let mut directory = Self::default();
        for tenant in tenants {
            directory.domains.extend(tenant.domains.iter().map(|domain| (domain.clone(), tenant.id)));
            if tenant.is_default {
                directory.default = Some(tenant.id);
            }
            directory.tenants.insert(tenant.id, Arc::new(tenant));
        }
        for extension in extensions {
            directory.numbers.insert((extension.tenant, extension.number.clone()), Arc::clone(&extension));
            directory.extensions.insert(extension.id, extension);
        }
        directory
    }

    /// The tenant of a URI's host (in any case): the one that has the domain, else the default one.
    pub fn tenant_of(&self, host: &str) -> Option<&Arc<Tenant>> {
        let id = match self.domains.get(host) {
            Some(id) => Some(*id),
            None if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.domains.get(&host.to_ascii_lowercase()).copied()
            }
            None => None,
        };
        self.tenants.get(&id.or(self.default)?)
    }

    /// A tenant by its number.
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(&id)
    }

    /// All tenants.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The extension of this number, enabled or not.
    pub fn extension(&self, tenant: TenantId, number: &str) -> Option<&Arc<Extension>> {
        self.numbers.get(&(tenant, number.to_owned()))
    }

    /// An extension by its number in the store.
    pub fn extension_by_id(&self, id: ExtensionId) -> Option<&Arc<Extension>> {
        self.extensions.get(&id)
    }

    /// All extensions, as they were made.
    pub fn extensions(&self) -> impl Iterator<Item = &Arc<Extension>> {
        self.extensions.values()
    }
}
