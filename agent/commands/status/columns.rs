//! Lines in columns, in colour where somebody looks.

use std::io::IsTerminal as _;

use crate::model::escape_controls;

/// How a word is meant. The words say it too: colour is a help, never the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Soft,
    Good,
    Odd,
    Bad,
}

/// Whether words get their colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Coloured,
    Bare,
}

/// One field of a line.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Paint {
    /// On a terminal, unless NO_COLOR has any value (no-color.org).
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match std::io::stdout().is_terminal() && !refused {
            true => Self::Coloured,
            false => Self::Bare,
        }
    }

    /// A text that comes from anywhere in its colour: what it holds can steer no terminal.
    pub(super) fn of(self, tone: Tone, text: &str) -> String {
        let text = escape_controls(text);
        let code = match (self, tone) {
            (Self::Bare, _) | (_, Tone::Plain) => return text.into_owned(),
            (_, Tone::Title) => "1",
            (_, Tone::Soft) => "2",
            (_, Tone::Good) => "32",
            (_, Tone::Odd) => "33",
            (_, Tone::Bad) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A field.
pub(super) fn cell(tone: Tone, text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        tone,
    }
}

/// Lines whose fields stand below each other, two blanks between them; the last one is as long as it is.
pub(super) fn columns(lines: &[Vec<Cell>], paint: Paint) -> String {
    let mut shown = String::new();
    for line in lines {
        // Blanks are written only once something follows them.
        let mut blanks = 2;
        for (at, cell) in line.iter().enumerate() {
            let width = width(cell);
            if width > 0 {
                shown.push_str(&" ".repeat(blanks));
                shown.push_str(&paint.of(cell.tone, &cell.text));
                blanks = 0;
            }
            blanks += (widest(lines, at) + 2).saturating_sub(width);
        }
        shown.push('\n');
    }
    shown
}

/// The widest field of a column; one with nothing behind it pushes nothing aside.
fn widest(lines: &[Vec<Cell>], at: usize) -> usize {
    let followed = lines.iter().filter(|line| line.len() > at + 1);
    followed
        .map(|line| width(&line[at]))
        .max()
        .unwrap_or_default()
}

/// In letters as a terminal shows them, near enough.
fn width(cell: &Cell) -> usize {
    escape_controls(&cell.text).chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<const N: usize>(fields: [&str; N]) -> Vec<Cell> {
        fields.map(|text| cell(Tone::Bad, text)).into()
    }

    #[test]
    fn fields_stand_below_each_other_and_no_line_ends_in_blanks() {
        let lines = [
            line(["ü", "b", "c"]),
            line(["long", "", "c"]),
            line(["a", "a last field pushes nothing aside"]),
            line(["a", "", ""]),
        ];
        assert_eq!(
            columns(&lines, Paint::Bare),
            "  ü     b  c\n  long     c\n  a     a last field pushes nothing aside\n  a\n"
        );
    }

    #[test]
    fn colours_change_no_width_and_texts_bring_none_of_their_own() {
        let lines = [line(["\x1b[2J", "b"]), line(["a", "b"])];
        let shown = columns(&lines, Paint::Coloured);
        let bare = shown.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
        assert_eq!(bare, columns(&lines, Paint::Bare));
        assert_eq!(bare, "  \\u{1b}[2J  b\n  a          b\n");
    }
}
