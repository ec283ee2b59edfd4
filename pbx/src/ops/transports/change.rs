//! The one way in which transports change: the filter protects the new port beside the old one, then store, open
//! socket and memory, then the filter lets the old port go. So no transport is ever open without protection, and
//! nothing that can fail comes after a port has been left, with the connections of its phones.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    ops::{
        Context, OpError, Operations,
        accounts::{Wording, key_place},
    },
    signalling::{CertificatePair, Signalling, Transport},
    store::{AccountChange, Event, EventKind, StoredTransport},
};

/// What an error adds when everything is as it was.
const UNCHANGED: &str = "nothing changed";

/// A transport before and after.
#[derive(Clone, Debug)]
pub(super) struct TransportPlan {
    pub old: Option<StoredTransport>,
    pub new: Option<StoredTransport>,
}

impl TransportPlan {
    fn back(&self) -> Self {
        Self { old: self.new.clone(), new: self.old.clone() }
    }
}

impl Operations {
    /// Carries a plan out, and says what is worth knowing about how it went. The caller holds the lock on changes.
    pub(super) async fn change_transport(
        &self,
        context: &Context,
        plan: TransportPlan,
        wording: &Wording,
    ) -> Result<Option<String>, OpError> {
        let before = self.accounts().ports();
        let after = {
            let mut accounts = self.accounts().clone();
            plan.take_over(&mut accounts);
            accounts.ports()
        };
        let both: Vec<u16> = before.iter().chain(&after).copied().collect::<BTreeSet<_>>().into_iter().collect();
        if before != after {
            self.under_control()?;
        }
        if both != before
            && let Err(error) = self.protect(both.clone()).await
        {
            // It may hold them nevertheless.
            let rest = self.unprotect(&both, before).await;
            return Err(and(error, rest.as_deref().unwrap_or(UNCHANGED)));
        }
        let events = match self.store_transport(context, &plan, wording).await {
            Ok(events) => events,
            // It says itself that nothing changed.
            Err(error) => {
                return Err(match self.unprotect(&both, before).await {
                    Some(rest) => and(error, &rest),
                    None => error,
                });
            }
        };
        if let Err(error) = self.tell_transport(&plan).await {
            let undo = Wording {
                verb: "transport.undo",
                before: wording.after.clone(),
                after: wording.before.clone(),
                sentence: format!("taken back, because {}: {}", error.message, wording.sentence),
                ..wording.clone()
            };
            return Err(match self.store_transport(context, &plan.back(), &undo).await {
                Ok(events) => {
                    self.publish(events);
                    let rest = self.unprotect(&both, before).await;
                    and(error, rest.as_deref().unwrap_or(UNCHANGED))
                }
                // The filter goes on protecting both: the store has the one, and the other is open.
                Err(second) => and(
                    error,
                    &format!(
                        "no transport changed, but the store was not put back, so that the next start of the daemon \
                         tries it again ({})",
                        second.message
                    ),
                ),
            });
        }
        plan.take_over(&mut self.accounts_mut());
        self.publish(events);
        if both == after {
            return Ok(None);
        }
        Ok(self.protect(after).await.err().map(|error| {
            tracing::warn!(%error, "the filter goes on protecting a port that no transport has any more");
            let left = plan.old.map(|old| old.port).unwrap_or_default();
            format!(
                "the filter goes on protecting port {left} until settings change or the daemon starts again: {error}"
            )
        }))
    }

    /// Puts the filter back to the ports from before a change that failed with every transport as it was; what to add
    /// to the error when that fails as well.
    async fn unprotect(&self, both: &[u16], before: Vec<u16>) -> Option<String> {
        if both == before {
            return None;
        }
        let error = self.protect(before).await.err()?;
        Some(format!("no transport changed, but the filter may protect a port too many ({})", error.message))
    }

    async fn store_transport(
        &self,
        context: &Context,
        plan: &TransportPlan,
        wording: &Wording,
    ) -> Result<Vec<Event>, OpError> {
        let (audit, told) = wording.rows(context, self.now(), EventKind::Transports);
        let gone = plan.old.as_ref().filter(|_| plan.new.is_none()).map(|old| old.id);
        let events = self
            .store()
            .change_accounts(AccountChange {
                transports_gone: gone.as_slice(),
                transports: plan.new.as_slice(),
                audit: &[audit],
                events: &[told],
                ..AccountChange::default()
            })
            .await?;
        Ok(events)
    }

    /// Makes what is open equal the plan's end.
    async fn tell_transport(&self, plan: &TransportPlan) -> Result<(), OpError> {
        match (&plan.old, &plan.new) {
            (_, Some(new)) => self.open_transport(new).await,
            (Some(old), None) => {
                let id = old.id;
                self.with_signalling(move |signalling| signalling.close(id)).await?.map_err(|error| {
                    OpError::signalling(format!("{} {} does not close: {error:#}", old.protocol, old.port))
                })
            }
            (None, None) => Ok(()),
        }
    }

    /// Opens a transport as it is stored, or changes the open one.
    pub(super) async fn open_transport(&self, stored: &StoredTransport) -> Result<(), OpError> {
        let transport = self.live(stored)?;
        self.with_signalling(move |signalling: &dyn Signalling| signalling.open(&transport)).await?.map_err(|error| {
            OpError::signalling(format!("{} {} does not open: {error:#}", stored.protocol, stored.port))
        })
    }

    /// A transport with its secrets opened.
    fn live(&self, stored: &StoredTransport) -> Result<Transport, OpError> {
        let StoredTransport { id, protocol, port, external_port, algorithms, chain, sealed_key, .. } = stored;
        let certificate = match (chain, sealed_key) {
            (Some(chain), Some(sealed)) => {
                let key = self.secrets().unseal(&key_place(*id), sealed)?;
                Some(Arc::new(CertificatePair { chain: chain.clone(), key }))
            }
            _ => None,
        };
        Ok(Transport {
            id: *id,
            protocol: *protocol,
            port: *port,
            external_port: *external_port,
            algorithms: algorithms.clone(),
            certificate,
        })
    }

    /// Makes the filter protect these ports beside those of its setting.
    async fn protect(&self, ports: Vec<u16>) -> Result<(), OpError> {
        let (settings, revision) = self.current_settings();
        self.with_filter(move |filter| filter.settings(&settings, &ports, revision))
            .await?
            .map_err(|error| OpError::filter(format!("the filter did not take the ports: {error:#}")))
    }
}

impl TransportPlan {
    fn take_over(&self, accounts: &mut crate::ops::Accounts) {
        if let Some(id) = self.new.as_ref().or(self.old.as_ref()).map(|transport| transport.id) {
            accounts.replace_transport(id, self.new.clone());
        }
    }
}

fn and(error: OpError, rest: &str) -> OpError {
    let message = format!("{}; {rest}", error.message);
    error.with_message(message)
}
