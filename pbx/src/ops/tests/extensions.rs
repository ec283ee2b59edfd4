//! Extensions: made, changed, removed, imported, exported.

use pbx_core::directory::{ExtensionId, Ha1, TenantId};

use super::*;
use crate::ops::{
    AddExtension, Did, ExtensionAnswer, ImportExtensions, Kind, ListOptions, OpError, SetPassword, UpdateExtension,
    User,
};

const PASSWORD: &str = "kT7wq2mz";

fn extension(number: &str) -> AddExtension {
    AddExtension {
        extension_number: number.into(),
        extension_password: Some(PASSWORD.into()),
        ..AddExtension::default()
    }
}

impl Bench {
    async fn extension(&self, number: &str) -> ExtensionAnswer {
        self.operations.add_extension(&admin(), extension(number)).await.unwrap()
    }

    async fn users(&self) -> Vec<User> {
        self.operations.extensions(&ListOptions::default()).await.unwrap().items
    }

    /// What signalling checks credentials of this extension with.
    fn ha1(&self, number: &str) -> Option<Ha1> {
        let directory = self.signalling.directory.lock().unwrap().clone();
        directory.extension(TenantId(1), number).map(|extension| extension.ha1.clone())
    }

    async fn import(&self, text: &str, update: bool) -> Result<crate::ops::ExtensionsImported, OpError> {
        let request = ImportExtensions { text: text.into(), update, dry_run: false };
        self.operations.import_extensions(&admin(), request).await
    }
}

#[tokio::test]
async fn an_extension_is_stored_encrypted_told_to_signalling_audited_and_survives_a_restart() {
    let bench = Bench::new().await;
    let answer = bench.extension("101").await;
    assert_eq!((answer.did, answer.item.id.as_deref(), answer.generated_password), (Did::Added, Some("1"), None));
    assert_eq!(bench.signalling.called(), ["directory"]);
    assert_eq!(bench.ha1("101"), Some(Ha1::of("101", "pbx", PASSWORD)));
    let audit = bench.store().audit_rows(10).await.unwrap();
    assert_eq!((audit[0].what.as_str(), audit[0].object.as_str()), ("extension.add", "101 of default"));
    let stored = bench.store().accounts().await.unwrap();
    assert!(!String::from_utf8_lossy(&stored.extensions[0].sealed_password).contains(PASSWORD));
    let (bench, _) = bench.restarted().await;
    assert_eq!(bench.ha1("101"), Some(Ha1::of("101", "pbx", PASSWORD)));
    assert_eq!(bench.extension("102").await.item.id.as_deref(), Some("2"));
    let numbers: Vec<String> = bench.users().await.into_iter().map(|user| user.extension_number).collect();
    assert_eq!(numbers, ["101", "102"]);
}

#[tokio::test]
async fn no_password_is_in_audit_events_or_what_is_printed() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    let request = SetPassword { extension_password: Some("nX4-other-9q".into()), dry_run: false };
    assert!(!format!("{:?} {request:?}", extension("101")).contains("kT7"));
    let answer = bench.operations.set_extension_password(&admin(), "1", request).await.unwrap();
    bench.operations.set_extension_password(&admin(), "1", SetPassword::default()).await.unwrap();
    bench.import("number,password\n102,nX4-other-9q\n", false).await.unwrap();
    let told = format!(
        "{:?} {:?} {answer:?}",
        bench.store().audit_rows(100).await.unwrap(),
        bench.operations.events(&ListOptions::default(), None).await.unwrap()
    );
    assert!(told.contains("extension.password") && !told.contains("kT7") && !told.contains("nX4"), "{told}");
}

#[tokio::test]
async fn a_password_that_is_not_given_is_made_good_enough_and_told_once() {
    let bench = Bench::new().await;
    let request = AddExtension { extension_number: "101".into(), ..AddExtension::default() };
    let answer = bench.operations.add_extension(&admin(), request).await.unwrap();
    let password = answer.generated_password.unwrap();
    assert_eq!(bench.ha1("101"), Some(Ha1::of("101", "pbx", &password)));
    let again = bench.operations.set_extension_password(&admin(), "1", SetPassword::default()).await.unwrap();
    let other = again.generated_password.unwrap();
    assert_ne!(other, password);
    assert_eq!(bench.ha1("101"), Some(Ha1::of("101", "pbx", &other)));
}

#[tokio::test]
async fn a_password_against_the_policy_names_every_rule_and_changes_nothing() {
    let bench = Bench::new().await;
    let request = AddExtension { extension_password: Some("1012345".into()), ..extension("101") };
    let error = bench.operations.add_extension(&admin(), request).await.unwrap_err();
    let detail = error.detail.clone().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        detail.lines().count() >= 4 && detail.lines().all(|line| line.starts_with("extension_password: ")),
        "{detail}"
    );
    assert!(!detail.contains("1012345"), "{detail}");
    assert!(bench.users().await.is_empty());
    assert!(bench.signalling.called().is_empty());
}

#[tokio::test]
async fn a_number_that_is_taken_or_begins_like_an_emergency_number_is_refused() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    for (number, what) in [("101", "taken"), ("1120", "112"), ("99", "3 to 64"), ("10a", "'a'")] {
        let error = bench.operations.add_extension(&admin(), extension(number)).await.unwrap_err();
        assert!(error.message.starts_with("extension_number: ") && error.message.contains(what), "{error}");
    }
    let many = AddExtension { display_name: Some("x".repeat(101)), caller_id: Some("a\nb".into()), ..extension("1") };
    let error = bench.operations.add_extension(&admin(), many).await.unwrap_err();
    assert_eq!(error.detail.unwrap().lines().count(), 3);
}

#[tokio::test]
async fn what_is_changed_keeps_the_rest_and_a_new_number_keeps_the_password() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    bench.signalling.register("a", 1, "198.51.100.7:5060");
    let name = UpdateExtension { display_name: Some("Alice".into()), ..UpdateExtension::default() };
    let answer = bench.operations.update_extension(&admin(), "1", name.clone()).await.unwrap();
    assert_eq!((answer.did, answer.item.registered, answer.notes.len()), (Did::Updated, Some(1), 0));
    assert_eq!(bench.operations.update_extension(&admin(), "1", name).await.unwrap().did, Did::Unchanged);
    let number = UpdateExtension { extension_number: Some("202".into()), ..UpdateExtension::default() };
    let answer = bench.operations.update_extension(&admin(), "1", number).await.unwrap();
    assert_eq!(answer.item.display_name.as_deref(), Some("Alice"));
    assert_eq!(answer.notes, ["1 registration ends with it"]);
    assert_eq!(bench.ha1("202"), Some(Ha1::of("202", "pbx", PASSWORD)));
    assert_eq!(bench.ha1("101"), None);
    let off = UpdateExtension { enabled: Some(false), ..UpdateExtension::default() };
    bench.operations.update_extension(&admin(), "1", off).await.unwrap();
    assert!(bench.signalling.registrations.lock().unwrap().is_empty());
    assert!(!bench.operations.extension("1").await.unwrap().enabled);
}

#[tokio::test]
async fn a_removed_extension_takes_its_registrations_along_and_a_dry_run_nothing() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    bench.signalling.register("a", 1, "198.51.100.7:5060");
    let would = bench.operations.remove_extension(&admin(), "1", DRY).await.unwrap();
    assert_eq!((would.did, would.dry_run, bench.users().await.len()), (Did::Removed, true, 1));
    bench.operations.remove_extension(&admin(), "1", How::default()).await.unwrap();
    assert!(bench.users().await.is_empty());
    assert!(bench.signalling.registrations.lock().unwrap().is_empty());
    assert_eq!(bench.operations.extension("1").await.unwrap_err().kind(), Kind::NotFound);
    let denied = bench.operations.add_extension(&viewer(), extension("101")).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
}

#[tokio::test]
async fn a_list_with_a_bad_row_names_row_and_field_and_nothing_is_imported() {
    let bench = Bench::new().await;
    bench.extension("2000").await;
    let mut text = "number,name,password,caller_id,tenant,enabled\n".to_owned();
    for row in 2..1000 {
        text += &match row {
            517 => "29x,Mallory,,,,\n".to_owned(),
            600 => "2003,Twice,,,,maybe\n".to_owned(),
            700 => "2000,There,weak,,,\n".to_owned(),
            800 => "2901,Nobody's,,,none,\n".to_owned(),
            900 => "2902,a,b,c,d,e,f\n".to_owned(),
            row => format!("{},\"Doe, John\",,,,yes\n", 2001 + row),
        };
    }
    let error = bench.import(&text, false).await.unwrap_err();
    assert_eq!((error.message.as_str(), error.kind()), ("nothing was imported, 5 bad rows", Kind::Usage));
    let detail = error.detail.unwrap();
    for wanted in [
        "row 517: number: number has 'x' in it",
        "row 600: enabled: maybe is neither",
        "row 600: number: 2003 is in row 2 already",
        "row 700: number: 2000 is there already",
        "row 700: password: The password must have 8",
        "row 800: tenant: there is no tenant none",
        "row 900: row: 7 fields, but the header has 6",
    ] {
        assert!(detail.contains(wanted), "{wanted} is not in {detail}");
    }
    assert_eq!(bench.users().await.len(), 1);
    for (text, wanted) in [
        ("", "empty"),
        ("name\nx\n", "the column number is missing"),
        ("number,colour\n", "colour is no column"),
        ("number,number\n", "twice"),
        ("number\n\"101\n", "row 2: a quotation mark is not closed"),
    ] {
        let error = bench.import(text, false).await.unwrap_err();
        assert!(error.message.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_list_is_imported_whole_with_passwords_made_where_none_are_given() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    let text = "Number;Name;Password;Enabled\r\n102;Bob;nX4-other-9q;no\r\n103;\"Ann \"\"A\"\"\";;\r\n";
    let answer = bench.import(text, false).await.unwrap();
    assert_eq!((answer.added, answer.passwords.len()), (2, 1));
    assert_eq!(bench.ha1("102"), Some(Ha1::of("102", "pbx", "nX4-other-9q")));
    let made = &answer.passwords[0];
    assert_eq!(bench.ha1("103"), Some(Ha1::of("103", "pbx", &made.extension_password)));
    assert_eq!(bench.signalling.called(), ["directory", "directory"]);

    let exported = bench.operations.export_extensions(None).unwrap();
    let header = "number,name,password,caller_id,tenant,enabled,forward_always,forward_busy,forward_no_answer,\
                  forward_offline,no_answer_seconds,do_not_disturb";
    let row = |of: &str| format!("{of},,,,,20,false\n");
    let expected = [
        format!("{header}\n"),
        row("101,,,,default,true"),
        row("102,Bob,,,default,false"),
        row("103,\"Ann \"\"A\"\"\",,,default,true"),
    ]
    .concat();
    assert_eq!(exported, expected);
    let again = bench.import(&exported, true).await.unwrap();
    assert_eq!((again.added, again.updated, again.unchanged), (0, 0, 3));
    let answer = bench.import("number,enabled\n102,yes\n", true).await.unwrap();
    assert_eq!((answer.updated, answer.passwords.len()), (1, 0));
    assert_eq!(bench.ha1("102"), Some(Ha1::of("102", "pbx", "nX4-other-9q")));
}

#[tokio::test]
async fn ten_thousand_are_imported_in_one_transaction() {
    let bench = Bench::new().await;
    let text: String = std::iter::once("number,name,password\n".to_owned())
        .chain((20_000..30_000).map(|number| format!("{number},Phone,nX4-other-9q\n")))
        .collect();
    let answer = bench.import(&text, false).await.unwrap();
    assert_eq!(answer.added, 10_000);
    assert_eq!(bench.store().accounts().await.unwrap().extensions.len(), 10_000);
    assert_eq!(bench.store().audit_rows(10).await.unwrap().len(), 1);
    assert_eq!(bench.ha1("29999"), Some(Ha1::of("29999", "pbx", "nX4-other-9q")));
}

#[tokio::test]
async fn an_extension_whose_password_cannot_be_read_is_closed_and_named_until_it_gets_another() {
    let bench = Bench::new().await;
    bench.extension("101").await;
    let mut stored = bench.store().accounts().await.unwrap().extensions;
    stored[0].sealed_password[20] ^= 1;
    let change = crate::store::AccountChange { extensions: &stored, ..Default::default() };
    bench.store().change_accounts(change).await.unwrap();
    let (bench, _) = bench.restarted().await;
    let events = bench.operations.events(&ListOptions::default(), None).await.unwrap().items;
    assert!(events[0].message.contains("nobody can register as 101"), "{events:?}");
    let in_directory =
        |bench: &Bench| bench.signalling.directory.lock().unwrap().extension_by_id(ExtensionId(1)).unwrap().enabled;
    assert!(!in_directory(&bench));
    assert!(bench.operations.extension("1").await.unwrap().enabled);
    bench.operations.set_extension_password(&admin(), "1", SetPassword::default()).await.unwrap();
    assert!(in_directory(&bench));
}

#[tokio::test]
async fn a_list_is_filtered_and_sorted_and_numbers_are_in_the_order_of_people() {
    let bench = Bench::new().await;
    for number in ["2000", "101", "300"] {
        bench.extension(number).await;
    }
    bench.signalling.register("a", 3, "198.51.100.7:5060");
    let list = async |filter: &str| {
        let options = ListOptions { filter: Some(filter.into()), count: Some(true), ..ListOptions::default() };
        let page = bench.operations.extensions(&options).await.unwrap();
        page.items.into_iter().map(|user| user.extension_number).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["101", "300", "2000"]);
    assert_eq!(list("registered gt 0").await, ["300"]);
    assert_eq!(list("startswith(extension_number,'2')").await, ["2000"]);
    assert_eq!(bench.operations.extension_of("300", None).await.unwrap().id.as_deref(), Some("3"));
}
