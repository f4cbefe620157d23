//! What we hold and what we placed: verified plugin bytes, and the ledger.
