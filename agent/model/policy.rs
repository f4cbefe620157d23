//! What the operator wants done about drift and about foreign conflists.

use super::label_enum;

label_enum! {
    /// Whether drift is fixed or only reported.
    pub enum DriftPolicy {
        /// Fix it.
        Heal = "heal",
        /// Observe and report, write nothing.
        Report = "report",
    }
}

label_enum! {
    /// What to do about a foreign conflist that the runtime would take instead of the declared one.
    pub enum ForeignConflists {
        /// Report it and leave it.
        Report = "report",
        /// Rename it to a name that no runtime reads. Uninstall restores the name.
        Disable = "disable",
    }
}
