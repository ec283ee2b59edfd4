//! Manual rules: which one speaks of a source now. Longest prefix wins, on a tie allow; a rule whose time is
//! over leaves the word to the next one that covers the source.

use crate::{
    abi::{MAPPED, address4, prefix, settings::SHORT_LENGTHS_WORD, tick},
    hash,
    tables::RuleMaps,
    word,
};

/// What the manual rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// An address of the appliance.
    Own,
    /// Allow.
    Allow,
    /// Block.
    Block,
}

impl Said {
    /// From a slot's code.
    #[inline(always)]
    pub const fn of(code: u64) -> Said {
        match code {
            address4::OWN => Said::Own,
            address4::ALLOW => Said::Allow,
            address4::BLOCK => Said::Block,
            _ => Said::Nothing,
        }
    }
    /// As a slot's code.
    #[inline(always)]
    pub const fn code(self) -> u64 {
        match self {
            Said::Nothing => 0,
            Said::Own => address4::OWN,
            Said::Allow => address4::ALLOW,
            Said::Block => address4::BLOCK,
        }
    }
}

/// What the rules say of a source.
#[inline(always)]
pub fn say<T: RuleMaps>(t: &T, v6: bool, hi: u64, lo: u64) -> Said {
    if !v6 {
        return say4(t, lo as u32);
    }
    let Some(bucket) = t.lengths6(hash::lengths6(hi, t.seed())) else { return Said::Nothing };
    let Some(settings) = t.settings() else { return Said::Nothing };
    // SAFETY: a bucket has two words; the settings are the one element of `SETTINGS`.
    let (long, short) = unsafe { (word::load(bucket), word::load(settings.cast::<u64>().add(SHORT_LENGTHS_WORD))) };
    if long | short == 0 {
        return Said::Nothing;
    }
    Said::of(t.walk(hi, lo, 1, tick(t.now())))
}

/// What the rules say of an IPv4 source, where no rule is being changed.
///
/// The class of the /24 says where to ask; the slot of the address goes before the prefixes, and these before
/// the base. A rule that changes may leave the place to which the class, read before, points: what was read is
/// good if the class is still the same at the end, and if there was one place only. Else [`say4_again`].
#[inline(always)]
fn say4<T: RuleMaps>(t: &T, address: u32) -> Said {
    let Some(summary) = t.summary4(address >> 18) else { return Said::Nothing };
    // SAFETY: a word of the summary.
    if unsafe { word::load(summary) } >> ((address >> 12) & 63) & 1 == 0 {
        return Said::Nothing;
    }
    let Some(word) = t.class4(address >> 12) else { return Said::Nothing };
    let shift = ((address >> 8) & 15) * 4;
    // SAFETY: a word of the class map.
    let class = unsafe { word::load(word) } >> shift & 15;
    if class & (address4::EXACT | address4::CONSULT) == 0 {
        return base4(class);
    }
    let now = tick(t.now());
    if class & address4::EXACT != 0 {
        let said = match at_home(t, address, now) {
            Some(said) => said,
            None => Said::of(t.exact4(address, now)),
        };
        if said != Said::Nothing {
            return said;
        }
        // SAFETY: as above.
        if class & address4::CONSULT == 0 && unsafe { word::load(word) } >> shift & 15 == class {
            return base4(class);
        }
    }
    Said::of(t.say4_again(address, now))
}

#[inline(always)]
const fn base4(class: u64) -> Said {
    match class & address4::BASE {
        address4::ALLOW => Said::Allow,
        address4::BLOCK => Said::Block,
        _ => Said::Nothing,
    }
}

/// How often an IPv4 source is asked about again because a rule was being changed meanwhile.
const ROUNDS: usize = 4;

/// As `say4`, with the prefixes, until nothing changed meanwhile: the class, and the slot that was not there,
/// are the same at the end.
#[inline(always)]
pub fn say4_again<T: RuleMaps>(t: &T, address: u32, now: u64) -> Said {
    let Some(word) = t.class4(address >> 12) else { return Said::Nothing };
    let shift = ((address >> 8) & 15) * 4;
    // SAFETY: a word of the class map.
    let mut class = unsafe { word::load(word) } >> shift & 15;
    let mut said = Said::Nothing;
    let mut round = 0;
    while round < ROUNDS {
        if class & address4::EXACT != 0 {
            said = Said::of(t.exact4(address, now));
            if said != Said::Nothing {
                return said;
            }
        }
        said = base4(class);
        let mut moved = false;
        if class & address4::CONSULT != 0 {
            let walked = Said::of(t.walk(0, MAPPED | u64::from(address), 0, now));
            if walked != Said::Nothing {
                said = walked;
            }
            if class & address4::EXACT != 0 {
                moved = t.exact4(address, now) != Said::Nothing.code();
            }
        }
        // SAFETY: as above.
        let again = unsafe { word::load(word) } >> shift & 15;
        if again == class && !moved {
            return said;
        }
        class = again;
        round += 1;
    }
    said
}

/// The rule of a single IPv4 address if its home line knows, without a branch a slot: which of them it is in nobody
/// can foretell. `None`: [`exact4`] has to look.
#[inline(always)]
fn at_home<T: RuleMaps>(t: &T, address: u32, now: u64) -> Option<Said> {
    let words = t.address4(hash::address4(address, t.seed()).home)?;
    let mut found = 0;
    let mut i = 0;
    while i < address4::SLOTS {
        // SAFETY: a line has these words.
        let other = (unsafe { word::load(words.add(i)) } ^ u64::from(address)) as u32;
        found |= is_zero(other) * (i as u64 + 1);
        i += 1;
    }
    if found == 0 {
        // SAFETY: as above.
        return (unsafe { word::load(words.add(address4::SPILLED)) } == 0).then_some(Said::Nothing);
    }
    let i = (found - 1) as usize & 7;
    // SAFETY: as above.
    let slot = unsafe { word::load(words.add(i)) };
    let code = address4::slot_code(slot);
    // Address 0 looks like a free slot; a slot may have changed since.
    if address4::slot_address(slot) != address || code == 0 {
        return None;
    }
    let expiry = address4::slot_expiry(slot);
    if expiry != 0 && now >= expiry {
        return Some(Said::Nothing);
    }
    // SAFETY: as above.
    unsafe { hit(t, words.add(address4::HITS + i), address4::slot_generation(slot), now) };
    Some(Said::of(code))
}

/// 1 for 0, 0 for everything else.
#[inline(always)]
fn is_zero(word: u32) -> u64 {
    u64::from(word).wrapping_sub(1) >> 63
}

/// Counts a hit of a rule.
///
/// # Safety
/// `word` is the hit word of a live table.
#[inline(always)]
unsafe fn hit<T: RuleMaps>(t: &T, word: *mut u64, generation: u64, now: u64) {
    if t.counts_hits() {
        // SAFETY: the caller's promise; a lost hit under contention is accepted.
        unsafe { word::store(word, address4::hit(word::load(word), generation, now)) };
    }
}

/// The rule of a single IPv4 address, at a tick.
#[inline(always)]
pub fn exact4<T: RuleMaps>(t: &T, address: u32, now: u64) -> Said {
    let places = hash::address4(address, t.seed());
    let mut line = places.home;
    let mut round = 0;
    while round < 2 {
        let Some(words) = t.address4(line) else { return Said::Nothing };
        let mut i = 0;
        while i < address4::SLOTS {
            // SAFETY: a line has eight words.
            let slot = unsafe { word::load(words.add(i)) };
            let code = address4::slot_code(slot);
            if address4::slot_address(slot) == address && code != 0 {
                let expiry = address4::slot_expiry(slot);
                if expiry != 0 && now >= expiry {
                    return Said::Nothing;
                }
                // SAFETY: a line has a hit word for each slot.
                unsafe { hit(t, words.add(address4::HITS + i), address4::slot_generation(slot), now) };
                return Said::of(code);
            }
            i += 1;
        }
        // SAFETY: a line has eight words.
        if unsafe { word::load(words.add(address4::SPILLED)) } == 0 {
            return Said::Nothing;
        }
        line = places.other;
        round += 1;
    }
    Said::Nothing
}

/// Asks the prefixes in which a source lies, longest first.
#[inline(always)]
pub fn walk<T: RuleMaps>(t: &T, hi: u64, lo: u64, v6: bool, now: u64) -> Said {
    if !v6 {
        let Some(lengths) = t.lengths4(lo as u32 >> 16) else { return Said::Nothing };
        // SAFETY: a word of the length lists.
        let list = unsafe { [word::load(lengths), 0] };
        return through(t, hi, lo, list, 129, 97, now);
    }
    if let Some(bucket) = t.lengths6(hash::lengths6(hi, t.seed())) {
        // SAFETY: a bucket has two words.
        let list = unsafe { list(bucket) };
        let said = through(t, hi, lo, list, 129, prefix::SHORT + 1, now);
        if said != Said::Nothing {
            return said;
        }
    }
    let Some(settings) = t.settings() else { return Said::Nothing };
    // SAFETY: the one element of `SETTINGS`.
    let short = unsafe { list(settings.cast::<u64>().add(SHORT_LENGTHS_WORD)) };
    through(t, hi, lo, short, prefix::SHORT, 1, now)
}

/// Reads a list of two words as it stood at one moment; all lengths, if it is being changed.
///
/// # Safety
/// Two words of a table.
#[inline(always)]
unsafe fn list(words: *mut u64) -> [u64; 2] {
    // SAFETY: the caller's promise.
    let [first, second, again] = unsafe { [word::load(words), word::load(words.add(1)), word::load(words)] };
    if first == again { [first, second] } else { [prefix::ALL, 0] }
}

/// Tries the codes of a list, or all of a range where the list was too short for them.
#[inline(always)]
fn through<T: RuleMaps>(t: &T, hi: u64, lo: u64, mut list: [u64; 2], longest: u8, shortest: u8, now: u64) -> Said {
    if list[0] & 0xff == prefix::ALL {
        let mut code = longest;
        while code >= shortest {
            let said = Said::of(t.probe(hi, lo, u64::from(code), now));
            if said != Said::Nothing {
                return said;
            }
            code -= 1;
        }
        return Said::Nothing;
    }
    let mut i = 0;
    while i < 16 {
        let code = list[0] & 0xff;
        if code == 0 || code > 129 {
            break;
        }
        if may_hold(t, hi, lo, code as u8) {
            let said = Said::of(t.probe(hi, lo, code, now));
            if said != Said::Nothing {
                return said;
            }
        }
        list = [list[0] >> 8 | list[1] << 56, list[1] >> 8];
        i += 1;
    }
    Said::Nothing
}

/// Whether the sets of the prefix of one length in which a source lies may hold it: one word answers for most
/// prefixes that are no rule, and spares the call.
#[inline(always)]
fn may_hold<T: RuleMaps>(t: &T, hi: u64, lo: u64, code: u8) -> bool {
    let (hi, lo) = network(hi, lo, code);
    let places = hash::prefix(hi, lo, code, t.seed());
    let Some(tags) = t.tags(places.home) else { return false };
    // SAFETY: a word of the tag map.
    let tags = unsafe { word::load(tags) };
    // A byte of the low half that is 0 where the tag is; the high half says what spilled.
    let differs = tags ^ (u64::from(places.tag) * 0x0101_0101);
    differs.wrapping_sub(0x0101_0101) & !differs & 0x8080_8080 != 0 || tags >> 32 != 0
}

/// The network of `code` (length plus one) in which an address lies.
#[inline(always)]
pub const fn network(hi: u64, lo: u64, code: u8) -> (u64, u64) {
    // Without a branch: this is done for many lengths in a row, and for the verifier each doubles what follows.
    let len = code as u64 - 1;
    // All ones below 64 bits, and from 64 to 127.
    let short = 0u64.wrapping_sub((len >> 6).wrapping_sub(1) >> 63);
    let long = 0u64.wrapping_sub(len >> 6 & 1);
    let host = u64::MAX >> (len & 63);
    (hi & !(host & short), lo & !(short | host & long))
}

/// The rule of the prefix of one length (as a code) in which a source lies, at a tick.
#[inline(always)]
pub fn probe<T: RuleMaps>(t: &T, hi: u64, lo: u64, code: u8, now: u64) -> Said {
    let (hi, lo) = network(hi, lo, code);
    let places = hash::prefix(hi, lo, code, t.seed());
    let mut set = places.home;
    let mut round = 0;
    while round < 2 {
        let Some(tags_word) = t.tags(set) else { return Said::Nothing };
        // SAFETY: a word of the tag map.
        let tags = unsafe { word::load(tags_word) };
        let mut spilled = tags >> 32;
        let mut i = 0;
        while i < prefix::SLOTS {
            if (tags >> (8 * i)) as u8 == places.tag {
                let said = entry(t, set, i, hi, lo, code, now);
                if said != Said::Nothing {
                    return said;
                }
                // An entry that made room since the tags were read is in its other set by now.
                // SAFETY: as above.
                spilled = unsafe { word::load(tags_word) } >> 32;
            }
            i += 1;
        }
        if spilled == 0 {
            return Said::Nothing;
        }
        set = places.other;
        round += 1;
    }
    Said::Nothing
}

/// Reads an entry as a whole: its identity is the same before and after, or it is being rewritten.
#[inline(always)]
fn entry<T: RuleMaps>(t: &T, set: u32, i: usize, hi: u64, lo: u64, code: u8, now: u64) -> Said {
    let Some(words) = t.prefix(set) else { return Said::Nothing };
    // SAFETY: a set has SLOTS × 4 words, and `i` is below SLOTS.
    let (identity, until) = unsafe {
        let words = words.add(i * prefix::SLOT_WORDS);
        let identity = word::load(words.add(3));
        if identity as u8 != code || word::load(words) != hi || word::load(words.add(1)) != lo {
            return Said::Nothing;
        }
        let until = word::load(words.add(2));
        if word::load(words.add(3)) != identity {
            return Said::Nothing;
        }
        (identity, until)
    };
    if identity & prefix::OWN != 0 {
        return Said::Own;
    }
    let allow = until & prefix::FOREVER;
    let block = until >> 32;
    let said = if allow == prefix::FOREVER || now < allow {
        Said::Allow
    } else if block == prefix::FOREVER || now < block {
        Said::Block
    } else {
        return Said::Nothing;
    };
    // SAFETY: a set has a hit word for each entry.
    unsafe { hit(t, words.add(i * prefix::SLOT_WORDS + prefix::Entry::WORDS), prefix::generation(identity), now) };
    said
}
