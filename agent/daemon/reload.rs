//! Reads the configuration file again and puts a new declaration in force.

use std::sync::Arc;
use std::time::Instant;

use super::downloads::Downloads;
use super::gate_query::GateQuery;
use super::node_query::NodeQuery;
use super::state::{Daemon, DeclarationState, new_client};
use super::status_builder::list_mistakes;
use crate::reconcile::{Context, Reconciler};

impl Daemon {
    /// Reads the configuration file again. A file with a mistake changes nothing but the check `config`.
    pub(super) async fn reload_config(&mut self) {
        let read_config = Arc::clone(&self.options.read_config);
        let read = tokio::task::spawn_blocking(move || read_config()).await;
        let settings = match read {
            Ok(Ok(settings)) => settings,
            Ok(Err(mistakes)) => return self.refuse_config(mistakes),
            Err(error) => return self.refuse_config(vec![error.to_string()]),
        };
        if settings == *self.context().settings() {
            return self.config.keep();
        }
        let context =
            self.options
                .new_context(settings, self.node.known(), self.watch.unclosed_files());
        // Some mistakes show only on this node: in the rendered conflist, or in directories that cannot be used.
        if let Err(error) = Reconciler::new(context.clone()).observe().await {
            return self.refuse_config(list_mistakes(&error));
        }
        self.put_in_force(context).await;
    }

    fn refuse_config(&mut self, mistakes: Vec<String>) {
        self.config.refuse(mistakes);
        self.schedule.request_pass_now();
    }

    /// Replaces everything that depends on the declaration.
    async fn put_in_force(&mut self, context: Context) {
        let now = Instant::now();
        let settings = context.settings();
        let needs_restart = (settings.http != self.options.settings.http).then(|| {
            "http has changed, which takes effect when the agent is started again".to_owned()
        });
        self.config.accept(needs_restart);
        self.runtime.apply_settings(settings);
        let client = new_client(&context, &self.requests);
        self.node = NodeQuery::new(&context, client, self.node.known(), now);
        self.schedule.set_resync_period(now, settings.drift.resync);
        self.downloads = Downloads::new(&context, now);
        self.end_work_beside_passes().await;
        let mut reconciler = Reconciler::new(context);
        reconciler.take_answers_from(&mut self.reconciler);
        // This drops the former reconciler, which holds the lock on the state directory.
        self.reconciler = reconciler;
        self.apply_report_settings();
        self.declaration = DeclarationState::New;
        self.drift_log.forget_right_files();
        self.schedule.request_pass_now();
    }

    /// Ends the work beside passes, so that nothing holds the state directory any more. A download is cancelled, and a
    /// step of maintenance is completed.
    pub(super) async fn end_work_beside_passes(&mut self) {
        self.downloads.cancel();
        self.gates = GateQuery::default();
        self.maintenance.reset().await;
    }
}
