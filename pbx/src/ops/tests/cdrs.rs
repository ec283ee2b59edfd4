//! Call records: the same whether the store or the memory looks for them, and as text.

use std::time::Duration;

use pbx_core::call::{CallId, Disposition, EndedBy, Record};

use super::*;
use crate::ops::{CdrView, ExportFormat, Kind, ListOptions, OpError, fake::ended_call};

/// Records that differ in what can be asked for.
fn records() -> Vec<Record> {
    let dispositions = Disposition::ALL.into_iter().cycle();
    (0..200_u64)
        .zip(dispositions)
        .map(|(number, disposition)| {
            let answered = disposition == Disposition::Answered;
            let ended = ended_call(0);
            Record {
                id: CallId(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                started: ended.started.saturating_add(Duration::from_secs(number / 3)),
                caller_number: format!("{}", 101 + number % 4).into(),
                caller_name: if number % 3 == 0 { "".into() } else { "Änne O'Neil".into() },
                callee_number: if number % 5 == 0 { "".into() } else { "BOB".into() },
                dialled: if number % 2 == 0 { "Bob".into() } else { "102".into() },
                answered: ended.answered.filter(|_| answered),
                billed: Duration::from_millis(if answered { number * 500 } else { 0 }),
                disposition,
                status: if number % 7 == 0 { 0 } else { 486 },
                cause: (number % 3) as u8,
                ended_by: (number % 2 == 0).then_some(EndedBy::Caller),
                why: if number % 8 == 0 { "100 % of _ports are in use".into() } else { "".into() },
                ..ended
            }
        })
        .collect()
}

async fn list(bench: &Bench, filter: &str, order: &str, search: &str) -> Vec<CdrView> {
    let mut items = Vec::new();
    loop {
        let options = ListOptions {
            filter: Some(filter.into()),
            orderby: Some(order.into()),
            search: Some(search.into()),
            skip: Some(items.len()),
            count: Some(true),
            ..ListOptions::default()
        };
        let page = bench.operations.cdrs(&admin(), &options).await.unwrap();
        let came = page.items.len();
        items.extend(page.items);
        if came < 100 {
            assert_eq!(page.count, Some(items.len()), "{filter}");
            return items;
        }
    }
}

async fn export(bench: &Bench, options: &ListOptions, format: ExportFormat) -> Result<String, OpError> {
    let mut export = bench.operations.export_cdrs(&admin(), options, format)?;
    let mut text = String::new();
    while let Some(piece) = export.next().await? {
        text += &piece;
    }
    Ok(text)
}

#[tokio::test]
async fn the_store_finds_and_sorts_what_the_memory_would() {
    let bench = Bench::new().await;
    bench.store().keep_calls(&records()).await.unwrap();
    let all = list(&bench, "", "", "").await;
    assert_eq!(all.len(), 200);
    assert!(all.is_sorted_by_key(|record| std::cmp::Reverse(record.started_at)));
    for (filter, order, search, some) in [
        ("caller_number eq '101'", "", "", true),
        ("caller_number ne '101' and dialled eq 'bob'", "caller_number", "", true),
        ("caller_name eq null", "", "", true),
        ("caller_name ne null and callee_number ne 'bob'", "", "", true),
        ("caller_number gt '102' or caller_number le '101'", "caller_number desc,started_at", "", true),
        ("billed_seconds gt 60 and billed_seconds lt 90", "billed_seconds", "", true),
        ("billed_seconds ge 0", "status,cause desc", "", true),
        ("status eq null", "", "", true),
        ("status lt 500", "dialled desc", "", true),
        ("started_at ge 2026-11-23T00:00:00Z", "answered_at", "", true),
        ("answered_at eq null and ended_by eq null", "", "", true),
        ("disposition eq 'NO_ANSWER' or disposition eq 'busy'", "disposition", "", true),
        ("contains(why,'_PORTS') or contains(why,'0 %')", "", "", true),
        ("startswith(caller_name,'ä')", "", "", false),
        ("startswith(caller_name,'Änne') and endswith(caller_name,'o''neil')", "", "", true),
        ("endswith(callee_number,'')", "", "", true),
        ("startswith(id,'9e37')", "id", "", true),
        ("tenant eq 'DEFAULT'", "tenant", "", true),
        ("tenant eq 'other'", "", "", false),
        ("", "", "NEIL", true),
        ("cause ge 1", "", "ports", true),
        ("", "", "%", true),
    ] {
        let options = ListOptions {
            filter: Some(filter.into()),
            orderby: Some(order.into()),
            search: Some(search.into()),
            ..ListOptions::default()
        };
        let expected = crate::ops::query::every(&options, all.clone());
        let found = list(&bench, filter, order, search).await;
        assert_eq!(found, expected, "{filter} {order} {search}");
        assert_eq!(!found.is_empty(), some, "{filter} {order} {search}");
    }
}

#[tokio::test]
async fn one_record_is_shown_with_its_legs_by_a_short_id() {
    let bench = Bench::new().await;
    let ids = [0x0ff, 0x1ff, 1, u64::MAX << 1];
    bench.store().keep_calls(&ids.map(ended_call)).await.unwrap();
    let show = async |id: &str| bench.operations.cdr(&admin(), id).await;
    for (text, id) in [("0fF", ids[0]), ("1FF", ids[1]), ("1", ids[2]), ("e", ids[3]), ("fffffffffffffffe", ids[3])] {
        let shown = show(text).await.unwrap();
        assert_eq!((shown.record.id, shown.legs.len()), (CallId(id).to_string(), 2), "{text}");
    }
    let several = show("ff").await.unwrap_err();
    assert!(several.message.contains("00000000000001ff, 00000000000000ff"), "{several}");
    assert_eq!(show("3").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(show("x").await.unwrap_err().kind(), Kind::Usage);
    let denied = bench.operations.cdr(&viewer(), "0ff").await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
    assert!(denied.message.contains("who calls whom"), "{denied}");
    assert_eq!(bench.operations.cdrs(&viewer(), &ListOptions::default()).await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn an_export_is_whole_and_what_looks_like_a_formula_is_a_text() {
    let bench = Bench::new().await;
    let evil = Record {
        dialled: "=HYPERLINK(\"http://x\",\"a\")".into(),
        caller_name: "+1 @home".into(),
        why: "-2+3".into(),
        answered: None,
        callee_number: "".into(),
        disposition: Disposition::Failed,
        ..ended_call(2)
    };
    let early = ended_call(1).started.saturating_sub(Duration::from_secs(1));
    bench.store().keep_calls(&[Record { started: early, ..ended_call(1) }, evil]).await.unwrap();
    let csv = export(&bench, &ListOptions::default(), ExportFormat::Csv).await.unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "id,tenant,caller_number,caller_name,dialled,callee_number,started_at,ringing_at,answered_at,ended_at,\
         billed_seconds,disposition,status,cause,ended_by,why,codec,caller_packets,caller_lost,callee_packets,callee_lost"
    );
    assert!(lines[1].contains(",'+1 @home,\"'=HYPERLINK(\"\"http://x\"\",\"\"a\"\")\",,"), "{}", lines[1]);
    assert!(lines[1].contains(",failed,200,16,callee,'-2+3,PCMA/8000,"), "{}", lines[1]);
    assert!(lines[2].starts_with("0000000000000001,default,101,Alice,102,102,"), "{}", lines[2]);
    assert!(lines[2].ends_with(",61,answered,200,16,callee,,PCMA/8000,3050,2,3050,2"), "{}", lines[2]);
    let only = ListOptions { filter: Some("disposition eq 'failed'".into()), ..ListOptions::default() };
    let json = export(&bench, &only, ExportFormat::Json).await.unwrap();
    let line: serde_json::Value = serde_json::from_str(json.trim_end()).unwrap();
    assert_eq!((&line["why"], &line["legs"][1]["kind"]), (&"-2+3".into(), &"branch".into()));
    let denied = bench.operations.export_cdrs(&viewer(), &only, ExportFormat::Json).err().unwrap();
    assert_eq!(denied.kind(), Kind::Denied);
}

#[tokio::test]
async fn a_long_export_comes_in_pieces_and_calls_that_come_meanwhile_are_not_in_it() {
    let bench = Bench::new().await;
    let all: Vec<Record> = (0..1234).map(|id| ended_call(id + 1)).collect();
    bench.store().keep_calls(&all).await.unwrap();
    let mut export = bench.operations.export_cdrs(&admin(), &ListOptions::default(), ExportFormat::Csv).unwrap();
    let mut ids = Vec::new();
    while let Some(piece) = export.next().await.unwrap() {
        assert!(piece.lines().count() <= 501);
        ids.extend(piece.lines().filter(|line| !line.starts_with("id")).map(|line| line[..16].to_owned()));
        let later = ended_call(1).started.saturating_add(Duration::from_secs(ids.len() as u64));
        bench.store().keep_calls(&[Record { started: later, ..ended_call(9000 + ids.len() as u64) }]).await.unwrap();
    }
    let expected: Vec<String> = (1..=1234).rev().map(|id| CallId(id).to_string()).collect();
    assert_eq!(ids, expected);
}
