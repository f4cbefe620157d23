//! Gates that did not hold, asked again beside turns: one that does not answer takes seconds.

use tokio::task::JoinHandle;

use crate::reconcile::Context;

/// The question under way, if any.
#[derive(Debug, Default)]
pub(super) struct Gates {
    asking: Option<JoinHandle<Vec<String>>>,
    /// Whether something happened since it was asked, which its answer may not know of.
    outdated: bool,
}

impl Gates {
    /// Asks all of them, at once if nothing is being asked, else afterwards.
    pub(super) fn ask(&mut self, keeper: &Context) {
        if self.asking.is_some() {
            self.outdated = true;
            return;
        }
        let keeper = keeper.clone();
        self.asking = Some(tokio::spawn(async move { keeper.ask_gates().await }));
    }

    /// Ends with an answer: why each gate that does not hold does not; never where none was asked.
    pub(super) async fn answered(&mut self) -> Vec<String> {
        let Some(asking) = &mut self.asking else {
            return std::future::pending().await;
        };
        let answer = asking.await;
        self.asking = None;
        answer.unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Asks once more where the last answer may be outdated.
    pub(super) fn ask_on(&mut self, keeper: &Context) {
        if std::mem::take(&mut self.outdated) {
            self.ask(keeper);
        }
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}
