//! SMART on FHIR: tokens, the keys that they are checked with, and scopes.
