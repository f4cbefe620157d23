//! Network configuration lists: parse, validate, render, and which one a runtime picks.
