//! Asks closed gates again. This runs beside passes, because a gate that does not answer takes seconds.

use tokio::task::JoinHandle;

use crate::reconcile::{Context, ask_gates};

/// The question to all gates.
#[derive(Debug, Default)]
pub(super) enum GateQuery {
    /// No question is under way.
    #[default]
    Idle,
    /// The gates are being asked.
    Running {
        task: JoinHandle<Vec<String>>,
        /// Whether something has happened since the question began, so that the answer may be outdated.
        is_outdated: bool,
    },
}

/// The answer of all gates.
pub(super) struct GateAnswer {
    /// For each closed gate, the reason.
    pub(super) closed: Vec<String>,
    /// Whether the gates have to be asked again.
    pub(super) is_outdated: bool,
}

impl GateQuery {
    /// Asks all gates now. If they are being asked already, that answer will be outdated.
    pub(super) fn start(&mut self, context: &Context) {
        match self {
            Self::Running { is_outdated, .. } => *is_outdated = true,
            Self::Idle => {
                let context = context.clone();
                *self = Self::Running {
                    task: tokio::spawn(async move { ask_gates(&context).await }),
                    is_outdated: false,
                };
            }
        }
    }

    /// Waits for the answer; for ever if there is no question. Cancel-safe: the question stays until it is answered.
    pub(super) async fn wait_for_answer(&mut self) -> GateAnswer {
        let Self::Running { task, is_outdated } = self else {
            return std::future::pending().await;
        };
        let closed = task.await;
        let answer = GateAnswer {
            closed: closed.unwrap_or_else(|error| vec![error.to_string()]),
            is_outdated: *is_outdated,
        };
        *self = Self::Idle;
        answer
    }
}

impl Drop for GateQuery {
    fn drop(&mut self) {
        if let Self::Running { task, .. } = self {
            task.abort();
        }
    }
}
