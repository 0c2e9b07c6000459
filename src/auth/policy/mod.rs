//! Policies of IAM: what they say, and what follows from it.
