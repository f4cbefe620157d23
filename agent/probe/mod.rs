//! Questions to the outside that change nothing: gates and the plugins' own VERSION answers.
