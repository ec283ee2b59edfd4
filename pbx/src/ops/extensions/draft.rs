//! An extension that is being made or changed: every field checked, nothing stored. One check for a single one and
//! for each row of a list.

use std::sync::Arc;

use pbx_core::{
    directory::{Extension, ExtensionId, Forwarding, Ha1, Tenant},
    number,
    password::{self, AccountInfo},
    settings::Settings,
    time::Timestamp,
};

use super::forwarding::{self, Forwards};
use crate::{
    ops::{
        OpError,
        accounts::{Account, Accounts, TenantAccount, password_place},
    },
    secrets::Secrets,
};

/// Characters of a name or a caller id.
const LONGEST_TEXT: usize = 100;
/// Extensions that a refusal names.
const NAMED: usize = 3;

/// Which field is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The API's name of it.
    pub field: &'static str,
    /// What is wrong and what would be right, one sentence each.
    pub what: Vec<String>,
}

impl Wrong {
    pub(super) fn new(field: &'static str, what: impl Into<String>) -> Self {
        Self { field, what: vec![what.into()] }
    }

    /// One line a fault.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.what.iter().map(|what| format!("{}: {what}", self.field))
    }
}

impl From<Wrong> for OpError {
    fn from(wrong: Wrong) -> Self {
        let lines: Vec<String> = wrong.lines().collect();
        match lines.as_slice() {
            [line] => Self::usage(line.clone()),
            lines => {
                Self::usage(format!("{}: {} rules are broken", wrong.field, lines.len())).with_detail(lines.join("\n"))
            }
        }
    }
}

/// What an extension is to be. The password is there when it is new or changes.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    pub id: ExtensionId,
    pub tenant: &'a TenantAccount,
    pub number: String,
    pub name: String,
    pub caller_id: String,
    pub enabled: bool,
    pub forwarding: Forwarding,
}

impl<'a> Draft<'a> {
    /// A new one; every fault is told at once.
    pub(super) fn new(
        id: ExtensionId,
        tenant: &'a TenantAccount,
        [number, name, caller_id]: [&str; 3],
        enabled: bool,
        forwards: Forwards<'_>,
        settings: &Settings,
    ) -> Result<Self, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut take = |checked: Result<String, Wrong>| {
            checked.unwrap_or_else(|one| {
                wrong.push(one);
                String::new()
            })
        };
        let number = take(check_number(number, settings));
        let name = take(check_text("display_name", name));
        let caller_id = take(check_text("caller_id", caller_id));
        let forwarding = forwards.check(&number, settings).unwrap_or_else(|others| {
            wrong.extend(others);
            Forwarding::default()
        });
        if wrong.is_empty() {
            Ok(Self { id, tenant, number, name, caller_id, enabled, forwarding })
        } else {
            Err(wrong)
        }
    }

    /// As it is.
    pub(super) fn of(account: &Account, tenant: &'a TenantAccount) -> Self {
        let Extension { id, number, name, caller_id, forwarding, .. } = account.extension.as_ref().clone();
        Self { id, tenant, number, name, caller_id, enabled: account.enabled, forwarding }
    }

    /// Whether a password is good enough for it.
    pub(super) fn check_password(&self, password: &str) -> Result<(), Wrong> {
        self.about(|about| password::check(password, &self.tenant.policy, about)).map_err(|rules| Wrong {
            field: "extension_password",
            what: rules.iter().map(ToString::to_string).collect(),
        })
    }

    /// A password that is good enough for it.
    pub(super) fn generate_password(&self, secrets: &Secrets) -> Result<String, OpError> {
        let randomness = secrets.random()?;
        self.about(|about| password::generate(&randomness, &self.tenant.policy, about)).ok_or_else(|| {
            OpError::usage("extension_password: none that could be made is good enough: give one, or shorten the names")
        })
    }

    /// What a password must not give away.
    fn about<T>(&self, then: impl FnOnce(&AccountInfo<'_>) -> T) -> T {
        let Tenant { name, domains, .. } = &self.tenant.tenant;
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        then(&AccountInfo {
            display_name: &self.name,
            tenant_name: name,
            domains: &domains,
            extension: &self.number,
            phone_numbers: &[&self.caller_id],
            ..AccountInfo::default()
        })
    }

    /// The account that it makes, with a new password.
    pub(super) fn account(
        self,
        password: &str,
        secrets: &Secrets,
        created_at: Timestamp,
        now: Timestamp,
    ) -> Result<Account, OpError> {
        let sealed_password = secrets.seal(&password_place(self.id), password)?;
        let ha1 = Ha1::of(&self.number, &self.tenant.tenant.realm, password);
        Ok(self.with(sealed_password, ha1, true, created_at, now))
    }

    /// The account that it makes of `old`, whose password stays. That of another number needs it in the clear,
    /// because the number is hashed with it.
    pub(super) fn account_over(self, old: &Account, secrets: &Secrets, now: Timestamp) -> Result<Account, OpError> {
        let readable = old.extension.enabled == old.enabled;
        let ha1 = if self.number == old.extension.number {
            old.extension.ha1.clone()
        } else {
            let password = secrets.unseal(&password_place(self.id), &old.sealed_password)?;
            Ha1::of(&self.number, &self.tenant.tenant.realm, &password)
        };
        Ok(self.with(old.sealed_password.clone(), ha1, readable, old.created_at, now))
    }

    fn with(
        self,
        sealed_password: Vec<u8>,
        ha1: Ha1,
        readable: bool,
        created_at: Timestamp,
        now: Timestamp,
    ) -> Account {
        let Self { id, tenant, number, name, caller_id, enabled, forwarding } = self;
        let tenant = tenant.tenant.id;
        let extension =
            Extension { id, tenant, number, name, caller_id, enabled: enabled && readable, ha1, forwarding };
        Account { extension: Arc::new(extension), enabled, sealed_password, created_at, updated_at: now }
    }
}

/// A number that an extension may have.
fn check_number(text: &str, settings: &Settings) -> Result<String, Wrong> {
    let text = text.trim();
    // The settings' own type; what it holds is always read.
    let emergency = &settings.sip.emergency_numbers;
    number::check(text, emergency).map_err(|error| Wrong::new("extension_number", error.to_string()))?;
    Ok(text.to_owned())
}

/// Whether settings leave the numbers of extensions alone: an emergency number would hide those that begin with it, and
/// no call is forwarded to one.
pub(in crate::ops) fn leaves_numbers(settings: &Settings, accounts: &Accounts) -> Result<(), OpError> {
    let emergency = &settings.sip.emergency_numbers;
    let hidden: Vec<_> = accounts
        .extensions()
        .flat_map(|one| {
            let to = forwarding::numbers(&one.extension.forwarding).into_iter().flatten();
            std::iter::once(&one.extension.number).chain(to).map(|number| (&one.extension, number))
        })
        .filter_map(|(extension, number)| Some((extension, number, emergency.begins(number)?)))
        .collect();
    if hidden.is_empty() {
        return Ok(());
    }
    let named = hidden.iter().take(NAMED).map(|(extension, number, emergency)| {
        let forwarded = if **number == extension.number { String::new() } else { format!(", forwarded to {number}") };
        format!("{} of {}{forwarded} ({emergency})", extension.number, accounts.tenant_name(extension))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match hidden.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(OpError::usage(format!(
        "sip.emergency_numbers: extensions have these numbers or begin with them, or are forwarded to such: \
         {named}{more}; leave the numbers in brackets out, or change the extensions first (`pbx ext set`)"
    )))
}

fn check_text(field: &'static str, text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    let count = text.chars().count();
    if count > LONGEST_TEXT {
        return Err(Wrong::new(field, format!("{count} characters are too many (at most {LONGEST_TEXT})")));
    }
    if let Some(control) = text.chars().find(|one| one.is_control()) {
        return Err(Wrong::new(
            field,
            format!("{} is a control character, which no phone shows", control.escape_debug()),
        ));
    }
    Ok(text.to_owned())
}
