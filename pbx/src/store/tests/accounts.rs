//! Tenants, extensions, transports, and what has registered.

use pbx_core::{
    auth::Algorithm,
    directory::{ExtensionId, TenantId},
    registrar::{BindingId, StoredBinding},
    transport::{Protocol, TransportId},
};

use super::*;

fn tenant(id: u32, name: &str, is_default: bool) -> StoredTenant {
    StoredTenant {
        id: TenantId(id),
        name: name.into(),
        domains: vec![format!("{name}.example")],
        realm: "pbx".into(),
        password_policy: "{}".into(),
        is_default,
        created_at: NOW,
    }
}

fn extension(id: u32, tenant: u32, number: &str) -> StoredExtension {
    StoredExtension {
        id: ExtensionId(id),
        tenant: TenantId(tenant),
        number: number.into(),
        name: "Änne".into(),
        caller_id: String::new(),
        enabled: true,
        forwarding: "{}".into(),
        sealed_password: vec![1, 2, 3],
        created_at: NOW,
        updated_at: NOW,
    }
}

fn transport(id: u32, protocol: Protocol, port: u16) -> StoredTransport {
    let tls = protocol == Protocol::Tls;
    StoredTransport {
        id: TransportId(id),
        protocol,
        port,
        external_port: tls.then_some(443),
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        verification: "DISABLE".into(),
        chain: tls.then(|| "PEM".into()),
        sealed_key: tls.then(|| vec![9]),
        created_at: NOW,
    }
}

fn binding(id: u64, extension: u32, seconds: u64) -> StoredBinding {
    StoredBinding {
        id: BindingId(id),
        extension: ExtensionId(extension),
        contact: "<sip:101@192.0.2.9:5060>".into(),
        q: 1000,
        path: None,
        call_id: "a@b".into(),
        cseq: u32::MAX,
        instance: Some("<urn:uuid:1>".into()),
        reg_id: Some(1),
        user_agent: "baresip".into(),
        protocol: Protocol::Udp,
        transport: TransportId(1),
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "[2001:db8::9]:5060".parse().unwrap(),
        behind_nat: true,
        since: NOW,
        expires_at: NOW.saturating_add(Duration::from_secs(seconds)),
    }
}

async fn filled(folder: &tempfile::TempDir) -> Store {
    let store = store(folder).await;
    let change = AccountChange {
        tenants: &[tenant(1, "one", true), tenant(2, "two", false)],
        extensions: &[extension(1, 1, "101"), extension(2, 1, "102"), extension(3, 2, "101")],
        transports: &[transport(1, Protocol::Udp, 5060), transport(2, Protocol::Tls, 5060)],
        ..AccountChange::default()
    };
    store.change_accounts(change).await.unwrap();
    store
}

#[tokio::test]
async fn accounts_come_back_as_they_were_stored_and_ids_are_never_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(&folder).await;
    let stored = first.accounts().await.unwrap();
    assert_eq!(stored.tenants, [tenant(1, "one", true), tenant(2, "two", false)]);
    assert_eq!(stored.extensions[2], extension(3, 2, "101"));
    assert_eq!(stored.transports[1], transport(2, Protocol::Tls, 5060));
    let change = AccountChange {
        tenants_gone: &[TenantId(2)],
        extensions_gone: &[ExtensionId(3)],
        transports_gone: &[TransportId(2)],
        extensions: &[StoredExtension { name: "Bob".into(), ..extension(1, 1, "101") }],
        audit: &[audit("extension.set")],
        ..AccountChange::default()
    };
    first.change_accounts(change).await.unwrap();
    first.close().await;
    let after = store(&folder).await.accounts().await.unwrap();
    assert_eq!(after.extensions.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["Bob", "Änne"]);
    assert_eq!((after.tenants.len(), after.transports.len()), (1, 1));
    assert_eq!((after.next_tenant, after.next_extension, after.next_transport), (3, 4, 3));
}

#[tokio::test]
async fn what_may_be_there_once_is_refused_twice_and_nothing_is_half_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let before = store.accounts().await.unwrap();
    for change in [
        AccountChange { extensions: &[extension(4, 1, "103"), extension(5, 1, "102")], ..AccountChange::default() },
        AccountChange { extensions: &[extension(4, 1, "103"), extension(5, 9, "104")], ..AccountChange::default() },
        AccountChange { tenants: &[tenant(3, "three", false), tenant(4, "ONE", false)], ..AccountChange::default() },
        AccountChange { tenants: &[tenant(3, "three", true)], ..AccountChange::default() },
        AccountChange { tenants_gone: &[TenantId(2)], ..AccountChange::default() },
        AccountChange { transports: &[transport(3, Protocol::Udp, 5060)], ..AccountChange::default() },
        AccountChange { transports: &[transport(3, Protocol::Tcp, 5060)], ..AccountChange::default() },
    ] {
        assert!(store.change_accounts(change).await.is_err(), "{change:?}");
    }
    let after = store.accounts().await.unwrap();
    assert_eq!(
        (after.tenants, after.extensions, after.transports),
        (before.tenants, before.extensions, before.transports)
    );
}

#[tokio::test]
async fn bindings_survive_until_their_end_and_go_with_their_extension() {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(&folder).await;
    let bindings = [binding(u64::MAX, 1, 60), binding(2, 2, 60), binding(3, 1, 30), binding(4, 77, 60)];
    first.keep_bindings(&bindings, &[]).await.unwrap();
    first.keep_bindings(&[binding(2, 2, 90)], &[BindingId(3)]).await.unwrap();
    first.close().await;
    let second = store(&folder).await;
    assert_eq!(second.bindings(NOW).await.unwrap(), [binding(u64::MAX, 1, 60), binding(2, 2, 90)]);
    let later = NOW.saturating_add(Duration::from_secs(60));
    assert_eq!(second.bindings(later).await.unwrap(), [binding(2, 2, 90)]);
    assert_eq!(second.sweep_bindings(later).await.unwrap(), 2);
    let change = AccountChange { extensions_gone: &[ExtensionId(2)], ..AccountChange::default() };
    second.change_accounts(change).await.unwrap();
    assert_eq!(second.bindings(NOW).await.unwrap(), []);
}

#[tokio::test]
async fn known_addresses_keep_their_last_success_and_are_forgotten_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let known = |address: &str, extension: u32, seconds: u64| StoredKnown {
        address: address.parse().unwrap(),
        extension: ExtensionId(extension),
        last_success: NOW.saturating_add(Duration::from_secs(seconds)),
    };
    let seen =
        [known("192.0.2.9", 1, 0), known("192.0.2.9", 2, 5), known("2001:db8::9", 1, 5), known("192.0.2.9", 77, 9)];
    store.keep_known(&seen, &[], NOW).await.unwrap();
    store.keep_known(&[known("192.0.2.9", 2, 7)], &[], NOW.saturating_add(Duration::from_secs(1))).await.unwrap();
    assert_eq!(store.known(Timestamp::MIN).await.unwrap(), [known("192.0.2.9", 2, 7), known("2001:db8::9", 1, 5)]);
    let change = AccountChange { extensions_gone: &[ExtensionId(1)], ..AccountChange::default() };
    store.change_accounts(change).await.unwrap();
    assert_eq!(store.known(Timestamp::MIN).await.unwrap(), [known("192.0.2.9", 2, 7)]);
}

#[tokio::test]
async fn who_is_gone_from_an_address_is_known_no_more_unless_it_was_seen_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let known = |address: &str, extension: u32| StoredKnown {
        address: address.parse().unwrap(),
        extension: ExtensionId(extension),
        last_success: NOW,
    };
    let gone = |known: StoredKnown| (known.address, known.extension);
    let (one, two, three) = (known("192.0.2.9", 1), known("192.0.2.9", 2), known("2001:db8::9", 1));
    store.keep_known(&[one, two, three], &[], NOW).await.unwrap();
    let again = StoredKnown { last_success: NOW.saturating_add(Duration::from_secs(5)), ..three };
    store.keep_known(&[again], &[gone(one), gone(three), gone(known("192.0.2.77", 2))], NOW).await.unwrap();
    assert_eq!(store.known(Timestamp::MIN).await.unwrap(), [two, again]);
    let many: Vec<_> = (0..2500_u32).map(|n| (std::net::Ipv4Addr::from_bits(n).into(), ExtensionId(2))).collect();
    store.keep_known(&[], &[many, vec![gone(two)]].concat(), NOW).await.unwrap();
    assert_eq!(store.known(Timestamp::MIN).await.unwrap(), [again]);
}

#[tokio::test]
async fn a_setting_that_has_another_name_now_keeps_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pbx.db");
    let old = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path).create_if_missing(true))
        .await
        .unwrap();
    let migrations = sqlx::migrate!("./migrations");
    for migration in migrations.iter().filter(|migration| migration.version == 1) {
        sqlx::raw_sql(migration.sql.clone()).execute(&old).await.unwrap();
    }
    let insert = "INSERT INTO settings VALUES ('guard.local_networks', '10.0.0.0/8', 1)";
    sqlx::query(insert).execute(&old).await.unwrap();
    for migration in migrations.iter().filter(|migration| migration.version == 2) {
        sqlx::raw_sql(migration.sql.clone()).execute(&old).await.unwrap();
    }
    let key: String = sqlx::query_scalar("SELECT key FROM settings").fetch_one(&old).await.unwrap();
    assert_eq!(key, "network.local_networks");
}
