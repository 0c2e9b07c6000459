//! Room for the contract suite.
