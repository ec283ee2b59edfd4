//! Why a call ended, as the telephone network counts it (ITU-T Q.850). For the record of a call, and the `Reason` of a
//! request that ends one.

/// Normal call clearing.
pub const NORMAL: u8 = 16;
/// Normal, unspecified: what is not in the table.
pub const UNSPECIFIED: u8 = 31;

/// The cause that a final status means (RFC 3398 §8.2.6.1).
///
/// The RFC leaves three to circumstances. 487 follows a CANCEL, which it maps to 16. 488 and 606 are about media here,
/// and a bearer that is not to be had is 65.
pub const fn q850(status: u16) -> u8 {
    match status {
        200..=299 | 487 => NORMAL,
        404 | 485 | 604 => 1,
        486 | 600 => 17,
        480 => 18,
        401..=403 | 407 | 603 => 21,
        410 => 22,
        482 | 483 => 25,
        484 => 28,
        502 => 38,
        400 | 481 | 500 | 503 => 41,
        405 => 63,
        488 | 606 => 65,
        406 | 415 | 501 => 79,
        408 | 504 => 102,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        _ => UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_rfc_has_the_cause_that_it_names() {
        let table = [
            (400, 41),
            (401, 21),
            (402, 21),
            (403, 21),
            (404, 1),
            (405, 63),
            (406, 79),
            (407, 21),
            (408, 102),
            (410, 22),
            (413, 127),
            (414, 127),
            (415, 79),
            (416, 127),
            (420, 127),
            (421, 127),
            (423, 127),
            (480, 18),
            (481, 41),
            (482, 25),
            (483, 25),
            (484, 28),
            (485, 1),
            (486, 17),
            (500, 41),
            (501, 79),
            (502, 38),
            (503, 41),
            (504, 102),
            (505, 127),
            (513, 127),
            (600, 17),
            (603, 21),
            (604, 1),
        ];
        for (status, cause) in table {
            assert_eq!(q850(status), cause, "{status}");
        }
    }

    #[test]
    fn what_the_rfc_leaves_open_is_clearing_media_or_unspecified() {
        assert_eq!((q850(200), q850(202), q850(487)), (16, 16, 16));
        assert_eq!((q850(488), q850(606)), (65, 65));
        for status in [0, 180, 302, 422, 491, 580, 699, u16::MAX] {
            assert_eq!(q850(status), 31, "{status}");
        }
    }
}
