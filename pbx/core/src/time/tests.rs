use super::*;
use proptest::prelude::*;

#[test]
fn known_times_are_printed_and_read_back() {
    for (millis, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        (1_795_412_400_250, "2026-11-23T05:40:00.250Z"),
        (Timestamp::MIN.0, "0000-01-01T00:00:00Z"),
        (Timestamp::MAX.0, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        assert_eq!(text.parse(), Ok(Timestamp::from_millis(millis)), "{text}");
    }
}

#[test]
fn offsets_fractions_and_leap_seconds_are_understood() {
    for (text, same) in [
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),
        ("1996-12-19t16:39:57-08:00", "1996-12-20T00:39:57Z"),
        ("1985-04-12T23:20:50.52z", "1985-04-12T23:20:50.520Z"),
        ("2026-11-23 05:40:00.2509999+01:00", "2026-11-23T04:40:00.250Z"),
    ] {
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), same);
    }
}

#[test]
fn what_is_not_rfc_3339_is_refused_with_an_example() {
    for text in [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T05:40:00",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-11-31T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T05:60:00Z",
        "2026-11-23T05:40:61Z",
        "2026-11-23T05:40:00.Z",
        "2026-11-23T05:40:00+1:00",
        "2026-11-23T05:40:00+24:00",
        "2026-11-23T05:40:00Zx",
        "+026-11-23T05:40:00Z",
        "9999-12-31T23:59:59-01:00",
        "２026-11-23T05:40:00Z",
        "20261123T054000Z",
    ] {
        let error = text.parse::<Timestamp>().expect_err(text);
        assert!(error.to_string().contains("2026-11-23T05:40:00Z"), "{error}");
    }
}

#[test]
fn spans_are_read_as_they_are_typed() {
    for (text, millis) in [
        ("30s", 30_000),
        ("90s", 90_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1d12h", 129_600_000),
        ("500ms", 500),
        ("1m", 60_000),
        ("1m500ms", 60_500),
        ("0s", 0),
        (" 5m ", 300_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
}

#[test]
fn spans_that_could_be_misread_are_refused() {
    for text in [
        "",
        "h",
        "2 h",
        "-2h",
        "2h2h",
        "30s1h",
        "2H",
        "1.5h",
        "2hours",
        "2h30",
        "é",
        "99999999999999999999s",
        "18446744073709551615h",
    ] {
        parse_duration(text).expect_err(text);
    }
    assert_eq!(
        parse_duration("30").unwrap_err().to_string(),
        "30 has no unit: write 30s for seconds, 30m for minutes, 30h for hours or 30d for days"
    );
}

#[test]
fn adding_stops_at_the_ends_of_time() {
    assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
    assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
    assert_eq!(Timestamp::MIN.saturating_since(Timestamp::MAX), Duration::ZERO);
    let hour = Duration::from_secs(3600);
    assert_eq!(Timestamp::EPOCH.saturating_add(hour).saturating_since(Timestamp::EPOCH), hour);
}

proptest! {
    #[test]
    fn a_printed_time_is_read_back(millis in Timestamp::MIN.0..=Timestamp::MAX.0) {
        let time = Timestamp::from_millis(millis);
        prop_assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn a_printed_span_is_read_back(millis: u64) {
        let span = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(span)), Ok(span));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC*|[0-9TZ:.+ -]{0,40}|[0-9wdhms]{0,30}") {
        let _ = text.parse::<Timestamp>();
        let _ = parse_duration(&text);
    }
}
