//! What the Kubernetes API is told: a task of its own that reads what is published, as the views do. Nobody waits for
//! it, and whatever becomes of it, the node is kept as it is declared.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Kubernetes;
use crate::kube::{Api, Condition, Events, KubeError, NAMESPACE, Purpose, Taint, removal};
use crate::model::Status;

/// Without any other reason.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The task, as long as it is wanted.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// What it was started for.
    settings: Option<Kubernetes>,
    task: Option<JoinHandle<()>>,
}

impl Reports {
    /// Starts or ends it as it is declared; one that is at work for the same goes on.
    pub(super) fn declared(
        &mut self,
        settings: &Kubernetes,
        api: &Api,
        status: watch::Receiver<Arc<Status>>,
    ) {
        if self.settings.as_ref() == Some(settings) {
            return;
        }
        self.end();
        self.settings = Some(settings.clone());
        if settings.reports() {
            let reporter = Reporter {
                api: api.clone(),
                condition: settings.condition.then(Condition::default),
                // Without a name there is no node for them to be about; the condition says so.
                events: (settings.events && api.node_name().is_some()).then(Events::default),
                taint: settings
                    .remove_taint
                    .clone()
                    .map(|key| (key, Taint::default())),
            };
            self.task = Some(tokio::spawn(reporter.run(status)));
        }
    }

    fn end(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is told, each in its own time.
struct Reporter {
    api: Api,
    condition: Option<Condition>,
    events: Option<Events>,
    /// The taint's key, and when to look for it.
    taint: Option<(String, Taint)>,
}

impl Reporter {
    async fn run(mut self, mut status: watch::Receiver<Arc<Status>>) {
        loop {
            let latest = Arc::clone(&status.borrow_and_update());
            self.see(&latest);
            self.tell().await;
            let next = self.due().unwrap_or_else(|| Instant::now() + FOREVER);
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Takes in what was published last.
    fn see(&mut self, status: &Status) {
        // Before the first look nothing is known, and the API server may know more from before.
        if status.passes == 0 {
            return;
        }
        let (now, checks) = (Instant::now(), &status.snapshot.checks);
        if let Some(condition) = &mut self.condition {
            condition.see(checks, now);
        }
        if let Some(events) = &mut self.events {
            let mends = status.declared.policy == "heal";
            events.see(&status.drift, checks, mends, now, SystemTime::now());
        }
        if let Some((_, taint)) = &mut self.taint {
            taint.see(status.is_ready(), now);
        }
    }

    /// When something is to be told next.
    fn due(&self) -> Option<Instant> {
        let condition = self.condition.as_ref().and_then(Condition::due);
        let events = self.events.as_ref();
        let events = events.and_then(|events| events.due(Instant::now()));
        let taint = self.taint.as_ref().and_then(|(_, taint)| taint.due());
        [condition, events, taint].into_iter().flatten().min()
    }

    /// Tells what is due. One after the other: what happens meanwhile is seen afterwards.
    async fn tell(&mut self) {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= Instant::now());
        // First what pods wait for.
        if let Some((key, taint)) = &mut self.taint
            && is_due(taint.due())
        {
            let gone = remove_taint(&self.api, key).await;
            taint.ended(gone.is_ok(), Instant::now(), fastrand::u64(..));
        }
        if let Some(condition) = &mut self.condition
            && is_due(condition.due())
        {
            let written = write_condition(&self.api, condition).await;
            condition.ended(written.is_ok(), Instant::now(), fastrand::u64(..));
        }
        if let Some(events) = &mut self.events
            && let Some(name) = self.api.node_name()
            && let Some(next) = events.next(name, Instant::now())
        {
            let told = match next.exists {
                true => {
                    self.api
                        .amend_event(NAMESPACE, &next.name, &next.body)
                        .await
                }
                false => self.api.create_event(NAMESPACE, &next.body).await,
            };
            match told {
                Ok(()) => events.told(&next, Instant::now()),
                Err(error) if next.exists && error.is_not_found() => events.expired(&next),
                Err(_) => events.failed(Instant::now(), fastrand::u64(..)),
            }
        }
    }
}

/// Removes the startup taint, if it is there.
async fn remove_taint(api: &Api, key: &str) -> Result<(), KubeError> {
    let node = api.node(Purpose::Taint).await?;
    match removal(&node.spec.taints, key) {
        Some(patch) => {
            api.patch_node(&patch).await?;
            tracing::info!("the node is ready: the taint {key} is removed");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Writes the condition as it is wanted now.
async fn write_condition(api: &Api, condition: &mut Condition) -> Result<(), KubeError> {
    if condition.asks() {
        condition.learn(&api.node(Purpose::Condition).await?);
    }
    match condition.patch(SystemTime::now()) {
        Some(patch) => api.merge_status(&patch).await,
        None => Ok(()),
    }
}
