//! State regions that somebody has written to who should not have.

use crate::state::*;
use crate::world::Random;
use rt::abi::ON_CORRUPTION_FRESH;
use rt::fake;
use rt::state::Found;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// A region after a few commits, and perhaps in the midst of a transaction; its last two committed images.
fn scene(random: &mut Random) -> (Memory, Image, Image) {
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let (mut previous, mut model) = (image(&state), image(&state));
    for _ in 0..1 + random.below(4) {
        previous = model;
        let mut tx = state.begin();
        for _ in 0..1 + random.below(3) {
            change(random, &state, &mut tx, &mut model);
        }
        tx.commit().unwrap();
    }
    if random.below(2) == 0 {
        let mut tx = state.begin();
        for _ in 0..random.below(3) {
            change(random, &state, &mut tx, &mut model.clone());
        }
        std::mem::forget(tx);
    }
    (memory, model, previous)
}

/// Bytes that are in use: those are worth damaging. Header, the logs' beginnings, both copies.
fn somewhere(random: &mut Random) -> usize {
    let (a, b) = (offset_of_copy(0), offset_of_copy(1));
    match random.below(6) {
        0 => random.below(256) as usize,
        1 => 4096 + random.below(256) as usize,
        2 => 4096 + 1024 + random.below(256) as usize,
        3 => a + random.below(ROOT as u64) as usize,
        4 => b + random.below(ROOT as u64) as usize,
        _ => random.below(REGION as u64) as usize,
    }
}

fn damage(random: &mut Random, memory: &Memory) {
    let at = somewhere(random);
    let word = memory.at(at & !7).cast::<u64>();
    let other = memory.at(somewhere(random) & !7).cast::<u64>();
    // SAFETY: all within the region; words are aligned.
    unsafe {
        match random.below(7) {
            0 => *memory.at(at) ^= 1 << random.below(8),
            1 => *word = random.next(),
            2 => *word = 0,
            3 => *word = word.read().wrapping_add(1),
            4 => *word = word.read().wrapping_sub(1),
            5 => std::ptr::swap(word, other),
            _ => {
                let end = (at + 1 + random.below(600) as usize).min(REGION - 1);
                let byte = if random.below(2) == 0 { 0 } else { random.next() as u8 };
                (at..end).for_each(|at| *memory.at(at) = byte);
            }
        }
    }
}

#[test]
fn damage_never_becomes_state() {
    fake::reset();
    let mut random = Random(21);
    let mut seen = [0; 4];
    for round in 0..30_000 {
        let (memory, last, previous) = scene(&mut random);
        for _ in 0..1 + random.below(3) {
            damage(&mut random, &memory);
        }
        let (state, found) = memory.open();
        let got = image(&state);
        match found {
            Found::Restored | Found::RolledBack => assert_eq!(got, last, "round {round}: {found:?}"),
            Found::OlderCopy => assert!(got == last || got == previous, "round {round}"),
            Found::Lost => assert_eq!(got, [0; ROOT], "round {round}"),
            Found::Fresh | Found::OtherSchema | Found::Converted => panic!("round {round}: {found:?}"),
        }
        seen[match found {
            Found::Restored => 0,
            Found::RolledBack => 1,
            Found::OlderCopy => 2,
            _ => 3,
        }] += 1;
        // Whatever it was, it is sound from here on.
        let mut model = got;
        let mut tx = state.begin();
        change(&mut random, &state, &mut tx, &mut model);
        tx.commit().unwrap();
        assert_eq!(image(&memory.open().0), model);
    }
    assert!(seen.iter().all(|times| *times > 500), "{seen:?}");
}

#[test]
fn each_part_on_its_own() {
    fake::reset();
    let mut random = Random(22);
    for _ in 0..50 {
        let (intact, last, previous) = scene(&mut random);
        for at in (0..256).chain(4096..4096 + 256).chain(5120..5120 + 256) {
            // One wrong bit in header or log never costs more than the last commit.
            let memory = intact.snapshot();
            // SAFETY: within the region.
            unsafe { *memory.at(at) ^= 1 << random.below(8) };
            let (state, found) = memory.open();
            match found {
                Found::Restored | Found::RolledBack => assert_eq!(image(&state), last),
                Found::OlderCopy => assert!([last, previous].contains(&image(&state))),
                _ => panic!("offset {at}: {found:?}"),
            }
        }
        for (copies, allowed) in [(1..2, last), (0..1, previous)] {
            let memory = intact.snapshot();
            for copy in copies.clone() {
                for at in 0..ROOT {
                    // SAFETY: within the region.
                    unsafe { *memory.at(offset_of_copy(copy) + at) = random.next() as u8 };
                }
            }
            let (state, found) = memory.open();
            assert_eq!(found == Found::OlderCopy, copies.contains(&0));
            assert!(image(&state) == allowed || image(&state) == last);
        }
    }
}

#[test]
fn a_cleared_header_is_not_a_fresh_state() {
    fake::reset();
    let (memory, ..) = scene(&mut Random(23));
    // SAFETY: within the region.
    (0..4096).for_each(|at| unsafe { *memory.at(at) = 0 });
    let (state, found) = memory.open();
    assert_eq!((image(&state), found), ([0; ROOT], Found::Lost));
}

#[test]
fn a_policy_of_beginning_anew_is_kept() {
    fake::reset();
    let (memory, ..) = scene(&mut Random(24));
    // SAFETY: within the region.
    unsafe { *memory.at(offset_of_copy(0)) ^= 1 };
    let (state, found) = memory.open_as::<Root>(SCHEMA, ON_CORRUPTION_FRESH);
    assert_eq!((image(&state), found), ([0; ROOT], Found::Lost));
}

#[test]
fn damage_under_a_running_instance_does_not_spread() {
    fake::reset();
    let mut random = Random(25);
    let mut stopped = 0;
    for _ in 0..2_000 {
        let memory = Memory::new(REGION);
        let (state, _) = memory.open();
        let mut images = vec![image(&state)];
        for _ in 0..3 {
            let mut model = *images.last().unwrap();
            let mut tx = state.begin();
            for _ in 0..8 {
                change(&mut random, &state, &mut tx, &mut model);
            }
            tx.commit().unwrap();
            images.push(model);
        }
        let at = offset_of_copy(random.below(2) as usize) + random.below(ROOT as u64) as usize;
        // SAFETY: within the region.
        unsafe { *memory.at(at) ^= 1 << random.below(8) };
        // It goes on until it dies of it, or of something else.
        let work = || {
            for _ in 0..2 {
                let mut model = *images.last().unwrap();
                let mut tx = state.begin();
                change(&mut random, &state, &mut tx, &mut model);
                change(&mut random, &state, &mut tx, &mut model);
                tx.commit().unwrap();
                images.push(model);
            }
        };
        if catch_unwind(AssertUnwindSafe(work)).is_ok() {
            continue;
        }
        stopped += 1;
        let (successor, found) = memory.open();
        let got = image(&successor);
        match found {
            Found::OlderCopy => assert!(images[images.len() - 2..].contains(&got)),
            Found::Restored | Found::RolledBack => assert_eq!(got, *images.last().unwrap()),
            _ => panic!("{found:?}"),
        }
    }
    assert!(stopped > 200, "{stopped}");
}
