//! What a REGISTER asks for, and why it is refused. Takes the wire's pieces apart no further than a binding needs.

use std::{sync::Arc, time::Duration};

use super::{BindingChange, uri::Uri};
use crate::{directory::ExtensionId, settings::SipSettings, transport::Flow};

/// Contacts that one request may have: more than any extension may.
pub const MOST_IN_REQUEST: usize = 100;
/// The longest Contact URI, in bytes; the ones with push tokens have some 500.
pub const LONGEST_URI: usize = 1024;
/// The longest Call-ID that is remembered, in bytes.
pub const LONGEST_CALL_ID: usize = 512;
/// The longest `+sip.instance`, in bytes; a `urn:uuid` has 47.
pub const LONGEST_INSTANCE: usize = 256;
/// The longest Path, in bytes, all values together.
pub const LONGEST_PATH: usize = 2048;
/// What is kept of a User-Agent, in bytes.
pub const LONGEST_USER_AGENT: usize = 128;

/// What the registrar allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The shortest binding.
    pub minimum: Duration,
    /// The longest; who asks for more gets this.
    pub maximum: Duration,
    /// What a phone that asks for no time gets.
    pub default: Duration,
    /// Contacts of one extension.
    pub contacts: usize,
}

impl From<&SipSettings> for Limits {
    fn from(settings: &SipSettings) -> Self {
        let expires = &settings.expires;
        Self {
            minimum: expires.minimum.get(),
            maximum: expires.maximum.get(),
            default: expires.default.get(),
            contacts: settings.contacts.get() as usize,
        }
    }
}

/// A REGISTER whose credentials were good, in the wire's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Register<'a> {
    /// Whose contacts; the credentials were its own.
    pub extension: ExtensionId,
    /// The Contact header fields.
    pub contacts: ContactSet<'a>,
    /// Call-ID.
    pub call_id: &'a [u8],
    /// The number in CSeq.
    pub cseq: u32,
    /// The Expires header, in seconds; what is malformed counts as 3600 (RFC 3261 §10.2.1.1).
    pub expires: Option<u32>,
    /// The Path header's values, topmost first (RFC 3327).
    pub path: &'a [&'a [u8]],
    /// User-Agent; empty if there is none.
    pub user_agent: &'a [u8],
    /// Where it came from.
    pub flow: Flow,
    /// A router translates the phone's addresses; see [`nat`](crate::transport::nat).
    pub behind_nat: bool,
    /// Supported has `outbound` (RFC 5626 §6).
    pub supports_outbound: bool,
}

/// The contacts of a request.
#[derive(Clone, Copy, Debug)]
pub enum ContactSet<'a> {
    /// None: it asks which there are.
    Query,
    /// `*`, alone: all of them, and only to end them.
    Star,
    /// These.
    List(&'a [Contact<'a>]),
}

/// One Contact value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contact<'a> {
    /// The URI, without brackets and header parameters.
    pub uri: &'a [u8],
    /// Its `expires` parameter, in seconds; what is malformed counts as 3600.
    pub expires: Option<u32>,
    /// Its `q`, in thousandths.
    pub q: Option<u16>,
    /// Its `+sip.instance`, without quotes.
    pub instance: Option<&'a [u8]>,
    /// Its `reg-id`.
    pub reg_id: Option<u32>,
}

/// What a REGISTER led to: 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// All contacts of the extension as they are now: the Contact fields of the answer.
    pub contacts: Vec<ContactNow>,
    /// What changed.
    pub changes: Vec<BindingChange>,
    /// The rules of outbound were applied: the answer says `Require: outbound` (RFC 5626 §6).
    pub outbound: bool,
}

/// A contact as the answer lists it (RFC 3261 §10.3 step 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactNow {
    /// The URI as the phone wrote it.
    pub uri: Arc<str>,
    /// Seconds that are left.
    pub expires: u32,
    /// Preference, in thousandths.
    pub q: u16,
    /// `+sip.instance`, without quotes.
    pub instance: Option<Arc<str>>,
    /// `reg-id`, of an outbound binding.
    pub reg_id: Option<u32>,
}

/// Why a REGISTER is refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `Contact: *` without `Expires: 0` (RFC 3261 §10.3 step 6).
    #[error("Contact * Needs Expires 0")]
    StarWithTime,
    /// A Contact that is no SIP URI, too long, or has too many parameters.
    #[error("Bad Contact")]
    BadContact,
    /// A Call-ID, instance or Path that is too long or no text.
    #[error("Bad Header")]
    BadHeader,
    /// The CSeq is not above that of the request that wrote the binding (RFC 3261 §10.3 step 7).
    #[error("CSeq Out Of Order")]
    OutOfOrder,
    /// More than one outbound contact (RFC 5626 §6).
    #[error("One Contact Per Flow")]
    SeveralOutbound,
    /// More contacts than the extension may have. 403, because 503 would make the phone leave the whole PBX.
    #[error("Too Many Contacts")]
    TooManyContacts,
    /// The binding would end too soon.
    #[error("Interval Too Brief")]
    TooBrief {
        /// Min-Expires of the answer, in seconds.
        minimum: u32,
    },
    /// The phone's first proxy does not keep flows (RFC 5626 §11.6).
    #[error("First Hop Lacks Outbound Support")]
    FirstHopLacksOutbound,
}

impl Refused {
    /// The status to answer; the reason phrase is the error's text.
    pub const fn status(self) -> u16 {
        match self {
            Self::StarWithTime | Self::BadContact | Self::BadHeader | Self::OutOfOrder | Self::SeveralOutbound => 400,
            Self::TooManyContacts => 403,
            Self::TooBrief { .. } => 423,
            Self::FirstHopLacksOutbound => 439,
        }
    }
}

/// What all bindings of one request share, checked.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) call_id: &'a str,
    pub(super) path: Option<String>,
    pub(super) user_agent: String,
}

impl<'a> Common<'a> {
    pub(super) fn of(request: &Register<'a>) -> Result<Self, Refused> {
        let call_id = plain(request.call_id, LONGEST_CALL_ID).ok_or(Refused::BadHeader)?;
        let mut path = String::new();
        for value in request.path {
            let room = LONGEST_PATH.saturating_sub(path.len() + 1);
            let value = plain(value, room).ok_or(Refused::BadHeader)?;
            if !path.is_empty() {
                path.push(',');
            }
            path.push_str(value);
        }
        let path = (!path.is_empty()).then_some(path);
        Ok(Self { call_id, path, user_agent: shown(request.user_agent) })
    }
}

/// A Contact value, checked.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) uri: Uri<'a>,
    pub(super) text: &'a str,
    /// Zero: take it back.
    pub(super) time: Duration,
    pub(super) q: u16,
    pub(super) instance: Option<&'a str>,
    /// Of an outbound one.
    pub(super) reg_id: Option<u32>,
}

impl<'a> Wanted<'a> {
    /// All of a request of an extension that has `bound` contacts, or why it is refused.
    pub(super) fn all(
        contacts: &[Contact<'a>],
        request: &Register<'a>,
        limits: &Limits,
        bound: usize,
    ) -> Result<Vec<Self>, Refused> {
        // Each is compared with every other: how many there are is decided before they are looked at. The limit may
        // have been lowered, and who has more contacts may keep them, and take them back.
        let most = limits.contacts.max(bound);
        let leaving = contacts.iter().filter(|contact| contact.expires.or(request.expires) == Some(0)).count();
        if contacts.len() > MOST_IN_REQUEST || leaving > most || contacts.len() - leaving > most {
            return Err(Refused::TooManyContacts);
        }
        let wanted = contacts.iter().map(|contact| Self::one(contact, request, limits));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        let lasting = |wanted: &&Self| !wanted.time.is_zero();
        if wanted.iter().filter(lasting).any(|wanted| wanted.reg_id.is_some()) {
            if wanted.iter().filter(lasting).count() > 1 {
                return Err(Refused::SeveralOutbound);
            }
            // The last Path value is that of the proxy next to the phone.
            if request.path.last().is_some_and(|first_hop| !has_ob(first_hop)) {
                return Err(Refused::FirstHopLacksOutbound);
            }
        }
        Ok(wanted)
    }

    fn one(contact: &Contact<'a>, request: &Register<'_>, limits: &Limits) -> Result<Self, Refused> {
        let text = plain(contact.uri, LONGEST_URI).ok_or(Refused::BadContact)?;
        let uri = Uri::parse(text).ok_or(Refused::BadContact)?;
        let instance = match contact.instance {
            Some(instance) => Some(plain(instance, LONGEST_INSTANCE).ok_or(Refused::BadHeader)?),
            None => None,
        };
        // Without an instance, or from a phone that does not say it knows outbound, a reg-id means nothing.
        let reg_id = contact.reg_id.filter(|_| request.supports_outbound && instance.is_some());
        let asked = contact.expires.or(request.expires).map(|seconds| Duration::from_secs(seconds.into()));
        let time = match asked {
            None => limits.default,
            Some(Duration::ZERO) => Duration::ZERO,
            Some(asked) if asked < limits.minimum => {
                let minimum = u32::try_from(limits.minimum.as_secs()).unwrap_or(u32::MAX);
                return Err(Refused::TooBrief { minimum });
            }
            Some(asked) => asked.min(limits.maximum),
        };
        Ok(Self { uri, text, time, q: contact.q.unwrap_or(1000).min(1000), instance, reg_id })
    }
}

/// The text, if it is one line of text, not too long and not empty.
fn plain(bytes: &[u8], longest: usize) -> Option<&str> {
    if bytes.is_empty() || bytes.len() > longest {
        return None;
    }
    let text = str::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// What a terminal and a web page can show of a text, cut short.
fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(4 * LONGEST_USER_AGENT)];
    let mut text = String::new();
    for char in String::from_utf8_lossy(bytes).chars().filter(|char| !char.is_control()) {
        if text.len() + char.len_utf8() > LONGEST_USER_AGENT {
            break;
        }
        text.push(char);
    }
    text.trim().to_owned()
}

/// Whether a Path value has the URI parameter `ob` (RFC 5626 §5.1).
fn has_ob(value: &[u8]) -> bool {
    value.split(|byte| matches!(byte, b';' | b'>')).skip(1).any(|parameter| parameter.eq_ignore_ascii_case(b"ob"))
}
