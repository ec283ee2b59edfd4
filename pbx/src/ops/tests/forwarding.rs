//! Where calls go that an extension does not take.

use pbx_core::directory::{Forwarding, TenantId};

use super::*;
use crate::ops::{AddExtension, Did, ImportExtensions, Kind, OpError, SetSettings, UpdateExtension};

impl Bench {
    async fn with_extension(number: &str) -> Self {
        let bench = Self::new().await;
        let request = AddExtension { extension_number: number.into(), ..AddExtension::default() };
        bench.operations.add_extension(&admin(), request).await.unwrap();
        bench
    }

    async fn set(&self, update: UpdateExtension) -> Result<Did, OpError> {
        self.operations.update_extension(&admin(), "1", update).await.map(|answer| answer.did)
    }

    /// What signalling goes by.
    fn forwarding(&self, number: &str) -> Forwarding {
        let directory = self.signalling.directory.lock().unwrap().clone();
        directory.extension(TenantId(1), number).unwrap().forwarding.clone()
    }
}

fn always(number: &str) -> UpdateExtension {
    UpdateExtension { forward_always: Some(number.into()), ..UpdateExtension::default() }
}

#[tokio::test]
async fn forwarding_is_told_to_signalling_audited_and_survives_a_restart() {
    let bench = Bench::with_extension("101").await;
    assert_eq!(bench.forwarding("101"), Forwarding::default());
    let update = UpdateExtension {
        forward_always: Some(" 200 ".into()),
        forward_busy: Some("201".into()),
        forward_no_answer: Some("5550101".into()),
        forward_offline: Some("202".into()),
        no_answer_seconds: Some(300),
        do_not_disturb: Some(true),
        ..UpdateExtension::default()
    };
    assert_eq!(bench.set(update.clone()).await.unwrap(), Did::Updated);
    assert_eq!(bench.set(update).await.unwrap(), Did::Unchanged);
    let expected = Forwarding {
        always: Some("200".into()),
        busy: Some("201".into()),
        no_answer: Some("5550101".into()),
        offline: Some("202".into()),
        no_answer_seconds: 300,
        do_not_disturb: true,
    };
    assert_eq!(bench.forwarding("101"), expected);
    let audit = bench.store().audit_rows(1).await.unwrap();
    let (before, after) = (audit[0].before.as_deref().unwrap(), audit[0].after.as_deref().unwrap());
    assert!(before.contains(r#""forward_always":null"#) && after.contains(r#""forward_always":"200""#), "{after}");
    let (bench, _) = bench.restarted().await;
    assert_eq!(bench.forwarding("101"), expected);
    // An empty text takes one away, and what is not named stays: a new name and a new password, too.
    bench.set(always("")).await.unwrap();
    bench.set(UpdateExtension { display_name: Some("Alice".into()), ..UpdateExtension::default() }).await.unwrap();
    bench.operations.set_extension_password(&admin(), "1", Default::default()).await.unwrap();
    assert_eq!(bench.forwarding("101"), Forwarding { always: None, ..expected });
    let user = bench.operations.extension("1").await.unwrap();
    assert_eq!((user.forward_always, user.forward_busy.as_deref(), user.do_not_disturb), (None, Some("201"), true));
}

#[tokio::test]
async fn what_is_wrong_names_field_and_range_and_changes_nothing() {
    let bench = Bench::with_extension("101").await;
    let short = |number: &str| Some(number.to_owned());
    let none = UpdateExtension::default();
    let long = "2".repeat(65);
    for (update, field, what) in [
        (always("12"), "forward_always", "3 to 64 digits"),
        (UpdateExtension { forward_busy: short("20a"), ..none.clone() }, "forward_busy", "'a'"),
        (UpdateExtension { forward_busy: short("+4930123"), ..none.clone() }, "forward_busy", "'+'"),
        (UpdateExtension { forward_no_answer: short(&long), ..none.clone() }, "forward_no_answer", "3 to 64"),
        (UpdateExtension { forward_offline: short("112"), ..none.clone() }, "forward_offline", "emergency number 112"),
        (UpdateExtension { forward_offline: short("9115"), ..none.clone() }, "forward_offline", "emergency number 911"),
        (always("101"), "forward_always", "own number"),
        (UpdateExtension { no_answer_seconds: Some(4), ..none.clone() }, "no_answer_seconds", "5 to 300 seconds"),
        (UpdateExtension { no_answer_seconds: Some(301), ..none.clone() }, "no_answer_seconds", "5 to 300 seconds"),
        (UpdateExtension { no_answer_seconds: Some(u64::MAX), ..none.clone() }, "no_answer_seconds", "5 to 300"),
    ] {
        let error = bench.set(update).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message.starts_with(&format!("{field}: ")) && error.message.contains(what), "{error}");
    }
    let several = UpdateExtension { no_answer_seconds: Some(1), display_name: short(&"x".repeat(101)), ..always("1") };
    assert_eq!(bench.set(several).await.unwrap_err().detail.unwrap().lines().count(), 3);
    assert_eq!(bench.forwarding("101"), Forwarding::default());
    // A number that it is given may be one that it forwards to.
    bench.set(always("200")).await.unwrap();
    let error = bench.set(UpdateExtension { extension_number: short("200"), ..none }).await.unwrap_err();
    assert!(error.message.starts_with("forward_always: 200 is the extension's own number"), "{error}");
}

#[tokio::test]
async fn no_number_becomes_an_emergency_number_while_calls_are_forwarded_to_it() {
    let bench = Bench::with_extension("101").await;
    bench.set(always("333")).await.unwrap();
    let request = SetSettings {
        values: [("sip.emergency_numbers".to_owned(), "112,33".to_owned())].into(),
        ..SetSettings::default()
    };
    let error = bench.operations.set_settings(&admin(), request).await.unwrap_err();
    assert!(error.message.contains("101 of default, forwarded to 333 (33)"), "{error}");
}

#[tokio::test]
async fn a_list_carries_forwarding_and_what_it_has_no_column_for_stays() {
    let bench = Bench::with_extension("101").await;
    bench.set(UpdateExtension { display_name: Some("Alice".into()), ..always("200") }).await.unwrap();
    let exported = bench.operations.export_extensions(None).unwrap();
    assert!(exported.lines().next().unwrap().ends_with(",forward_offline,no_answer_seconds,do_not_disturb"));
    assert!(exported.contains("\n101,Alice,,,default,true,200,,,,20,false\n"), "{exported}");
    let import = async |text: &str| {
        let request = ImportExtensions { text: text.into(), update: true, dry_run: false };
        bench.operations.import_extensions(&admin(), request).await
    };
    assert_eq!(import(&exported).await.unwrap().unchanged, 1);
    let text = "number,forward_busy,no_answer_seconds,do_not_disturb\n101,201,,yes\n102,,30,\n";
    let answer = import(text).await.unwrap();
    assert_eq!((answer.added, answer.updated), (1, 1));
    let of_101 = bench.forwarding("101");
    assert_eq!(
        (of_101.always.as_deref(), of_101.busy.as_deref(), of_101.do_not_disturb),
        (Some("200"), Some("201"), true)
    );
    assert_eq!(bench.operations.extension("1").await.unwrap().display_name.as_deref(), Some("Alice"));
    assert_eq!(bench.forwarding("102"), Forwarding { no_answer_seconds: 30, ..Forwarding::default() });
    import("number,forward_always\n101,\n").await.unwrap();
    assert_eq!(bench.forwarding("101").always, None);
    let bad = "number,forward_always,no_answer_seconds,do_not_disturb\n101,1,4,\n102,112,soon,\n103,103,,perhaps\n";
    let detail = import(bad).await.unwrap_err().detail.unwrap();
    for wanted in [
        "row 2: forward_always: number has 1 characters",
        "row 2: no_answer_seconds: 4 is out of range: write 5 to 300 seconds",
        "row 3: forward_always: number begins with the emergency number 112",
        "row 3: no_answer_seconds: soon is no whole number: write 5 to 300 seconds",
        "row 4: forward_always: 103 is the extension's own number",
        "row 4: do_not_disturb: perhaps is neither true nor false",
    ] {
        assert!(detail.contains(wanted), "{wanted} is not in {detail}");
    }
}

#[tokio::test]
async fn forwarding_that_cannot_be_read_is_none_and_somebody_is_told() {
    let bench = Bench::with_extension("101").await;
    let mut stored = bench.store().accounts().await.unwrap().extensions;
    stored[0].forwarding = r#"{"colour":1}"#.into();
    let change = crate::store::AccountChange { extensions: &stored, ..Default::default() };
    bench.store().change_accounts(change).await.unwrap();
    let (bench, _) = bench.restarted().await;
    assert_eq!(bench.forwarding("101"), Forwarding::default());
    let events = bench.operations.events(&crate::ops::ListOptions::default(), None).await.unwrap().items;
    assert!(events.iter().any(|event| event.message.contains("where calls to 101 are forwarded")), "{events:?}");
}
