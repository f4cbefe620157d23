//! Reports to the Kubernetes API: the condition, the Events and the removal of the startup taint.
//!
//! They run in a task of their own that reads what is published, as the views do. The event loop never waits for this
//! task, and no failure of it keeps the node from being repaired.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::KubernetesSettings;
use crate::kube::{
    ConditionReporter, EVENT_NAMESPACE, EventReporter, EventRequest, KubeClient, KubeError,
    RequestPurpose, StartupTaint, build_taint_patch,
};
use crate::model::{DriftPolicy, Status};

/// How long the task sleeps if nothing is due: until the next status is published.
const NOTHING_DUE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The task with the reporters that are declared.
#[derive(Debug, Default)]
pub(super) struct Reporters {
    /// The settings that the task was started with.
    settings: Option<KubernetesSettings>,
    task: Option<JoinHandle<()>>,
}

impl Reporters {
    /// Starts or ends the task as declared. A task that runs with the same settings is left alone.
    pub(super) fn apply_settings(
        &mut self,
        settings: &KubernetesSettings,
        client: &KubeClient,
        status: watch::Receiver<Arc<Status>>,
    ) {
        if self.settings.as_ref() == Some(settings) {
            return;
        }
        self.abort_task();
        self.settings = Some(settings.clone());
        if settings.reports_anything() {
            let reporter = ReportTask {
                client: client.clone(),
                condition: settings.condition.then(ConditionReporter::default),
                // Without a name there is no node that Events could be about. The condition reports that.
                events: (settings.events && client.node_name().is_some())
                    .then(EventReporter::default),
                taint: settings
                    .remove_taint
                    .clone()
                    .map(|key| (key, StartupTaint::default())),
            };
            self.task = Some(tokio::spawn(reporter.run(status)));
        }
    }

    fn abort_task(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Reporters {
    fn drop(&mut self) {
        self.abort_task();
    }
}

/// The reporters, each with its own schedule.
struct ReportTask {
    client: KubeClient,
    condition: Option<ConditionReporter>,
    events: Option<EventReporter>,
    /// The taint's key, and when to look for it.
    taint: Option<(String, StartupTaint)>,
}

impl ReportTask {
    async fn run(mut self, mut status: watch::Receiver<Arc<Status>>) {
        loop {
            let latest = Arc::clone(&status.borrow_and_update());
            self.observe_status(&latest);
            self.send_due_reports().await;
            let next = self
                .next_due()
                .unwrap_or_else(|| Instant::now() + NOTHING_DUE);
            tokio::select! {
                // Cancel-safe: a change that is not seen here stays marked as unseen in the receiver.
                changed = status.changed() => if changed.is_err() { return },
                // Cancel-safe: it only waits.
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Records what was published last.
    fn observe_status(&mut self, status: &Status) {
        // Before the first pass nothing is known. What the API server has from before may still be true.
        if status.passes == 0 {
            return;
        }
        let (now, checks) = (Instant::now(), &status.snapshot.checks);
        if let Some(condition) = &mut self.condition {
            condition.observe_checks(checks, now);
        }
        if let Some(events) = &mut self.events {
            let heals = status.declared.policy == DriftPolicy::Heal;
            events.observe_status(&status.drift, checks, heals, now, SystemTime::now());
        }
        if let Some((_, taint)) = &mut self.taint {
            taint.observe_ready(status.is_ready(), now);
        }
    }

    /// When the next report is to be sent.
    fn next_due(&self) -> Option<Instant> {
        let condition = self
            .condition
            .as_ref()
            .and_then(ConditionReporter::next_due);
        let events = self.events.as_ref();
        let events = events.and_then(|events| events.next_due(Instant::now()));
        let taint = self.taint.as_ref().and_then(|(_, taint)| taint.next_due());
        [condition, events, taint].into_iter().flatten().min()
    }

    /// Sends the reports that are due, one after the other. What happens meanwhile is seen afterwards.
    async fn send_due_reports(&mut self) {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= Instant::now());
        // The taint first, because pods wait for its removal.
        if let Some((key, taint)) = &mut self.taint
            && is_due(taint.next_due())
        {
            let removed = remove_taint(&self.client, key).await;
            taint.record_outcome(removed.is_ok(), Instant::now(), fastrand::u64(..));
        }
        if let Some(condition) = &mut self.condition
            && is_due(condition.next_due())
        {
            let written = write_condition(&self.client, condition).await;
            condition.record_outcome(written.is_ok(), Instant::now(), fastrand::u64(..));
        }
        if let Some(events) = &mut self.events
            && let Some(node) = self.client.node_name()
            && let Some(request) = events.next_request(node, Instant::now())
        {
            match send_event(&self.client, &request).await {
                Ok(()) => events.record_sent(&request, Instant::now()),
                Err(error) if request.exists && error.is_not_found() => {
                    events.record_expired(&request);
                }
                Err(_) => events.record_failure(Instant::now(), fastrand::u64(..)),
            }
        }
    }
}

async fn send_event(client: &KubeClient, request: &EventRequest) -> Result<(), KubeError> {
    let body = &request.body;
    match request.exists {
        true => {
            client
                .patch_event(EVENT_NAMESPACE, &request.name, body)
                .await
        }
        false => client.create_event(EVENT_NAMESPACE, body).await,
    }
}

/// Removes the startup taint if the node has it.
async fn remove_taint(client: &KubeClient, key: &str) -> Result<(), KubeError> {
    let node = client.get_node(RequestPurpose::Taint).await?;
    if let Some(patch) = build_taint_patch(&node.spec.taints, key) {
        client.patch_node(&patch).await?;
        tracing::info!("the node is ready: the taint {key} is removed");
    }
    Ok(())
}

/// Writes the condition with its current content.
async fn write_condition(
    client: &KubeClient,
    condition: &mut ConditionReporter,
) -> Result<(), KubeError> {
    if condition.needs_node() {
        condition.observe_node(&client.get_node(RequestPurpose::Condition).await?);
    }
    match condition.build_patch(SystemTime::now()) {
        Some(patch) => client.patch_node_status(&patch).await,
        None => Ok(()),
    }
}
