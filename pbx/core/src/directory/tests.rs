use super::*;

fn tenant(id: u32, domains: &[&str], is_default: bool) -> Tenant {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    Tenant { id: TenantId(id), name: format!("Tenant {id}"), domains, realm: format!("realm{id}"), is_default }
}

fn extension(id: u32, tenant: u32, number: &str) -> Arc<Extension> {
    Arc::new(Extension {
        id: ExtensionId(id),
        tenant: TenantId(tenant),
        number: number.to_owned(),
        name: String::new(),
        caller_id: String::new(),
        enabled: true,
        ha1: Ha1 { md5: [0; 16], sha256: [0; 32] },
        forwarding: Forwarding::default(),
    })
}

fn two_tenants() -> Directory {
    let tenants =
        [tenant(1, &["pbx.example.com", "Voice.Example.com"], true), tenant(2, &["other.example.org"], false)];
    Directory::new(tenants, [extension(10, 1, "100"), extension(11, 1, "101"), extension(20, 2, "100")])
}

fn tenant_of(host: &str) -> u32 {
    two_tenants().tenant_of(host).unwrap().id.0
}

#[test]
fn a_domain_means_its_tenant_in_any_case_and_with_a_dot_at_its_end() {
    assert_eq!(tenant_of("pbx.example.com"), 1);
    assert_eq!(tenant_of("voice.example.COM"), 1);
    assert_eq!(tenant_of("Other.Example.ORG"), 2);
    assert_eq!(tenant_of("other.example.org."), 2);
}

#[test]
fn an_address_and_an_unknown_domain_mean_the_default_tenant() {
    let long = format!("{}other.example.org", "a.".repeat(200));
    for host in ["192.0.2.1", "[2001:db8::1]", "unknown.example", "", ".", "example.org", "höst", &long] {
        assert_eq!(tenant_of(host), 1, "{host}");
    }
}

#[test]
fn without_a_default_an_unknown_domain_means_nobody() {
    let directory = Directory::new([tenant(1, &["a.example"], false)], []);
    assert!(directory.tenant_of("b.example").is_none());
    assert!(directory.tenant_of("a.example").is_some());
}

#[test]
fn a_number_is_one_tenants() {
    let directory = two_tenants();
    let id = |tenant, number| directory.extension(TenantId(tenant), number).map(|extension| extension.id.0);
    assert_eq!((id(1, "100"), id(2, "100"), id(1, "101")), (Some(10), Some(20), Some(11)));
    for number in ["", "10", "1000", "0100", " 100", "100@pbx.example.com", "%3100"] {
        assert_eq!(id(1, number), None, "{number}");
    }
    assert_eq!((id(2, "101"), id(3, "100")), (None, None));
    assert_eq!(directory.extension_by_id(ExtensionId(20)).unwrap().tenant, TenantId(2));
}

#[test]
fn a_disabled_extension_is_found_as_disabled() {
    let mut disabled = Extension::clone(&extension(10, 1, "100"));
    disabled.enabled = false;
    let directory = Directory::new([tenant(1, &[], true)], [Arc::new(disabled)]);
    assert!(!directory.extension(TenantId(1), "100").unwrap().enabled);
}

#[test]
fn instead_of_nobody_somebody_else_is_found_and_always_the_same() {
    let directory = two_tenants();
    let other = |number: &str| {
        let (account, is_it) = directory.account_or_other(TenantId(1), number.as_bytes()).unwrap();
        assert!(!is_it);
        account.id
    };
    assert_eq!(other("999999"), other("999999"));
    let different = (200..300).map(|number| other(&number.to_string())).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(different.len(), 3);
    assert!(Directory::default().account_or_other(TenantId(1), b"100").is_none());
}

#[test]
fn long_numbers_are_compared_to_their_end() {
    let numbers: Vec<String> = (0..50).map(|ending| format!("{}{ending:02}", "7".repeat(62))).collect();
    let many = numbers.iter().zip(0..).map(|(number, id)| extension(id, 1, number));
    let directory = Directory::new([tenant(1, &[], true)], many.chain([extension(99, 1, &"7".repeat(15))]));
    let id = |number: &str| directory.extension(TenantId(1), number).map(|extension| extension.id.0);
    for (number, wanted) in numbers.iter().zip(0..) {
        assert_eq!(id(number), Some(wanted));
    }
    assert_eq!(id(&"7".repeat(15)), Some(99));
    for none in [14, 16, 62, 64, 65, 1000, 100_000] {
        assert_eq!(id(&"7".repeat(none)), None, "{none}");
    }
}

#[test]
fn a_hundred_thousand_extensions_are_all_found_and_nobody_else() {
    let extensions = (0..100_000).map(|id| extension(id, id % 3, &(100_000 + id).to_string()));
    let directory = Directory::new([], extensions);
    for id in 0..100_000 {
        let number = (100_000 + id).to_string();
        assert_eq!(directory.extension(TenantId(id % 3), &number).unwrap().id, ExtensionId(id));
        assert!(directory.extension(TenantId((id + 1) % 3), &number).is_none());
    }
    assert_eq!(directory.extensions().count(), 100_000);
}
