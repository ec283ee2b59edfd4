//! Registrations: listed, ended, and what an explanation says about them.

use pbx_core::directory::ExtensionId;

use super::*;
use crate::ops::{Kind, ListOptions, OpError};

#[tokio::test]
async fn registrations_are_listed_with_their_extension_and_found_by_address() {
    let bench = Bench::new().await;
    bench.fill().await;
    bench.signalling.register("other", 1, "[2001:db8::7]:5060");
    let list = async |search: &str| {
        let options = ListOptions { search: Some(search.into()), count: Some(true), ..ListOptions::default() };
        bench.operations.registrations(&options).await.unwrap().items
    };
    let all = list("").await;
    assert_eq!((all.len(), all[0].extension_number.as_str(), all[0].tenant.as_str()), (2, "101", "default"));
    assert_eq!(list("198.51.100.0/24").await[0].id, "phone");
    assert_eq!(list("2001:db8::/64").await[0].id, "other");
    let status = bench.operations.user_status("1").await.unwrap();
    assert!(status.online && status.items.len() == 2);
}

#[tokio::test]
async fn a_registration_is_ended_by_its_id_or_its_instance_audited_and_told() {
    let bench = Bench::new().await;
    bench.fill().await;
    bench.signalling.register("other", 1, "198.51.100.8:5060");
    let denied = bench.operations.drop_registration(&viewer(), "phone", How::default()).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
    bench.operations.drop_registration(&admin(), "phone", DRY).await.unwrap();
    let gone = bench.operations.drop_registration(&admin(), "phone", How::default()).await.unwrap();
    assert_eq!(gone.extension_number, "101");
    let of = async |user: &str, id: &str| -> Result<_, OpError> {
        bench.operations.drop_registration_of(&admin(), Some(user), id, How::default()).await
    };
    assert_eq!(of("9", "other").await.unwrap_err().kind(), Kind::NotFound);
    of("1", "urn:uuid:other").await.unwrap();
    assert_eq!(of("1", "urn:uuid:other").await.unwrap_err().kind(), Kind::NotFound);
    assert!(bench.operations.registrations(&ListOptions::default()).await.unwrap().items.is_empty());
    let audit = bench.store().audit_rows(9).await.unwrap();
    assert_eq!(audit.iter().filter(|row| row.what == "registration.drop").count(), 2);
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert!(events[0].message.contains("ended the registration of 101"), "{events:?}");
}

#[tokio::test]
async fn an_explanation_says_who_is_registered_and_who_was_known_from_an_address() {
    let bench = Bench::new().await;
    bench.fill().await;
    bench.signalling.known.lock().unwrap().extend([
        ("198.51.100.77".parse().unwrap(), ExtensionId(1), bench.now()),
        ("198.51.100.77".parse().unwrap(), ExtensionId(99), bench.now()),
    ]);
    let explanation = bench.operations.explain(&admin(), "198.51.100.77").await.unwrap();
    assert_eq!(explanation.registered[0].extension_number, "101");
    assert_eq!((explanation.known.len(), explanation.known[0].extension_number.as_str()), (1, "101"));
    // Registered now, and never known: what is registered is asked for itself.
    bench.signalling.register("mapped", 1, "[::ffff:198.51.100.79]:5060");
    let registered = bench.operations.explain(&admin(), "198.51.100.79").await.unwrap();
    assert_eq!((registered.registered.len(), registered.known.len()), (1, 0));
    let nobody = bench.operations.explain(&admin(), "198.51.100.78").await.unwrap();
    assert!(nobody.registered.is_empty() && nobody.known.is_empty());
}

#[tokio::test]
async fn a_block_that_would_cut_a_registered_phone_off_says_which_and_needs_force() {
    let bench = Bench::new().await;
    bench.fill().await;
    let error = bench.operations.add_rule(&admin(), request("198.51.100.0/24", Action::Block)).await.unwrap_err();
    assert_eq!(error.code, "NEEDS_FORCE");
    assert!(error.message.contains("phone 101"), "{error}");
    let forced = AddRule { force: true, ..request("198.51.100.0/24", Action::Block) };
    bench.operations.add_rule(&admin(), forced).await.unwrap();
}
