//! Calls end to end: the real daemon, phones that nobody here wrote and phones of our own, with media.

mod peers;
