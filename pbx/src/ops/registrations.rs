//! Registrations: who can be reached now, and the end of one.

use std::net::{IpAddr, SocketAddr};

use pbx_core::{address::Prefix, lockout::Peer, pbx::Pinged, time::Timestamp, transport::Protocol};
use serde::{Deserialize, Serialize};

use super::{
    Context, How, ListOptions, OpError, Operations, Page,
    accounts::{Accounts, Wording, shown},
    query::{Kind, Query, Row, Value},
};
use crate::{signalling::Registration, store::EventKind};

/// A registration as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationView {
    /// Opaque.
    pub id: String,
    /// Whose it is.
    pub extension_number: String,
    /// Whom that belongs to.
    pub display_name: Option<String>,
    /// The name of its tenant.
    pub tenant: String,
    /// The Contact URI as the phone wrote it.
    pub contact: String,
    /// What the phone calls itself.
    pub user_agent: Option<String>,
    /// `+sip.instance`, of a phone that has one.
    pub instance: Option<String>,
    /// How it registered.
    pub protocol: Protocol,
    /// Where it registered from.
    pub remote: SocketAddr,
    /// Where it registered to.
    pub local: SocketAddr,
    /// It can be reached now.
    pub reachable: bool,
    /// It is behind a router that translates addresses.
    pub behind_nat: bool,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it is refreshed.
    pub expires_at: Timestamp,
}

/// What has registered for one extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// The extension's id.
    pub id: String,
    /// What is dialled.
    pub extension_number: String,
    /// At least one phone can be reached.
    pub online: bool,
    /// Phone by phone.
    pub items: Vec<RegistrationView>,
}

/// How a phone took it that somebody asked whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingView {
    /// Its registration.
    pub registration: RegistrationView,
    /// Whether it answered, which proves that it is there, whatever it says.
    pub answered: bool,
    /// The status that it answered with.
    pub status: Option<u16>,
    /// After how long (milliseconds).
    pub milliseconds: Option<u64>,
    /// Why there is no answer.
    pub problem: Option<String>,
}

impl Operations {
    /// Asks a phone whether it is there, by an OPTIONS over the flow of its registration. Takes up to 32 s.
    pub async fn ping_registration(&self, context: &Context, id: &str) -> Result<PingView, OpError> {
        context.may_change()?;
        let found = self.all_registrations().await?.into_iter().find(|one| one.id == id);
        let found = found.ok_or_else(|| {
            OpError::not_found(format!("there is no registration {}; `pbx reg list` shows all", shown(id)))
        })?;
        let asked = found.id.clone();
        let outcome = self.with_signalling(move |signalling| signalling.ping(&asked)).await?;
        let registration = RegistrationView::of(found, &self.accounts());
        let silent = |problem: String| PingView {
            registration: registration.clone(),
            answered: false,
            status: None,
            milliseconds: None,
            problem: Some(problem),
        };
        Ok(match outcome {
            Ok(Pinged::Answered { code, after }) => PingView {
                answered: true,
                status: Some(code),
                milliseconds: Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                problem: None,
                ..silent(String::new())
            },
            Ok(Pinged::Silent) => silent("no answer in 32 s".to_owned()),
            Ok(Pinged::NotSent) => silent("the request could not be sent".to_owned()),
            Err(error) => silent(format!("{error:#}")),
        })
    }

    /// A page of everything that is registered, by default in the order of numbers.
    pub async fn registrations(&self, options: &ListOptions) -> Result<Page<RegistrationView>, OpError> {
        let query = Query::parse::<RegistrationView>(options).map_err(OpError::usage)?;
        Ok(query.page(self.registered_now().await?.into_iter()))
    }

    /// What has registered for an extension.
    pub async fn user_status(&self, id: &str) -> Result<UserStatus, OpError> {
        let extension = self.account(id)?.extension;
        let wanted = extension.id;
        let registrations = self
            .with_signalling(move |signalling| signalling.registrations_of(wanted))
            .await?
            .map_err(|error| OpError::internal(format!("cannot read the registrations: {error:#}")))?;
        let accounts = self.accounts();
        let items: Vec<RegistrationView> =
            registrations.into_iter().map(|one| RegistrationView::of(one, &accounts)).collect();
        let online = items.iter().any(|one| one.reachable);
        Ok(UserStatus { id: wanted.0.to_string(), extension_number: extension.number.clone(), online, items })
    }

    /// Ends a registration. The phone may register again; who must not is disabled or gets another password.
    pub async fn drop_registration(&self, context: &Context, id: &str, how: How) -> Result<RegistrationView, OpError> {
        self.drop_registration_of(context, None, id, how).await
    }

    /// Ends a registration of this extension, by its id or the phone's instance.
    pub async fn drop_registration_of(
        &self,
        context: &Context,
        user: Option<&str>,
        id: &str,
        how: How,
    ) -> Result<RegistrationView, OpError> {
        context.may_change()?;
        let only = user.map(|user| self.account(user)).transpose()?.map(|account| account.extension.id);
        let (operations, context, id) = (self.clone(), context.clone(), id.to_owned());
        self.to_the_end(async move {
            let gone =
                || OpError::not_found(format!("there is no registration {}; `pbx reg list` shows all", shown(&id)));
            let found = operations.all_registrations().await?.into_iter().find(|one| {
                let named = one.id == id || (only.is_some() && one.instance.as_deref() == Some(id.as_str()));
                named && only.is_none_or(|only| one.extension == only)
            });
            let found = found.ok_or_else(gone)?;
            let own = found.id.clone();
            let view = RegistrationView::of(found, &operations.accounts());
            if how.dry_run {
                return Ok(view);
            }
            let ended = operations.with_signalling(move |signalling| signalling.drop_registration(&own)).await?;
            if !ended.map_err(|error| OpError::internal(format!("the registration does not end: {error:#}")))? {
                return Err(gone());
            }
            let RegistrationView { extension_number, tenant, remote, .. } = &view;
            let wording = Wording {
                verb: "registration.drop",
                object: format!("{extension_number} of {tenant} at {remote}"),
                before: serde_json::to_string(&view).ok(),
                after: None,
                sentence: format!(
                    "{} ended the registration of {extension_number} of {tenant} at {remote}",
                    context.actor
                ),
            };
            let (audit, told) = wording.rows(&context, operations.now(), EventKind::Registrations);
            operations.store().audit(&audit).await?;
            operations.record(vec![told]).await;
            Ok(view)
        })
        .await
    }

    /// Everything that is registered, in the order of numbers.
    pub(super) async fn registered_now(&self) -> Result<Vec<RegistrationView>, OpError> {
        let registrations = self.all_registrations().await?;
        let accounts = self.accounts();
        let mut views: Vec<RegistrationView> =
            registrations.into_iter().map(|one| RegistrationView::of(one, &accounts)).collect();
        views.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(views)
    }

    /// The phones that can be reached now, as peers that a block would cut off.
    pub(super) async fn registered_peers(&self) -> Vec<Peer> {
        let Ok(views) = self.registered_now().await else { return Vec::new() };
        let peer = |view: RegistrationView| Peer {
            addr: view.remote.ip().to_canonical(),
            service: format!("phone {}", view.extension_number),
            port: view.local.port(),
        };
        views.into_iter().filter(|view| view.reachable).map(peer).collect()
    }

    async fn all_registrations(&self) -> Result<Vec<Registration>, OpError> {
        self.with_signalling(|signalling| signalling.registrations())
            .await?
            .map_err(|error| OpError::internal(format!("cannot read the registrations: {error:#}")))
    }
}

fn order(view: &RegistrationView) -> (&str, usize, &str, Timestamp) {
    (&view.tenant, view.extension_number.len(), &view.extension_number, view.since)
}

impl RegistrationView {
    fn of(registration: Registration, accounts: &Accounts) -> Self {
        let Registration { extension, .. } = registration;
        // One that is gone meanwhile has no name any more.
        let account = accounts.extension(extension).map(|account| account.extension.as_ref());
        Self {
            id: registration.id,
            extension_number: account.map(|one| one.number.clone()).unwrap_or_default(),
            display_name: account.map(|one| one.name.clone()).filter(|name| !name.is_empty()),
            tenant: account.map(|one| accounts.tenant_name(one)).unwrap_or_default(),
            contact: registration.contact,
            user_agent: Some(registration.user_agent).filter(|name| !name.is_empty()),
            instance: registration.instance,
            protocol: registration.protocol,
            remote: registration.remote,
            local: registration.local,
            reachable: registration.reachable,
            behind_nat: registration.behind_nat,
            since: registration.since,
            expires_at: registration.expires_at,
        }
    }

    /// Whether it came from this address, however that is written.
    pub(super) fn is_from(&self, address: IpAddr) -> bool {
        self.remote.ip().to_canonical() == address.to_canonical()
    }
}

impl Row for RegistrationView {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Text),
        ("extension_number", Kind::Text),
        ("display_name", Kind::Text),
        ("tenant", Kind::Text),
        ("contact", Kind::Text),
        ("user_agent", Kind::Text),
        ("instance", Kind::Text),
        ("protocol", Kind::Text),
        ("remote", Kind::Address),
        ("reachable", Kind::Bool),
        ("behind_nat", Kind::Bool),
        ("since", Kind::Time),
        ("expires_at", Kind::Time),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        let text = |text: &'_ Option<String>| text.clone().map_or(Value::Null, |text| Value::Text(text.into()));
        match index {
            0 => Value::Text(self.id.as_str().into()),
            1 => Value::Text(self.extension_number.as_str().into()),
            2 => text(&self.display_name),
            3 => Value::Text(self.tenant.as_str().into()),
            4 => Value::Text(self.contact.as_str().into()),
            5 => text(&self.user_agent),
            6 => text(&self.instance),
            7 => Value::Text(self.protocol.token().into()),
            8 => Value::Address(Prefix::host(self.remote.ip().to_canonical())),
            9 => Value::Bool(self.reachable),
            10 => Value::Bool(self.behind_nat),
            11 => Value::Time(self.since),
            _ => Value::Time(self.expires_at),
        }
    }
}
