//! The configuration as the core sees it: tenants and extensions, in memory. Made anew by whoever changes the store
//! and handed over whole; readers keep the one they have. No call waits for the database, and no question to it
//! allocates: two of them are asked for every packet.

mod numbers;

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use numbers::Numbers;

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
    /// The realm of its challenges (RFC 7616 §3.3), fixed when it was made: passwords are hashed with it. One that
    /// [`check_realm`](crate::auth::check_realm) allows.
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
    /// Where its calls go when it does not take them.
    pub forwarding: Forwarding,
}

/// What becomes of calls to an extension. A number is what may be dialled by the extension itself, and is called with
/// its permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Forwarding {
    /// Every call goes to this number.
    pub always: Option<String>,
    /// When it is busy.
    pub busy: Option<String>,
    /// When nobody answers.
    pub no_answer: Option<String>,
    /// When no phone of it can be reached.
    pub offline: Option<String>,
    /// How long it rings before `no_answer`, 5 to 300 s.
    pub no_answer_seconds: u16,
    /// Its phones do not ring: a caller is told that it is not available, unless `always` is set.
    pub do_not_disturb: bool,
}

impl Forwarding {
    /// Seconds that may be set.
    pub const SECONDS: std::ops::RangeInclusive<u16> = 5..=300;
    /// Forwards of one call at most.
    pub const MOST: u32 = 5;
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { always: None, busy: None, no_answer: None, offline: None, no_answer_seconds: 20, do_not_disturb: false }
    }
}

/// What credentials are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The extension.
    pub id: ExtensionId,
    /// Whether it may do anything.
    pub enabled: bool,
    /// Its secrets.
    pub ha1: Ha1,
}

/// The names are the administrator's: no outsider chooses what collides.
type Seed = BuildHasherDefault<std::hash::DefaultHasher>;

/// The longest name of a domain (RFC 1035 §2.3.4).
const LONGEST_DOMAIN: usize = 255;

/// All tenants and extensions.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    domains: HashMap<String, TenantId, Seed>,
    default: Option<TenantId>,
    extensions: BTreeMap<ExtensionId, Arc<Extension>>,
    numbers: Numbers,
}

impl Directory {
    /// The directory of these. The caller saw to it that numbers, domains and the default are unique.
    pub fn new(
        tenants: impl IntoIterator<Item = Tenant>,
        extensions: impl IntoIterator<Item = Arc<Extension>>,
    ) -> Self {
        let mut directory = Self::default();
        for tenant in tenants {
            let domains = tenant.domains.iter().map(|domain| (domain.to_ascii_lowercase(), tenant.id));
            directory.domains.extend(domains);
            if tenant.is_default {
                directory.default = Some(tenant.id);
            }
            directory.tenants.insert(tenant.id, Arc::new(tenant));
        }
        directory.extensions = extensions.into_iter().map(|extension| (extension.id, extension)).collect();
        directory.numbers = Numbers::new(directory.extensions.values());
        directory
    }

    /// The tenant of a URI's host (in any case, with or without a dot at its end): the one that has the domain, else
    /// the default one.
    pub fn tenant_of(&self, host: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(&self.tenant_with(host).or(self.default)?)
    }

    /// Whether a tenant has this host as its domain, and not only because nobody else has.
    pub fn has_domain(&self, host: &str) -> bool {
        self.tenant_with(host).is_some()
    }

    fn tenant_with(&self, host: &str) -> Option<TenantId> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut lower = [0; LONGEST_DOMAIN];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        self.domains.get(std::str::from_utf8(lower).ok()?).copied()
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
        self.numbers.extension(tenant, number.as_bytes())
    }

    /// The account of this number and `true`, or another one and `false`, found at the same cost: what is then done
    /// with it need not show who exists. The same other one for the same number. `None`: there are none at all.
    pub fn account_or_other(&self, tenant: TenantId, number: &[u8]) -> Option<(&Account, bool)> {
        self.numbers.account(tenant, number)
    }

    /// An extension by its number in the store.
    pub fn extension_by_id(&self, id: ExtensionId) -> Option<&Arc<Extension>> {
        self.extensions.get(&id)
    }

    /// All extensions, in the order of the store's numbers.
    pub fn extensions(&self) -> impl Iterator<Item = &Arc<Extension>> {
        self.extensions.values()
    }
}

#[cfg(test)]
mod tests;
