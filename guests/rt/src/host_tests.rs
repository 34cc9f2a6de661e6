//! Tests of the runtime that need no VM: `python -m images.guests --host-tests rt`.

#[path = "../host_tests/exactly_once.rs"]
mod exactly_once;
#[path = "../host_tests/heap.rs"]
mod heap;
#[path = "../host_tests/hostile.rs"]
mod hostile;
#[path = "../host_tests/memory.rs"]
mod memory;
#[path = "../host_tests/plain.rs"]
mod plain;
#[path = "../host_tests/poisoned.rs"]
mod poisoned;
#[path = "../host_tests/protocols.rs"]
mod protocols_tests;
#[path = "../host_tests/replay.rs"]
mod replay;
#[path = "../host_tests/requests.rs"]
mod requests;
#[path = "../host_tests/ring.rs"]
mod ring;
#[path = "../host_tests/sessions.rs"]
mod sessions;
#[path = "../host_tests/sleeping.rs"]
mod sleeping;
#[path = "../host_tests/state.rs"]
mod state;
#[path = "../host_tests/state_damage.rs"]
mod state_damage;
#[path = "../host_tests/world.rs"]
mod world;
