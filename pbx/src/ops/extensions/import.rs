//! Extensions as a list (CSV): imported whole or not at all, exported without secrets.

use std::{collections::HashMap, time::Instant};

use pbx_core::{
    directory::{Forwarding, TenantId},
    settings::Settings,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    MOST,
    draft::{Draft, Wrong},
    forwarding::{self, Forwards},
};
use crate::ops::{
    Context, OpError, Operations,
    accounts::{Account, AccountPlan, Accounts, Wording},
    csv,
};

/// The columns, in the order in which an export writes them.
const COLUMNS: [&str; 12] = [
    "number",
    "name",
    "password",
    "caller_id",
    "tenant",
    "enabled",
    "forward_always",
    "forward_busy",
    "forward_no_answer",
    "forward_offline",
    "no_answer_seconds",
    "do_not_disturb",
];
/// Faults that an answer names; the rest is counted.
const MOST_FAULTS: usize = 100;

/// A list to import.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ImportExtensions {
    /// CSV with a header.
    pub text: String,
    /// Change extensions that are there; otherwise their rows are faults.
    pub update: bool,
    /// Only say what would change.
    pub dry_run: bool,
}

impl std::fmt::Debug for ImportExtensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { text, update, dry_run } = self;
        write!(f, "ImportExtensions({} bytes, update {update}, dry_run {dry_run})", text.len())
    }
}

/// A password that was made for a row without one. It is told here and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPassword {
    /// Whose.
    pub extension_number: String,
    /// Of which tenant.
    pub tenant: String,
    /// The password.
    pub extension_password: String,
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewPassword({})", self.extension_number)
    }
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtensionsImported {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Extensions that are new.
    pub added: usize,
    /// Extensions that were there and are different now.
    pub updated: usize,
    /// Extensions that were there as they are in the list.
    pub unchanged: usize,
    /// The passwords that were made, in the order of the list.
    pub passwords: Vec<NewPassword>,
    /// Milliseconds from the request to the end.
    pub milliseconds: u64,
}

impl Operations {
    /// Imports a list. Every row is checked before anything is written; the error names rows and fields.
    pub async fn import_extensions(
        &self,
        context: &Context,
        request: ImportExtensions,
    ) -> Result<ExtensionsImported, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let begun = Instant::now();
            let ImportExtensions { text, update, dry_run } = request;
            let _changing = operations.inner.changing.lock().await;
            // Ten thousand passwords are hashed and encrypted: off the async threads.
            let planning = operations.clone();
            let (plan, mut answer) = tokio::task::spawn_blocking(move || planning.plan_extensions(&text, update))
                .await
                .map_err(|error| OpError::internal(error.to_string()))??;
            answer.dry_run = dry_run;
            if dry_run {
                answer.passwords.clear();
            } else if !plan.extensions.is_empty() {
                let ExtensionsImported { added, updated, .. } = answer;
                let wording = Wording {
                    verb: "extension.import",
                    object: format!("{} extensions", added + updated),
                    before: None,
                    after: Some(serde_json::json!({ "added": added, "updated": updated }).to_string()),
                    sentence: format!("{} imported extensions: {added} new, {updated} changed", context.actor),
                };
                operations.change_accounts(&context, plan, &wording).await?;
            }
            answer.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(answer)
        })
        .await
    }

    /// Every extension, or those of one tenant, as a list that an import reads; without passwords.
    pub fn export_extensions(&self, tenant: Option<&str>) -> Result<String, OpError> {
        let accounts = self.accounts();
        let only = tenant.map(|tenant| accounts.tenant_called(Some(tenant))).transpose()?.map(|one| one.tenant.id);
        let mut text = format!("{}\n", COLUMNS.join(","));
        for account in accounts.extensions().filter(|one| only.is_none_or(|only| one.extension.tenant == only)) {
            let extension = account.extension.as_ref();
            let tenant = accounts.tenant_name(extension);
            let flag = |is: bool| if is { "true" } else { "false" };
            let [always, busy, no_answer, offline] =
                forwarding::numbers(&extension.forwarding).map(|number| number.as_deref().unwrap_or_default());
            let fields = [
                &extension.number,
                &extension.name,
                "",
                &extension.caller_id,
                &tenant,
                flag(account.enabled),
                always,
                busy,
                no_answer,
                offline,
                &extension.forwarding.no_answer_seconds.to_string(),
                flag(extension.forwarding.do_not_disturb),
            ];
            text += &fields.map(csv::quoted).join(",");
            text.push('\n');
        }
        Ok(text)
    }

    fn plan_extensions(&self, text: &str, update: bool) -> Result<(AccountPlan, ExtensionsImported), OpError> {
        let (settings, _) = self.current_settings();
        let accounts = self.accounts();
        let rows = csv::parse(text)
            .map_err(|bad| OpError::usage(format!("nothing was imported: row {}: {}", bad.row, bad.what)))?;
        let Some((header, rows)) = rows.split_first() else {
            return Err(OpError::usage(format!(
                "nothing was imported: the list is empty; its first row is {}",
                COLUMNS.join(",")
            )));
        };
        let columns = columns(&header.fields)?;
        let mut plan = Planned {
            operations: self,
            accounts: &accounts,
            settings: &settings,
            update,
            now: self.now(),
            next: accounts.next_extension().0,
            seen: HashMap::new(),
            extensions: Vec::new(),
            answer: ExtensionsImported::default(),
        };
        let (mut faults, mut bad_rows) = (Vec::new(), 0);
        for row in rows {
            let cell = |column: usize| columns[column].map(|at| row.fields.get(at).map_or("", String::as_str));
            let too_many = row.fields.len() > header.fields.len();
            let taken = if too_many {
                Err(vec![Wrong::new(
                    "row",
                    format!("{} fields, but the header has {}", row.fields.len(), header.fields.len()),
                )])
            } else {
                plan.row(row.number, std::array::from_fn(cell))?
            };
            if let Err(wrong) = taken {
                bad_rows += 1;
                faults.extend(wrong.iter().flat_map(Wrong::lines).map(|line| format!("row {}: {line}", row.number)));
            }
        }
        if bad_rows > 0 {
            let hidden = faults.len().saturating_sub(MOST_FAULTS);
            faults.truncate(MOST_FAULTS);
            if hidden > 0 {
                faults.push(format!("and {hidden} more"));
            }
            let rows = if bad_rows == 1 { "1 bad row".to_owned() } else { format!("{bad_rows} bad rows") };
            return Err(OpError::usage(format!("nothing was imported, {rows}")).with_detail(faults.join("\n")));
        }
        let Planned { extensions, answer, .. } = plan;
        if accounts.extensions().count() + answer.added > MOST {
            return Err(OpError::full(format!(
                "{} extensions are there and {} would come; {MOST} fit",
                accounts.extensions().count(),
                answer.added
            )));
        }
        Ok((AccountPlan { extensions, ..AccountPlan::default() }, answer))
    }
}

/// Where each of [`COLUMNS`] is in a row.
fn columns(header: &[String]) -> Result<[Option<usize>; COLUMNS.len()], OpError> {
    let mut columns = [None; COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        let column = COLUMNS.iter().position(|known| known.eq_ignore_ascii_case(name.trim())).ok_or_else(|| {
            OpError::usage(format!(
                "nothing was imported: row 1: {:.40} is no column; there are {}",
                name.escape_debug().to_string(),
                COLUMNS.join(", ")
            ))
        })?;
        if columns[column].replace(at).is_some() {
            return Err(OpError::usage(format!(
                "nothing was imported: row 1: the column {} is there twice",
                COLUMNS[column]
            )));
        }
    }
    if columns[0].is_none() {
        return Err(OpError::usage("nothing was imported: row 1: the column number is missing".to_owned()));
    }
    Ok(columns)
}

/// A list on its way through the checks.
struct Planned<'a> {
    operations: &'a Operations,
    accounts: &'a Accounts,
    settings: &'a Settings,
    update: bool,
    now: Timestamp,
    next: u32,
    /// In which row a number was.
    seen: HashMap<(TenantId, String), usize>,
    extensions: Vec<Account>,
    answer: ExtensionsImported,
}

impl Planned<'_> {
    /// Takes one row over; a column that the list does not have changes nothing. The outer error is one of this machine, not of the list.
    fn row(&mut self, row: usize, cells: [Option<&str>; COLUMNS.len()]) -> Result<Result<(), Vec<Wrong>>, OpError> {
        let [number, name, password, caller_id, tenant, enabled, ..] = cells;
        let [.., always, busy, no_answer, offline, seconds, do_not_disturb] = cells;
        let (number, password) = (number.unwrap_or_default(), password.unwrap_or_default());
        let tenant = match self.accounts.tenant_called(tenant) {
            Ok(tenant) => tenant,
            Err(error) => {
                let what = error.message.trim_start_matches("tenant: ").to_owned();
                return Ok(Err(vec![Wrong::new("tenant", what)]));
            }
        };
        let there = self.accounts.number(tenant.tenant.id, number.trim());
        let mut wrong = Vec::new();
        let mut flag = |field, text: Option<&str>| {
            flag(field, text.unwrap_or_default()).unwrap_or_else(|one| {
                wrong.push(one);
                None
            })
        };
        let enabled = flag("enabled", enabled).unwrap_or_else(|| there.is_none_or(|there| there.enabled));
        let do_not_disturb = flag("do_not_disturb", do_not_disturb);
        let seconds = seconds_in(seconds.unwrap_or_default()).unwrap_or_else(|one| {
            wrong.push(one);
            None
        });
        let was = there.map(|there| there.extension.as_ref());
        let forwards = Forwards {
            was: was.map(|was| was.forwarding.clone()).unwrap_or_default(),
            numbers: [always, busy, no_answer, offline],
            seconds,
            do_not_disturb,
        };
        let name = name.or(was.map(|was| was.name.as_str())).unwrap_or_default();
        let caller_id = caller_id.or(was.map(|was| was.caller_id.as_str())).unwrap_or_default();
        let id = there.map_or(pbx_core::directory::ExtensionId(self.next), |there| there.extension.id);
        let draft = match Draft::new(id, tenant, [number, name, caller_id], enabled, forwards, self.settings) {
            Ok(draft) => draft,
            Err(mut others) => {
                others.iter_mut().for_each(rename);
                wrong.append(&mut others);
                return Ok(Err(wrong));
            }
        };
        if let Some(before) = self.seen.insert((tenant.tenant.id, draft.number.clone()), row) {
            wrong.push(Wrong::new("number", format!("{} is in row {before} already", draft.number)));
        }
        if there.is_some() && !self.update {
            wrong.push(Wrong::new(
                "number",
                format!("{} is there already; an import with update changes it", draft.number),
            ));
        }
        if !password.is_empty()
            && let Err(one) = draft.check_password(password)
        {
            wrong.push(Wrong { field: "password", ..one });
        }
        if !wrong.is_empty() {
            return Ok(Err(wrong));
        }
        self.take(draft, there, password)?;
        Ok(Ok(()))
    }

    fn take(&mut self, draft: Draft<'_>, there: Option<&Account>, password: &str) -> Result<(), OpError> {
        let secrets = self.operations.secrets();
        let account = match there {
            Some(old) if password.is_empty() => {
                let account = draft.account_over(old, secrets, self.now)?;
                if (Account { updated_at: old.updated_at, ..account.clone() }) == *old {
                    self.answer.unchanged += 1;
                    return Ok(());
                }
                account
            }
            Some(old) => draft.account(password, secrets, old.created_at, self.now)?,
            None if password.is_empty() => {
                let password = draft.generate_password(secrets)?;
                self.answer.passwords.push(NewPassword {
                    extension_number: draft.number.clone(),
                    tenant: draft.tenant.tenant.name.clone(),
                    extension_password: password.clone(),
                });
                draft.account(&password, secrets, self.now, self.now)?
            }
            None => draft.account(password, secrets, self.now, self.now)?,
        };
        if there.is_some() {
            self.answer.updated += 1;
        } else {
            self.answer.added += 1;
            self.next = self.next.saturating_add(1);
        }
        self.extensions.push(account);
        Ok(())
    }
}

/// A fault under the list's own name of the field.
fn rename(wrong: &mut Wrong) {
    wrong.field = match wrong.field {
        "extension_number" => "number",
        "display_name" => "name",
        other => other,
    };
}

/// Nothing: as it is, or as it is in a new one.
fn flag(field: &'static str, text: &str) -> Result<Option<bool>, Wrong> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "true" | "yes" | "1" => Ok(Some(true)),
        "false" | "no" | "0" => Ok(Some(false)),
        _ => Err(Wrong::new(field, format!("{:.20} is neither true nor false", text.escape_debug().to_string()))),
    }
}

/// As [`flag`].
fn seconds_in(text: &str) -> Result<Option<u64>, Wrong> {
    let text = text.trim();
    let range = Forwarding::SECONDS;
    let wrong = |_| {
        let what = format!(
            "{:.20} is no whole number: write {} to {} seconds",
            text.escape_debug().to_string(),
            range.start(),
            range.end()
        );
        Wrong::new(forwarding::SECONDS, what)
    };
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
}
