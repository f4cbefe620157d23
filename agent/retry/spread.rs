//! Numbers derived from the node's name, so that the nodes of a cluster do not do the same thing at the same moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// The first decision: where in the window a node begins.
const START: u64 = 0;

/// A sequence of numbers for each node, evenly distributed over all nodes and all decisions.
///
/// The numbers are hashes of the node's name rather than random: they are the same after each restart, an operator can
/// compute which nodes come first, and a simulation of a fleet decides as the fleet does.
#[derive(Debug)]
pub struct Spread {
    node: String,
    drawn: AtomicU64,
}

impl Spread {
    /// The numbers of the node with this name.
    #[must_use]
    pub fn for_node(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            drawn: AtomicU64::new(START + 1),
        }
    }

    /// The number of the `n`th decision, anywhere in 64 bits.
    #[must_use]
    pub fn number(&self, n: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(n.to_be_bytes());
        hash.update(self.node.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The number of the next decision.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.number(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// How long this node waits before its first download. All nodes of the cluster are spread over `window`.
    #[must_use]
    pub fn start_delay(&self, window: Duration) -> Duration {
        take_share(window, self.number(START))
    }
}

/// The share of `whole` for a number: nothing for zero, all of it for the largest number.
#[must_use]
pub fn take_share(whole: Duration, number: u64) -> Duration {
    let nanos = ((whole.as_nanos().min(u128::from(u64::MAX)) + 1) * u128::from(number)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: u32 = 5000;
    const BUCKETS: usize = 50;

    /// Names as node pools give them: alike but for a number at the end, at the front, or in the middle.
    fn names() -> Vec<Vec<String>> {
        let of = |name: fn(u32) -> String| (0..NODES).map(name).collect();
        vec![
            of(|n| format!("aks-nodepool1-31718369-vmss{n:06}")),
            of(|n| format!("node-{n}")),
            of(|n| {
                format!(
                    "ip-10-{}-{}-7.eu-central-1.compute.internal",
                    n / 250,
                    n % 250
                )
            }),
        ]
    }

    /// Chi-square of the counts, which for 49 degrees of freedom is above 85.35 in one case of a thousand.
    fn unevenness(numbers: impl Iterator<Item = u64>) -> f64 {
        let mut counts = [0_u32; BUCKETS];
        let mut all = 0_u32;
        for number in numbers {
            counts[((u128::from(number) * BUCKETS as u128) >> 64) as usize] += 1;
            all += 1;
        }
        let expected = f64::from(all) / BUCKETS as f64;
        let squares = counts.iter();
        squares
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum()
    }

    #[test]
    fn names_that_differ_in_a_digit_are_spread_evenly() {
        for names in names() {
            for decision in 0..4 {
                let numbers = names
                    .iter()
                    .map(|name| Spread::for_node(name).number(decision));
                let unevenness = unevenness(numbers);
                assert!(unevenness < 85.35, "{}: {unevenness}", names[0]);
            }
        }
    }

    #[test]
    fn the_decisions_of_one_node_are_spread_evenly() {
        let spread = Spread::for_node("node-1");
        let unevenness = unevenness((0..NODES).map(|_| spread.next_number()));
        assert!(unevenness < 85.35, "{unevenness}");
    }

    #[test]
    fn a_node_decides_the_same_after_a_restart_and_its_neighbour_does_not() {
        let row = |name: &str| {
            let spread = Spread::for_node(name);
            [(); 8].map(|()| spread.next_number())
        };
        assert_eq!(row("node-1"), row("node-1"));
        assert_ne!(row("node-1"), row("node-2"));
        assert_eq!(row("node-1")[0], Spread::for_node("node-1").number(1));
    }

    #[test]
    fn the_start_lies_within_the_window() {
        let minute = Duration::from_secs(60);
        assert_eq!(take_share(minute, 0), Duration::ZERO);
        assert_eq!(take_share(minute, 1 << 63), minute / 2);
        assert!(take_share(minute, u64::MAX) <= minute);
        assert!(take_share(Duration::MAX, u64::MAX) <= Duration::from_nanos(u64::MAX));
        assert_eq!(
            Spread::for_node("node-1").start_delay(Duration::ZERO),
            Duration::ZERO
        );
    }
}
