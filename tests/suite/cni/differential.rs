//! Our loader and our validator against the real libraries, on generated and mutated files.
//!
//! A run is a seed: input number 7 of the run with seed 40 is input number 0 of the run with seed 47.
//! `CNI_KEEPER_ORACLE_SEED=47 CNI_KEEPER_ORACLE_INPUTS=1` runs that one alone.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cni_keeper::cni::{ConfForm, DropIns, Libcni, load_as_libcni, validate_conflist};
use fastrand::Rng;
use serde_json::json;

use super::generator::{self, one_in};
use super::minimise::minimise;
use super::oracle::{self, FileAnswer, Oracle, base64};
use super::stricter::{STRICTER, STRICTER_STILL};
use super::{is_same_chain, is_same_text};
use crate::support::number;

/// How many inputs a quick run has; `scripts/test --all` asks for more.
const INPUTS: u64 = 3_000;

/// How many differences are minimised and shown.
const SHOWN: usize = 12;

/// The inputs of one run.
#[derive(Clone, Copy)]
pub(super) struct Run {
    seed: u64,
    inputs: u64,
}

impl Run {
    /// As the variables say. Without them each run asks about the same files, so that it never fails for a reason that
    /// was there before.
    pub(super) fn asked(share: u64) -> Self {
        let seed = number("CNI_KEEPER_ORACLE_SEED").unwrap_or(1);
        let inputs = number("CNI_KEEPER_ORACLE_INPUTS").unwrap_or(INPUTS);
        let inputs = inputs.div_ceil(share);
        println!("{inputs} inputs: CNI_KEEPER_ORACLE_SEED={seed}");
        Self { seed, inputs }
    }

    /// Has each input judged by one of several judges, which run side by side. A judge counts what it sees, and gives
    /// the minimal form of an input that shows a difference.
    pub(super) fn judge<J>(
        self,
        new_judge: impl Fn() -> J + Sync,
        judge: impl Fn(&mut J, &mut Rng, &mut Counts) -> Option<String> + Sync,
    ) -> Counts {
        let next = AtomicU64::new(0);
        let found = Mutex::new((Vec::new(), Counts::default()));
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let (mut judge_of_ours, mut counts) = (new_judge(), Counts::default());
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= self.inputs || found.lock().unwrap().0.len() >= SHOWN {
                            break;
                        }
                        let seed = self.seed.wrapping_add(index);
                        let mut rng = Rng::with_seed(seed);
                        if let Some(difference) = judge(&mut judge_of_ours, &mut rng, &mut counts) {
                            let line = format!("CNI_KEEPER_ORACLE_SEED={seed}: {difference}");
                            found.lock().unwrap().0.push(line);
                        }
                    }
                    found.lock().unwrap().1.add(&counts);
                });
            }
        });
        let (differences, counts) = found.into_inner().unwrap();
        assert!(
            differences.is_empty(),
            "{} differences, and there may be more:\n{}",
            differences.len(),
            differences.join("\n")
        );
        println!("{} inputs agree: {:?}", self.inputs, counts.0);
        counts
    }

    /// A run of so few inputs says nothing about their mixture.
    pub(super) fn is_long(self) -> bool {
        self.inputs >= 1_000
    }
}

/// How often each kind of verdict came up.
#[derive(Default)]
pub(super) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// In percent of all inputs.
    pub(super) fn share_of(&self, kind: &str, run: Run) -> u64 {
        self.0.get(kind).copied().unwrap_or(0) * 100 / run.inputs
    }

    fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }
}

/// One oracle of each generation.
struct Libraries([(Libcni, Oracle); 3]);

impl Libraries {
    fn start() -> Self {
        Self(Libcni::ALL.map(|libcni| (libcni, Oracle::start(libcni))))
    }

    fn ask(&mut self, text: &[u8], form: ConfForm) -> Vec<(Libcni, FileAnswer)> {
        let key = match form {
            ConfForm::List => "list",
            ConfForm::Single => "single",
        };
        let question = json!({key: base64(text)});
        let answers = self.0.iter_mut();
        answers
            .map(|(libcni, oracle)| (*libcni, oracle.ask(&question)))
            .collect()
    }
}

#[test]
fn generated_files_load_as_the_libraries_load_them() {
    if !oracle::are_built("generated_files_load_as_the_libraries_load_them") {
        return;
    }
    let run = Run::asked(1);
    let counts = run.judge(Libraries::start, |libraries, rng, counts| {
        let (form, text) = if one_in(rng, 5) {
            (ConfForm::Single, generator::single(rng))
        } else {
            (ConfForm::List, generator::conflist(rng))
        };
        let answers = libraries.ask(&text, form);
        count_answers(&answers, &text, form, counts);
        difference(&answers, &text, form)?;
        let text = minimise(text, |text| {
            difference(&libraries.ask(text, form), text, form).is_some()
        });
        let answers = libraries.ask(&text, form);
        let said = difference(&answers, &text, form).unwrap_or_default();
        Some(format!(
            "{form:?} {said}: {}",
            String::from_utf8_lossy(&text).escape_debug()
        ))
    });
    if run.is_long() {
        for kind in [
            "loads",
            "does not load",
            "loads, but ADD fails",
            "accepted",
            "stricter on purpose",
        ] {
            let share = counts.share_of(kind, run);
            assert!(
                share > 2,
                "only {share} % of the inputs are of the kind '{kind}'"
            );
        }
    }
}

fn count_answers(
    answers: &[(Libcni, FileAnswer)],
    text: &[u8],
    form: ConfForm,
    counts: &mut Counts,
) {
    let (_, newest) = &answers[2];
    let works = newest.add.as_ref().is_some_and(|add| add.error.is_none());
    counts.count(match newest.load.error {
        Some(_) => "does not load",
        None if works => "loads",
        None => "loads, but ADD fails",
    });
    if form == ConfForm::List {
        match validate_conflist(text).is_valid() {
            true => counts.count("accepted"),
            false if works => counts.count("stricter on purpose"),
            false => {}
        }
    }
}

/// Where we say something else than the libraries.
fn difference(answers: &[(Libcni, FileAnswer)], text: &[u8], form: ConfForm) -> Option<String> {
    let loads = answers
        .iter()
        .find_map(|(libcni, answer)| load_difference(*libcni, answer, text, form));
    loads.or_else(|| match form {
        ConfForm::List => validation_difference(answers, text),
        ConfForm::Single => None,
    })
}

fn load_difference(
    libcni: Libcni,
    answer: &FileAnswer,
    text: &[u8],
    form: ConfForm,
) -> Option<String> {
    let ours = load_as_libcni(text, form, libcni, &|_| DropIns::Absent);
    match (ours, &answer.network) {
        (Ok(ours), Some(theirs)) => {
            let same = is_same_text(&ours.name, &theirs.name)
                && is_same_text(&ours.version, &theirs.version)
                && is_same_chain(&ours.chain, &theirs.chain);
            (!same).then(|| format!("{libcni:?} loads {theirs:?}, we load {ours:?}"))
        }
        (Err(error), Some(_)) => Some(format!("{libcni:?} loads it, we say '{error}'")),
        (Ok(_), None) => Some(format!(
            "{libcni:?} says '{}', we load it",
            answer.load.text()
        )),
        (Err(_), None) => None,
    }
}

fn validation_difference(answers: &[(Libcni, FileAnswer)], text: &[u8]) -> Option<String> {
    let report = validate_conflist(text);
    let (_, newest) = &answers[2];
    if let (Some(summary), Some(network)) = (&report.summary, &newest.network) {
        let enabled = network.capabilities.iter().flat_map(BTreeMap::keys);
        if !enabled.eq(&summary.capabilities) {
            return Some(format!(
                "the capabilities are {:?}, we say {:?}",
                network.capabilities, summary.capabilities
            ));
        }
    }
    let refusals = answers.iter().filter_map(|(libcni, answer)| {
        let refusal = answer.add.as_ref().unwrap_or(&answer.load);
        refusal.error.as_ref()?;
        Some((*libcni, answer.load.error.is_none(), refusal.text()))
    });
    let refusals: Vec<_> = refusals.collect();
    if report.is_valid() {
        // Where only old runtimes fail, and only at ADD, a warning is enough.
        let is_warned = |libcni, loads| {
            loads
                && libcni == Libcni::V1_1
                && report
                    .warnings()
                    .any(|warning| warning.problem.contains("containerd 1.7"))
        };
        let unsaid = refusals
            .iter()
            .find(|(libcni, loads, _)| !is_warned(*libcni, *loads));
        return unsaid.map(|(libcni, _, text)| format!("{libcni:?} says '{text}', we accept it"));
    }
    if !refusals.is_empty() {
        return None;
    }
    let unexplained = report.errors().map(ToString::to_string).find(|error| {
        !STRICTER
            .iter()
            .chain(STRICTER_STILL)
            .any(|(part, _)| error.contains(part))
    });
    unexplained.map(|error| format!("it works, we say '{error}'"))
}
