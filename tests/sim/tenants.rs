//! Whose extension is meant: the tenant of the domain, or the default one.

use crate::{
    phone::Phone,
    scene::{DOMAIN, OTHER, Scene, udp},
};

fn phone(domain: &str, password: &str) -> Phone {
    let mut phone = Phone::new("100", udp("198.51.100.7:5060"));
    phone.domain = domain.into();
    phone.password = password.into();
    phone
}

#[test]
fn the_domain_of_the_request_uri_says_whose_extension_registers() {
    let mut scene = Scene::new();
    let mut other = phone("TWO.example.", "another secret");
    let answer = scene.ask(other.flow, other.registration("")).unwrap();
    assert_eq!(answer.challenges()[0].realm, "realm of two.example");
    assert_eq!(other.register(&mut scene).status, 200);
    assert_eq!(scene.bound("100"), 0, "the default tenant's");
    assert_eq!(scene.store.bindings.values().next().unwrap().extension.0, 2100);
}

#[test]
fn a_bare_address_and_an_unknown_domain_mean_the_default_tenant() {
    for domain in ["192.0.2.1", "192.0.2.1:5060", "[2001:db8::1]", "pbx.invalid", "sub.one.example", "one.example"] {
        let mut scene = Scene::new();
        let mut phone = phone(domain, &crate::scene::password("100"));
        let answer = scene.ask(phone.flow, phone.registration("")).unwrap();
        assert_eq!(answer.challenges()[0].realm, "realm of one.example", "{domain}");
        assert_eq!(phone.register(&mut scene).status, 200, "{domain}");
        assert_eq!(scene.bound("100"), 1);
    }
}

#[test]
fn credentials_of_another_tenant_are_refused() {
    let mut scene = Scene::new();
    // The number is in both, the password is the other's.
    let answer = phone(DOMAIN, "another secret").register(&mut scene);
    assert_eq!((answer.status, answer.is_stale()), (401, false));
    // Challenged by one tenant, and used with the other.
    let mut both = phone(OTHER, "another secret");
    let answer = scene.ask(both.flow, both.registration("")).unwrap();
    both.take_challenge(&answer);
    both.domain = DOMAIN.into();
    let request = both.registration("");
    assert_eq!(scene.ask(both.flow, request).unwrap().status, 401);
    // Right for the tenant of the request URI, and To is of the other one.
    let mut mixed = phone(OTHER, "another secret");
    let answer = scene.ask(mixed.flow, mixed.registration("")).unwrap();
    mixed.take_challenge(&answer);
    let request = mixed.registration("").replace("To: <sip:100@two.example>", "To: <sip:100@one.example>");
    assert_eq!(scene.ask(mixed.flow, request).unwrap().status, 403);
    assert!(scene.store.bindings.is_empty() && scene.store.successes.is_empty());
}

#[test]
fn calls_are_judged_by_the_tenant_of_from() {
    let mut scene = Scene::new();
    let mut other = phone(OTHER, "another secret");
    // A call to the default tenant's domain, from the other one, which has no such number.
    let call = |phone: &mut Phone| phone.request("INVITE", "sip:101@one.example", "<sip:101@one.example>", "");
    let first = call(&mut other);
    let answer = scene.ask(other.flow, first).unwrap();
    assert_eq!((answer.status, answer.challenges()[0].realm.as_str()), (407, "realm of two.example"));
    other.take_challenge(&answer);
    let second = call(&mut other);
    assert_eq!(scene.ask(other.flow, second).unwrap().status, 404);
}
