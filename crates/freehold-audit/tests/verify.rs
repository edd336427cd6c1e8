//! Every way to tamper with an export is found, and found where it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::{collections::BTreeSet, sync::LazyLock};

use freehold_audit::{
    Checkpoint, Fault, FaultKind, Hash, KeyTrust, Report, SigningKey, VerifyOptions, tree, verify,
};
use proptest::prelude::*;
use world::World;

/// An honest export of 23 entries under several checkpoints, and the checkpoints on its way.
static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    // A thread of its own, because tests that are asynchronous themselves ask for it, too.
    std::thread::spawn(|| blocking(honest())).join().unwrap()
});

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn honest() -> Honest {
    let mut world = World::new().await;
    let mut kept = Vec::new();
    for entries in [1, 4, 2, 9, 7] {
        world.record_all(entries).await;
        world.pass().await;
        kept.push(world.log().checkpoint().await.unwrap().unwrap());
    }
    let bytes = world.export().await;
    Honest { bytes, kept }
}

struct Honest {
    bytes: Vec<u8>,
    kept: Vec<Checkpoint>,
}

impl Honest {
    fn lines(&self) -> Vec<Vec<u8>> {
        self.bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn line_of(&self, offset: usize) -> u64 {
        1 + self.bytes[..offset]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count() as u64
    }
}

fn checked(bytes: &[u8], options: &VerifyOptions) -> Report {
    let report = verify(bytes, options).unwrap();
    // What a person reads tells every fault that is listed.
    let shown = report.to_string();
    for fault in &report.faults {
        assert!(shown.contains(&fault.message), "{shown}");
    }
    report
}

fn with_key() -> VerifyOptions {
    VerifyOptions {
        key: Some(world::key().verifying_key().clone()),
        kept: None,
    }
}

fn with_kept(kept: &Checkpoint) -> VerifyOptions {
    VerifyOptions {
        key: None,
        kept: Some(kept.clone()),
    }
}

fn tampered(bytes: &[u8]) -> Report {
    let report = checked(bytes, &with_key());
    assert!(!report.is_sound(), "not noticed");
    report
}

fn first(report: &Report) -> &Fault {
    report.faults.first().expect("there is a fault")
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.concat()
}

#[test]
fn an_honest_export_is_sound_whoever_checks_it() {
    let report = checked(&HONEST.bytes, &with_key());
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.entries, report.checkpoints), (23, 5));
    assert_eq!(report.key_trust, KeyTrust::Given);
    assert_eq!(report.last_checkpoint.as_ref(), HONEST.kept.last());

    let stranger = checked(&HONEST.bytes, &VerifyOptions::default());
    assert!(stranger.is_sound());
    assert_eq!(stranger.key_trust, KeyTrust::FirstUse);
    for kept in &HONEST.kept {
        let report = checked(&HONEST.bytes, &with_kept(kept));
        assert!(report.is_sound(), "{report}");
        assert_eq!(report.kept_matches, Some(true));
    }
}

#[tokio::test]
async fn an_export_of_any_size_is_sound() {
    let mut world = World::with_batch_max(7).await;
    let empty = checked(&world.export().await, &with_key());
    assert!(empty.is_sound() && empty.entries == 0, "{empty}");
    for size in 1..=300 {
        world.record_all(1).await;
        if size <= 40 || size % 13 == 0 || size == 300 {
            world.pass().await;
            let report = checked(&world.export().await, &with_key());
            assert!(report.is_sound(), "size {size}: {report}");
            assert_eq!(report.entries, size);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn a_flipped_bit_is_found_at_its_line(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = HONEST.bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let report = tampered(&bytes);
        let line = HONEST.line_of(at);
        // A line break that is gone or new shifts everything behind it by one line.
        let near = |fault: &Fault| fault.line == line || fault.line == line + 1;
        prop_assert!(report.faults.iter().any(near), "line {}: {}", line, report);
        prop_assert!(first(&report).line >= line, "line {}: {}", line, report);
        // Whoever takes the key from the export finds it, too.
        prop_assert!(!checked(&bytes, &VerifyOptions::default()).is_sound());
    }

    #[test]
    fn an_export_that_was_cut_off_anywhere_is_found(at in any::<prop::sample::Index>()) {
        let at = at.index(HONEST.bytes.len());
        let report = tampered(&HONEST.bytes[..at]);
        let line = HONEST.line_of(at);
        let near = |fault: &Fault| fault.line == line || fault.line + 1 == line;
        prop_assert!(report.faults.iter().any(near), "line {}: {}", line, report);
    }

    #[test]
    fn a_byte_that_was_put_in_is_found(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = HONEST.bytes.clone();
        let at = at.index(bytes.len());
        bytes.insert(at, byte);
        let report = tampered(&bytes);
        let line = HONEST.line_of(at);
        prop_assert!(report.faults.iter().any(|fault| fault.line.abs_diff(line) <= 1), "{}", report);
    }

    #[test]
    fn arbitrary_bytes_are_no_sound_log_and_do_no_harm(bytes in any::<Vec<u8>>()) {
        prop_assert!(!checked(&bytes, &VerifyOptions::default()).is_sound());
    }

    #[test]
    fn lines_in_any_other_order_are_found(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let mut lines = HONEST.lines();
        let (from, to) = (from.index(lines.len()), to.index(lines.len()));
        prop_assume!(from != to);
        let line = lines.remove(from);
        lines.insert(to, line);
        let report = tampered(&joined(&lines));
        let (low, high) = (from.min(to) as u64 + 1, from.max(to) as u64 + 2);
        prop_assert!(report.faults.iter().any(|fault| (low..=high).contains(&fault.line)), "{}", report);
    }
}

#[test]
fn a_dropped_line_is_found_where_it_stood() {
    let lines = HONEST.lines();
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        let report = tampered(&joined(&fewer));
        let line = at as u64 + 1;
        let expected = match index_of(&lines[at]) {
            Some(index) => (FaultKind::MissingEntries, Some((index, index))),
            None if at == 0 => (FaultKind::Header, None),
            None if at == lines.len() - 1 => (FaultKind::MissingEnd, None),
            // A checkpoint: noticed at the next one, or at the end.
            None => {
                let kinds = [
                    FaultKind::MissingCheckpoints,
                    FaultKind::WrongEnd,
                    FaultKind::UnsignedEntries,
                ];
                assert!(kinds.contains(&first(&report).kind), "{report}");
                assert!(first(&report).line >= line);
                continue;
            }
        };
        let found = (first(&report).kind, first(&report).entries);
        assert_eq!(found, expected, "line {line}: {report}");
        assert!(
            first(&report).line.abs_diff(line) <= 1,
            "line {line}: {report}"
        );
    }
}

#[test]
fn a_repeated_line_is_found_where_it_stands() {
    let lines = HONEST.lines();
    for at in 0..lines.len() {
        let mut more = lines.clone();
        more.insert(at, lines[at].clone());
        let report = tampered(&joined(&more));
        assert_eq!(first(&report).line, at as u64 + 2, "{report}");
        if let Some(index) = index_of(&lines[at]) {
            assert_eq!(first(&report).kind, FaultKind::MisplacedEntry);
            assert_eq!(first(&report).entries, Some((index, index)));
            assert_eq!(report.faults.len(), 1, "the rest is in order: {report}");
        }
    }
}

#[test]
fn swapped_neighbours_are_found_where_they_stand() {
    let lines = HONEST.lines();
    for at in 0..lines.len() - 1 {
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        let report = tampered(&joined(&swapped));
        let line = at as u64 + 1;
        assert!(
            (line..=line + 2).contains(&first(&report).line),
            "line {line}: {report}"
        );
    }
}

#[test]
fn an_entry_that_was_rewritten_with_its_leaf_hash_is_found_between_two_checkpoints() {
    let lines = HONEST.lines();
    let sizes: Vec<u64> = HONEST.kept.iter().map(|kept| kept.size).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(index) = index_of(line) else {
            continue;
        };
        let mut forged = lines.clone();
        forged[at] = rewritten(index);
        let report = tampered(&joined(&forged));
        let last = sizes.iter().copied().find(|size| index < *size).unwrap();
        let before = sizes
            .iter()
            .copied()
            .filter(|size| *size <= index)
            .max()
            .unwrap_or(0);
        assert_eq!(
            report.faults.len(),
            1,
            "only this interval is damaged: {report}"
        );
        assert_eq!(first(&report).kind, FaultKind::RewrittenEntries);
        assert_eq!(
            first(&report).entries,
            Some((before, last - 1)),
            "entry {index}"
        );
    }
}

#[test]
fn each_of_several_damages_is_found() {
    let mut lines = HONEST.lines();
    let at = |lines: &[Vec<u8>], index: u64| {
        lines
            .iter()
            .position(|line| index_of(line) == Some(index))
            .unwrap()
    };
    let (two, nine, twenty) = (at(&lines, 2), at(&lines, 9), at(&lines, 20));
    lines[two] = rewritten(2);
    let text = String::from_utf8(lines[nine].clone())
        .unwrap()
        .replace("ana", "eve");
    lines[nine] = text.into_bytes();
    lines.remove(twenty);
    let report = tampered(&joined(&lines));
    let found: Vec<_> = report
        .faults
        .iter()
        .map(|fault| (fault.kind, fault.entries))
        .collect();
    assert_eq!(
        found,
        [
            (FaultKind::RewrittenEntries, Some((1, 4))),
            (FaultKind::ChangedEntry, Some((9, 9))),
            (FaultKind::MissingEntries, Some((20, 20))),
        ],
        "{report}"
    );
}

#[test]
fn a_log_cut_back_to_an_older_checkpoint_is_found_by_who_kept_a_newer_one() {
    let lines = HONEST.lines();
    for (number, kept) in HONEST.kept.iter().enumerate() {
        let last = lines
            .iter()
            .position(|line| {
                line.starts_with(
                    format!("{{\"checkpoint\":\"{}\\n{}\\n", kept.origin, kept.size).as_bytes(),
                )
            })
            .unwrap();
        let mut short = lines[..=last].to_vec();
        let end = format!(
            "{{\"end\":{{\"entries\":{},\"checkpoints\":{}}}}}\n",
            kept.size,
            number + 1
        );
        short.push(end.into_bytes());
        let short = joined(&short);
        assert!(
            checked(&short, &with_key()).is_sound(),
            "alone it looks whole"
        );
        for newer in &HONEST.kept[number + 1..] {
            let report = checked(&short, &with_kept(newer));
            assert_eq!(first(&report).kind, FaultKind::Truncated);
            assert_eq!(first(&report).entries, Some((kept.size, newer.size - 1)));
        }
    }
}

#[tokio::test]
async fn a_log_rewritten_by_who_has_the_key_is_found_by_who_kept_a_checkpoint() {
    let mut forged = World::new().await;
    forged.record_all(30).await;
    forged.pass().await;
    let export = forged.export().await;
    assert!(
        checked(&export, &with_key()).is_sound(),
        "alone it looks right"
    );
    for kept in &HONEST.kept {
        let report = checked(&export, &with_kept(kept));
        let fault = first(&report);
        assert_eq!(fault.kind, FaultKind::KeptCheckpoint, "{report}");
        assert_eq!(fault.entries, Some((0, kept.size - 1)));
        assert_eq!(report.kept_matches, Some(false));
    }
}

#[tokio::test]
async fn another_key_is_found() {
    let stranger = SigningKey::from_seed(world::ORIGIN, &[9; 32]).unwrap();
    let options = VerifyOptions {
        key: Some(stranger.verifying_key().clone()),
        kept: None,
    };
    let report = checked(&HONEST.bytes, &options);
    let kinds: BTreeSet<_> = report
        .faults
        .iter()
        .map(|fault| format!("{:?}", fault.kind))
        .collect();
    assert!(
        kinds.contains("WrongKey") && kinds.contains("BadSignature"),
        "{report}"
    );

    let foreign = SigningKey::from_seed("example.org/other", &[7; 32]).unwrap();
    let mut other = World::with_key(foreign).await;
    other.record_all(2).await;
    other.pass().await;
    let kept = other.log().checkpoint().await.unwrap().unwrap();
    let report = checked(&HONEST.bytes, &with_kept(&kept));
    assert_eq!(first(&report).kind, FaultKind::KeptCheckpoint);
}

#[test]
fn a_report_survives_being_sent() {
    let mut bytes = HONEST.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let report = tampered(&bytes);
    let sent = serde_json::to_string(&report).unwrap();
    let received: Report = serde_json::from_str(&sent).unwrap();
    assert_eq!(received.faults, report.faults);
    assert_eq!(received.to_string(), report.to_string());
}

fn index_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"index\":")?;
    let end = digits.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// A forged entry with its right leaf hash.
fn rewritten(index: u64) -> Vec<u8> {
    let entry = "{\"action\":\"nothing.happened\"}";
    let leaf: Hash = tree::leaf_hash(entry.as_bytes());
    format!("{{\"index\":{index},\"leaf\":\"{leaf}\",\"entry\":{entry}}}\n").into_bytes()
}
