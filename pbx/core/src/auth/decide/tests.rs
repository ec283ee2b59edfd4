use std::sync::Arc;

use super::*;
use crate::{
    auth::{Key, Nonce},
    directory::{Extension, Ha1, TenantId},
};

const REALM: &str = "pbx.example.com";
const PASSWORD: &str = "Wv7!kd93mQ";
const LIFE: Duration = Duration::from_secs(300);
const NOW: Moment = Moment::from_micros(5_000_000_000);
const BOTH: [Algorithm; 2] = [Algorithm::Md5, Algorithm::Sha256];

/// What a worker has: extension 100, and 101, which is disabled.
struct Registrar {
    directory: Directory,
    keys: Keys,
    algorithms: &'static [Algorithm],
}

impl Registrar {
    fn new() -> Self {
        let tenant = Tenant {
            id: TenantId(1),
            name: "Example".to_owned(),
            domains: Vec::new(),
            realm: REALM.to_owned(),
            is_default: true,
        };
        let extension = |id, number: &str, enabled| {
            let ha1 = Ha1::of(number, REALM, PASSWORD);
            let (name, caller_id) = (String::new(), String::new());
            let (id, tenant, number) = (ExtensionId(id), TenantId(1), number.to_owned());
            Arc::new(Extension {
                id,
                tenant,
                number,
                name,
                caller_id,
                enabled,
                ha1,
                forwarding: crate::directory::Forwarding::default(),
            })
        };
        let directory = Directory::new([tenant], [extension(7, "100", true), extension(8, "101", false)]);
        Self { directory, keys: Keys { current: Key::new(&[1; 32]), former: None }, algorithms: &BOTH }
    }

    fn judge(&self, phone: &Phone<'_>) -> Verdict {
        self.judge_credentials(&phone.credentials())
    }

    fn judge_credentials(&self, credentials: &Credentials<'_>) -> Verdict {
        let tenant = self.directory.tenant(TenantId(1)).unwrap();
        let Self { directory, keys, algorithms, .. } = self;
        decide(credentials, b"REGISTER", &Asked { directory, tenant, algorithms, keys, life: LIFE, now: NOW })
    }

    fn nonce(&self) -> Nonce {
        self.keys.sign(REALM, NOW, 42)
    }
}

/// What a phone answers a challenge with.
#[derive(Clone)]
struct Phone<'a> {
    user: &'a str,
    password: &'a str,
    realm: &'a str,
    algorithm: Option<&'a str>,
    qop: Option<&'a str>,
    cnonce: Option<&'a str>,
    nc: Option<&'a str>,
    nonce: String,
    response: String,
}

impl<'a> Phone<'a> {
    fn new(nonce: &Nonce) -> Self {
        let (user, password, nonce, response) = ("100", PASSWORD, nonce.to_string(), String::new());
        let (algorithm, qop, cnonce, nc) = (Some("MD5"), Some("auth"), Some("c0ffee"), Some("00000001"));
        Phone { user, password, realm: REALM, algorithm, qop, cnonce, nc, nonce, response }.answering()
    }

    /// With the response that its password gives.
    fn answering(mut self) -> Self {
        let Some(scheme) = Scheme::of(self.algorithm.map(str::as_bytes)) else { return self };
        let used = if self.qop.is_some() { Use::Counted(self.nc.unwrap_or_default().as_bytes()) } else { Use::Once };
        let proof = Proof {
            scheme,
            method: b"REGISTER",
            uri: b"sip:pbx.example.com",
            nonce: self.nonce.as_bytes(),
            cnonce: self.cnonce.unwrap_or_default().as_bytes(),
            used,
        };
        self.response = proof.response(&Ha1::of(self.user, REALM, self.password)).to_string();
        self
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials {
            username: Some(self.user.as_bytes()),
            realm: Some(self.realm.as_bytes()),
            nonce: Some(self.nonce.as_bytes()),
            uri: Some(b"sip:pbx.example.com"),
            response: Some(self.response.as_bytes()),
            algorithm: self.algorithm.map(str::as_bytes),
            cnonce: self.cnonce.map(str::as_bytes),
            qop: self.qop.map(str::as_bytes),
            nc: self.nc.map(str::as_bytes),
        }
    }
}

fn valid(nc: u32) -> Verdict {
    Verdict::Valid { extension: ExtensionId(7), nonce_id: 42, issued: NOW, nc }
}

#[test]
fn the_right_password_is_valid_with_every_algorithm() {
    let registrar = Registrar::new();
    let phone = Phone::new(&registrar.nonce());
    for algorithm in [None, Some("MD5"), Some("md5-sess"), Some("SHA-256"), Some("SHA256"), Some("SHA-256-sess")] {
        let phone = Phone { algorithm, ..phone.clone() }.answering();
        assert_eq!(registrar.judge(&phone), valid(1), "{algorithm:?}");
    }
}

#[test]
fn a_count_is_hexadecimal() {
    let registrar = Registrar::new();
    for (nc, number) in [("0000000A", 10), ("ffffffff", u32::MAX), ("1", 1), ("00000010", 16)] {
        let phone = Phone { nc: Some(nc), ..Phone::new(&registrar.nonce()) }.answering();
        assert_eq!(registrar.judge(&phone), valid(number), "{nc}");
    }
}

#[test]
fn a_phone_that_knows_no_qop_uses_a_nonce_once() {
    let registrar = Registrar::new();
    let phone = Phone { qop: None, cnonce: None, nc: None, ..Phone::new(&registrar.nonce()) };
    for algorithm in [None, Some("MD5"), Some("SHA-256")] {
        let phone = Phone { algorithm, ..phone.clone() }.answering();
        assert_eq!(registrar.judge(&phone), valid(0), "{algorithm:?}");
    }
}

#[test]
fn wrong_is_wrong_whatever_the_nonce() {
    let registrar = Registrar::new();
    let old = registrar.keys.sign(REALM, NOW - LIFE, 1);
    let foreign = Keys { current: Key::new(&[9; 32]), former: None }.sign(REALM, NOW, 1);
    for nonce in [registrar.nonce(), old, foreign] {
        let phone = Phone { password: "guess", ..Phone::new(&nonce) }.answering();
        assert!(matches!(registrar.judge(&phone), Verdict::Wrong { user_known: true, .. }));
    }
    let made_up = Phone { password: "guess", nonce: "x".to_owned(), ..Phone::new(&old) }.answering();
    assert!(matches!(registrar.judge(&made_up), Verdict::Wrong { user_known: true, .. }));
}

#[test]
fn right_with_an_old_nonce_is_stale_and_with_a_foreign_one_foreign() {
    let registrar = Registrar::new();
    let old = registrar.keys.sign(REALM, NOW - LIFE, 1);
    assert_eq!(registrar.judge(&Phone::new(&old)), Verdict::Stale { extension: ExtensionId(7) });
    let foreign = Keys { current: Key::new(&[9; 32]), former: None }.sign(REALM, NOW, 1);
    assert_eq!(registrar.judge(&Phone::new(&foreign)), Verdict::ForeignNonce);
}

#[test]
fn nobody_but_an_enabled_extension_is_ever_right() {
    let registrar = Registrar::new();
    for user in ["101", "102", "", "100@pbx.example.com", "%3100", "100 ", "0100", &"1".repeat(64)] {
        let phone = Phone { user, ..Phone::new(&registrar.nonce()) }.answering();
        assert!(matches!(registrar.judge(&phone), Verdict::Wrong { user_known: false, .. }), "{user}");
    }
}

/// The secret that an unknown user is compared with is somebody's; who has it must not get in under another name.
#[test]
fn an_unknown_user_with_the_response_of_the_other_one_is_wrong() {
    let registrar = Registrar::new();
    let phone = Phone::new(&registrar.nonce());
    for user in 200..300 {
        let user = user.to_string();
        let credentials = Credentials { username: Some(user.as_bytes()), ..phone.credentials() };
        assert!(matches!(registrar.judge_credentials(&credentials), Verdict::Wrong { user_known: false, .. }));
    }
}

#[test]
fn without_any_extension_everything_is_wrong() {
    let registrar = Registrar::new();
    let phone = Phone::new(&registrar.nonce());
    let tenant = Tenant::clone(registrar.directory.tenant(TenantId(1)).unwrap());
    let registrar = Registrar { directory: Directory::new([tenant], []), ..registrar };
    assert!(matches!(registrar.judge(&phone), Verdict::Wrong { user_known: false, .. }));
}

#[test]
fn the_realm_is_compared_exactly() {
    let registrar = Registrar::new();
    let phone = Phone::new(&registrar.nonce());
    for realm in ["", "PBX.example.com", "pbx.example.co", "pbx.example.com.", "pbx\\.example.com"] {
        let phone = Phone { realm, ..phone.clone() };
        assert_eq!(registrar.judge(&phone), Verdict::NotForUs, "{realm}");
    }
    let credentials = Credentials { realm: None, ..phone.credentials() };
    assert_eq!(registrar.judge_credentials(&credentials), Verdict::NotForUs);
}

#[test]
fn what_cannot_be_judged_says_why() {
    let registrar = Registrar::new();
    let phone = Phone::new(&registrar.nonce());
    let fine = phone.credentials();
    let long = [b'a'; 1025];
    let cases = [
        (Credentials { username: None, ..fine }, Unusable::Parameter("username")),
        (Credentials { username: Some(&long), ..fine }, Unusable::Parameter("username")),
        (Credentials { nonce: None, ..fine }, Unusable::Parameter("nonce")),
        (Credentials { nonce: Some(&long), ..fine }, Unusable::Parameter("nonce")),
        (Credentials { uri: None, ..fine }, Unusable::Parameter("uri")),
        (Credentials { uri: Some(&long), ..fine }, Unusable::Parameter("uri")),
        (Credentials { response: None, ..fine }, Unusable::Parameter("response")),
        (Credentials { response: Some(b"12"), ..fine }, Unusable::Parameter("response")),
        (Credentials { cnonce: None, ..fine }, Unusable::Parameter("cnonce")),
        (Credentials { cnonce: None, qop: None, algorithm: Some(b"MD5-sess"), ..fine }, Unusable::Parameter("cnonce")),
        (Credentials { nc: None, ..fine }, Unusable::Parameter("nc")),
        (Credentials { nc: Some(b""), ..fine }, Unusable::Parameter("nc")),
        (Credentials { nc: Some(b"00000000"), ..fine }, Unusable::Parameter("nc")),
        (Credentials { nc: Some(b"000000001"), ..fine }, Unusable::Parameter("nc")),
        (Credentials { nc: Some(b"+1"), ..fine }, Unusable::Parameter("nc")),
        (Credentials { nc: Some(b"0x1"), ..fine }, Unusable::Parameter("nc")),
        (Credentials { qop: Some(b"auth-int"), ..fine }, Unusable::Qop),
        (Credentials { qop: Some(b""), ..fine }, Unusable::Qop),
        (Credentials { algorithm: Some(b"AKAv1-MD5"), ..fine }, Unusable::Algorithm),
    ];
    for (credentials, reason) in cases {
        assert_eq!(registrar.judge_credentials(&credentials), Verdict::Unusable(reason), "{reason}");
    }
}

#[test]
fn an_algorithm_that_the_transport_does_not_offer_is_not_judged() {
    let registrar = Registrar { algorithms: &[Algorithm::Sha256], ..Registrar::new() };
    let phone = Phone::new(&registrar.nonce());
    assert_eq!(registrar.judge(&phone), Verdict::Unusable(Unusable::Algorithm));
    assert_eq!(registrar.judge(&Phone { algorithm: Some("SHA-256"), ..phone }.answering()), valid(1));
}
