use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

fn text(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// A tree whose node hashes are kept as the log keeps them: beside the leaf that completes them.
struct Kept {
    edge: Edge,
    leaves: Vec<Hash>,
    nodes: Vec<Vec<Hash>>,
}

impl Kept {
    fn of(size: u64) -> Self {
        let mut kept = Self {
            edge: Edge::empty(),
            leaves: Vec::new(),
            nodes: Vec::new(),
        };
        for index in 0..size {
            let leaf = leaf_hash(&text(index));
            kept.leaves.push(leaf);
            kept.nodes.push(kept.edge.append(leaf));
        }
        kept
    }

    fn node(&self, node: Node) -> Hash {
        let last = usize::try_from(node.last).unwrap();
        match node.level {
            0 => self.leaves[last],
            level => self.nodes[last][level as usize - 1],
        }
    }

    fn hashes(&self, spans: Vec<Span>) -> Vec<Hash> {
        spans
            .into_iter()
            .map(|span| {
                let peaks: Vec<Hash> = span.nodes().into_iter().map(|n| self.node(n)).collect();
                fold_right(&peaks).unwrap()
            })
            .collect()
    }
}

type Reference = MemoryBackedTree<Sha256, Vec<u8>>;

fn reference(size: u64) -> Reference {
    let mut tree = Reference::new();
    for index in 0..size {
        tree.push(text(index));
    }
    tree
}

fn concatenated(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn hashes_are_those_of_rfc_6962() {
    // From the test vectors of Certificate Transparency's own implementation.
    let hex = |hash: Hash| hex::encode(hash.0);
    assert_eq!(
        hex(empty_root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        hex(leaf_hash(b"")),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let mut edge = Edge::empty();
    for input in inputs {
        edge.append(leaf_hash(&hex::decode(input).unwrap()));
    }
    assert_eq!(
        hex(edge.root()),
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    );
}

#[test]
fn roots_agree_with_another_implementation() {
    for size in 0..=130 {
        let kept = Kept::of(size);
        let root = reference(size).root();
        assert_eq!(kept.edge.root().0, root.as_bytes()[..], "size {size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn inclusion_proofs_agree_with_another_implementation(
        size in 1..400u64,
        at in any::<prop::sample::Index>(),
    ) {
        let kept = Kept::of(size);
        let index = at.index(usize::try_from(size).unwrap());
        let path = kept.hashes(inclusion_spans(index as u64, size));
        let theirs = reference(size).prove_inclusion(index);
        prop_assert_eq!(concatenated(&path), theirs.as_bytes());
        let root = root_from_inclusion(kept.leaves[index], index as u64, size, &path);
        prop_assert_eq!(root, Some(kept.edge.root()));
    }

    #[test]
    fn consistency_proofs_agree_with_another_implementation(from in 1..300u64, more in 1..200u64) {
        let (older, newer) = (Kept::of(from), Kept::of(from + more));
        let path = newer.hashes(consistency_spans(from, from + more));
        let theirs = reference(from + more).prove_consistency(usize::try_from(more).unwrap());
        prop_assert_eq!(concatenated(&path), theirs.as_bytes());
        let (from_root, to_root) = (older.edge.root(), newer.edge.root());
        let roots = roots_from_consistency(from, from + more, from_root, &path);
        prop_assert_eq!(roots, Some((from_root, to_root)));
    }

    #[test]
    fn a_damaged_inclusion_proof_does_not_hold(
        size in 2..300u64,
        at in any::<prop::sample::Index>(),
        damage in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let kept = Kept::of(size);
        let index = at.index(usize::try_from(size).unwrap());
        let root = Some(kept.edge.root());
        let path = kept.hashes(inclusion_spans(index as u64, size));
        let proves = |leaf, index, size, path: &[Hash]| {
            root_from_inclusion(leaf, index, size, path) == root
        };
        let (leaf, index) = (kept.leaves[index], index as u64);

        let mut flipped = path.clone();
        flipped[damage.index(path.len())].0[3] ^= 1 << bit;
        prop_assert!(!proves(leaf, index, size, &flipped));
        prop_assert!(!proves(leaf, index, size, &path[1..]));
        let longer: Vec<Hash> = path.iter().copied().chain([leaf]).collect();
        prop_assert!(!proves(leaf, index, size, &longer));
        prop_assert!(!proves(leaf, (index + 1) % size, size, &path));
        prop_assert!(!proves(kept.leaves[(index as usize + 1) % kept.leaves.len()], index, size, &path));
        prop_assert!(!proves(leaf, size, size, &path));
    }

    #[test]
    fn a_log_that_was_rewritten_is_not_consistent(
        from in 1..200u64,
        more in 0..100u64,
        at in any::<prop::sample::Index>(),
    ) {
        let older = Kept::of(from).edge.root();
        let mut rewritten = Kept::of(0);
        let changed = at.index(usize::try_from(from).unwrap()) as u64;
        for index in 0..from + more {
            let text = if index == changed { b"forged".to_vec() } else { text(index) };
            let leaf = leaf_hash(&text);
            rewritten.leaves.push(leaf);
            let nodes = rewritten.edge.append(leaf);
            rewritten.nodes.push(nodes);
        }
        let path = rewritten.hashes(consistency_spans(from, from + more));
        let roots = roots_from_consistency(from, from + more, older, &path);
        prop_assert_ne!(roots, Some((older, rewritten.edge.root())));
    }
}

#[test]
fn an_edge_survives_being_kept_and_must_fit_its_size() {
    for size in 0..40 {
        let edge = Kept::of(size).edge;
        let text = serde_json::to_string(&edge).unwrap();
        assert_eq!(serde_json::from_str::<Edge>(&text).unwrap(), edge);
        let mut peaks = edge.peaks().to_vec();
        peaks.push(empty_root());
        assert!(Edge::new(size, peaks).is_none());
    }
}
