//! The names of header fields: the known ones as a number, long, compact and in any case. Before the lexer; knows no
//! values.

use std::fmt;

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal $(| $compact:literal)?,)*) => {
        /// A header field that the program knows (RFC 3261 §20 and its extensions), or [`Name::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Name {
            /// None of the known ones; the message still has its text.
            Other = 0,
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $variant,)*
        }

        /// Every known name with its texts, canonical first.
        const NAMES: &[(Name, &str, Option<&str>)] = &[
            $((Name::$variant, $text, names!(@compact $($compact)?)),)*
        ];
    };
    (@compact) => { None };
    (@compact $compact:literal) => { Some($compact) };
}

names! {
    Via = "Via" | "v",
    From = "From" | "f",
    To = "To" | "t",
    CallId = "Call-ID" | "i",
    CSeq = "CSeq",
    MaxForwards = "Max-Forwards",
    Contact = "Contact" | "m",
    ContentLength = "Content-Length" | "l",
    ContentType = "Content-Type" | "c",
    ContentEncoding = "Content-Encoding" | "e",
    ContentDisposition = "Content-Disposition",
    ContentLanguage = "Content-Language",
    ContentId = "Content-ID",
    Expires = "Expires",
    MinExpires = "Min-Expires",
    Route = "Route",
    RecordRoute = "Record-Route",
    Path = "Path",
    ServiceRoute = "Service-Route",
    Authorization = "Authorization",
    ProxyAuthorization = "Proxy-Authorization",
    WwwAuthenticate = "WWW-Authenticate",
    ProxyAuthenticate = "Proxy-Authenticate",
    AuthenticationInfo = "Authentication-Info",
    Require = "Require",
    ProxyRequire = "Proxy-Require",
    Supported = "Supported" | "k",
    Unsupported = "Unsupported",
    Allow = "Allow",
    AllowEvents = "Allow-Events" | "u",
    Accept = "Accept",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    UserAgent = "User-Agent",
    Server = "Server",
    Date = "Date",
    Timestamp = "Timestamp",
    RetryAfter = "Retry-After",
    Warning = "Warning",
    Subject = "Subject" | "s",
    Organization = "Organization",
    Priority = "Priority",
    MimeVersion = "MIME-Version",
    ErrorInfo = "Error-Info",
    AlertInfo = "Alert-Info",
    CallInfo = "Call-Info",
    InReplyTo = "In-Reply-To",
    ReplyTo = "Reply-To",
    Event = "Event" | "o",
    SubscriptionState = "Subscription-State",
    ReferTo = "Refer-To" | "r",
    ReferredBy = "Referred-By" | "b",
    ReferSub = "Refer-Sub",
    Replaces = "Replaces",
    Join = "Join",
    RSeq = "RSeq",
    RAck = "RAck",
    SessionExpires = "Session-Expires" | "x",
    MinSe = "Min-SE",
    Reason = "Reason",
    Privacy = "Privacy",
    PAssertedIdentity = "P-Asserted-Identity",
    PPreferredIdentity = "P-Preferred-Identity",
    PAccessNetworkInfo = "P-Access-Network-Info",
    RemotePartyId = "Remote-Party-ID",
    Diversion = "Diversion",
    HistoryInfo = "History-Info",
    Identity = "Identity" | "y",
    AcceptContact = "Accept-Contact" | "a",
    RejectContact = "Reject-Contact" | "j",
    RequestDisposition = "Request-Disposition" | "d",
    SipEtag = "SIP-ETag",
    SipIfMatch = "SIP-If-Match",
    InfoPackage = "Info-Package",
    RecvInfo = "Recv-Info",
    FlowTimer = "Flow-Timer",
    AnswerMode = "Answer-Mode",
}

impl Name {
    /// The known names.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(name, ..)| *name)
    }

    /// The name that `text` spells: full or compact, in any case (RFC 3261 §7.3.1, §7.3.3).
    pub fn of(text: &[u8]) -> Self {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return Self::Other };
        let mut slot = hash(text.len(), *first, *last);
        loop {
            let (name, known) = TABLE[slot];
            if known.is_empty() {
                return Self::Other;
            }
            if known.len() == text.len() && known.as_bytes().eq_ignore_ascii_case(text) {
                return name;
            }
            slot = (slot + 1) % TABLE_SLOTS;
        }
    }

    /// The canonical text; nothing for [`Name::Other`].
    pub fn text(self) -> &'static str {
        match (self as usize).checked_sub(1) {
            Some(index) => NAMES[index].1,
            None => "",
        }
    }

    /// The bit of this name in a set.
    pub(super) const fn bit(self) -> u128 {
        1 << self as u8
    }

    /// Those that may stand once only, as a set.
    pub(super) const SINGLE: u128 = {
        let (mut set, mut index) = (0, 0);
        while index < NAMES.len() {
            if NAMES[index].0.is_single() {
                set |= NAMES[index].0.bit();
            }
            index += 1;
        }
        set
    };

    /// Whether a message may carry the field once only (RFC 3261 §7.3.1: what is no list), and a second one makes it
    /// ambiguous who is meant or where it ends.
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Self::From
                | Self::To
                | Self::CallId
                | Self::CSeq
                | Self::MaxForwards
                | Self::ContentType
                | Self::Expires
                | Self::Event
                | Self::ReferTo
                | Self::Replaces
                | Self::SipIfMatch
                | Self::SessionExpires
                | Self::MinSe
                | Self::RAck
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "unknown header",
            known => known.text(),
        })
    }
}

/// Slots of the table; more than four times the texts, so that most are found at once.
const TABLE_SLOTS: usize = 512;
/// The texts by [`hash`], collisions in the next slot; an empty text ends the search.
static TABLE: [(Name, &str); TABLE_SLOTS] = table();

const _: () = assert!(NAMES.len() < 128, "a set of names is a u128");

const fn hash(length: usize, first: u8, last: u8) -> usize {
    (length * 37 + (first | 0x20) as usize * 11 + (last | 0x20) as usize * 101) % TABLE_SLOTS
}

const fn table() -> [(Name, &'static str); TABLE_SLOTS] {
    let mut table = [(Name::Other, ""); TABLE_SLOTS];
    let mut index = 0;
    while index < NAMES.len() {
        let (name, text, compact) = NAMES[index];
        table = with(table, name, text);
        if let Some(compact) = compact {
            table = with(table, name, compact);
        }
        index += 1;
    }
    table
}

const fn with(
    mut table: [(Name, &'static str); TABLE_SLOTS],
    name: Name,
    text: &'static str,
) -> [(Name, &'static str); TABLE_SLOTS] {
    let bytes = text.as_bytes();
    let mut slot = hash(bytes.len(), bytes[0], bytes[bytes.len() - 1]);
    while !table[slot].1.is_empty() {
        slot = (slot + 1) % TABLE_SLOTS;
    }
    table[slot] = (name, text);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_finds_its_name_in_any_case() {
        for (name, text, compact) in NAMES {
            assert_eq!(Name::of(text.as_bytes()), *name);
            assert_eq!(Name::of(text.to_uppercase().as_bytes()), *name);
            assert_eq!(Name::of(text.to_lowercase().as_bytes()), *name);
            assert_eq!(name.text(), *text);
            if let Some(compact) = compact {
                assert_eq!(Name::of(compact.as_bytes()), *name);
                assert_eq!(Name::of(compact.to_uppercase().as_bytes()), *name);
            }
        }
        assert_eq!(Name::all().count(), NAMES.len());
    }

    #[test]
    fn what_is_nearly_a_name_is_none() {
        for text in ["", "z", "Vi", "Viaa", "Call ID", "Call\u{d}ID", "X-Via", "NewFangledHeader", "\0"] {
            assert_eq!(Name::of(text.as_bytes()), Name::Other, "{text}");
        }
    }
}
