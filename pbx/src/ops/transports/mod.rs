//! Transports: where phones reach the appliance. Made, moved and removed while the daemon runs; at least one remains,
//! and the filter protects their ports in the same step.

mod change;
mod check;
mod view;

use pbx_core::transport::Protocol;

use self::change::TransportPlan;
pub(super) use self::check::leaves_ports;
pub use self::view::{
    AddTransport, CertificateView, SetCertificate, TransportAnswer, TransportState, TransportStatusView, TransportView,
    UpdateTransport,
};
use super::{
    Context, Did, How, ListOptions, OpError, Operations, Page,
    accounts::{NO_VERIFICATION, Wording, default_algorithms, key_place, shown},
    query::Query,
};
use crate::{
    signalling::CertificatePair,
    store::{AccountChange, EventKind, StoredTransport},
};

/// Bytes of certificates or of a key.
const LONGEST_PEM: usize = 48 * 1024;

impl Operations {
    /// A page of transports, by default in the order in which they were made.
    pub fn transports(&self, options: &ListOptions) -> Result<Page<TransportView>, OpError> {
        let query = Query::parse::<TransportView>(options).map_err(OpError::usage)?;
        let views: Vec<TransportView> = self.accounts().transports().map(TransportView::of).collect();
        Ok(query.page(views.into_iter()))
    }

    /// One transport.
    pub fn transport(&self, id: &str) -> Result<TransportView, OpError> {
        Ok(TransportView::of(&self.stored_transport(id)?))
    }

    /// How a transport is now.
    pub async fn transport_status(&self, id: &str) -> Result<TransportStatusView, OpError> {
        let stored = self.stored_transport(id)?;
        self.status_of(&stored).await
    }

    /// How all transports are now.
    pub async fn transport_states(&self) -> Result<Vec<TransportStatusView>, OpError> {
        let all: Vec<StoredTransport> = self.accounts().transports().cloned().collect();
        let mut states = Vec::new();
        for stored in &all {
            states.push(self.status_of(stored).await?);
        }
        Ok(states)
    }

    async fn status_of(&self, stored: &StoredTransport) -> Result<TransportStatusView, OpError> {
        let id = stored.id;
        let status = self.with_signalling(move |signalling| signalling.transport(id)).await?;
        Ok(TransportStatusView::of(stored, status))
    }

    /// The certificates of a transport; its key is never shown.
    pub fn certificate(&self, id: &str) -> Result<CertificateView, OpError> {
        let stored = self.stored_transport(id)?;
        only_tls(&stored)?;
        Ok(CertificateView::of(stored.id.0.to_string(), stored.chain))
    }

    /// Makes a transport and opens it.
    pub async fn add_transport(&self, context: &Context, request: AddTransport) -> Result<TransportAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let AddTransport {
                protocol,
                port,
                external_port,
                algorithms,
                verification,
                certificate,
                private_key,
                dry_run,
            } = request;
            let protocol = check::protocol(&protocol)?;
            let mut new = StoredTransport {
                id: operations.accounts().next_transport(),
                protocol,
                port: check::port("port", port)?,
                external_port: external_port.map(|port| check::port("external_port", port)).transpose()?,
                algorithms: match algorithms {
                    Some(texts) => check::algorithms(&texts)?,
                    None => default_algorithms(protocol),
                },
                verification: check::verification(verification.as_deref().unwrap_or(NO_VERIFICATION))?,
                chain: None,
                sealed_key: None,
                created_at: operations.now(),
            };
            operations.transport_fits(None, &new).await?;
            let mut notes = Vec::new();
            if protocol == Protocol::Tls {
                let (pair, warnings) = operations.certificate_pair(certificate, private_key).await?;
                operations.with_certificate(&mut new, pair)?;
                notes = warnings;
            } else if certificate.is_some() || private_key.is_some() {
                return Err(OpError::usage(format!("certificate: {protocol} has none, only TLS")));
            }
            let plan = TransportPlan { old: None, new: Some(new) };
            operations.answered(&context, Did::Added, plan, notes, dry_run).await
        })
        .await
    }

    /// Changes what is named. Who is connected stays connected unless the port changes.
    pub async fn update_transport(
        &self,
        context: &Context,
        id: &str,
        update: UpdateTransport,
    ) -> Result<TransportAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let UpdateTransport { port, external_port, algorithms, verification, dry_run } = update;
            let old = operations.stored_transport(&id)?;
            let mut new = old.clone();
            if let Some(port) = port {
                new.port = check::port("port", port)?;
            }
            match external_port {
                None => {}
                Some(0) => new.external_port = None,
                Some(port) => new.external_port = Some(check::port("external_port", port)?),
            }
            if let Some(texts) = algorithms {
                new.algorithms = check::algorithms(&texts)?;
            }
            if let Some(text) = verification {
                new.verification = check::verification(&text)?;
            }
            if new == old {
                let item = TransportView::of(&old);
                return Ok(TransportAnswer { did: Did::Unchanged, dry_run, notes: Vec::new(), item });
            }
            operations.transport_fits(Some(&old), &new).await?;
            let plan = TransportPlan { old: Some(old), new: Some(new) };
            operations.answered(&context, Did::Updated, plan, Vec::new(), dry_run).await
        })
        .await
    }

    /// Gives a TLS transport other certificates: those of the request, or self-signed ones.
    pub async fn set_certificate(
        &self,
        context: &Context,
        id: &str,
        request: SetCertificate,
    ) -> Result<TransportAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let SetCertificate { certificate, private_key, dry_run } = request;
            let old = operations.stored_transport(&id)?;
            only_tls(&old)?;
            let (pair, notes) = operations.certificate_pair(certificate, private_key).await?;
            let mut new = old.clone();
            operations.with_certificate(&mut new, pair)?;
            let replaced = format!("{} replaced the certificate of TLS {}", context.actor, old.port);
            let plan = TransportPlan { old: Some(old), new: Some(new) };
            let answer = operations.answered(&context, Did::Updated, plan, notes, dry_run).await?;
            if !dry_run {
                operations.tell(EventKind::Certificate, replaced).await;
            }
            Ok(answer)
        })
        .await
    }

    /// Closes a transport and its connections. The last one stays.
    pub async fn remove_transport(&self, context: &Context, id: &str, how: How) -> Result<TransportAnswer, OpError> {
        context.may_change()?;
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let old = operations.stored_transport(&id)?;
            if operations.accounts().transports().count() == 1 {
                return Err(OpError::refused(format!(
                    "{} {} is the last transport, and without one no phone reaches the appliance: add another one first",
                    old.protocol, old.port
                )));
            }
            let plan = TransportPlan { old: Some(old), new: None };
            operations.answered(&context, Did::Removed, plan, Vec::new(), how.dry_run).await
        })
        .await
    }

    /// Hands the directory and the settings to signalling and opens every transport. To be called once, when the
    /// filter protects their ports. One that does not open is told and left closed; the others are open.
    pub async fn start_signalling(&self) -> Result<(), OpError> {
        let _changing = self.inner.changing.lock().await;
        let (settings, _) = self.current_settings();
        let directory = self.accounts().directory();
        self.with_signalling(move |signalling| {
            signalling.settings(&settings);
            signalling.directory(directory);
        })
        .await?;
        let (problems, transports): (Vec<String>, Vec<StoredTransport>) = {
            let accounts = self.accounts();
            (accounts.problems().to_vec(), accounts.transports().cloned().collect())
        };
        for problem in problems {
            tracing::warn!("{problem}");
            self.tell(EventKind::Accounts, problem).await;
        }
        for transport in transports {
            let opened = match (transport.protocol, &transport.chain) {
                (Protocol::Tls, None) => self.open_first(transport).await,
                _ => self.open_transport(&transport).await,
            };
            if let Err(error) = opened {
                tracing::warn!("{error}");
                self.tell(EventKind::Transports, error.message).await;
            }
        }
        Ok(())
    }

    /// Opens the TLS transport of a new installation, which has no certificate yet.
    async fn open_first(&self, mut transport: StoredTransport) -> Result<(), OpError> {
        let (pair, _) = self.certificate_pair(None, None).await?;
        self.with_certificate(&mut transport, pair)?;
        // Nobody's change: phones that trusted it on first use keep it over restarts.
        let change = AccountChange { transports: std::slice::from_ref(&transport), ..AccountChange::default() };
        self.store().change_accounts(change).await?;
        self.accounts_mut().replace_transport(transport.id, Some(transport.clone()));
        self.open_transport(&transport).await
    }

    /// Whether a transport fits beside the others, media and sshd. One that stays where it is disturbs sshd no more.
    async fn transport_fits(&self, old: Option<&StoredTransport>, new: &StoredTransport) -> Result<(), OpError> {
        check::fits(new, &self.accounts(), &self.current_settings().0)?;
        if old.is_some_and(|old| old.port == new.port) {
            return Ok(());
        }
        let surroundings = self.look_around().await?;
        check::leaves_ssh(new.port, &self.accounts(), &surroundings)
    }

    async fn answered(
        &self,
        context: &Context,
        did: Did,
        plan: TransportPlan,
        mut notes: Vec<String>,
        dry_run: bool,
    ) -> Result<TransportAnswer, OpError> {
        let Some(named) = plan.new.as_ref().or(plan.old.as_ref()) else {
            return Err(OpError::internal("a change of no transport"));
        };
        let mut item = TransportView::of(named);
        notes.extend(self.only_sockets());
        if dry_run {
            if did == Did::Added {
                item.id = None;
            }
        } else {
            let wording = wording(context, did, &plan);
            notes.extend(self.change_transport(context, plan, &wording).await?);
        }
        Ok(TransportAnswer { did, dry_run, notes, item })
    }

    fn stored_transport(&self, text: &str) -> Result<StoredTransport, OpError> {
        let found = check::id(text).and_then(|id| self.accounts().transport(id).cloned());
        found.ok_or_else(|| {
            OpError::not_found(format!(
                "there is no transport with the id {}; `pbx transport list` shows all",
                shown(text)
            ))
        })
    }

    /// The certificates of a request, checked, with what should be known about them; or self-signed ones.
    async fn certificate_pair(
        &self,
        certificate: Option<String>,
        private_key: Option<String>,
    ) -> Result<(CertificatePair, Vec<String>), OpError> {
        let Some(pair) = given_pair(certificate, private_key)? else {
            let made = self.with_signalling(|signalling| signalling.self_signed()).await?;
            return made
                .map(|pair| (pair, Vec::new()))
                .map_err(|error| OpError::signalling(format!("no certificate could be made: {error:#}")));
        };
        self.with_signalling(move |signalling| {
            let warnings = signalling.check_certificate(&pair);
            Ok((pair, warnings.map_err(|error| OpError::usage(format!("certificate: {error:#}")))?))
        })
        .await?
    }

    fn with_certificate(&self, transport: &mut StoredTransport, pair: CertificatePair) -> Result<(), OpError> {
        transport.sealed_key = Some(self.secrets().seal(&key_place(transport.id), &pair.key)?);
        transport.chain = Some(pair.chain);
        Ok(())
    }
}

/// What a request brings: both texts, neither too long, or none.
pub(super) fn given_pair(
    certificate: Option<String>,
    private_key: Option<String>,
) -> Result<Option<CertificatePair>, OpError> {
    let (chain, key) = match (certificate, private_key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(OpError::usage("private_key: it is missing, and belongs to the certificate")),
        (None, Some(_)) => return Err(OpError::usage("certificate: it is missing, and belongs to the private_key")),
        (Some(chain), Some(key)) => (chain, key),
    };
    for (field, text) in [("certificate", &chain), ("private_key", &key)] {
        if text.len() > LONGEST_PEM {
            return Err(OpError::usage(format!("{field}: {} bytes are too many (at most {LONGEST_PEM})", text.len())));
        }
    }
    Ok(Some(CertificatePair { chain, key }))
}

fn only_tls(stored: &StoredTransport) -> Result<(), OpError> {
    if stored.protocol == Protocol::Tls {
        return Ok(());
    }
    Err(OpError::usage(format!("certificate: {} {} has none, only TLS transports have", stored.protocol, stored.port)))
}

fn wording(context: &Context, did: Did, plan: &TransportPlan) -> Wording {
    let name = |stored: &StoredTransport| format!("{} {}", stored.protocol, stored.port);
    let json = |stored: &Option<StoredTransport>| {
        stored.as_ref().and_then(|stored| serde_json::to_string(&TransportView::of(stored)).ok())
    };
    let (before, after) = (plan.old.as_ref().map(name), plan.new.as_ref().map(name));
    let certificate = match (&plan.old, &plan.new) {
        (Some(old), Some(new)) if old.chain != new.chain => "gave another certificate to",
        _ => "changed",
    };
    let (verb, what) = match (did, &before, &after) {
        (Did::Added, _, Some(after)) => ("transport.add", format!("opened the transport {after}")),
        (Did::Removed, Some(before), _) => ("transport.remove", format!("closed the transport {before}")),
        (_, Some(before), Some(after)) if before != after => {
            ("transport.set", format!("moved the transport {before} to {after}"))
        }
        (_, before, _) => {
            ("transport.set", format!("{certificate} the transport {}", before.as_deref().unwrap_or_default()))
        }
    };
    Wording {
        verb,
        object: after.or(before).unwrap_or_default(),
        before: json(&plan.old),
        after: json(&plan.new),
        sentence: format!("{} {what}", context.actor),
    }
}
