//! How good something is, for colours and shapes.

/// How good something is. Each renderer has a colour for it, and always shows a word or a shape as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be, but it works.
    Odd,
    /// Wrong.
    Bad,
    /// It is there, and does not matter.
    Quiet,
}
