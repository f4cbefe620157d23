//! Which failures are worth another try, and when.
