//! Methods (RFC 3261 §7.1 and its extensions), case-sensitive.

use std::fmt;

macro_rules! methods {
    ($($variant:ident = $text:literal, $rfc:literal;)*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method<'a> {
            $(#[doc = concat!("`", $text, "` (RFC ", $rfc, ")")] $variant,)*
            /// A method that no RFC here names, as it was written.
            Other(&'a [u8]),
        }

        impl<'a> Method<'a> {
            /// Those with a name of their own.
            pub const KNOWN: &'static [Method<'static>] = &[$(Method::$variant),*];

            /// The method that `text` spells (RFC 3261 §7.1: case-sensitive).
            pub fn of(text: &'a [u8]) -> Self {
                match text {
                    $(text if text == $text.as_bytes() => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }

            /// As it is written.
            pub fn text(self) -> &'a [u8] {
                match self {
                    $(Self::$variant => $text.as_bytes(),)*
                    Self::Other(text) => text,
                }
            }

            /// The same, living as long as one likes; `None` of an unknown one.
            pub fn known(self) -> Option<Method<'static>> {
                match self {
                    $(Self::$variant => Some(Method::$variant),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

methods! {
    Invite = "INVITE", "3261";
    Ack = "ACK", "3261";
    Bye = "BYE", "3261";
    Cancel = "CANCEL", "3261";
    Options = "OPTIONS", "3261";
    Register = "REGISTER", "3261";
    Prack = "PRACK", "3262";
    Subscribe = "SUBSCRIBE", "6665";
    Notify = "NOTIFY", "6665";
    Publish = "PUBLISH", "3903";
    Info = "INFO", "6086";
    Refer = "REFER", "3515";
    Message = "MESSAGE", "3428";
    Update = "UPDATE", "3311";
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_read_as_it_is_written() {
        for method in Method::KNOWN {
            assert_eq!(Method::of(method.text()), *method);
            assert_eq!(method.known(), Some(*method));
        }
        assert_eq!(Method::of(b"invite"), Method::Other(b"invite"));
        assert_eq!(Method::of(b"invite").known(), None);
        assert_eq!(Method::of(b"").text(), b"");
    }
}
