//! Makes an input that shows a difference as small as it can be.

/// How often `differs` is asked at most.
const TRIES: usize = 20_000;

/// The largest part that is tried at every place.
const SMALL: usize = 48;

/// Takes parts out of a list as long as it still `differs`: halves, then smaller and smaller pieces side by side, then
/// small pieces of every size at every place, which finds what only goes as a whole, such as brackets with their content.
pub(super) fn minimise<T: Clone>(input: Vec<T>, differs: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut input = Shrinking {
        input,
        differs,
        tries: 0,
    };
    let mut size = input.input.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < input.input.len() {
            if !input.loses(start, size) {
                start += size;
            }
        }
        size /= 2;
    }
    loop {
        let before = input.input.len();
        let mut start = 0;
        while start < input.input.len() {
            if !(1..=SMALL).rev().any(|size| input.loses(start, size)) {
                start += 1;
            }
        }
        if input.input.len() == before {
            return input.input;
        }
    }
}

struct Shrinking<T, F> {
    input: Vec<T>,
    differs: F,
    tries: usize,
}

impl<T: Clone, F: FnMut(&[T]) -> bool> Shrinking<T, F> {
    /// Leaves this piece out for good if the rest still differs.
    fn loses(&mut self, start: usize, size: usize) -> bool {
        let end = start + size;
        if end > self.input.len() || self.tries == TRIES {
            return false;
        }
        self.tries += 1;
        let without = [&self.input[..start], &self.input[end..]].concat();
        let still_differs = (self.differs)(&without);
        if still_differs {
            self.input = without;
        }
        still_differs
    }
}

#[test]
fn what_is_left_is_what_matters() {
    let has_both = |text: &[u8]| text.contains(&b'x') && text.contains(&b'7');
    let input = b"a long text with an x somewhere and a 7 behind it".to_vec();
    assert_eq!(minimise(input, has_both), b"x7");
    let balanced = |text: &[u8]| {
        let count = |byte| text.iter().filter(|one| **one == byte).count();
        text.contains(&b'x') && count(b'[') == count(b']')
    };
    assert_eq!(minimise(b"[[a]x[b]]".to_vec(), balanced), b"[x]");
}
