//! The one way in which tenants and extensions change: store, then memory, then signalling, which cannot refuse.

use pbx_core::directory::{ExtensionId, TenantId};

use super::{Account, TenantAccount};
use crate::{
    ops::{Context, OpError, Operations},
    store::{AccountChange, Audit, EventKind, NewEvent, StoredExtension, StoredTenant},
};

/// What is to change, thought through but not begun. Replaced are those whose ids are there.
#[derive(Clone, Debug, Default)]
pub(in crate::ops) struct AccountPlan {
    pub tenants_gone: Vec<TenantId>,
    /// New and changed ones, in the order in which they are stored.
    pub tenants: Vec<TenantAccount>,
    pub extensions_gone: Vec<ExtensionId>,
    /// New and changed ones.
    pub extensions: Vec<Account>,
}

/// How a change is called. Never with a secret in it.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Wording {
    /// For the audit: noun and verb.
    pub verb: &'static str,
    /// For the audit: to what.
    pub object: String,
    /// How it was, as JSON.
    pub before: Option<String>,
    /// How it is, as JSON.
    pub after: Option<String>,
    /// For the events: one sentence.
    pub sentence: String,
}

impl Wording {
    /// The rows of audit and events for it.
    pub(in crate::ops) fn rows(
        &self,
        context: &Context,
        at: pbx_core::time::Timestamp,
        kind: EventKind,
    ) -> (Audit, NewEvent) {
        let audit = Audit {
            at,
            actor: context.actor.clone(),
            origin: context.origin.to_owned(),
            what: self.verb.to_owned(),
            object: self.object.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
        };
        (audit, NewEvent { at, kind, prefix: None, interface: None, message: self.sentence.clone() })
    }
}

impl Operations {
    /// Carries a plan out. The caller holds the lock on changes. Registrations of extensions that are gone, disabled
    /// or have another password end with it.
    pub(in crate::ops) async fn change_accounts(
        &self,
        context: &Context,
        plan: AccountPlan,
        wording: &Wording,
    ) -> Result<(), OpError> {
        let (audit, told) = wording.rows(context, self.now(), EventKind::Accounts);
        let tenants: Vec<StoredTenant> = plan.tenants.iter().map(TenantAccount::stored).collect();
        let extensions: Vec<StoredExtension> = plan.extensions.iter().map(Account::stored).collect();
        let events = self
            .store()
            .change_accounts(AccountChange {
                tenants_gone: &plan.tenants_gone,
                tenants: &tenants,
                extensions_gone: &plan.extensions_gone,
                extensions: &extensions,
                audit: &[audit],
                events: &[told],
                ..AccountChange::default()
            })
            .await?;
        let directory = self.accounts_mut().replace(plan);
        self.with_signalling(move |signalling| signalling.directory(directory)).await?;
        self.publish(events);
        Ok(())
    }
}
