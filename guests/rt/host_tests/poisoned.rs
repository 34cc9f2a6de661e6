//! What a successor does about poisoned state, as the info page tells it to: undo, begin anew, quarantine.

use crate::state::{change, image, without_hook, Cuts, Image, Memory, Root, REGION, ROOT, SCHEMA};
use crate::world::*;
use rt::abi::{self, Info, Telemetry};
use rt::fake;
use rt::server::Event;
use rt::state::{self, Found};
use rt::{Error, ServerPort, Tag};
use std::cell::RefCell;
use std::rc::Rc;

fn cure(what: u32) {
    fake::write(Info::OFFSET_CURE, what);
}

/// The instance was told to quarantine this request.
fn quarantine(name: u64) {
    cure(abi::CURE_QUARANTINE);
    fake::write(Info::OFFSET_SUSPECT, name);
}

/// The lines of the log, from here on.
fn listen() -> Rc<RefCell<Vec<String>>> {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&lines);
    fake::set_handler(Box::new(move |number, [level, text, length, ..]| {
        assert_eq!((number, level), (abi::HYPERCALL_LOG, u64::from(abi::LOG_LEVEL_ERROR)));
        // SAFETY: the caller's text, which lives until the hypercall returns.
        let text = unsafe { std::slice::from_raw_parts(text as *const u8, length as usize) };
        heard.borrow_mut().push(String::from_utf8(text.to_vec()).unwrap());
        (0, 0)
    }));
    lines
}

fn heard(lines: &Rc<RefCell<Vec<String>>>) -> Vec<String> {
    std::mem::take(&mut lines.borrow_mut())
}

/// A region with so many commits, each of which changes something, and what it was after each.
fn scene(commits: usize) -> (Memory, Vec<Image>) {
    fake::reset();
    let mut random = Random(41);
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let mut images = vec![image(&state)];
    for number in 1..=commits as u64 {
        let mut model = *images.last().unwrap();
        let mut tx = state.begin();
        change(&mut random, &state, &mut tx, &mut model);
        state.total.set(&mut tx, number);
        model[..8].copy_from_slice(&number.to_le_bytes());
        tx.commit().unwrap();
        images.push(model);
    }
    (memory, images)
}

#[test]
fn the_last_commit_is_undone_and_no_other() {
    let (memory, images) = scene(5);
    let lines = listen();
    cure(abi::CURE_UNDO);
    let (state, found) = memory.open();
    assert_eq!((image(&state), found), (images[4], Found::Restored));
    assert_eq!(heard(&lines), ["state ledger: poisoned, the last commit has been undone"]);
    // Dying once more does not bring back what was undone.
    assert_eq!(image(&memory.open().0), images[4]);
    assert_eq!(heard(&lines), ["state ledger: poisoned, but there is no commit to undo"]);
    // It goes on from there; the next instance is not told to, and does nothing.
    let mut tx = state.begin();
    state.total.set(&mut tx, 6);
    tx.commit().unwrap();
    cure(abi::CURE_NONE);
    let (successor, found) = memory.open();
    assert_eq!((successor.total.get(), found), (6, Found::Restored));
    assert_eq!(image(&successor)[8..], images[4][8..]);
    assert!(heard(&lines).is_empty());
}

#[test]
fn what_was_half_done_is_undone_before_the_last_commit() {
    let (memory, images) = scene(5);
    let lines = listen();
    let (state, _) = memory.open();
    let mut tx = state.begin();
    state.total.set(&mut tx, 99);
    std::mem::forget(tx); // it dies here
    cure(abi::CURE_UNDO);
    let (state, found) = memory.open();
    assert_eq!(found, Found::RolledBack);
    // The log of the last commit was not what the half-done transaction overwrote.
    assert_eq!(image(&state), images[4]);
    assert_eq!(heard(&lines).len(), 1);
}

#[test]
fn where_there_is_no_commit_nothing_is_undone_and_it_is_said() {
    let none = ["state ledger: poisoned, but there is no commit to undo"];
    fake::reset();
    let (empty, lines) = (Memory::new(REGION), listen());
    cure(abi::CURE_UNDO);
    let (state, found) = empty.open();
    assert_eq!((image(&state), found), ([0; ROOT], Found::Fresh));
    assert_eq!(heard(&lines), none);
    let (state, found) = empty.open();
    assert_eq!((image(&state), found), ([0; ROOT], Found::Restored));
    assert_eq!(heard(&lines), none);
    // Nor where all of it is lost.
    let (memory, _) = scene(3);
    let lines = listen();
    for copy in 0..2 {
        // SAFETY: within the region.
        unsafe { *memory.at(crate::state::offset_of_copy(copy)) ^= 1 };
    }
    cure(abi::CURE_UNDO);
    let (state, found) = memory.open();
    assert_eq!((image(&state), found), ([0; ROOT], Found::Lost));
    assert_eq!(heard(&lines)[1..], none);
}

#[test]
fn a_fresh_beginning_is_zeros_whatever_was_there() {
    let (sound, _) = scene(5);
    let damaged = sound.snapshot();
    // SAFETY: within the region.
    unsafe { *damaged.at(crate::state::offset_of_copy(0)) ^= 1 };
    for (memory, schema) in [(sound.snapshot(), SCHEMA), (damaged, SCHEMA), (sound, SCHEMA + 1)] {
        let lines = listen();
        cure(abi::CURE_FRESH);
        memory.open_as::<Root>(schema, abi::ON_CORRUPTION_OLDER_COPY); // names it
        let convert = |_: u32, _: &[u8], _: &Root, _: &mut state::Tx<'_>| panic!("nothing is converted");
        let (state, found) = state::open_or_convert::<Root>("ledger", convert);
        assert_eq!((image(&state), found), ([0; ROOT], Found::Lost));
        assert_eq!(heard(&lines), ["state ledger: poisoned, begun anew"; 2]);
        // What it does then lasts, and an undo does not bring the old back.
        let mut tx = state.begin();
        state.small.set(&mut tx, 7);
        tx.commit().unwrap();
        cure(abi::CURE_NONE);
        let (successor, found) = memory.open_as::<Root>(schema, abi::ON_CORRUPTION_OLDER_COPY);
        assert_eq!((successor.small.get(), successor.total.get(), found), (7, 0, Found::Restored));
        cure(abi::CURE_UNDO);
        assert_eq!(image(&memory.open_as::<Root>(schema, abi::ON_CORRUPTION_OLDER_COPY).0), [0; ROOT]);
    }
}

/// Whoever dies while he is cured leaves what was there before or what is to be there, never something between.
#[test]
fn a_death_in_the_middle_of_a_cure() {
    for (what, is_fresh) in [(abi::CURE_UNDO, false), (abi::CURE_FRESH, true)] {
        let (memory, images) = scene(5);
        let (before, after) = (images[5], if is_fresh { [0; ROOT] } else { images[4] });
        cure(what);
        let cuts = Cuts::of(&memory);
        memory.open();
        let all = without_hook(|| cuts.take());
        assert!(all.len() > 8, "{} stores", all.len());
        let (mut old, mut new) = (0, 0);
        for (at, snapshot) in all.iter().enumerate() {
            // Its successor is told the same, or, where it died of something else, nothing.
            let again = snapshot.snapshot();
            cure(abi::CURE_NONE);
            let (state, found) = snapshot.open();
            let got = image(&state);
            assert!(got == before || got == after, "cure {what}, store {at}: {found:?}, neither before nor after");
            assert!(found != Found::Lost || is_fresh);
            assert!(new == 0 || got == after, "cure {what}, store {at}: the cure was lost");
            old += usize::from(got == before);
            new += usize::from(got == after);
            cure(what);
            let cured = image(&again.open().0);
            // Between the commit that undoes and its leaving the log it can itself be undone.
            assert!(cured == after || (!is_fresh && got == after && cured == before), "cure {what}, store {at}");
        }
        assert_eq!(image(&memory.open().0), after);
        assert!(old > 0 && new > 0, "cure {what}: {old} before, {new} after");
    }
}

/// What a server is working on, as its successor is told.
fn working_on() -> u64 {
    // SAFETY: within the page.
    unsafe { fake::telemetry_page().add(Telemetry::OFFSET_WORKING).cast::<u64>().read() }
}

/// Takes the requests of a round: their first arguments, and what was noted while each was worked on.
fn take(server: &mut ServerPort) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    server.begin_round();
    while let Some(event) = server.next() {
        if let Event::Request(request) = event {
            taken.push((request.args[0], working_on()));
            echo(server, &request, 0);
        }
    }
    assert_eq!(working_on(), 0);
    taken
}

/// The server has died; its successor, and the client has sent everything again.
fn successor(world: &World, client: &mut rt::Client) -> ServerPort {
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll_for(Tag(0)), None);
    world.server()
}

#[test]
fn the_suspect_is_refused_and_the_others_are_done() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    let tags: Vec<Tag> = (0..4).map(|n| client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap()).collect();
    // It dies of the third: it has taken two, and answered neither.
    server.begin_round();
    let names: Vec<u64> = (0..3).map(|_| (server.next(), working_on()).1).collect();
    assert!(names[0] != names[1] && names[1] != names[2] && names[2] != 0);
    quarantine(names[2]);
    let mut server = successor(&world, &mut client);
    let logged = world.count(abi::HYPERCALL_LOG);
    assert_eq!(take(&mut server).iter().map(|(value, _)| *value).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(world.count(abi::HYPERCALL_LOG), logged + 1);
    for (value, tag) in tags.iter().enumerate() {
        let done = client.poll_for(*tag).unwrap();
        let result = done.result.map(|reply| reply.args[0]);
        assert_eq!(result, if value == 2 { Err(Error::QUARANTINED) } else { Ok(value as u64) });
        client.release(done);
    }
    // It is answered for good: the next server never sees it.
    cure(abi::CURE_NONE);
    let mut server = successor(&world, &mut client);
    assert!(take(&mut server).is_empty());
    // The same request of its own is another one.
    client.submit(&READ, [2, 0, 0, 0, 0], &[]).unwrap();
    quarantine(names[2]);
    let mut server = successor(&world, &mut client);
    let taken = take(&mut server);
    assert_eq!((taken.len(), taken[0].0), (1, 2));
    assert_ne!(taken[0].1, names[2]);
}

#[test]
fn without_a_suspect_or_under_another_cure_nothing_is_refused() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [5, 0, 0, 0, 0], &[]).unwrap();
    server.begin_round();
    server.next();
    let suspect = working_on();
    assert_ne!(suspect, 0);
    for (what, name) in [(abi::CURE_QUARANTINE, 0), (abi::CURE_UNDO, suspect), (abi::CURE_FRESH, suspect)] {
        quarantine(name);
        cure(what);
        let mut server = successor(&world, &mut client);
        server.begin_round();
        assert!(matches!(server.next(), Some(Event::Request(request)) if request.args[0] == 5));
    }
}

#[test]
fn what_is_not_allowed_is_refused_as_that() {
    let world = World::with(8, |entry| {
        if entry.role == abi::ROLE_CLIENT {
            entry.operations = !0;
        }
    });
    let (mut client, mut server) = (world.client(), world.server());
    let tag = client.submit(&FORBIDDEN, [1; 5], &[]).unwrap();
    assert!(take(&mut server).is_empty()); // never worked on, so never a suspect
    let done = client.poll_for(tag).unwrap();
    assert_eq!(done.result, Err(Error::PERM));
}

#[test]
fn a_state_is_left_alone_by_a_quarantine() {
    let (memory, images) = scene(3);
    quarantine(1234);
    let lines = listen();
    let (state, found) = memory.open();
    assert_eq!((image(&state), found), (images[3], Found::Restored));
    assert!(heard(&lines).is_empty());
}
