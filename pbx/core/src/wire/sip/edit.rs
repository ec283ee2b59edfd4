//! The same message with some of it changed. What is not touched comes out byte for byte and in its order: unknown
//! headers, folding, raw URIs, a name's spelling.

use super::{
    Message, Name,
    reply::{line, text, write},
};

/// Changes to a message, kept until they are written. Positions are those of the message as it came.
#[derive(Debug)]
pub struct Edit<'a> {
    bytes: &'a [u8],
    head: Head<'a>,
    splices: Vec<Splice<'a>>,
}

/// What an edit must know of the message.
#[derive(Debug)]
struct Head<'a> {
    start_line: std::ops::Range<usize>,
    headers_end: usize,
    body: std::ops::Range<usize>,
    lines: Vec<Place<'a>>,
}

#[derive(Debug)]
struct Place<'a> {
    name: Name,
    text: &'a [u8],
    whole: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// Bytes that go out, and what comes in.
#[derive(Debug)]
struct Splice<'a> {
    start: usize,
    end: usize,
    with: Piece<'a>,
}

#[derive(Debug)]
enum Piece<'a> {
    Nothing,
    /// Bytes on one line.
    Text(&'a [u8]),
    /// A whole header.
    Line(&'a str, &'a [u8]),
    /// A header that holds a number.
    Number(&'a str, usize),
    /// Bytes as they are.
    Raw(&'a [u8]),
}

impl<'a> Edit<'a> {
    /// An edit of `message` that changes nothing yet. Without a change, [`Edit::write`] gives the bytes that came.
    pub fn of<B: AsRef<[u8]>>(message: &'a Message<B>) -> Self {
        let index = message.index();
        let range = |range: super::lexer::Range| usize::from(range.start)..usize::from(range.end);
        let bytes = message.bytes();
        let lines = index
            .lines()
            .map(|line| Place {
                name: line.name,
                text: &bytes[usize::from(line.whole.start)..usize::from(line.name_end)],
                whole: range(line.whole),
                value: range(line.value),
            })
            .collect();
        let head = Head {
            start_line: range(index.start_line),
            headers_end: usize::from(index.headers_end),
            body: range(index.body),
            lines,
        };
        Self { bytes, head, splices: Vec::new() }
    }

    /// Replaces the start line, which is given without its line break.
    pub fn start_line(&mut self, line: &'a [u8]) -> &mut Self {
        let range = self.head.start_line.clone();
        self.splice(range, Piece::Text(line))
    }

    /// Replaces the bytes of `view`, which must be a slice of the message: a URI, a parameter, a list's item. Does
    /// nothing when it is none.
    pub fn replace_part(&mut self, view: &[u8], with: &'a [u8]) -> &mut Self {
        let start = (view.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        match start.checked_add(view.len()) {
            Some(end) if end <= self.bytes.len() => self.splice(start..end, Piece::Text(with)),
            _ => self,
        }
    }

    /// Replaces the value of the header at `position` ([`super::Header::position`]); its name stays as it was written.
    pub fn replace_at(&mut self, position: usize, value: &'a [u8]) -> &mut Self {
        match self.head.lines.get(position) {
            Some(place) => {
                let range = place.value.clone();
                self.splice(range, Piece::Text(value))
            }
            None => self,
        }
    }

    /// Removes the header at `position`.
    pub fn remove_at(&mut self, position: usize) -> &mut Self {
        match self.head.lines.get(position) {
            Some(place) => {
                let range = place.whole.clone();
                self.splice(range, Piece::Nothing)
            }
            None => self,
        }
    }

    /// Makes `value` the only one of the headers of that name: the first is replaced, the others go. Appended when
    /// there is none.
    pub fn set(&mut self, name: Name, value: &'a [u8]) -> &mut Self {
        let mut places = self.positions(|place| place.name == name);
        if places.is_empty() {
            return self.append(name.text(), value);
        }
        let first = places.remove(0);
        self.replace_at(first, value);
        places.into_iter().fold(self, |edit, position| edit.remove_at(position))
    }

    /// Removes every header of that name.
    pub fn remove(&mut self, name: Name) -> &mut Self {
        self.positions(|place| place.name == name).into_iter().fold(self, |edit, position| edit.remove_at(position))
    }

    /// Removes every header that is spelled so, in any case: one without a [`Name`].
    pub fn remove_other(&mut self, name: &str) -> &mut Self {
        self.positions(|place| place.text.eq_ignore_ascii_case(name.as_bytes()))
            .into_iter()
            .fold(self, |edit, position| edit.remove_at(position))
    }

    /// Adds a header before all others of its name, and behind the start line when there is none: a `Via`, a
    /// `Record-Route`.
    pub fn prepend(&mut self, name: Name, value: &'a [u8]) -> &mut Self {
        let first = self.head.lines.iter().find(|place| place.name == name).or(self.head.lines.first());
        let at = first.map_or(self.head.headers_end, |place| place.whole.start);
        self.splice(at..at, Piece::Line(name.text(), value))
    }

    /// Adds a header behind all others.
    pub fn append(&mut self, name: &'a str, value: &'a [u8]) -> &mut Self {
        let at = self.head.headers_end;
        self.splice(at..at, Piece::Line(name, value))
    }

    /// Replaces the body, with `Content-Length` and `Content-Type` to go with it. An empty one has no type.
    pub fn body(&mut self, content_type: &'a [u8], body: &'a [u8]) -> &mut Self {
        self.remove(Name::ContentLength);
        if body.is_empty() {
            self.remove(Name::ContentType);
        } else {
            self.set(Name::ContentType, content_type);
        }
        let at = self.head.headers_end;
        self.splice(at..at, Piece::Number("Content-Length", body.len()));
        let range = self.head.body.start..self.bytes.len();
        self.splice(range, Piece::Raw(body))
    }

    fn positions(&self, wanted: impl Fn(&Place<'a>) -> bool) -> Vec<usize> {
        (0..self.head.lines.len()).filter(|position| wanted(&self.head.lines[*position])).collect()
    }

    fn splice(&mut self, range: std::ops::Range<usize>, with: Piece<'a>) -> &mut Self {
        self.splices.push(Splice { start: range.start, end: range.end, with });
        self
    }

    /// Appends the changed message to `out`. Of changes that overlap, the one that begins first is made, and of those
    /// that begin together the one that was asked for first.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        // Stable: what is inserted at one place stays in the order in which it was asked for.
        self.splices.sort_by_key(|splice| splice.start);
        let mut at = 0;
        for splice in &self.splices {
            if splice.start < at {
                continue;
            }
            out.extend_from_slice(&self.bytes[at..splice.start]);
            match splice.with {
                Piece::Nothing => {}
                Piece::Text(bytes) => text(out, bytes),
                Piece::Line(name, value) => line(out, name.as_bytes(), value),
                Piece::Number(name, number) => write(out, format_args!("{name}: {number}\r\n")),
                Piece::Raw(bytes) => out.extend_from_slice(bytes),
            }
            at = splice.end;
        }
        out.extend_from_slice(&self.bytes[at..]);
    }
}
