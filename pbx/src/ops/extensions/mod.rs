//! Extensions: listed, made, changed, removed, and their passwords. What changes ends the registrations that it touches.

mod draft;
mod forwarding;
mod import;
mod view;

use std::collections::HashMap;

use pbx_core::directory::ExtensionId;

pub(super) use self::draft::leaves_numbers;
use self::{
    draft::{Draft, Wrong},
    forwarding::Forwards,
};
pub use self::{
    import::{ExtensionsImported, ImportExtensions, NewPassword},
    view::{AddExtension, ExtensionAnswer, SetPassword, UpdateExtension, User},
};
use super::{
    Context, Did, How, ListOptions, OpError, Operations, Page,
    accounts::{Account, AccountPlan, Wording, shown},
    query::Query,
};

/// Extensions of all tenants together; each takes about a kilobyte of the daemon's memory.
const MOST: usize = 100_000;

impl Operations {
    /// A page of extensions, by default in the order of tenants and numbers.
    pub async fn extensions(&self, options: &ListOptions) -> Result<Page<User>, OpError> {
        let query = Query::parse::<User>(options).map_err(OpError::usage)?;
        let registered = self.registered().await;
        let mut users: Vec<User> = {
            let accounts = self.accounts();
            accounts.extensions().map(|one| User::of(one, &accounts, count(&registered, one))).collect()
        };
        // 99 comes before 101 in a list that people read.
        users.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(query.page(users.into_iter()))
    }

    /// One extension, by its id.
    pub async fn extension(&self, id: &str) -> Result<User, OpError> {
        let registered = self.registered().await;
        let account = self.account(id)?;
        Ok(User::of(&account, &self.accounts(), count(&registered, &account)))
    }

    /// One extension, by its number within a tenant.
    pub async fn extension_of(&self, number: &str, tenant: Option<&str>) -> Result<User, OpError> {
        let id = {
            let accounts = self.accounts();
            let tenant = &accounts.tenant_called(tenant)?.tenant;
            let account = accounts.number(tenant.id, number.trim()).ok_or_else(|| {
                OpError::not_found(format!(
                    "there is no extension {} in the tenant {}; `pbx ext list` shows all",
                    shown(number),
                    tenant.name
                ))
            })?;
            account.extension.id
        };
        self.extension(&id.0.to_string()).await
    }

    /// Makes an extension.
    pub async fn add_extension(&self, context: &Context, request: AddExtension) -> Result<ExtensionAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.add_extension_now(&context, request).await
        })
        .await
    }

    async fn add_extension_now(&self, context: &Context, request: AddExtension) -> Result<ExtensionAnswer, OpError> {
        let AddExtension { extension_number, extension_password, display_name, caller_id, tenant, enabled, dry_run } =
            request;
        let (settings, _) = self.current_settings();
        let now = self.now();
        let (account, generated_password, mut item) = {
            let accounts = self.accounts();
            let tenant = accounts.tenant_called(tenant.as_deref())?;
            let fields = [
                &extension_number,
                display_name.as_deref().unwrap_or_default(),
                caller_id.as_deref().unwrap_or_default(),
            ];
            let draft = Draft::new(
                accounts.next_extension(),
                tenant,
                fields,
                enabled.unwrap_or(true),
                Forwards::default(),
                &settings,
            )
            .map_err(together)?;
            if accounts.number(tenant.tenant.id, &draft.number).is_some() {
                return Err(Wrong::new("extension_number", taken(&draft.number, &tenant.tenant.name)).into());
            }
            if accounts.extensions().count() >= MOST {
                return Err(OpError::full(format!("there are {MOST} extensions, which is all that fit")));
            }
            let (password, generated) = self.password(&draft, extension_password)?;
            let account = draft.account(&password, self.secrets(), now, now)?;
            let item = User::of(&account, &accounts, Some(0));
            (account, generated.then_some(password), item)
        };
        if dry_run {
            item.id = None;
            return Ok(ExtensionAnswer { did: Did::Added, dry_run, notes: Vec::new(), item, generated_password: None });
        }
        let wording = wording(context, "extension.add", "made", None, Some(&item));
        let plan = AccountPlan { extensions: vec![account], ..AccountPlan::default() };
        self.change_accounts(context, plan, &wording).await?;
        Ok(ExtensionAnswer { did: Did::Added, dry_run, notes: Vec::new(), item, generated_password })
    }

    /// Changes what is named.
    pub async fn update_extension(
        &self,
        context: &Context,
        id: &str,
        update: UpdateExtension,
    ) -> Result<ExtensionAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            operations.update_extension_now(&context, &id, update).await
        })
        .await
    }

    async fn update_extension_now(
        &self,
        context: &Context,
        id: &str,
        update: UpdateExtension,
    ) -> Result<ExtensionAnswer, OpError> {
        let UpdateExtension {
            extension_number,
            display_name,
            caller_id,
            enabled,
            forward_always,
            forward_busy,
            forward_no_answer,
            forward_offline,
            no_answer_seconds,
            do_not_disturb,
            dry_run,
        } = update;
        let numbers = [&forward_always, &forward_busy, &forward_no_answer, &forward_offline];
        let (settings, _) = self.current_settings();
        let now = self.now();
        let registered = self.registered().await;
        let old = self.account(id)?;
        let phones = count(&registered, &old);
        let (account, before, item) = {
            let accounts = self.accounts();
            let tenant = accounts.tenant_of(&old)?;
            let was = old.extension.as_ref();
            let fields = [
                extension_number.as_deref().unwrap_or(&was.number),
                display_name.as_deref().unwrap_or(&was.name),
                caller_id.as_deref().unwrap_or(&was.caller_id),
            ];
            let forwards = Forwards {
                was: was.forwarding.clone(),
                numbers: numbers.map(Option::as_deref),
                seconds: no_answer_seconds,
                do_not_disturb,
            };
            let draft = Draft::new(was.id, tenant, fields, enabled.unwrap_or(old.enabled), forwards, &settings)
                .map_err(together)?;
            let other = accounts.number(was.tenant, &draft.number).filter(|other| other.extension.id != was.id);
            if other.is_some() {
                return Err(Wrong::new("extension_number", taken(&draft.number, &tenant.tenant.name)).into());
            }
            let account = draft.account_over(&old, self.secrets(), now)?;
            let before = User::of(&old, &accounts, phones);
            let item = User::of(&account, &accounts, phones);
            (account, before, item)
        };
        let unchanged = Account { updated_at: old.updated_at, ..account.clone() } == old;
        if unchanged {
            return Ok(ExtensionAnswer {
                did: Did::Unchanged,
                dry_run,
                notes: Vec::new(),
                item: before,
                generated_password: None,
            });
        }
        let ends = account.extension.number != old.extension.number || (old.enabled && !account.enabled);
        let notes = if ends { ended(phones) } else { Vec::new() };
        if !dry_run {
            let wording = wording(context, "extension.set", "changed", Some(&before), Some(&item));
            let plan = AccountPlan { extensions: vec![account], ..AccountPlan::default() };
            self.change_accounts(context, plan, &wording).await?;
        }
        Ok(ExtensionAnswer { did: Did::Updated, dry_run, notes, item, generated_password: None })
    }

    /// Gives an extension another SIP password; its phones have to register anew with it.
    pub async fn set_extension_password(
        &self,
        context: &Context,
        id: &str,
        request: SetPassword,
    ) -> Result<ExtensionAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let SetPassword { extension_password, dry_run } = request;
            let now = operations.now();
            let registered = operations.registered().await;
            let old = operations.account(&id)?;
            let phones = count(&registered, &old);
            let (account, generated_password, item) = {
                let accounts = operations.accounts();
                let tenant = accounts.tenant_of(&old)?;
                let draft = Draft::of(&old, tenant);
                let (password, generated) = operations.password(&draft, extension_password)?;
                let account = draft.account(&password, operations.secrets(), old.created_at, now)?;
                let item = User::of(&account, &accounts, phones);
                (account, generated.then_some(password), item)
            };
            let notes = ended(phones);
            if dry_run {
                return Ok(ExtensionAnswer { did: Did::Updated, dry_run, notes, item, generated_password: None });
            }
            let mut wording = wording(&context, "extension.password", "set the password of", None, Some(&item));
            wording.after = None;
            let plan = AccountPlan { extensions: vec![account], ..AccountPlan::default() };
            operations.change_accounts(&context, plan, &wording).await?;
            Ok(ExtensionAnswer { did: Did::Updated, dry_run, notes, item, generated_password })
        })
        .await
    }

    /// Removes an extension, with what has registered for it.
    pub async fn remove_extension(&self, context: &Context, id: &str, how: How) -> Result<ExtensionAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let registered = operations.registered().await;
            let old = operations.account(&id)?;
            let phones = count(&registered, &old);
            let item = User::of(&old, &operations.accounts(), phones);
            let dry_run = how.dry_run;
            if !dry_run {
                let wording = wording(&context, "extension.remove", "removed", Some(&item), None);
                let plan = AccountPlan { extensions_gone: vec![old.extension.id], ..AccountPlan::default() };
                operations.change_accounts(&context, plan, &wording).await?;
            }
            Ok(ExtensionAnswer { did: Did::Removed, dry_run, notes: ended(phones), item, generated_password: None })
        })
        .await
    }

    /// The password that was given, checked, or a new one; `true`: it is a new one.
    fn password(&self, draft: &Draft<'_>, given: Option<String>) -> Result<(String, bool), OpError> {
        match given {
            Some(password) => {
                draft.check_password(&password)?;
                Ok((password, false))
            }
            None => Ok((draft.generate_password(self.secrets())?, true)),
        }
    }

    pub(super) fn account(&self, id: &str) -> Result<Account, OpError> {
        let found = id.parse().ok().and_then(|id| self.accounts().extension(ExtensionId(id)).cloned());
        found.ok_or_else(|| OpError::not_found(format!("there is no extension with the id {}", shown(id))))
    }

    /// How many phones are registered for whom; nothing when signalling does not say.
    async fn registered(&self) -> Option<HashMap<ExtensionId, u64>> {
        let counts = self.with_signalling(|signalling| signalling.registered()).await.ok()?.ok()?;
        Some(counts.into_iter().map(|(extension, count)| (extension, count as u64)).collect())
    }
}

fn count(registered: &Option<HashMap<ExtensionId, u64>>, account: &Account) -> Option<u64> {
    registered.as_ref().map(|counts| counts.get(&account.extension.id).copied().unwrap_or(0))
}

fn order(user: &User) -> (String, usize, &str) {
    (user.tenant.to_ascii_lowercase(), user.extension_number.len(), &user.extension_number)
}

fn taken(number: &str, tenant: &str) -> String {
    format!("{number} is taken in the tenant {tenant}: `pbx ext show {number}` shows by whom")
}

/// Several wrong fields in one error.
fn together(wrong: Vec<Wrong>) -> OpError {
    let lines: Vec<String> = wrong.iter().flat_map(Wrong::lines).collect();
    match lines.as_slice() {
        [line] => OpError::usage(line.clone()),
        lines => OpError::usage(format!("{} fields are wrong", wrong.len())).with_detail(lines.join("\n")),
    }
}

/// What to add to the answer of a change that ends registrations.
fn ended(phones: Option<u64>) -> Vec<String> {
    match phones {
        None | Some(0) => Vec::new(),
        Some(1) => vec!["1 registration ends with it".to_owned()],
        Some(many) => vec![format!("{many} registrations end with it")],
    }
}

fn wording(context: &Context, verb: &'static str, did: &str, before: Option<&User>, after: Option<&User>) -> Wording {
    let name = after.or(before).map(|user| format!("{} of {}", user.extension_number, user.tenant)).unwrap_or_default();
    Wording {
        verb,
        object: name.clone(),
        before: before.and_then(User::audited),
        after: after.and_then(User::audited),
        sentence: format!("{} {did} the extension {name}", context.actor),
    }
}
