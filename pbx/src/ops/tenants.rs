//! Tenants: the companies on this appliance. A tenant's domains say which of them a request means; its realm is fixed
//! when it is made, because passwords are hashed with it.

use pbx_core::{
    auth,
    directory::{Tenant, TenantId},
    password::PasswordPolicy,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    Context, Did, How, ListOptions, OpError, Operations, Page,
    accounts::{AccountPlan, Accounts, TenantAccount, Wording, shown},
    query::{Kind, Query, Row, Value},
};

/// Characters of a name.
const LONGEST_NAME: usize = 64;
/// Domains of one tenant.
const MOST_DOMAINS: usize = 32;
/// Tenants.
const MOST: usize = 1000;

/// A tenant to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddTenant {
    /// For people.
    pub name: String,
    /// Host parts of URIs that mean it.
    #[serde(default)]
    pub domains: Vec<String>,
    /// What its challenges show; random when it is not given. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// What its passwords have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_policy: Option<PasswordPolicy>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to change in a tenant; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateTenant {
    /// For people.
    pub name: Option<String>,
    /// All its domains.
    pub domains: Option<Vec<String>>,
    /// What passwords that are set from now on have to be.
    pub password_policy: Option<PasswordPolicy>,
    /// A bare address or an unknown domain means it from now on.
    pub is_default: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

/// A tenant as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    /// Opaque; nothing while the tenant is only thought of.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// Host parts of URIs that mean it.
    pub domains: Vec<String>,
    /// What its challenges show.
    pub realm: String,
    /// A bare address or an unknown domain means it.
    pub is_default: bool,
    /// What its passwords have to be.
    pub password_policy: PasswordPolicy,
    /// How many it has.
    pub extensions: usize,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The answer to a change of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The tenant.
    pub item: TenantView,
}

impl Operations {
    /// A page of tenants, by default in the order in which they were made.
    pub fn tenants(&self, options: &ListOptions) -> Result<Page<TenantView>, OpError> {
        let query = Query::parse::<TenantView>(options).map_err(OpError::usage)?;
        let accounts = self.accounts();
        let views: Vec<TenantView> = accounts.tenants().map(|one| TenantView::of(one, &accounts)).collect();
        Ok(query.page(views.into_iter()))
    }

    /// One tenant, by its name or id.
    pub fn tenant(&self, text: &str) -> Result<TenantView, OpError> {
        let accounts = self.accounts();
        Ok(TenantView::of(accounts.tenant_called(Some(text))?, &accounts))
    }

    /// Makes a tenant.
    pub async fn add_tenant(&self, context: &Context, request: AddTenant) -> Result<TenantAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let AddTenant { name, domains, realm, password_policy, dry_run } = request;
            let (new, mut item) = {
                let accounts = operations.accounts();
                if accounts.tenants().count() >= MOST {
                    return Err(OpError::full(format!("there are {MOST} tenants, which is all that fit")));
                }
                let realm = match realm {
                    Some(realm) => checked_realm(&realm)?,
                    None => format!("pbx-{}", hexadecimal(&operations.secrets().random::<4>()?)),
                };
                let id = accounts.next_tenant();
                let tenant = Tenant {
                    id,
                    name: checked_name(&name, id, &accounts)?,
                    domains: checked_domains(&domains, id, &accounts)?,
                    realm,
                    is_default: false,
                };
                let policy = password_policy.unwrap_or_default();
                let new = TenantAccount { tenant, policy, created_at: operations.now() };
                let item = TenantView::of(&new, &accounts);
                (new, item)
            };
            if dry_run {
                item.id = None;
            } else {
                let wording = wording(&context, "tenant.add", "made", None, Some(&item));
                let plan = AccountPlan { tenants: vec![new], ..AccountPlan::default() };
                operations.change_accounts(&context, plan, &wording).await?;
            }
            Ok(TenantAnswer { did: Did::Added, dry_run, notes: Vec::new(), item })
        })
        .await
    }

    /// Changes what is named.
    pub async fn update_tenant(
        &self,
        context: &Context,
        id: &str,
        update: UpdateTenant,
    ) -> Result<TenantAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let UpdateTenant { name, domains, password_policy, is_default, dry_run } = update;
            let mut notes = Vec::new();
            let (tenants, before, item) = {
                let accounts = operations.accounts();
                let old = accounts.tenant_called(Some(&id))?;
                let mut new = old.clone();
                let own = new.tenant.id;
                if let Some(name) = name {
                    new.tenant.name = checked_name(&name, own, &accounts)?;
                }
                if let Some(domains) = domains {
                    new.tenant.domains = checked_domains(&domains, own, &accounts)?;
                }
                if let Some(policy) = password_policy {
                    new.policy = policy;
                    if new.policy != old.policy {
                        notes.push(
                            "passwords that are set from now on have to meet it; those that are there stay".to_owned(),
                        );
                    }
                }
                let mut tenants = Vec::new();
                if is_default && !old.tenant.is_default {
                    // The one that was it first: there is never more than one.
                    tenants.extend(accounts.tenants().filter(|one| one.tenant.is_default).cloned().map(|mut one| {
                        one.tenant.is_default = false;
                        one
                    }));
                    new.tenant.is_default = true;
                }
                let (before, item) = (TenantView::of(old, &accounts), TenantView::of(&new, &accounts));
                tenants.push(new);
                (tenants, before, item)
            };
            if before == item {
                return Ok(TenantAnswer { did: Did::Unchanged, dry_run, notes, item });
            }
            if !dry_run {
                let wording = wording(&context, "tenant.set", "changed", Some(&before), Some(&item));
                let plan = AccountPlan { tenants, ..AccountPlan::default() };
                operations.change_accounts(&context, plan, &wording).await?;
            }
            Ok(TenantAnswer { did: Did::Updated, dry_run, notes, item })
        })
        .await
    }

    /// Removes a tenant; one that has extensions only when it is forced, and they go with it.
    pub async fn remove_tenant(&self, context: &Context, id: &str, how: How) -> Result<TenantAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let How { force, dry_run } = how;
            let (plan, item) = {
                let accounts = operations.accounts();
                let old = accounts.tenant_called(Some(&id))?;
                let name = &old.tenant.name;
                if old.tenant.is_default {
                    return Err(OpError::refused(format!(
                        "{name} is the default tenant, which stays: make another one it first (`pbx tenant set OTHER --default`)"
                    )));
                }
                let own = old.tenant.id;
                let extensions: Vec<_> =
                    accounts.extensions().filter(|one| one.extension.tenant == own).map(|one| one.extension.id).collect();
                if !extensions.is_empty() && !force {
                    return Err(OpError::needs_force(format!(
                        "the tenant {name} has {} extensions, which go with it: --force removes them too",
                        extensions.len()
                    )));
                }
                let plan = AccountPlan { tenants_gone: vec![own], extensions_gone: extensions, ..AccountPlan::default() };
                (plan, TenantView::of(old, &accounts))
            };
            let notes = match plan.extensions_gone.len() {
                0 => Vec::new(),
                many => vec![format!("{many} extensions go with it")],
            };
            if !dry_run {
                let wording = wording(&context, "tenant.remove", "removed", Some(&item), None);
                operations.change_accounts(&context, plan, &wording).await?;
            }
            Ok(TenantAnswer { did: Did::Removed, dry_run, notes, item })
        })
        .await
    }
}

fn checked_name(text: &str, own: TenantId, accounts: &Accounts) -> Result<String, OpError> {
    let name = text.trim();
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME {
        return Err(OpError::usage(format!("name: {length} characters, but it takes 1 to {LONGEST_NAME}")));
    }
    if name.chars().any(char::is_control) {
        return Err(OpError::usage("name: no control characters"));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(OpError::usage(format!("name: {name} could be mistaken for the id of a tenant: add a letter")));
    }
    let other = accounts.tenants().find(|one| one.tenant.id != own && one.tenant.name.eq_ignore_ascii_case(name));
    if other.is_some() {
        return Err(OpError::usage(format!("name: there is a tenant {} already", shown(name))));
    }
    Ok(name.to_owned())
}

fn checked_realm(text: &str) -> Result<String, OpError> {
    let realm = text.trim();
    auth::check_realm(realm).map_err(|error| OpError::usage(format!("realm: {error}")))?;
    Ok(realm.to_owned())
}

fn checked_domains(texts: &[String], own: TenantId, accounts: &Accounts) -> Result<Vec<String>, OpError> {
    if texts.len() > MOST_DOMAINS {
        return Err(OpError::usage(format!("domains: {} are too many (at most {MOST_DOMAINS})", texts.len())));
    }
    let mut domains = Vec::new();
    for text in texts {
        let domain = text.trim().trim_end_matches('.').to_ascii_lowercase();
        if !is_host_name(&domain) {
            return Err(OpError::usage(format!(
                "domains: {} is no domain name: letters, digits and hyphens between dots, such as sip.example.com; a bare \
                 address means the default tenant",
                shown(text)
            )));
        }
        let other = accounts.tenants().find(|one| one.tenant.id != own && one.tenant.domains.contains(&domain));
        if let Some(other) = other {
            return Err(OpError::usage(format!("domains: {domain} belongs to the tenant {}", other.tenant.name)));
        }
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    Ok(domains)
}

/// RFC 1123 §2.1, and no address: the last label has a letter.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.split('.').all(label)
        && name.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wording(
    context: &Context,
    verb: &'static str,
    did: &str,
    before: Option<&TenantView>,
    after: Option<&TenantView>,
) -> Wording {
    let name = after.or(before).map(|tenant| tenant.name.clone()).unwrap_or_default();
    let json = |view: Option<&TenantView>| view.and_then(|view| serde_json::to_string(view).ok());
    Wording {
        verb,
        object: name.clone(),
        before: json(before),
        after: json(after),
        sentence: format!("{} {did} the tenant {name}", context.actor),
    }
}

impl TenantView {
    fn of(account: &TenantAccount, accounts: &Accounts) -> Self {
        let Tenant { id, name, domains, realm, is_default } = account.tenant.clone();
        Self {
            id: Some(id.0.to_string()),
            name,
            domains,
            realm,
            is_default,
            password_policy: account.policy.clone(),
            extensions: accounts.extensions().filter(|one| one.extension.tenant == id).count(),
            created_at: account.created_at,
        }
    }
}

impl Row for TenantView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("name", Kind::Text),
        ("domains", Kind::Text),
        ("realm", Kind::Text),
        ("is_default", Kind::Bool),
        ("extensions", Kind::Number),
        ("created_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => self.id.as_deref().and_then(|id| id.parse().ok()).map_or(Value::Null, Value::Number),
            1 => Value::Text(self.name.as_str().into()),
            2 => Value::Text(self.domains.join(",").into()),
            3 => Value::Text(self.realm.as_str().into()),
            4 => Value::Bool(self.is_default),
            5 => Value::Number(i64::try_from(self.extensions).unwrap_or(i64::MAX)),
            _ => Value::Time(self.created_at),
        }
    }
}
