//! Tenants, extensions and transports in memory: what the store has, and the directory that is made of it. Lists and
//! checks read it; a change goes store → here → signalling.

mod change;
mod load;

use std::{collections::BTreeMap, sync::Arc};

use pbx_core::{
    directory::{Directory, Extension, ExtensionId, Tenant, TenantId},
    password::PasswordPolicy,
    time::Timestamp,
    transport::TransportId,
};

pub(super) use self::{
    change::{AccountPlan, Wording},
    load::{NO_VERIFICATION, default_algorithms},
};
use super::OpError;
use crate::store::{StoredExtension, StoredTenant, StoredTransport};

/// A tenant and what its passwords have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TenantAccount {
    pub tenant: Tenant,
    pub policy: PasswordPolicy,
    pub created_at: Timestamp,
}

/// An extension, and what of it is in no directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// As the signalling side has it.
    pub extension: Arc<Extension>,
    /// As it is stored: one whose password cannot be read is disabled in the directory and not here.
    pub enabled: bool,
    pub sealed_password: Vec<u8>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// All of them. Changed by operations only, one after the other.
#[derive(Clone, Debug)]
pub struct Accounts {
    tenants: BTreeMap<TenantId, TenantAccount>,
    extensions: BTreeMap<ExtensionId, Account>,
    transports: BTreeMap<TransportId, StoredTransport>,
    directory: Arc<Directory>,
    next_tenant: u32,
    next_extension: u32,
    next_transport: u32,
    problems: Vec<String>,
}

impl Accounts {
    /// The directory that signalling gets.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// The ports of all transports, in order, each once: the filter protects them.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.transports.values().map(|transport| transport.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// What of the store could not be used, one sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantAccount> {
        self.tenants.values()
    }

    pub(super) fn tenant(&self, id: TenantId) -> Option<&TenantAccount> {
        self.tenants.get(&id)
    }

    /// The tenant of a name (in any case) or id; without either, the default one.
    pub(super) fn tenant_called(&self, text: Option<&str>) -> Result<&TenantAccount, OpError> {
        let wanted = text.map(str::trim).filter(|text| !text.is_empty());
        let found = match wanted {
            None => self.tenants().find(|one| one.tenant.is_default),
            // No name is a number.
            Some(text) => self
                .tenants()
                .find(|one| one.tenant.name.eq_ignore_ascii_case(text))
                .or_else(|| text.parse().ok().and_then(|id| self.tenant(TenantId(id)))),
        };
        found.ok_or_else(|| {
            OpError::not_found(format!(
                "tenant: there is no tenant {}; `pbx tenant list` shows all",
                shown(wanted.unwrap_or("default"))
            ))
        })
    }

    /// The tenant of an account.
    pub(super) fn tenant_of(&self, account: &Account) -> Result<&TenantAccount, OpError> {
        self.tenant(account.extension.tenant)
            .ok_or_else(|| OpError::internal(format!("extension {} has no tenant", account.extension.number)))
    }

    pub(super) fn extensions(&self) -> impl Iterator<Item = &Account> {
        self.extensions.values()
    }

    pub(super) fn extension(&self, id: ExtensionId) -> Option<&Account> {
        self.extensions.get(&id)
    }

    pub(super) fn number(&self, tenant: TenantId, number: &str) -> Option<&Account> {
        self.extension(self.directory.extension(tenant, number)?.id)
    }

    /// The name of an extension's tenant.
    pub(super) fn tenant_name(&self, extension: &Extension) -> String {
        self.tenant(extension.tenant).map(|one| one.tenant.name.clone()).unwrap_or_default()
    }

    /// The transports that administrators made.
    pub(crate) fn transports(&self) -> impl Iterator<Item = &StoredTransport> {
        self.transports.values()
    }

    pub(super) fn transport(&self, id: TransportId) -> Option<&StoredTransport> {
        self.transports.get(&id)
    }

    pub(super) const fn next_tenant(&self) -> TenantId {
        TenantId(self.next_tenant)
    }

    pub(super) const fn next_extension(&self) -> ExtensionId {
        ExtensionId(self.next_extension)
    }

    pub(super) const fn next_transport(&self) -> TransportId {
        TransportId(self.next_transport)
    }

    /// Takes over a transport as it is stored now, or forgets one.
    pub(super) fn replace_transport(&mut self, id: TransportId, transport: Option<StoredTransport>) {
        match transport {
            Some(transport) => {
                self.next_transport = self.next_transport.max(id.0.saturating_add(1));
                self.transports.insert(id, transport);
            }
            None => {
                self.transports.remove(&id);
            }
        }
    }

    /// Takes over a change of tenants and extensions, and gives the directory after it.
    pub(super) fn replace(&mut self, plan: AccountPlan) -> Arc<Directory> {
        let AccountPlan { tenants_gone, tenants, extensions_gone, extensions } = plan;
        extensions_gone.iter().for_each(|id| drop(self.extensions.remove(id)));
        tenants_gone.iter().for_each(|id| drop(self.tenants.remove(id)));
        for tenant in tenants {
            self.next_tenant = self.next_tenant.max(tenant.tenant.id.0.saturating_add(1));
            self.tenants.insert(tenant.tenant.id, tenant);
        }
        for account in extensions {
            self.next_extension = self.next_extension.max(account.extension.id.0.saturating_add(1));
            self.extensions.insert(account.extension.id, account);
        }
        self.directory = directory(&self.tenants, &self.extensions);
        self.directory()
    }
}

fn directory(
    tenants: &BTreeMap<TenantId, TenantAccount>,
    extensions: &BTreeMap<ExtensionId, Account>,
) -> Arc<Directory> {
    Arc::new(Directory::new(
        tenants.values().map(|one| one.tenant.clone()),
        extensions.values().map(|one| Arc::clone(&one.extension)),
    ))
}

impl TenantAccount {
    pub(super) fn stored(&self) -> StoredTenant {
        let Tenant { id, name, domains, realm, is_default } = self.tenant.clone();
        StoredTenant {
            id,
            name,
            domains,
            realm,
            password_policy: serde_json::to_string(&self.policy).unwrap_or_default(),
            is_default,
            created_at: self.created_at,
        }
    }
}

impl Account {
    pub(super) fn stored(&self) -> StoredExtension {
        let Extension { id, tenant, number, name, caller_id, enabled: _, ha1: _, forwarding } = self.extension.as_ref();
        StoredExtension {
            id: *id,
            tenant: *tenant,
            number: number.clone(),
            name: name.clone(),
            caller_id: caller_id.clone(),
            enabled: self.enabled,
            forwarding: serde_json::to_string(forwarding).unwrap_or_else(|_| "{}".to_owned()),
            sealed_password: self.sealed_password.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// Where an extension's password is sealed.
pub(super) fn password_place(id: ExtensionId) -> String {
    format!("extensions/{}/password", id.0)
}

/// Where a transport's key is sealed.
pub(super) fn key_place(id: TransportId) -> String {
    format!("transports/{}/key", id.0)
}

/// What somebody typed, short and printable.
pub(super) fn shown(text: &str) -> String {
    format!("{:.60}", text.escape_debug().to_string())
}
