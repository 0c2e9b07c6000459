//! Journals made up, and what is read again.
