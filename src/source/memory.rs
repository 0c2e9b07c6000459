//! A source in memory, for docs and tests.
