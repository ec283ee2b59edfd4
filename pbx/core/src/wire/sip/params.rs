//! Parameters behind a semicolon: of a URI, a Via, an address. Read when asked for; none is stored.

use super::scan::{Quoted, find_outside, trim, trim_end};

/// A parameter list as it came, from its first semicolon on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, compared without regard to case.
    pub name: &'a [u8],
    /// Behind the equals sign, quotes and all; `None` without an equals sign.
    pub value: Option<&'a [u8]>,
    /// From the semicolon to the next one.
    pub whole: &'a [u8],
}

impl<'a> Param<'a> {
    /// The value without its quotes.
    pub fn text(&self) -> Option<Quoted<'a>> {
        Quoted::parse(self.value?)
    }

    /// Whether the name is `name`, in any case.
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl<'a> Params<'a> {
    /// The list in `text`, which is empty or begins with a semicolon.
    pub fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The list as it came.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The parameters in order; empty ones are skipped.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> + Clone {
        Iter { rest: self.0 }
    }

    /// The first parameter of that name.
    pub fn find(self, name: &[u8]) -> Option<Param<'a>> {
        self.iter().find(|param| param.is(name))
    }

    /// The first value of that name, quotes and all; an empty one for a parameter without a value.
    pub fn value(self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(name).map(|param| param.value.unwrap_or_default())
    }

    /// Whether a parameter of that name is there.
    pub fn has(self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

#[derive(Clone, Debug)]
struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        loop {
            let [b';', after @ ..] = self.rest else { return None };
            let length = find_outside(after, b';', false).unwrap_or(after.len());
            let (whole, rest) = self.rest.split_at(length + 1);
            self.rest = rest;
            let text = trim(&after[..length]);
            if text.is_empty() {
                continue;
            }
            let param = match memchr::memchr(b'=', text) {
                Some(equals) => {
                    Param { name: trim_end(&text[..equals]), value: Some(trim(&text[equals + 1..])), whole }
                }
                None => Param { name: text, value: None, whole },
            };
            return Some(param);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_quotes_are_minded() {
        let params = Params::new(b";  tag =\r\n 12 ;;x;q=\"a;b=c\";Tag=second ");
        assert_eq!(params.iter().count(), 4);
        assert_eq!(params.value(b"TAG"), Some(&b"12"[..]));
        assert_eq!(params.value(b"x"), Some(&b""[..]));
        assert!(params.find(b"q").unwrap().text().unwrap().is(b"a;b=c"));
        assert!(!params.has(b"b"));
        assert!(Params::new(b" ; ").is_empty());
        let whole: Vec<u8> = params.iter().flat_map(|param| param.whole).copied().collect();
        assert_eq!(whole, b";  tag =\r\n 12 ;x;q=\"a;b=c\";Tag=second ");
    }
}
