//! Tenants: domains, realms, the default one.

use super::*;
use crate::ops::{AddExtension, AddTenant, Did, Kind, ListOptions, UpdateTenant};

fn tenant(name: &str, domains: &[&str]) -> AddTenant {
    AddTenant { name: name.into(), domains: domains.iter().map(|one| (*one).into()).collect(), ..AddTenant::default() }
}

#[tokio::test]
async fn a_new_installation_has_one_tenant_that_says_nothing_about_itself() {
    let bench = Bench::new().await;
    let page = bench.operations.tenants(&ListOptions::default()).unwrap();
    let only = &page.items[0];
    assert_eq!((page.items.len(), only.is_default, only.realm.as_str(), only.domains.len()), (1, true, "pbx", 0));
    let (bench, _) = bench.restarted().await;
    assert_eq!(bench.operations.tenants(&ListOptions::default()).unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_tenant_has_a_realm_of_its_own_for_ever_and_its_domains_mean_it() {
    let bench = Bench::new().await;
    let made =
        bench.operations.add_tenant(&admin(), tenant("Branch", &["SIP.Example.com.", "b.example"])).await.unwrap();
    assert!(made.item.realm.starts_with("pbx-") && made.item.realm.len() == 12, "{}", made.item.realm);
    assert_eq!(made.item.domains, ["sip.example.com", "b.example"]);
    let directory = bench.signalling.directory.lock().unwrap().clone();
    assert_eq!(directory.tenant_of("sip.EXAMPLE.com").unwrap().name, "Branch");
    assert_eq!(directory.tenant_of("192.0.2.1").unwrap().name, "default");
    let update = UpdateTenant { name: Some("Twig".into()), domains: Some(Vec::new()), ..UpdateTenant::default() };
    let changed = bench.operations.update_tenant(&admin(), "branch", update).await.unwrap();
    assert_eq!((changed.did, changed.item.realm.as_str()), (Did::Updated, made.item.realm.as_str()));
    assert_eq!(bench.operations.tenant("2").unwrap(), changed.item);
}

#[tokio::test]
async fn the_same_number_may_be_in_two_tenants() {
    let bench = Bench::new().await;
    bench.operations.add_tenant(&admin(), tenant("branch", &[])).await.unwrap();
    for owner in [None, Some("branch".to_owned())] {
        let extension = AddExtension { extension_number: "101".into(), tenant: owner, ..AddExtension::default() };
        bench.operations.add_extension(&admin(), extension).await.unwrap();
    }
    assert_eq!(bench.operations.extension_of("101", Some("branch")).await.unwrap().id.as_deref(), Some("2"));
    assert_eq!(bench.operations.extension_of("101", None).await.unwrap().id.as_deref(), Some("1"));
    let only = bench.operations.export_extensions(Some("branch")).unwrap();
    assert_eq!(only.lines().count(), 2);
}

#[tokio::test]
async fn a_tenant_with_extensions_goes_by_force_only_and_the_default_one_never() {
    let bench = Bench::new().await;
    bench.operations.add_tenant(&admin(), tenant("branch", &[])).await.unwrap();
    let extension =
        AddExtension { extension_number: "101".into(), tenant: Some("branch".into()), ..AddExtension::default() };
    bench.operations.add_extension(&admin(), extension).await.unwrap();
    let refused = bench.operations.remove_tenant(&admin(), "branch", How::default()).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.kind()), ("NEEDS_FORCE", Kind::Refused));
    let refused = bench.operations.remove_tenant(&admin(), "default", FORCED).await.unwrap_err();
    assert_eq!(refused.code, "REFUSED");
    let update = UpdateTenant { is_default: true, ..UpdateTenant::default() };
    bench.operations.update_tenant(&admin(), "branch", update).await.unwrap();
    assert!(!bench.operations.tenant("default").unwrap().is_default);
    bench.operations.remove_tenant(&admin(), "default", How::default()).await.unwrap();
    let refused = bench.operations.remove_tenant(&admin(), "branch", FORCED).await.unwrap_err();
    assert_eq!(refused.code, "REFUSED");
    let (bench, _) = bench.restarted().await;
    assert!(bench.operations.tenant("branch").unwrap().is_default);
}

#[tokio::test]
async fn a_forced_removal_takes_the_extensions_along() {
    let bench = Bench::new().await;
    bench.fill().await;
    let extension =
        AddExtension { extension_number: "201".into(), tenant: Some("second".into()), ..AddExtension::default() };
    bench.operations.add_extension(&admin(), extension).await.unwrap();
    let answer = bench.operations.remove_tenant(&admin(), "second", FORCED).await.unwrap();
    assert_eq!(answer.notes, ["1 extensions go with it"]);
    assert_eq!(bench.operations.extensions(&ListOptions::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn names_domains_and_realms_are_checked_and_named() {
    let bench = Bench::new().await;
    bench.operations.add_tenant(&admin(), tenant("branch", &["b.example"])).await.unwrap();
    for (request, field) in [
        (tenant("", &[]), "name"),
        (tenant("BRANCH", &[]), "name"),
        (tenant("12", &[]), "name"),
        (tenant("a\tb", &[]), "name"),
        (tenant("new", &["B.example"]), "domains"),
        (tenant("new", &["192.0.2.1"]), "domains"),
        (tenant("new", &["a b"]), "domains"),
        (tenant("new", &["-a.example"]), "domains"),
        (tenant("new", &[""]), "domains"),
        (AddTenant { realm: Some("a\"b".into()), ..tenant("new", &[]) }, "realm"),
        (AddTenant { realm: Some(String::new()), ..tenant("new", &[]) }, "realm"),
        (AddTenant { realm: Some("Zürich".into()), ..tenant("new", &[]) }, "realm"),
        (AddTenant { realm: Some("a".repeat(129)), ..tenant("new", &[]) }, "realm"),
    ] {
        let error = bench.operations.add_tenant(&admin(), request.clone()).await.unwrap_err();
        assert!(
            error.message.starts_with(&format!("{field}: ")) && error.kind() == Kind::Usage,
            "{request:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_realm_is_whatever_challenges_can_show() {
    let bench = Bench::new().await;
    for (name, realm) in [("a", "Company Ltd".to_owned()), ("b", "b".repeat(128))] {
        pbx_core::auth::check_realm(&realm).unwrap();
        let request = AddTenant { realm: Some(format!(" {realm} ")), ..tenant(name, &[]) };
        assert_eq!(bench.operations.add_tenant(&admin(), request).await.unwrap().item.realm, realm);
    }
}
