//! What a receive worker decides about a message before anybody keeps it: whether it is one, whether it has to prove
//! who sent it and has, and which queue it takes. After the wire, before the core; keeps nothing of a message. What
//! can be answered without state is answered here (RFC 3261 §8.2.7).

mod noted;
mod why;

use std::{hash::Hasher as _, time::Duration};

use siphasher::sip::SipHasher13;

pub use self::{
    noted::{Noted, Points},
    why::Why,
};
use crate::{
    address::Prefix,
    auth::{self, Age, Algorithm, Allowance, Answer, Asked, Challenge, Header, Keys, Verdict},
    directory::{Directory, ExtensionId, Ha1, Tenant, TenantId},
    guard::{What, agents::Agents, pairs::Pairs},
    known::KnownSet,
    moment::Moment,
    overload::{self, Level},
    transport::{Flow, Protocol, counted},
    wire::sip::{Credentials, Message, Method, Name, Origin, Reply, StartLine, validate},
};

/// Methods that are carried out; others are answered 405.
pub const ALLOWED: &[Method<'static>] = &[
    Method::Register,
    Method::Options,
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Bye,
    Method::Prack,
    Method::Update,
    Method::Info,
    Method::Refer,
];

/// Everything that a worker decides by, borrowed for one message.
pub struct Gate<'a> {
    /// Who exists.
    pub directory: &'a Directory,
    /// What nonces are signed with.
    pub keys: &'a Keys,
    /// How long a nonce is fresh.
    pub nonce_life: Duration,
    /// What the message's transport offers.
    pub algorithms: &'a [Algorithm],
    /// Challenges, and other answers, that strangers may have.
    pub allowance: &'a Allowance,
    /// How many.
    pub limits: auth::Limits,
    /// Who is known.
    pub known: &'a KnownSet,
    /// Forbidden User-Agents.
    pub agents: &'a Agents,
    /// Whether their messages are dropped, and not only noted.
    pub agents_dropped: bool,
    /// Known sources that fail for an account.
    pub pairs: &'a Pairs,
    /// What odd requests are worth.
    pub points: Points,
    /// Networks without a router in between.
    pub local: &'a [Prefix],
    /// How bad the core's load is: strangers are the first to be turned away.
    pub level: Level,
    /// Makes tags that nobody can guess.
    pub tags: Tags,
    /// Tells the next nonce from all others of its life.
    pub nonce_id: u64,
    /// The time of the message.
    pub now: Moment,
}

/// Makes the tag of an answer out of its request, so that an answer to a repeated request has the same.
#[derive(Clone, Copy)]
pub struct Tags {
    seed: [u64; 2],
}

/// The queue that a message takes to the core; the order is that of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Within a dialog, from a known source.
    InDialog,
    /// From a known source, or proved.
    Known,
    /// Anything else.
    Unknown,
}

impl Class {
    /// All of them, in the order of service.
    pub const ALL: [Self; 3] = [Self::InDialog, Self::Known, Self::Unknown];
}

/// A proof that holds but for the reuse of its nonce, which the core checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Who it is.
    pub extension: ExtensionId,
    /// In whose realm it was proved.
    pub tenant: TenantId,
    /// The nonce.
    pub nonce_id: u64,
    /// When it was issued.
    pub issued: Moment,
    /// Its count.
    pub nc: u32,
    /// [Names](Tags::secret) what it was proved with: it may be another when the core takes this out of the queue.
    pub secret: u64,
}

/// What becomes of a message.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time; a box would cost an allocation a message")]
pub enum Passed<'m> {
    /// It goes no further.
    Ended {
        /// Why.
        why: Why,
        /// Which way the answer goes that is in the buffer; none: there is none.
        answer: Option<Flow>,
        /// What it says about its sender.
        noted: Noted,
    },
    /// It goes to the core.
    Delivered {
        /// The message.
        message: Message<&'m [u8]>,
        /// By which queue.
        class: Class,
        /// Who proved to have sent it.
        credential: Option<Credential>,
        /// What it says about its sender.
        noted: Noted,
    },
}

impl Tags {
    /// `seed` is random and secret.
    pub const fn new(seed: [u64; 2]) -> Self {
        Self { seed }
    }

    /// The tag of the answer to a request.
    pub fn of<B: AsRef<[u8]>>(&self, request: &Message<B>) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        let branch = request.via().ok().and_then(|via| via.branch()).unwrap_or_default();
        for part in
            [branch, request.value(Name::CallId).unwrap_or_default(), request.value(Name::From).unwrap_or_default()]
        {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hex(hasher.finish())
    }

    /// A text as a number that nobody outside can work out.
    fn number(&self, kind: &[u8], text: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(!self.seed[0], self.seed[1]);
        hasher.write(kind);
        hasher.write_u8(0xff);
        hasher.write(text);
        hasher.finish()
    }

    /// Names a secret without telling it, and differs when it is changed.
    pub fn secret(&self, ha1: &Ha1) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], !self.seed[1]);
        hasher.write(&ha1.md5);
        hasher.write(&ha1.sha256);
        hasher.finish()
    }
}

/// 64 bits as 16 hexadecimal digits.
pub fn hex(bits: u64) -> [u8; 16] {
    std::array::from_fn(|digit| b"0123456789abcdef"[(bits >> (60 - 4 * digit)) as usize & 15])
}

/// Where the answer to a request goes: back over its connection, or to where the topmost Via says (RFC 3261 §18.2.2).
pub fn answer_flow<B: AsRef<[u8]>>(flow: &Flow, request: &Message<B>) -> Flow {
    match request.via() {
        Ok(via) if flow.protocol == Protocol::Udp => Flow { remote: via.answer_to(flow.remote), ..*flow },
        _ => *flow,
    }
}

impl Gate<'_> {
    /// Decides about a message. What is answered at once is appended to `out`.
    pub fn pass<'m>(&self, flow: &Flow, bytes: &'m [u8], out: &mut Vec<u8>) -> Passed<'m> {
        let origin = if flow.protocol == Protocol::Udp { Origin::Datagram } else { Origin::Stream };
        let Ok(message) = Message::parse(bytes, origin) else {
            let noted = Noted { what: Some(What::Malformed { points: 0 }), ..Noted::default() };
            return Passed::Ended { why: Why::Garbage, answer: None, noted };
        };
        let before = out.len();
        let mut noted = Noted::default();
        let decided = self.decide(flow, &message, out, &mut noted).and_then(|passed| match passed {
            // What strangers send without a proof (ACK, CANCEL, responses, requests for dialogs) is the first to go.
            (Class::Unknown, None) if self.sheds_strangers() => Err(Why::Overload),
            passed => Ok(passed),
        });
        match decided {
            Ok((class, credential)) => Passed::Delivered { message, class, credential, noted },
            Err(why) => {
                let answer = (out.len() > before).then(|| answer_flow(flow, &message));
                Passed::Ended { why, answer, noted }
            }
        }
    }

    /// Answers what came of a message that could not be cut out of its stream, with `status`. The answer is appended
    /// to `out`; to whom nothing is said, or what is no request, nothing is.
    pub fn refuse(&self, flow: &Flow, head: &[u8], (status, reason): (u16, &str), out: &mut Vec<u8>) {
        let Ok(message) = Message::parse(head, Origin::Stream) else { return };
        let is_answered = !matches!(message.method(), None | Some(Method::Ack)) && message.via().is_ok();
        if is_answered && self.may_answer(flow, self.known.contains(flow.remote.ip())).is_ok() {
            let tag = self.tags.of(&message);
            Reply::with_reason(out, &message, status, reason, flow.remote, Some(&tag)).finish();
        }
    }

    /// Whether somebody may have an answer that is no SIP, such as one of STUN.
    pub fn may_have_answer(&self, flow: &Flow) -> Result<(), Why> {
        self.may_answer(flow, self.known.contains(flow.remote.ip()))
    }

    fn decide<B: AsRef<[u8]>>(
        &self,
        flow: &Flow,
        message: &Message<B>,
        out: &mut Vec<u8>,
        noted: &mut Noted,
    ) -> Result<(Class, Option<Credential>), Why> {
        let known = self.known.contains(flow.remote.ip());
        if message.value(Name::UserAgent).is_some_and(|agent| self.agents.forbidden(agent).is_some()) {
            noted.agent = true;
            if self.agents_dropped {
                return Err(Why::Agent);
            }
        }
        if let Err(refusal) = validate(message) {
            noted.what = Some(What::Malformed { points: self.points_of(&refusal.fault) });
            if refusal.status().is_some() && self.may_answer(flow, known).is_ok() {
                refusal.answer(out, message, flow.remote, &self.tags.of(message), ALLOWED);
            }
            return Err(if refusal.closes() { Why::Broken } else { Why::Malformed });
        }
        let class = if known { Class::Known } else { Class::Unknown };
        let StartLine::Request { method, .. } = message.start_line() else { return Ok((class, None)) };
        if !known && !self.in_dialog(message) {
            let points = self.points(flow, message, method);
            if points > 0 {
                noted.what = Some(What::Points { call: self.tags.call(message), points });
            }
        }
        match method {
            // What follows an ACK in its dialog must not overtake it.
            Method::Ack if known => Ok((Class::InDialog, None)),
            Method::Ack | Method::Cancel => Ok((class, None)),
            Method::Options if !self.in_dialog(message) => {
                if !known {
                    return Err(Why::Silent);
                }
                let tag = self.tags.of(message);
                Reply::start(out, message, 200, flow.remote, Some(&tag))
                    .allow(ALLOWED)
                    .header("Accept", "application/sdp")
                    .header("Supported", "path, outbound")
                    .finish();
                Err(Why::Options)
            }
            Method::Register
            | Method::Invite
            | Method::Subscribe
            | Method::Message
            | Method::Refer
            | Method::Publish
                if method == Method::Register || !self.in_dialog(message) =>
            {
                let credential = self.authenticate(flow, message, method, known, out, noted)?;
                Ok((Class::Known, Some(credential)))
            }
            // Within a dialog, which only the core knows; a stranger waits behind all others. What it proves is for
            // the core, should it come from elsewhere than before.
            _ if self.in_dialog(message) => {
                let class = if known { Class::InDialog } else { class };
                Ok((class, self.proved(message, method)))
            }
            _ if known => Ok((Class::InDialog, None)),
            _ => Err(Why::NoDialog),
        }
    }

    fn in_dialog<B: AsRef<[u8]>>(&self, message: &Message<B>) -> bool {
        message.to().is_ok_and(|to| to.tag().is_some())
    }

    /// Who sent a request within a dialog, if it has credentials that prove it. None are needed there.
    fn proved<B: AsRef<[u8]>>(&self, message: &Message<B>, method: Method<'_>) -> Option<Credential> {
        if !message.has(Name::ProxyAuthorization) {
            return None;
        }
        let host = message.from().ok()?.uri().ok()?.host;
        let tenant = self.directory.tenant_of(std::str::from_utf8(host.bytes()).ok()?)?;
        let asked = self.asked(tenant);
        let mut judged = message.credentials(Name::ProxyAuthorization).take(MOST_CREDENTIALS).flatten();
        judged.find_map(|credentials| match auth::decide(&plain(&credentials), method.text(), &asked) {
            Verdict::Valid { extension, nonce_id, issued, nc } => {
                let secret = self.tags.secret(&self.directory.extension_by_id(extension)?.ha1);
                Some(Credential { extension, tenant: tenant.id, nonce_id, issued, nc, secret })
            }
            _ => None,
        })
    }

    fn asked<'g>(&'g self, tenant: &'g Tenant) -> Asked<'g> {
        Asked {
            directory: self.directory,
            tenant,
            algorithms: self.algorithms,
            keys: self.keys,
            life: self.nonce_life,
            now: self.now,
        }
    }

    /// Who sent a request, or why it goes no further.
    fn authenticate<B: AsRef<[u8]>>(
        &self,
        flow: &Flow,
        message: &Message<B>,
        method: Method<'_>,
        known: bool,
        out: &mut Vec<u8>,
        noted: &mut Noted,
    ) -> Result<Credential, Why> {
        let registers = method == Method::Register;
        // Whoever registers is meant by To, any other request is sent by From (validated: both are there).
        let (Ok(claimed), Ok(target)) = (if registers { message.to() } else { message.from() }, message.request_uri())
        else {
            return Err(Why::Malformed);
        };
        let claimed = claimed.uri().ok();
        let host = if registers { Some(target.host) } else { claimed.as_ref().map(|uri| uri.host) };
        let host = host.and_then(|host| std::str::from_utf8(host.bytes()).ok()).unwrap_or_default();
        let Some(tenant) = self.directory.tenant_of(host) else { return Err(Why::NoTenant) };
        let header = if registers { Header::Www } else { Header::Proxy };
        let name = if registers { Name::Authorization } else { Name::ProxyAuthorization };
        let asked = self.asked(tenant);
        // A phone that is registered where it speaks from is never made to wait for others.
        let hurries = known && !self.known.contains_flow(flow.remote);
        let (mut verdict, mut account, mut user) = (None, 0, &b""[..]);
        for credentials in message.credentials(name).take(MOST_CREDENTIALS).flatten() {
            let credentials = plain(&credentials);
            let named = credentials.username.unwrap_or_default();
            let claimed = self.tags.account(tenant.id, named);
            if hurries && !self.pairs.may_try(flow.remote.ip(), claimed, self.now) {
                return Err(Why::Throttled);
            }
            let judged = auth::decide(&credentials, method.text(), &asked);
            match judged {
                Verdict::NotForUs => continue,
                // A phone may answer the challenge of each algorithm that it knows, offered or not.
                Verdict::Unusable(_) => {
                    verdict = verdict.or(Some(judged));
                    continue;
                }
                _ => {}
            }
            (verdict, account, user) = (Some(judged), claimed, named);
            break;
        }
        self.note(flow, message, verdict.as_ref(), account, user, noted);
        // What somebody else may have written in its name makes nobody wait.
        let sure = noted.sure || flow.protocol != Protocol::Udp;
        if known && sure && matches!(verdict, Some(Verdict::Wrong { .. })) {
            self.pairs.failed(flow.remote.ip(), account, self.now);
        }
        let (why, stale) = match verdict {
            Some(Verdict::Valid { extension, nonce_id, issued, nc }) => {
                let found = self.directory.extension_by_id(extension);
                let theirs = claimed.is_some_and(|uri| self.is_theirs(&uri, tenant, extension));
                if let Some(found) = found.filter(|_| theirs) {
                    let secret = self.tags.secret(&found.ha1);
                    return Ok(Credential { extension, tenant: tenant.id, nonce_id, issued, nc, secret });
                }
                // Nobody counts how often these credentials were used: they may be copied.
                self.may_answer(flow, known)?;
                let tag = self.tags.of(message);
                Reply::start(out, message, 403, flow.remote, Some(&tag)).finish();
                return Err(Why::NotTheirs);
            }
            Some(Verdict::Stale { .. }) => (Why::Stale, true),
            // The password was right: no reason to ask anybody for it again.
            Some(Verdict::ForeignNonce) => (Why::ForeignNonce, true),
            Some(Verdict::Wrong { user_known: true, .. }) => (Why::WrongPassword, false),
            Some(Verdict::Wrong { user_known: false, .. }) => (Why::WrongUser, false),
            Some(Verdict::Unusable(_)) => (Why::Unusable, false),
            Some(Verdict::NotForUs) | None => (Why::Challenged, false),
        };
        if let Err(spent) = self.may_answer(flow, known) {
            // What nobody was asked cannot stay unanswered.
            if let Some(What::Challenged { call, points, .. }) = noted.what {
                noted.what = (points > 0).then_some(What::Points { call, points });
            }
            return Err(spent);
        }
        self.challenge(flow, message, header, tenant, stale, out);
        Err(why)
    }

    /// Notes what credentials, or that there are none, say about their sender.
    fn note<B: AsRef<[u8]>>(
        &self,
        flow: &Flow,
        message: &Message<B>,
        verdict: Option<&Verdict>,
        account: u64,
        user: &[u8],
        noted: &mut Noted,
    ) {
        let points = match noted.what {
            Some(What::Points { points, .. }) => points,
            _ => 0,
        };
        let target = || self.tags.target(message);
        let is_here = |id: u64| id & Tags::PLACE == self.tags.place(flow.remote.ip());
        let challenged = || What::Challenged { call: self.tags.call(message), target: target(), points };
        noted.what = Some(match verdict {
            Some(Verdict::Valid { nonce_id, .. }) => {
                noted.sure = is_here(*nonce_id);
                What::Succeeded { account, target: target() }
            }
            Some(Verdict::Stale { .. }) => What::Answered { target: target() },
            Some(Verdict::Wrong { user_known, nonce }) => {
                noted.sure = matches!(nonce, Age::Fresh(signed) if is_here(signed.id));
                self.rejected(message, account, user, *user_known, !matches!(nonce, Age::Foreign))
            }
            Some(Verdict::ForeignNonce | Verdict::Unusable(_) | Verdict::NotForUs) | None => challenged(),
        });
    }

    /// Challenges the sender of a request again, whose password was right: what
    /// [`Output::Challenge`](crate::pbx::Output::Challenge) asks for. The answer is appended to `out`.
    ///
    /// # Errors
    ///
    /// Why there is no answer: copied credentials give nobody more answers than a stranger may have.
    pub fn renew<B: AsRef<[u8]>>(
        &self,
        flow: &Flow,
        message: &Message<B>,
        header: Header,
        tenant: &Tenant,
        out: &mut Vec<u8>,
    ) -> Result<(), Why> {
        self.may_answer(flow, self.known.contains(flow.remote.ip()))?;
        self.challenge(flow, message, header, tenant, true, out);
        Ok(())
    }

    fn challenge<B: AsRef<[u8]>>(
        &self,
        flow: &Flow,
        message: &Message<B>,
        header: Header,
        tenant: &Tenant,
        stale: bool,
        out: &mut Vec<u8>,
    ) {
        let id = self.nonce_id & !Tags::PLACE | self.tags.place(flow.remote.ip());
        let nonce = self.keys.sign(&tenant.realm, self.now, id);
        let challenge = Challenge { header, realm: &tenant.realm, nonce, algorithms: self.algorithms, stale };
        let tag = self.tags.of(message);
        Reply::start(out, message, header.status(), flow.remote, Some(&tag)).lines(|out| challenge.write(out)).finish();
    }

    /// Whether a stranger may have one more answer.
    fn may_answer(&self, flow: &Flow, known: bool) -> Result<(), Why> {
        if known {
            return Ok(());
        }
        if self.sheds_strangers() {
            return Err(Why::Overload);
        }
        match self.allowance.ask(counted(flow.remote.ip(), false), self.limits, self.now) {
            Answer::Granted => Ok(()),
            Answer::SourceSpent => Err(Why::SourceSpent),
            Answer::AllSpent => Err(Why::AllSpent),
        }
    }

    fn sheds_strangers(&self) -> bool {
        overload::verdict(self.level, overload::Class::Unauthenticated, 0) != overload::Verdict::Admit
    }

    fn is_theirs(&self, uri: &crate::wire::sip::Uri<'_>, tenant: &Tenant, extension: ExtensionId) -> bool {
        let host = std::str::from_utf8(uri.host.bytes()).unwrap_or_default();
        let same = |other: &Tenant| other.id == tenant.id;
        self.directory.tenant_of(host).is_some_and(|other| same(other))
            && self.directory.extension_by_id(extension).is_some_and(|found| uri.user_is(found.number.as_bytes()))
    }
}

/// Credentials that are looked at in one request: each may cost a digest.
const MOST_CREDENTIALS: usize = 4;

/// The wire's credentials as the digest takes them: the bytes as they came.
fn plain<'a>(credentials: &Credentials<'a>) -> auth::Credentials<'a> {
    use crate::wire::sip::{AlgorithmParam, Qop};
    let algorithm: Option<&[u8]> = match credentials.algorithm {
        AlgorithmParam::Absent => None,
        AlgorithmParam::Known { algorithm: Algorithm::Md5, session: false } => Some(b"MD5"),
        AlgorithmParam::Known { algorithm: Algorithm::Md5, session: true } => Some(b"MD5-sess"),
        AlgorithmParam::Known { algorithm: Algorithm::Sha256, session: false } => Some(b"SHA-256"),
        AlgorithmParam::Known { algorithm: Algorithm::Sha256, session: true } => Some(b"SHA-256-sess"),
        AlgorithmParam::Other(other) => Some(other),
    };
    let qop: Option<&[u8]> = match credentials.qop {
        Qop::Absent => None,
        Qop::Auth => Some(b"auth"),
        Qop::AuthInt => Some(b"auth-int"),
        Qop::Other(other) => Some(other),
    };
    auth::Credentials {
        username: Some(credentials.username.raw()),
        realm: Some(credentials.realm.raw()),
        nonce: Some(credentials.nonce.raw()),
        uri: Some(credentials.uri.raw()),
        response: Some(credentials.response.raw()),
        algorithm,
        cnonce: credentials.cnonce.map(|cnonce| cnonce.raw()),
        qop,
        nc: credentials.nc,
    }
}
