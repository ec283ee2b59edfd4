//! How the mail server is reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NotifyAnswer;
use crate::{
    notify::{MailConfig, Security, Target},
    ops::{Context, OpError, Operations},
    store::StoredTarget,
};

/// Where the password lies.
pub(super) const PLACE: &str = "notify/mail/password";
/// Bytes that a password may have.
const LONGEST: usize = 256;

/// What to change about mail; what is not named stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetMail {
    /// The server's name or address.
    pub host: Option<String>,
    /// Its port; by custom of the security when nobody says.
    pub port: Option<u16>,
    /// tls, starttls or none.
    pub security: Option<Security>,
    /// Who signs in; an empty text: nobody.
    pub user: Option<String>,
    /// The password. It is never shown again.
    pub password: Option<String>,
    /// From whom.
    pub from: Option<String>,
    /// To whom.
    pub to: Option<Vec<String>>,
    /// Only say what would change.
    pub dry_run: bool,
}

impl fmt::Debug for SetMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetMail(host {:?}, port {:?}, dry_run {})", self.host, self.port, self.dry_run)
    }
}

impl Operations {
    /// Says how mail is sent. It is off until a test has arrived.
    pub async fn set_mail(&self, context: &Context, request: SetMail) -> Result<NotifyAnswer, OpError> {
        context.may_change()?;
        let (operations, context) = (self.clone(), context.clone());
        self.to_the_end(async move {
            let _changing = operations.inner.changing.lock().await;
            let old = operations.stored_target(Target::Mail).await?;
            let before = old.as_ref().map(config).transpose()?;
            let (dry_run, password) = (request.dry_run, request.password.clone());
            let new = merged(before.clone(), request)?;
            new.check().map_err(OpError::usage)?;
            let kept = old.as_ref().and_then(|old| old.sealed_secret.clone());
            let sealed = match (&new.user, password) {
                (None, None) => None,
                (None, Some(_)) => return Err(OpError::usage("user: a password needs somebody who signs in with it")),
                (Some(_), Some(password)) => Some(operations.sealed(PLACE, kept, &password, LONGEST)?),
                (Some(_), None) => {
                    let moved = before.as_ref().is_some_and(|before| before.host != new.host);
                    if kept.is_none() || moved {
                        let why = if moved { "the stored one is for another server" } else { "there is none yet" };
                        return Err(OpError::usage(format!(
                            "password: {why}: give it with --password-stdin or --ask-password"
                        )));
                    }
                    kept
                }
            };
            let text = serde_json::to_string(&new).map_err(|error| OpError::internal(error.to_string()))?;
            operations.keep_config(&context, Target::Mail, old, (text, sealed), dry_run).await
        })
        .await
    }

    /// A secret as it is stored; the stored one, when it is the same.
    pub(super) fn sealed(
        &self,
        place: &str,
        kept: Option<Vec<u8>>,
        secret: &str,
        longest: usize,
    ) -> Result<Vec<u8>, OpError> {
        if secret.is_empty() || secret.len() > longest || secret.chars().any(char::is_control) {
            return Err(OpError::usage(format!("password: it is one line of 1 to {longest} bytes")));
        }
        let same = kept.filter(|kept| self.secrets().unseal(place, kept).is_ok_and(|old| old == secret));
        Ok(match same {
            Some(same) => same,
            None => self.secrets().seal(place, secret)?,
        })
    }
}

/// The stored configuration.
pub(super) fn config(stored: &StoredTarget) -> Result<MailConfig, OpError> {
    serde_json::from_str(&stored.config)
        .map_err(|error| OpError::internal(format!("how mail is sent cannot be read: {error}; set it anew")))
}

fn merged(before: Option<MailConfig>, request: SetMail) -> Result<MailConfig, OpError> {
    let SetMail { host, port, security, user, password: _, from, to, dry_run: _ } = request;
    let missing = |field: &str| OpError::usage(format!("{field}: mail cannot be sent without it"));
    let trimmed = |text: String| text.trim().to_owned();
    let old = before.as_ref();
    let new_security = security.or(old.map(|old| old.security)).unwrap_or_default();
    // A port that goes with the security by custom follows it.
    let custom = old.is_none_or(|old| old.port == old.security.port());
    let port = port.or(if custom { Some(new_security.port()) } else { old.map(|old| old.port) });
    Ok(MailConfig {
        host: host.map(trimmed).or(old.map(|old| old.host.clone())).ok_or_else(|| missing("host"))?,
        port: port.unwrap_or_else(|| new_security.port()),
        security: new_security,
        user: match user {
            Some(user) => Some(trimmed(user)).filter(|user| !user.is_empty()),
            None => old.and_then(|old| old.user.clone()),
        },
        from: from.map(trimmed).or(old.map(|old| old.from.clone())).ok_or_else(|| missing("from"))?,
        to: to
            .map(|to| to.into_iter().map(trimmed).collect())
            .or(old.map(|old| old.to.clone()))
            .ok_or_else(|| missing("to"))?,
    })
}
