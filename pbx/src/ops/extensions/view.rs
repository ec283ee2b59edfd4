//! Extensions as the API takes and shows them (`/users`). Blank fields are null; no answer but the one to the change
//! that made it has a password in it.

use pbx_core::{directory::Forwarding, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::ops::{
    Did,
    accounts::{Account, Accounts},
    query::{Kind, Row, Value},
};

/// An extension to make.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddExtension {
    /// What is dialled: 3 to 64 digits.
    pub extension_number: String,
    /// The SIP password; one is made when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_password: Option<String>,
    /// Whom it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What others see when it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// Name or id; the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A disabled one is answered as if it did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to change in an extension; what is not named stays, an empty text takes one away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateExtension {
    /// What is dialled; phones have to register anew with it.
    pub extension_number: Option<String>,
    /// Whom it belongs to.
    pub display_name: Option<String>,
    /// What others see when it calls.
    pub caller_id: Option<String>,
    /// A disabled one is answered as if it did not exist.
    pub enabled: Option<bool>,
    /// Every call goes to this number: 3 to 64 digits.
    pub forward_always: Option<String>,
    /// Where calls go when it is busy.
    pub forward_busy: Option<String>,
    /// Where calls go that nobody answers.
    pub forward_no_answer: Option<String>,
    /// Where calls go when no phone of it can be reached.
    pub forward_offline: Option<String>,
    /// How long it rings before nobody has answered: 5 to 300 s.
    pub no_answer_seconds: Option<u64>,
    /// Its phones do not ring.
    pub do_not_disturb: Option<bool>,
    /// Only say what would change.
    pub dry_run: bool,
}

/// Another SIP password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetPassword {
    /// The password; one is made when none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_password: Option<String>,
    /// Only say what would change.
    pub dry_run: bool,
}

impl std::fmt::Debug for AddExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddExtension").field("extension_number", &self.extension_number).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SetPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetPassword").finish_non_exhaustive()
    }
}

/// An extension as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Opaque; nothing while the extension is only thought of.
    pub id: Option<String>,
    /// What is dialled.
    pub extension_number: String,
    /// Whom it belongs to.
    pub display_name: Option<String>,
    /// What others see when it calls; nothing: number and name.
    pub caller_id: Option<String>,
    /// The name of its tenant.
    pub tenant: String,
    /// A disabled one is answered as if it did not exist.
    pub enabled: bool,
    /// Phones that are registered now; nothing when nobody knows.
    pub registered: Option<u64>,
    /// Where every call goes.
    pub forward_always: Option<String>,
    /// Where calls go when it is busy.
    pub forward_busy: Option<String>,
    /// Where calls go that nobody answers.
    pub forward_no_answer: Option<String>,
    /// Where calls go when no phone of it can be reached.
    pub forward_offline: Option<String>,
    /// How long it rings before nobody has answered.
    pub no_answer_seconds: u16,
    /// Its phones do not ring.
    pub do_not_disturb: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// The answer to a change of an extension.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionAnswer {
    /// What became of it, or under `dry_run` would.
    pub did: Did,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    /// The extension.
    pub item: User,
    /// The password that was made for it. It is told here and never again.
    pub generated_password: Option<String>,
}

impl std::fmt::Debug for ExtensionAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { did, dry_run, notes, item, generated_password: _ } = self;
        f.debug_struct("ExtensionAnswer")
            .field("did", did)
            .field("dry_run", dry_run)
            .field("notes", notes)
            .field("item", item)
            .finish_non_exhaustive()
    }
}

impl User {
    pub(in crate::ops) fn of(account: &Account, accounts: &Accounts, registered: Option<u64>) -> Self {
        let extension = account.extension.as_ref();
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let Forwarding { always, busy, no_answer, offline, no_answer_seconds, do_not_disturb } =
            extension.forwarding.clone();
        Self {
            id: Some(extension.id.0.to_string()),
            extension_number: extension.number.clone(),
            display_name: text(&extension.name),
            caller_id: text(&extension.caller_id),
            tenant: accounts.tenant_name(extension),
            enabled: account.enabled,
            registered,
            forward_always: always,
            forward_busy: busy,
            forward_no_answer: no_answer,
            forward_offline: offline,
            no_answer_seconds,
            do_not_disturb,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }

    /// What the audit keeps of it.
    pub(in crate::ops) fn audited(&self) -> Option<String> {
        let Self {
            id: _,
            extension_number,
            display_name,
            caller_id,
            tenant,
            enabled,
            registered: _,
            forward_always,
            forward_busy,
            forward_no_answer,
            forward_offline,
            no_answer_seconds,
            do_not_disturb,
            created_at: _,
            updated_at: _,
        } = self;
        let kept = serde_json::json!({
            "extension_number": extension_number,
            "display_name": display_name,
            "caller_id": caller_id,
            "tenant": tenant,
            "enabled": enabled,
            "forward_always": forward_always,
            "forward_busy": forward_busy,
            "forward_no_answer": forward_no_answer,
            "forward_offline": forward_offline,
            "no_answer_seconds": no_answer_seconds,
            "do_not_disturb": do_not_disturb,
        });
        Some(kept.to_string())
    }
}

impl Row for User {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("extension_number", Kind::Text),
        ("display_name", Kind::Text),
        ("caller_id", Kind::Text),
        ("tenant", Kind::Text),
        ("enabled", Kind::Bool),
        ("registered", Kind::Number),
        ("forward_always", Kind::Text),
        ("forward_busy", Kind::Text),
        ("forward_no_answer", Kind::Text),
        ("forward_offline", Kind::Text),
        ("no_answer_seconds", Kind::Number),
        ("do_not_disturb", Kind::Bool),
        ("created_at", Kind::Time),
        ("updated_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        let text = |text: &'_ Option<String>| text.clone().map_or(Value::Null, |text| Value::Text(text.into()));
        match index {
            0 => self.id.as_deref().and_then(|id| id.parse().ok()).map_or(Value::Null, Value::Number),
            1 => Value::Text(self.extension_number.as_str().into()),
            2 => text(&self.display_name),
            3 => text(&self.caller_id),
            4 => Value::Text(self.tenant.as_str().into()),
            5 => Value::Bool(self.enabled),
            6 => self.registered.and_then(|count| i64::try_from(count).ok()).map_or(Value::Null, Value::Number),
            7 => text(&self.forward_always),
            8 => text(&self.forward_busy),
            9 => text(&self.forward_no_answer),
            10 => text(&self.forward_offline),
            11 => Value::Number(self.no_answer_seconds.into()),
            12 => Value::Bool(self.do_not_disturb),
            13 => Value::Time(self.created_at),
            _ => Value::Time(self.updated_at),
        }
    }
}
