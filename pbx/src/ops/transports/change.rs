//! The one way in which transports change: store, then the open socket, then the filter's protected ports, then memory.
//! Whatever does not take it, all are put back.

use std::sync::Arc;

use crate::{
    ops::{
        Context, OpError, Operations,
        accounts::{Wording, key_place},
    },
    signalling::{CertificatePair, Signalling, Transport},
    store::{AccountChange, Event, EventKind, StoredTransport},
};

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
    /// Carries a plan out. The caller holds the lock on changes.
    pub(super) async fn change_transport(
        &self,
        context: &Context,
        plan: TransportPlan,
        wording: &Wording,
    ) -> Result<(), OpError> {
        let before = self.accounts().ports();
        let after = {
            let mut accounts = self.accounts().clone();
            plan.take_over(&mut accounts);
            accounts.ports()
        };
        let moves = before != after;
        if moves {
            self.under_control()?;
        }
        let events = self.store_transport(context, &plan, wording).await?;
        let told = match self.tell_transport(&plan).await {
            Ok(()) if moves => self.protect(after).await.map_err(|error| (error, true)),
            Ok(()) => Ok(()),
            Err(error) => Err((error, false)),
        };
        if let Err((error, open)) = told {
            let mut rest = Vec::new();
            if open {
                // The filter may hold a part of the new ports.
                rest.extend(self.tell_transport(&plan.back()).await.err());
                rest.extend(self.protect(before).await.err());
            }
            let undo = Wording {
                verb: "transport.undo",
                before: wording.after.clone(),
                after: wording.before.clone(),
                sentence: format!("taken back, because {}: {}", error.message, wording.sentence),
                ..wording.clone()
            };
            match self.store_transport(context, &plan.back(), &undo).await {
                Ok(events) => self.publish(events),
                Err(second) => rest.push(second),
            }
            let rest: String = rest.iter().map(|error| format!("; and it was not put back whole: {error}")).collect();
            let message = if rest.is_empty() { "; nothing changed".to_owned() } else { rest };
            let message = format!("{}{message}", error.message);
            return Err(error.with_message(message));
        }
        plan.take_over(&mut self.accounts_mut());
        self.publish(events);
        Ok(())
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
