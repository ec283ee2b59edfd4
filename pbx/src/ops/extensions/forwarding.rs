//! Where calls to an extension go that it does not take: what is to change, checked. One check for a single extension
//! and for each row of a list; whether the number exists shows when it is called.

use pbx_core::{directory::Forwarding, number, settings::Settings};

use super::draft::Wrong;

/// The API's names of the numbers, in the order of [`numbers`].
pub(super) const NUMBERS: [&str; 4] = ["forward_always", "forward_busy", "forward_no_answer", "forward_offline"];
/// The API's name of the time.
pub(super) const SECONDS: &str = "no_answer_seconds";

/// How it was, and what is to change. What is not named stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwards<'a> {
    /// How it was.
    pub was: Forwarding,
    /// Numbers in the order of [`NUMBERS`]; an empty text takes one away.
    pub numbers: [Option<&'a str>; 4],
    /// How long it rings.
    pub seconds: Option<u64>,
    /// Whether its phones do not ring.
    pub do_not_disturb: Option<bool>,
}

impl Forwards<'_> {
    /// How it is to be, for the extension of this number; or every fault.
    pub(super) fn check(self, own: &str, settings: &Settings) -> Result<Forwarding, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut forwarding = self.was;
        for ((field, to), change) in NUMBERS.into_iter().zip(numbers_mut(&mut forwarding)).zip(self.numbers) {
            if let Some(text) = change.map(str::trim) {
                let checked = number::check(text, &settings.sip.emergency_numbers);
                match checked {
                    _ if text.is_empty() => *to = None,
                    Ok(()) => *to = Some(text.to_owned()),
                    Err(error) => wrong.push(Wrong::new(field, error.to_string())),
                }
            }
            // One that stays may have become it.
            if to.as_deref() == Some(own) {
                let what = format!("{own} is the extension's own number: write 3 to 64 digits of another one");
                wrong.push(Wrong::new(field, what));
            }
        }
        if let Some(seconds) = self.seconds {
            let range = Forwarding::SECONDS;
            match u16::try_from(seconds).ok().filter(|seconds| range.contains(seconds)) {
                Some(seconds) => forwarding.no_answer_seconds = seconds,
                None => wrong.push(Wrong::new(
                    SECONDS,
                    format!("{seconds} is out of range: write {} to {} seconds", range.start(), range.end()),
                )),
            }
        }
        forwarding.do_not_disturb = self.do_not_disturb.unwrap_or(forwarding.do_not_disturb);
        if wrong.is_empty() { Ok(forwarding) } else { Err(wrong) }
    }
}

/// The numbers, in the order of [`NUMBERS`].
pub(super) fn numbers(forwarding: &Forwarding) -> [&Option<String>; 4] {
    let Forwarding { always, busy, no_answer, offline, no_answer_seconds: _, do_not_disturb: _ } = forwarding;
    [always, busy, no_answer, offline]
}

fn numbers_mut(forwarding: &mut Forwarding) -> [&mut Option<String>; 4] {
    let Forwarding { always, busy, no_answer, offline, no_answer_seconds: _, do_not_disturb: _ } = forwarding;
    [always, busy, no_answer, offline]
}
