//! Mail by SMTP (RFC 5321), with TLS from the first byte, STARTTLS, or neither.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
        extension::ClientId,
    },
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{ATTEMPT, host_name, in_full};

/// Mailboxes that a message may go to.
const MOST_RECEIVERS: usize = 20;
/// How long the server may take for one command.
const COMMAND: Duration = Duration::from_secs(30);

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte (RFC 8314), port 465 by custom.
    Tls,
    /// TLS after a plain greeting (RFC 3207), never without; port 587 by custom.
    #[default]
    Starttls,
    /// Nothing: for a server on this machine.
    None,
}

impl Security {
    /// The port by custom.
    pub const fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::Starttls => 587,
            Self::None => 25,
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tls => "tls",
            Self::Starttls => "starttls",
            Self::None => "none",
        })
    }
}

impl FromStr for Security {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "tls" => Ok(Self::Tls),
            "starttls" => Ok(Self::Starttls),
            "none" => Ok(Self::None),
            _ => Err("security is tls, starttls or none"),
        }
    }
}

/// How mail is sent; the password is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// Who signs in; nobody where nothing is.
    pub user: Option<String>,
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// Says that no person wrote it, so that no automatic answer comes back (RFC 3834 §5).
#[derive(Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl MailConfig {
    /// Whether it makes sense; the error names the field.
    pub fn check(&self) -> Result<(), String> {
        let is_name = |char: char| char.is_ascii_alphanumeric() || "-.:_[]".contains(char);
        if self.host.is_empty() || self.host.len() > 253 || !self.host.chars().all(is_name) {
            return Err("host: it is the name or address of a mail server, such as smtp.example.com".to_owned());
        }
        if self.port == 0 {
            return Err("port: it is 1 to 65535".to_owned());
        }
        if self.user.is_some() && self.security == Security::None && !self.is_here() {
            return Err("security: without tls or starttls everybody on the way could read the password".to_owned());
        }
        mailbox("from", &self.from)?;
        if self.to.is_empty() || self.to.len() > MOST_RECEIVERS {
            return Err(format!("to: it takes 1 to {MOST_RECEIVERS} mailboxes"));
        }
        self.to.iter().try_for_each(|to| mailbox("to", to).map(|_| ()))
    }

    /// The server is this machine.
    fn is_here(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Sends a message, once. The error says what went wrong, without the password.
    pub async fn send(&self, password: Option<&str>, subject: &str, text: String) -> Result<(), String> {
        let message = self.message(subject, text)?;
        let transport = self.transport(password).await?;
        match timeout(ATTEMPT, transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{}:{}: {}", self.host, self.port, in_full(&error))),
            Err(_) => Err(format!("{}:{} did not take the mail within {} s", self.host, self.port, ATTEMPT.as_secs())),
        }
    }

    fn message(&self, subject: &str, text: String) -> Result<Message, String> {
        let mut builder = Message::builder().from(mailbox("from", &self.from)?).subject(subject).header(AutoSubmitted);
        for to in &self.to {
            builder = builder.to(mailbox("to", to)?);
        }
        builder.header(ContentType::TEXT_PLAIN).body(text).map_err(|error| in_full(&error))
    }

    async fn transport(&self, password: Option<&str>) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let name = host.clone();
        // Reads the certificates that the machine trusts: off the async threads.
        let parameters = || async {
            let made = tokio::task::spawn_blocking(move || TlsParameters::new(name)).await;
            made.map_err(|error| error.to_string())?.map_err(|error| in_full(&error))
        };
        let tls = match self.security {
            Security::Tls => Tls::Wrapper(parameters().await?),
            Security::Starttls => Tls::Required(parameters().await?),
            Security::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(self.port)
            .timeout(Some(COMMAND))
            .hello_name(ClientId::Domain(host_name()))
            .tls(tls);
        if let (Some(user), Some(password)) = (&self.user, password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.to_owned()));
        }
        Ok(builder.build())
    }
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, String> {
    let wrong = || {
        let given: String = text.chars().take(80).collect();
        format!("{field}: {given:?} is no mailbox, such as pbx@example.com")
    };
    if text.len() > 320 || text.chars().any(char::is_control) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MailConfig {
        MailConfig {
            host: "smtp.example.com".into(),
            port: 587,
            security: Security::Starttls,
            user: Some("pbx".into()),
            from: "PBX <pbx@example.com>".into(),
            to: vec!["admin@example.com".into()],
        }
    }

    #[test]
    fn a_password_is_not_sent_in_the_clear_but_to_this_machine() {
        assert_eq!(config().check(), Ok(()));
        let plain = MailConfig { security: Security::None, ..config() };
        assert!(plain.check().unwrap_err().starts_with("security: "));
        for here in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(MailConfig { host: here.into(), ..plain.clone() }.check(), Ok(()));
        }
        assert_eq!(MailConfig { user: None, ..plain }.check(), Ok(()));
    }

    #[test]
    fn what_is_no_server_or_mailbox_is_refused_by_its_field() {
        for (config, field) in [
            (MailConfig { host: "".into(), ..config() }, "host: "),
            (MailConfig { host: "a b".into(), ..config() }, "host: "),
            (MailConfig { port: 0, ..config() }, "port: "),
            (MailConfig { from: "nobody".into(), ..config() }, "from: "),
            (MailConfig { from: "a@example.com\r\nBcc: b@example.com".into(), ..config() }, "from: "),
            (MailConfig { to: Vec::new(), ..config() }, "to: "),
            (MailConfig { to: vec!["a@example.com".into(); 21], ..config() }, "to: "),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_message_says_that_no_person_wrote_it() {
        let message = config().message("pbx: 1 block", "é\n".into()).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(text.contains("Auto-Submitted: auto-generated\r\n"), "{text}");
        assert!(text.contains("From: PBX <pbx@example.com>\r\n") && text.contains("Date: "), "{text}");
    }
}
