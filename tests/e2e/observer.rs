//! An observer that asks the agent and the runtime all the time, and compares their answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::agent::readiness;
use crate::containerd::SOCKET;
use crate::cri::Cri;
use crate::loaded::Loaded;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// A running observer, in a thread of its own.
pub(crate) struct Observer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

/// One question to the agent, and right after its answer one to the runtime.
struct Sample {
    began: Instant,
    ended: Instant,
    /// Whether `/readyz` was 200; `None` where nobody answered.
    ready: Option<bool>,
    /// Whether the runtime said that it has our network; `None` where it did not answer.
    loaded: Option<bool>,
}

/// What the observer saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// How often it asked.
    pub(crate) samples: usize,
    /// How often readiness was lost.
    pub(crate) outages: usize,
    /// For how long at most the agent called the node ready while the runtime said otherwise.
    pub(crate) longest_disagreement: Duration,
}

impl Observer {
    /// Starts to ask.
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reported = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(watch(&reported))
        });
        Self { stop, thread }
    }

    /// Stops, and returns what it saw.
    pub(crate) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.thread.join().unwrap();
        let ready: Vec<bool> = samples.iter().filter_map(|sample| sample.ready).collect();
        let outages = ready.windows(2).filter(|pair| pair[0] && !pair[1]).count();
        Seen {
            samples: samples.len(),
            outages,
            longest_disagreement: longest_disagreement(&samples),
        }
    }
}

async fn watch(stop: &AtomicBool) -> Vec<Sample> {
    let cri = Cri::connect(Path::new(SOCKET)).await.unwrap();
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let ready = readiness().map(|answer| answer.status == 200);
        let loaded = Loaded::ask(&cri).await.ok().map(|loaded| loaded.is_ours());
        samples.push(Sample {
            began,
            ended: Instant::now(),
            ready,
            loaded,
        });
        tokio::time::sleep(PAUSE).await;
    }
    samples
}

/// From the first question of a row of wrong answers to the last answer in it.
fn longest_disagreement(samples: &[Sample]) -> Duration {
    let is_lie = |sample: &Sample| (sample.ready, sample.loaded) == (Some(true), Some(false));
    samples
        .chunk_by(|left, right| is_lie(left) == is_lie(right))
        .filter(|row| is_lie(&row[0]))
        .map(|row| row[row.len() - 1].ended - row[0].began)
        .max()
        .unwrap_or_default()
}
