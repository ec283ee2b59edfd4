//! Forbidden User-Agents: patterns, and whether a name matches one. Asked by the receive workers for each request with
//! a User-Agent, so its cost is bounded: by the length of what is looked at and by the size of what a pattern compiles to.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// Bytes of a User-Agent that are looked at.
pub const LOOKED_AT: usize = 256;
/// What a compiled regular expression may take up, and its cache while it is matched (bytes).
const COMPILED: usize = 64 << 10;

/// One pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    typed: Box<str>,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// Anywhere in the name, in lower case.
    Part(Box<[u8]>),
    /// The whole name, in lower case.
    Whole(Box<[u8]>),
    Regex(Regex),
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would match everything.
    #[error("an empty pattern would match every User-Agent")]
    Empty,
    /// Longer than [`Pattern::MAX_BYTES`].
    #[error("{0:?}… is longer than {max} bytes", max = Pattern::MAX_BYTES)]
    Long(String),
    /// It is not a regular expression.
    #[error("/{0}/ is no regular expression: {1}")]
    Syntax(String, String),
    /// It compiles to too much.
    #[error("/{0}/ is too costly: what it compiles to is larger than {limit} KiB; use fewer repetitions", limit = COMPILED >> 10)]
    Costly(String),
    /// It matches the empty name.
    #[error("/{0}/ matches every User-Agent")]
    Everything(String),
}

impl Pattern {
    /// The longest.
    pub const MAX_BYTES: usize = 256;

    /// A part of the name, `=` and the whole name, or a regular expression between slashes. Case does not count.
    pub fn new(typed: &str) -> Result<Self, PatternError> {
        let typed = typed.trim();
        if typed.len() > Self::MAX_BYTES {
            return Err(PatternError::Long(typed.chars().take(20).collect()));
        }
        let regex = typed.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let how = match (regex, typed.strip_prefix('=')) {
            (Some(""), _) | (_, Some("")) => return Err(PatternError::Empty),
            _ if typed.is_empty() => return Err(PatternError::Empty),
            (Some(regex), _) => How::Regex(compile(regex)?),
            (None, Some(whole)) => How::Whole(whole.to_ascii_lowercase().into_bytes().into()),
            (None, None) => How::Part(typed.to_ascii_lowercase().into_bytes().into()),
        };
        Ok(Self { typed: typed.into(), how })
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// `lower` is the beginning of a name in lower case, `name` the same as it came.
    fn matches(&self, name: &[u8], lower: &[u8]) -> bool {
        match &self.how {
            How::Part(part) => memchr::memmem::find(lower, part).is_some(),
            How::Whole(whole) => lower == &**whole,
            How::Regex(regex) => regex.is_match(name),
        }
    }
}

fn compile(regex: &str) -> Result<Regex, PatternError> {
    let short = || regex.chars().take(40).collect::<String>();
    let built = RegexBuilder::new(regex)
        .unicode(false)
        .case_insensitive(true)
        .size_limit(COMPILED)
        .dfa_size_limit(COMPILED)
        .nest_limit(16)
        .build();
    let built = built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::Costly(short()),
        error => {
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
            PatternError::Syntax(short(), last.to_owned())
        }
    })?;
    if built.is_match(b"") {
        return Err(PatternError::Everything(short()));
    }
    Ok(built)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// All patterns, compiled.
#[derive(Clone, Debug, Default)]
pub struct Agents(Vec<Pattern>);

impl Agents {
    /// Compiles patterns that were checked when they were set; one that does not compile is left out.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().filter_map(|typed| Pattern::new(typed).ok()).collect())
    }

    /// The first pattern that a User-Agent matches. The empty one matches none.
    pub fn forbidden(&self, name: &[u8]) -> Option<&Pattern> {
        let name = &name[..name.len().min(LOOKED_AT)];
        if name.is_empty() || self.0.is_empty() {
            return None;
        }
        let mut lower = [0; LOOKED_AT];
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.0.iter().find(|pattern| pattern.matches(name, lower))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_a_whole_name_and_a_regular_expression_match_in_any_case() {
        let agents = Agents::new(["friendly-scanner", "=Z", r"/^sip[- ]?cli(/|$)/"]);
        let found = |name: &str| agents.forbidden(name.as_bytes()).map(|pattern| pattern.typed().to_owned());
        assert_eq!(found("Friendly-Scanner 3").as_deref(), Some("friendly-scanner"));
        assert_eq!(found("z").as_deref(), Some("=Z"));
        assert_eq!(found("SIP CLI/v1.8").as_deref(), Some(r"/^sip[- ]?cli(/|$)/"));
        for name in ["", "Zoiper", "Yealink SIP-T46U 108.86", "my sipcli"] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn the_shipped_list_forbids_scanners_and_no_telephone() {
        let settings = crate::settings::Settings::default();
        let agents = Agents::new(settings.guard.agents.list.iter());
        for scanner in ["friendly-scanner", "sipvicious", "VaxSIPUserAgent/3.5", "Nmap NSE", "sundayddr"] {
            assert!(agents.forbidden(scanner.as_bytes()).is_some(), "{scanner}");
        }
        for phone in [
            "Yealink SIP-T46U 108.86.0.20",
            "baresip v1.0.0 (x86_64/Linux)",
            "Grandstream GXP2170 1.0.11.64",
            "snom870/8.7",
            "PolycomVVX-VVX_410-UA/5.9",
            "Linphone/4.4",
            "MicroSIP/3.21.3",
            "Zoiper rv2.10",
            "Cisco/SPA504G-7.6.2f",
            "",
        ] {
            assert!(agents.forbidden(phone.as_bytes()).is_none(), "{phone}");
        }
    }

    #[test]
    fn patterns_that_match_everything_cost_too_much_or_are_none_are_refused() {
        let refused = |typed: &str| Pattern::new(typed).unwrap_err().to_string();
        assert!(refused("").contains("every User-Agent"));
        assert!(refused("=").contains("every User-Agent"));
        assert!(refused("//").contains("every User-Agent"));
        assert!(refused("/a*/").contains("every User-Agent"));
        assert!(refused("/(unclosed/").contains("unclosed group"), "{}", refused("/(unclosed/"));
        assert!(refused("/((a{100}){100}){100}/").contains("too costly"));
        assert!(refused(&"x".repeat(257)).contains("256 bytes"));
    }

    #[test]
    fn only_the_beginning_of_a_name_is_looked_at() {
        let agents = Agents::new(["scanner"]);
        let mut name = vec![b'x'; 1 << 16];
        name.extend_from_slice(b"scanner");
        assert!(agents.forbidden(&name).is_none());
    }
}
