//! Recovers the records of the state directory.

use super::ledger;
use super::node::NODE_FILE;
use super::pins::{LearnedPin, PINS_FILE};
use super::{Ledger, Store, StoreError};
use crate::model::NodeFacts;

impl Store {
    /// Recovers the records of the state directory: what is damaged is set aside, and the ledger is written again from what
    /// can be read of it and from `known`. Modes and owners are set right. The caller must hold the lock. Returns what was
    /// set aside, a sentence each.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn recover_records(&self, known: &Ledger) -> Result<Vec<String>, StoreError> {
        let mut told = Vec::new();
        let (state, owner) = (&self.state, self.owner);
        let (mut ledger, damage) = match self.load_ledger() {
            Err(StoreError::Damaged(damage)) => (Ledger::salvage(state, owner), Some(damage)),
            ledger => (ledger?, None),
        };
        if let Some(damage) = &damage {
            told.push(ledger::FILE.set_aside(state, damage)?);
        }
        // A ledger that is empty is new, because the state directory was removed.
        let is_new = ledger == Ledger::default();
        if damage.is_some() || (is_new && *known != Ledger::default()) {
            ledger.add_missing(known);
            self.save_ledger(&ledger)?;
        }
        let answers = [
            (NODE_FILE, NODE_FILE.parse::<NodeFacts>(state, owner).err()),
            (
                PINS_FILE,
                PINS_FILE.parse::<Vec<LearnedPin>>(state, owner).err(),
            ),
        ];
        for (record, error) in answers {
            match error {
                None => {}
                Some(StoreError::Damaged(damage)) => told.push(record.set_aside(state, &damage)?),
                Some(error) => return Err(error),
            }
        }
        for record in [ledger::FILE, NODE_FILE, PINS_FILE] {
            record.fix_mode_and_owner(state, owner)?;
        }
        Ok(told)
    }

    /// What was set aside when the state directory was opened, a sentence each.
    #[must_use]
    pub fn list_recovered(&self) -> &[String] {
        &self.recovered
    }
}
