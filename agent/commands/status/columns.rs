//! Lines in columns, coloured on a terminal.

use std::io::IsTerminal as _;

use crate::model::escape_controls;
use crate::view::Tone;

/// Whether words are coloured. Colours add no information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Coloured,
    Bare,
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellStyle {
    Plain,
    Title,
    Toned(Tone),
}

/// One field of a line.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: CellStyle,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::with_style(CellStyle::Plain, text)
    }

    pub(super) fn title(text: impl Into<String>) -> Self {
        Self::with_style(CellStyle::Title, text)
    }

    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self::with_style(CellStyle::Toned(tone), text)
    }

    fn with_style(style: CellStyle, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, style }
    }

    /// Its width in characters: nearly the width on a terminal.
    fn width(&self) -> usize {
        escape_controls(&self.text).chars().count()
    }
}

impl Paint {
    /// Coloured on a terminal, unless NO_COLOR has any value (no-color.org).
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match std::io::stdout().is_terminal() && !refused {
            true => Self::Coloured,
            false => Self::Bare,
        }
    }

    pub(super) fn title(self, text: &str) -> String {
        self.paint(CellStyle::Title, text)
    }

    pub(super) fn toned(self, tone: Tone, text: &str) -> String {
        self.paint(CellStyle::Toned(tone), text)
    }

    fn paint(self, style: CellStyle, text: &str) -> String {
        let text = escape_controls(text);
        let code = match (self, style) {
            (Self::Bare, _) | (_, CellStyle::Plain) => return text.into_owned(),
            (_, CellStyle::Title) => "1",
            (_, CellStyle::Toned(Tone::Quiet)) => "2",
            (_, CellStyle::Toned(Tone::Good)) => "32",
            (_, CellStyle::Toned(Tone::Odd)) => "33",
            (_, CellStyle::Toned(Tone::Bad)) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Lines with aligned fields and two blanks between them. The last field of a line may have any length.
pub(super) fn render_columns(lines: &[Vec<Cell>], paint: Paint) -> String {
    let mut shown = String::new();
    for line in lines {
        // Blanks are written only if another field follows.
        let mut blanks = 2;
        for (index, cell) in line.iter().enumerate() {
            let width = cell.width();
            if width > 0 {
                shown.push_str(&" ".repeat(blanks));
                shown.push_str(&paint.paint(cell.style, &cell.text));
                blanks = 0;
            }
            blanks += (column_width(lines, index) + 2).saturating_sub(width);
        }
        shown.push('\n');
    }
    shown
}

/// The widest field of a column. The last field of a line does not count, because nothing follows it.
fn column_width(lines: &[Vec<Cell>], index: usize) -> usize {
    let followed = lines.iter().filter(|line| line.len() > index + 1);
    followed
        .map(|line| line[index].width())
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<const N: usize>(fields: [&str; N]) -> Vec<Cell> {
        fields.map(|text| Cell::toned(Tone::Bad, text)).into()
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
            render_columns(&lines, Paint::Bare),
            "  ü     b  c\n  long     c\n  a     a last field pushes nothing aside\n  a\n"
        );
    }

    #[test]
    fn colours_change_no_width_and_texts_bring_none_of_their_own() {
        let lines = [line(["\x1b[2J", "b"]), line(["a", "b"])];
        let shown = render_columns(&lines, Paint::Coloured);
        let bare = shown.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
        assert_eq!(bare, render_columns(&lines, Paint::Bare));
        assert_eq!(bare, "  \\u{1b}[2J  b\n  a          b\n");
    }
}
