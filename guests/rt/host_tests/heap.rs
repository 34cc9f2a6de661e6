//! The heap against a model that knows which bytes belong to whom.

use crate::world::Random;
use rt::heap::Heap;
use std::alloc::Layout;
use std::collections::BTreeMap;

fn heap(words: &mut Vec<u64>) -> Heap {
    let mut heap = Heap::empty();
    // SAFETY: the vector outlives the heap and is used by nobody else.
    unsafe { heap.add(words.as_mut_ptr() as usize, words.len() * 8) };
    heap
}

#[test]
fn blocks_never_overlap_and_everything_comes_back() {
    for seed in 1..20u64 {
        let mut random = Random(seed * 7919);
        let mut words = vec![0u64; 4 << 17]; // 4 MiB
        let mut heap = heap(&mut words);
        let mut blocks: BTreeMap<usize, (Layout, u8)> = BTreeMap::new();
        for _ in 0..6000 {
            if random.below(5) < 3 {
                let size = match random.below(4) {
                    0 => random.below(64),
                    1 => random.below(2000),
                    2 => random.below(20_000),
                    _ => random.below(300_000),
                } as usize;
                let layout = Layout::from_size_align(size.max(1), 1 << random.below(13)).unwrap();
                let block = heap.allocate(layout);
                if block.is_null() {
                    continue;
                }
                let start = block as usize;
                assert_eq!(start % layout.align(), 0);
                if let Some((before, (other, _))) = blocks.range(..=start).next_back() {
                    assert!(before + other.size() <= start);
                }
                if let Some((after, _)) = blocks.range(start..).next() {
                    assert!(start + layout.size() <= *after);
                }
                let fill = random.next() as u8;
                // SAFETY: the block was just allocated with this size.
                unsafe { block.write_bytes(fill, layout.size()) };
                blocks.insert(start, (layout, fill));
            } else if !blocks.is_empty() {
                let at = random.below(blocks.len() as u64) as usize;
                let (start, (layout, fill)) = blocks.iter().nth(at).map(|(s, b)| (*s, *b)).unwrap();
                blocks.remove(&start);
                // SAFETY: allocated above with this layout.
                unsafe {
                    let bytes = std::slice::from_raw_parts(start as *const u8, layout.size());
                    assert!(bytes.iter().all(|byte| *byte == fill));
                    heap.free(start as *mut u8, layout);
                }
            }
        }
        for (start, (layout, _)) in blocks {
            // SAFETY: as above.
            unsafe { heap.free(start as *mut u8, layout) };
        }
        assert_eq!(heap.usage().1, 0);
    }
}

#[test]
fn large_blocks_are_merged_again() {
    let mut words = vec![0u64; 1 << 17]; // 1 MiB
    let mut heap = heap(&mut words);
    let small = Layout::from_size_align(64 * 1024, 8).unwrap();
    for round in 0..50 {
        let mut blocks = Vec::new();
        loop {
            let block = heap.allocate(small);
            if block.is_null() {
                break;
            }
            blocks.push(block);
        }
        assert!(blocks.len() >= 15, "round {round}: {}", blocks.len());
        let order: Vec<usize> = (0..blocks.len()).map(|n| (n * 7) % blocks.len()).collect();
        let mut seen = vec![false; blocks.len()];
        for at in order.into_iter().chain(0..blocks.len()) {
            if !std::mem::replace(&mut seen[at], true) {
                // SAFETY: allocated above, each freed once.
                unsafe { heap.free(blocks[at], small) };
            }
        }
        let whole = Layout::from_size_align(heap.usage().0 - 4096, 8).unwrap();
        let block = heap.allocate(whole);
        assert!(!block.is_null(), "round {round}");
        // SAFETY: just allocated.
        unsafe { heap.free(block, whole) };
    }
}

#[test]
fn an_impossible_size_is_null() {
    let mut words = vec![0u64; 1 << 14];
    let mut heap = heap(&mut words);
    assert!(heap.allocate(Layout::from_size_align(1 << 20, 8).unwrap()).is_null());
    assert!(heap.allocate(Layout::from_size_align(isize::MAX as usize - 4096, 8).unwrap()).is_null());
    assert_eq!(Heap::empty().allocate(Layout::new::<u64>()), std::ptr::null_mut());
    assert_eq!(heap.usage().1, 0);
}
