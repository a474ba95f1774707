//! The tools for the person with a failing seed, on runs that fail because a bug is put back: what is made small fails
//! still, what is written can be read again, and what is to blame is named.

use quorate_sim::case::Case;
use quorate_sim::history::{Action, Operation, Outcome};
use quorate_sim::overrides::Override;
use quorate_sim::prng::Prng;
use quorate_sim::run::Report;
use quorate_sim::sabotage::Sabotage;
use quorate_sim::shrink::{Shrunk, faults, shrink};
use quorate_sim::trace::Trace;
use quorate_sim::{html, jsonl, verdict};

/// A read without a confirmed round, in a run that is as short as it can be.
fn stale_read() -> Case {
    let set = ["nodes=3", "faults.pause=off", "faults_last=4s"];
    (1..200)
        .map(|seed| case("read-without-round", seed, &set))
        .find(|case| ran(case).violation.is_some_and(|violation| violation.invariant == "linearizability"))
        .expect("a seed that finds it")
}

fn case(sabotage: &str, seed: u64, set: &[&str]) -> Case {
    let overrides = set.iter().map(|text| text.parse::<Override>().expect("an override")).collect();
    Case { seed, sabotage: Some(Sabotage::named(sabotage).expect("a bug of the list")), overrides }
}

fn ran(case: &Case) -> Report {
    case.run(Trace::default()).expect("options that can be set")
}

fn made_small(case: &Case, attempts: u64) -> Shrunk {
    let mut left = usize::MAX;
    let shrunk = shrink(case, attempts, |progress| {
        assert!(progress.attempts <= attempts + 1, "it goes on for ever");
        left = progress.left.operations;
    });
    let (shrunk, used) = shrunk.expect("options that can be set").expect("a run that fails");
    assert!(used <= attempts + 1 && shrunk.operations == left, "{used} runs");
    shrunk
}

/// What the command line makes of the text that a case prints.
fn parsed(text: &str) -> Case {
    let words: Vec<&str> = text.split(' ').map(|word| word.trim_matches('\'')).collect();
    let of =
        |flag: &str| words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]).collect::<Vec<_>>();
    case(of("--sabotage")[0], of("--seed")[0].parse().expect("a number"), &of("--set"))
}

#[test]
fn what_is_made_small_fails_with_the_same_invariant() {
    let case = case("vote-before-sync", 1, &[]);
    let (before, (options, _)) = (ran(&case), case.options().expect("a case without overrides"));
    let small = made_small(&case, 120);
    assert_eq!(small.violation.invariant, before.violation.expect("a vote before its sync").invariant);
    assert!(small.options.nodes < options.nodes, "{} servers", small.options.nodes);
    assert!(faults(&small.options).len() < faults(&options).len(), "{small}");
    assert!(small.options.faults_last < options.faults_last, "{small}");
    // The printed command is the run that was found.
    let again = parsed(&small.case.to_string());
    assert_eq!(again.options().expect("what was printed can be set").0, small.options);
    assert_eq!(ran(&again).violation, Some(small.violation));
}

#[test]
fn a_stale_read_needs_few_operations() {
    let case = stale_read();
    let before = ran(&case);
    let small = made_small(&case, 60);
    assert_eq!(small.violation.invariant, "linearizability");
    assert!(small.operations * 2 < before.operations.0, "{} of {}", small.operations, before.operations.0);
    let again = ran(&parsed(&small.case.to_string()));
    assert_eq!(again.violation, Some(small.violation));
    assert_eq!(again.operations.0, small.operations);
}

#[test]
fn a_run_that_passes_is_not_made_small() {
    let healthy = Case::of_seed(1);
    assert!(shrink(&healthy, 10, |_| ()).expect("a case without overrides").is_none());
}

#[test]
fn operations_are_limited_while_faults_last_and_service_is_seen_again() {
    let mut case = Case::of_seed(3);
    case.overrides = vec!["workload.operations_max=40".parse().expect("an override")];
    let report = ran(&case);
    assert_eq!(report.violation, None);
    // The limit, those until one was served, and a look at each key at the end.
    assert!((40..140).contains(&report.operations.0), "{} operations", report.operations.0);
}

#[test]
fn another_course_of_a_seed_is_another_run_under_the_same_options() {
    let course = |luck: u64| {
        let mut case = Case::of_seed(3);
        case.overrides = vec![format!("luck={luck}").parse().expect("an override")];
        case
    };
    let events = |luck| ran(&course(luck)).counts.events;
    assert_eq!(events(0), ran(&Case::of_seed(3)).counts.events);
    assert_ne!(events(1), events(0));
    assert_eq!(events(1), events(1));
}

#[test]
fn a_history_that_is_written_is_read_again_and_judged_the_same() {
    let stale = stale_read();
    for case in [Case { sabotage: None, ..stale.clone() }, stale] {
        let report = ran(&case);
        let operations = report.history.operations();
        let ranks = verdict::ranks(operations, report.effects.as_ref().expect("something was committed"));
        let mut file = Vec::new();
        jsonl::write(&mut file, operations, &ranks).expect("memory takes everything");
        assert_eq!(file.split(|byte| *byte == b'\n').count(), operations.len() + 1, "an operation a line");
        let (read, read_ranks) = jsonl::read(file.as_slice()).expect("what was written");
        assert_eq!((read.as_slice(), &read_ranks), (operations, &ranks));
        let verdict = verdict::check_keys(&read, &read_ranks).map_err(|guilty| guilty.violation);
        assert_eq!(verdict.err(), report.violation, "{case}");
    }
}

#[test]
fn bytes_that_are_no_text_are_written_too() {
    let mut report = ran(&case("vote-before-sync", 1, &["workload.operations_max=3"]));
    let bytes = bytes::Bytes::from_static(b"\xff\x00z");
    let id = report.history.call(1, 0, 0, bytes.clone(), Action::Append { value: bytes.clone() });
    report.history.returned(2, id, Outcome::Value(bytes));
    let operations: Vec<Operation> = report.history.operations().to_vec();
    let mut file = Vec::new();
    jsonl::write(&mut file, &operations, &vec![None; operations.len()]).expect("memory takes everything");
    assert_eq!(jsonl::read(file.as_slice()).expect("what was written").0, operations);
}

#[test]
fn a_line_that_is_no_operation_is_named() {
    let why = jsonl::read(b"\n{\"client\":1}\n".as_slice()).expect_err("half an operation").to_string();
    assert!(why.contains("line 2") && why.contains("missing field"), "{why}");
}

/// The page of a run, and the data in it.
fn page(case: &Case, report: &Report) -> (String, serde_json::Value) {
    let mut page = Vec::new();
    let (options, _) = case.options().expect("options that can be set");
    html::write(&mut page, &case.to_string(), &options, report).expect("memory takes everything");
    let page = String::from_utf8(page).expect("a page is text");
    let start = "<script type=\"application/json\" id=\"data\">";
    let (_, rest) = page.split_once(start).expect("a page holds data");
    let (data, _) = rest.split_once("</script>").expect("a script ends");
    let data = serde_json::from_str(data).expect("data is JSON");
    (page, data)
}

#[test]
fn a_page_marks_the_operations_to_blame_and_needs_no_other_file() {
    let case = stale_read();
    let report = ran(&case);
    let blame = report.blame.as_ref().expect("a stale read is found");
    let culprit = report.history.get(blame.culprit);
    let (page, data) = page(&case, &report);
    let drawn = data["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .flat_map(|key| key["operations"].as_array().expect("a list"));
    let drawn: Vec<&serde_json::Value> = drawn.collect();
    assert_eq!(drawn.len(), report.history.operations().len(), "every operation is drawn");
    let marked: Vec<_> = drawn.iter().filter(|operation| operation["culprit"] == true).collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0]["from"].as_u64(), Some(culprit.call_at));
    assert_eq!(marked[0]["got"].as_str(), Some(culprit.outcome.to_string().as_str()));
    let mut roles: Vec<u64> = drawn.iter().filter_map(|operation| operation["role"].as_u64()).collect();
    roles.sort_unstable();
    assert!(roles.len() >= 2, "a read is stale beside another operation");
    assert_eq!(roles, (1..=blame.core.len() as u64).collect::<Vec<_>>());
    let unknown = drawn.iter().filter(|operation| operation["unknown"] == true).count();
    assert_eq!(unknown, report.history.operations().iter().filter(|o| o.outcome == Outcome::Unknown).count());
    // In a stale read's story a server led on after another was elected.
    let kinds = |kind: &str| {
        data["bands"].as_array().expect("bands").iter().filter(|band| band["kind"] == kind).count()
    };
    assert!(kinds("leader") >= 2 && kinds("partition") >= 1, "{} leaders", kinds("leader"));
    for outside in ["http-equiv=\"refresh\"", "src=", "href=", "@import", "url(http", "fetch(", "import("] {
        assert!(!page.contains(outside), "{outside}: the page asks for something that is not in it");
    }
}

#[test]
fn a_page_of_a_violation_without_a_key_shows_all_keys() {
    let case = case("vote-before-sync", 1, &[]);
    let (_, data) = page(&case, &ran(&case));
    assert_eq!(data["violation"]["invariant"], "durable promise");
    assert!(data["blame"].is_null());
    let hostile =
        Case { overrides: vec![Override { path: "</script>".to_owned(), value: "x".to_owned() }], ..case };
    let mut out = Vec::new();
    let options = quorate_sim::options::Options::swarm(&mut Prng::new(1));
    html::write(&mut out, &hostile.to_string(), &options, &ran(&Case::of_seed(1)))
        .expect("memory takes everything");
    let ends = String::from_utf8(out).expect("a page is text").matches("</script>").count();
    assert_eq!(ends, 2, "data cannot end its script");
}

#[test]
fn the_chronicle_of_a_run_agrees_with_its_counts() {
    let report = ran(&Case::of_seed(2));
    let bands = &report.chronicle.bands;
    let partitions = bands.iter().filter(|band| band.host.is_none()).count() as u64;
    assert_eq!(partitions, report.counts.partitions);
    assert!(
        bands.iter().all(|band| band.to.is_none_or(|to| to >= band.from)),
        "a band ends before it begins"
    );
    let open: Vec<_> = bands.iter().filter(|band| band.to.is_none()).collect();
    assert_eq!(open.len(), 1, "at the end one server leads, and nothing is broken: {open:?}");
}
