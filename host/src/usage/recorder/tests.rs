//! The recorder on a real disk, before stores that are a map by id.

use std::collections::BTreeMap;

use super::*;
use crate::usage::Tokens;
use crate::usage::meter::Metered;

/// Counts each event once by its id, as the stores do.
#[derive(Default)]
struct Stores {
    counted: Mutex<BTreeMap<String, UsageEvent>>,
    batches: Mutex<Vec<usize>>,
    down: Mutex<bool>,
    refused: Option<&'static str>,
}

#[async_trait]
impl Add for Stores {
    async fn add(&self, events: Vec<UsageEvent>) -> Result<()> {
        if *self.down.lock() {
            return Err(StoreError::Unavailable("down".into()));
        }
        if events.iter().any(|event| Some(event.id.as_str()) == self.refused) {
            return Err(StoreError::Other("refused".into()));
        }
        self.batches.lock().push(events.len());
        let mut counted = self.counted.lock();
        for event in events {
            counted.entry(event.id.clone()).or_insert(event);
        }
        Ok(())
    }
}

impl Stores {
    fn outputs(&self) -> Vec<(String, u64, bool)> {
        let counted = self.counted.lock();
        counted.values().map(|event| (event.id.clone(), event.output_tokens, event.partial)).collect()
    }
}

fn recorder(folder: &Path) -> Arc<Recorder> {
    let metrics = Metrics::default();
    let prices = Arc::new(Prices::load(None, &metrics).unwrap());
    Recorder::start(folder, prices, &metrics).unwrap()
}

fn attempt(id: &str) -> Attempt {
    Attempt {
        event_id: id.into(),
        key_id: "key".into(),
        account_id: Some("account".into()),
        model: "claude-opus-4-5".into(),
        request_id: Some("req_1".into()),
    }
}

fn seen(output: u64, stopped: bool) -> Metered {
    let tokens = Tokens { input: 1_000, output, ..Tokens::default() };
    Metered { tokens, began: true, stopped, ..Metered::default() }
}

async fn record_all(recorder: &Recorder, stores: &Stores) {
    while recorder.waiting() > 0 {
        recorder.record_some(stores).await.unwrap();
    }
}

#[tokio::test]
async fn an_attempt_is_recorded_once_with_its_cost() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, stores) = (recorder(folder.path()), Stores::default());
    let mut open = recorder.open(attempt("a"));
    open.seen(&seen(1, false));
    assert_eq!(recorder.waiting(), 0, "it goes on");
    open.finish(&seen(100, true));
    record_all(&recorder, &stores).await;
    let event = stores.counted.lock()["a"].clone();
    assert_eq!((event.input_tokens, event.output_tokens, event.partial), (1_000, 100, false));
    assert_eq!(event.cost_micro_usd, 5_000 + 2_500);
    assert_eq!((event.account_id.as_deref(), event.request_id.as_deref()), (Some("account"), Some("req_1")));
}

#[tokio::test]
async fn what_is_dropped_counts_as_far_as_it_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, stores) = (recorder(folder.path()), Stores::default());
    let mut hung_up = recorder.open(attempt("hung up"));
    hung_up.seen(&seen(7, false));
    drop(hung_up);
    recorder.open(attempt("cut")).finish(&seen(9, false));
    drop(recorder.open(attempt("nothing came")));
    recorder
        .open(attempt("refused"))
        .finish(&Metered { error: Some("rate_limit_error".into()), ..Metered::default() });
    record_all(&recorder, &stores).await;
    assert_eq!(stores.outputs(), [("cut".into(), 9, true), ("hung up".into(), 7, true)]);
}

#[tokio::test]
async fn an_answer_that_was_begun_counts_even_when_nothing_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, stores) = (recorder(folder.path()), Stores::default());
    let begun = |id| {
        let mut open = recorder.open(attempt(id));
        open.begun();
        open
    };
    drop(begun("cut"));
    begun("no message").finish(&Metered::default());
    begun("whole").finish(&seen(5, true));
    begun("garbage").forget();
    record_all(&recorder, &stores).await;
    let known = [("cut".into(), 0, true), ("no message".into(), 0, true), ("whole".into(), 5, false)];
    assert_eq!(stores.outputs(), known);
    assert_eq!(stores.counted.lock()["cut"].model, "claude-opus-4-5");
}

/// Ends a recorder as a kill does: nothing that it would do when it is dropped is done.
fn kill(recorder: Arc<Recorder>, open: Vec<OpenAttempt>) {
    std::mem::forget(open);
    std::mem::forget(recorder);
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let first = recorder(folder.path());
    let stores = Stores::default();
    first.open(attempt("recorded")).finish(&seen(1, true));
    record_all(&first, &stores).await;
    first.open(attempt("ended")).finish(&seen(2, true));
    let mut open = first.open(attempt("open"));
    open.seen(&seen(3, false));
    open.seen(&seen(30, false));
    kill(first, vec![open]);
    // Recorded, but killed before the journal knew: the same id makes no second event.
    let second = recorder(folder.path());
    let batch: Vec<_> = second.state.lock().held.values().cloned().collect();
    assert_eq!(batch.len(), 2);
    stores.add(batch).await.unwrap();
    kill(second, Vec::new());
    let third = recorder(folder.path());
    record_all(&third, &stores).await;
    let all = [("ended".into(), 2, false), ("open".into(), 30, true), ("recorded".into(), 1, false)];
    assert_eq!(stores.outputs(), all);
    drop(third);
    assert_eq!(recorder(folder.path()).waiting(), 0);
}

#[tokio::test]
async fn what_no_store_takes_waits_and_one_refused_event_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = recorder(folder.path());
    let stores = Stores { refused: Some("bad"), ..Stores::default() };
    for id in ["a", "bad", "b"] {
        recorder.open(attempt(id)).finish(&seen(1, true));
    }
    *stores.down.lock() = true;
    assert!(recorder.record_some(&stores).await.is_err());
    *stores.down.lock() = false;
    assert!(recorder.record_some(&stores).await.is_err());
    assert_eq!(stores.outputs().len(), 2);
    recorder.open(attempt("c")).finish(&seen(1, true));
    recorder.record_some(&stores).await.unwrap_err();
    assert_eq!((stores.outputs().len(), recorder.waiting()), (3, 1));
    let stores = Stores { refused: None, ..stores };
    record_all(&recorder, &stores).await;
    assert_eq!(stores.outputs().len(), 4);
}

#[tokio::test]
async fn what_ends_together_is_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = recorder(folder.path());
    let stores = Arc::new(Stores::default());
    let task = tokio::spawn({
        let (recorder, stores) = (recorder.clone(), stores.clone());
        async move { recorder.record_all(&*stores).await }
    });
    for n in 0..3 * AT_ONCE {
        recorder.open(attempt(&format!("e{n}"))).finish(&seen(1, true));
    }
    while stores.outputs().len() < 3 * AT_ONCE {
        tokio::task::yield_now().await;
    }
    assert_eq!(*stores.batches.lock(), [AT_ONCE; 3]);
    assert!(recorder.has_room());
    task.abort();
}

#[tokio::test]
async fn the_model_that_answers_counts_and_one_without_a_price_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, stores) = (recorder(folder.path()), Stores::default());
    let answered = Metered { model: Some("claude-haiku-4-5-20251001".into()), ..seen(0, true) };
    recorder.open(attempt("a")).finish(&answered);
    recorder.open(attempt("b")).finish(&Metered { model: Some("mystery".into()), ..seen(5, true) });
    recorder.open(Attempt { model: "\u{7}".into(), ..attempt("c") }).finish(&seen(5, true));
    record_all(&recorder, &stores).await;
    let counted = stores.counted.lock();
    let of = |id: &str| (counted[id].model.as_str(), counted[id].cost_micro_usd);
    assert_eq!(of("a"), ("claude-haiku-4-5-20251001", 1_000));
    assert_eq!((of("b"), of("c")), (("mystery", 0), ("unknown", 0)));
    assert_eq!(recorder.prices.status().unknown.len(), 2);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_no_recording() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("journal");
    let (recorder, stores) = (recorder(&place), Stores::default());
    recorder.state.lock().journal = Journal::failing(&place);
    recorder.open(attempt("a")).finish(&seen(1, true));
    record_all(&recorder, &stores).await;
    assert_eq!((stores.outputs().len(), recorder.figures.unjournaled.get() > 0), (1, true));
}

/// Each word of a stream makes more of it; the journal grows with the logarithm.
#[tokio::test]
async fn output_that_nobody_has_told_is_in_the_journal_when_it_has_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = recorder(folder.path());
    let untold = |output| Metered { untold: 4 * output, ..seen(output, false) };
    let mut open = recorder.open(attempt("a"));
    let held = |open: &OpenAttempt| open.seen.as_ref().map(|seen| seen.tokens.output);
    for (output, expected) in [(1, 1), (2, 1), (63, 1), (64, 64), (127, 64), (128, 128), (129, 128)] {
        open.seen(&untold(output));
        assert_eq!(held(&open), Some(expected), "{output}");
    }
    open.seen(&seen(7, false));
    assert_eq!(held(&open), Some(7), "what is told holds at once");
}
