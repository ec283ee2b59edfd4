//! The daemon and its command line: touches everything, decides nothing.
