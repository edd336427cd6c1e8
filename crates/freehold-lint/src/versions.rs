//! Holes in a sequence of versions.

use std::collections::HashMap;

use crate::{Script, catalogue::VERSION_GAP, rules::Hit};

/// By the index of the script after the hole. Only where versions are counted one by one: a team that numbers in tens, or
/// by the date, has holes on purpose.
pub(crate) fn gaps(scripts: &[Script<'_>]) -> HashMap<usize, Hit> {
    let numbered: Vec<(usize, u64)> = scripts
        .iter()
        .enumerate()
        .filter_map(|(index, script)| Some((index, script.version?.parse().ok()?)))
        .collect();
    let versioned = scripts
        .iter()
        .filter(|script| script.version.is_some())
        .count();
    let steps = numbered
        .windows(2)
        .map(|pair| pair[1].1.saturating_sub(pair[0].1));
    let by_one = steps.filter(|&step| step == 1).count();
    // Nearly all of them, so that one hole is an exception.
    if numbered.len() != versioned
        || by_one < 4
        || by_one * 5 < numbered.len().saturating_sub(1) * 4
    {
        return HashMap::new();
    }
    numbered
        .windows(2)
        .filter(|pair| pair[1].1.saturating_sub(pair[0].1) > 1 && scripts[pair[1].0].pending)
        .map(|pair| {
            let (before, after) = (pair[0].1, pair[1].1);
            let missing = if after - before == 2 {
                format!("version {} is missing", before + 1)
            } else {
                format!("versions {} to {} are missing", before + 1, after - 1)
            };
            let hit = Hit::new(&VERSION_GAP, true, missing);
            (
                pair[1].0,
                hit.advice(
                    "If another branch has it, merge that first; otherwise renumber this one.",
                ),
            )
        })
        .collect()
}
