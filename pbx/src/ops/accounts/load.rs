//! What the store has, made ready: secrets opened, the directory built; and what a new installation begins with.

use std::{collections::BTreeMap, sync::Arc};

use pbx_core::{
    auth::Algorithm,
    directory::{Extension, Forwarding, Ha1, Tenant, TenantId},
    password::PasswordPolicy,
    time::Timestamp,
    transport::{Protocol, TransportId},
};

use super::{Account, Accounts, TenantAccount, directory, password_place};
use crate::{
    secrets::{SecretError, Secrets},
    store::{AccountChange, Store, StoredExtension, StoredTenant, StoredTransport},
};

/// The tenant of a new installation.
const DEFAULT_TENANT: &str = "default";
/// Its realm. Every challenge shows it to whoever asks, so it says nothing about whose appliance this is.
const DEFAULT_REALM: &str = "pbx";

impl Accounts {
    /// Reads everything. The first time there is a tenant, and a transport of each protocol, and nobody's extension.
    pub async fn load(store: &Store, secrets: &Secrets, now: Timestamp) -> Result<Self, SecretError> {
        let mut stored = store.accounts().await?;
        if stored.tenants.is_empty() {
            let tenants = [first_tenant(now)];
            let transports = if stored.transports.is_empty() { first_transports(now) } else { Vec::new() };
            let change = AccountChange { tenants: &tenants, transports: &transports, ..AccountChange::default() };
            store.change_accounts(change).await?;
            stored = store.accounts().await?;
        }
        let mut problems = Vec::new();
        let tenants: BTreeMap<_, _> =
            stored.tenants.into_iter().map(|one| (one.id, tenant(one, &mut problems))).collect();
        let mut extensions = BTreeMap::new();
        for one in stored.extensions {
            extensions.insert(one.id, account(one, &tenants, secrets, &mut problems)?);
        }
        Ok(Self {
            directory: directory(&tenants, &extensions),
            tenants,
            extensions,
            transports: stored.transports.into_iter().map(|one| (one.id, one)).collect(),
            next_tenant: stored.next_tenant,
            next_extension: stored.next_extension,
            next_transport: stored.next_transport,
            problems,
        })
    }
}

fn tenant(stored: StoredTenant, problems: &mut Vec<String>) -> TenantAccount {
    let StoredTenant { id, name, domains, realm, password_policy, is_default, created_at } = stored;
    let policy = serde_json::from_str(&password_policy).unwrap_or_else(|error| {
        problems
            .push(format!("the password policy of the tenant {name} cannot be read ({error}): the default one holds"));
        PasswordPolicy::default()
    });
    TenantAccount { tenant: Tenant { id, name, domains, realm, is_default }, policy, created_at }
}

fn account(
    stored: StoredExtension,
    tenants: &BTreeMap<TenantId, TenantAccount>,
    secrets: &Secrets,
    problems: &mut Vec<String>,
) -> Result<Account, SecretError> {
    let StoredExtension {
        id,
        tenant,
        number,
        name,
        caller_id,
        enabled,
        forwarding,
        sealed_password,
        created_at,
        updated_at,
    } = stored;
    let forwarding = serde_json::from_str(&forwarding).unwrap_or_else(|error| {
        problems.push(format!(
            "where calls to {number} are forwarded to cannot be read ({error}): they are not (`pbx ext set {number} \
             --tenant {}` with --forward-always and the like)",
            tenant.0
        ));
        Forwarding::default()
    });
    let realm = tenants.get(&tenant).map_or(DEFAULT_REALM, |one| one.tenant.realm.as_str());
    let (ha1, readable) = match secrets.unseal(&password_place(id), &sealed_password) {
        Ok(password) => (Ha1::of(&number, realm, &password), true),
        Err(error) => {
            problems.push(format!(
                "nobody can register as {number}: {error} (`pbx ext passwd {number} --tenant {}`)",
                tenant.0
            ));
            // Nobody has what hashes to this.
            (Ha1 { md5: secrets.random()?, sha256: secrets.random()? }, false)
        }
    };
    let extension = Extension { id, tenant, number, name, caller_id, enabled: enabled && readable, ha1, forwarding };
    Ok(Account { extension: Arc::new(extension), enabled, sealed_password, created_at, updated_at })
}

fn first_tenant(now: Timestamp) -> StoredTenant {
    StoredTenant {
        id: TenantId(1),
        name: DEFAULT_TENANT.to_owned(),
        domains: Vec::new(),
        realm: DEFAULT_REALM.to_owned(),
        password_policy: serde_json::to_string(&PasswordPolicy::default()).unwrap_or_default(),
        is_default: true,
        created_at: now,
    }
}

/// The TLS transport gets its certificate when it is opened.
fn first_transports(now: Timestamp) -> Vec<StoredTransport> {
    [(Protocol::Udp, 5060), (Protocol::Tcp, 5063), (Protocol::Tls, 5061)]
        .into_iter()
        .zip(1..)
        .map(|((protocol, port), id)| StoredTransport {
            id: TransportId(id),
            protocol,
            port,
            external_port: None,
            algorithms: default_algorithms(protocol),
            verification: NO_VERIFICATION.to_owned(),
            chain: None,
            sealed_key: None,
            created_at: now,
        })
        .collect()
}

/// Phones that read only the first challenge mostly know only MD5; those that speak TLS know more.
pub(in crate::ops) fn default_algorithms(protocol: Protocol) -> Vec<Algorithm> {
    match protocol {
        Protocol::Udp | Protocol::Tcp => vec![Algorithm::Md5, Algorithm::Sha256],
        Protocol::Tls => vec![Algorithm::Sha256, Algorithm::Md5],
    }
}

/// Phones are not asked for certificates; the one way that there is.
pub(in crate::ops) const NO_VERIFICATION: &str = "DISABLE";
