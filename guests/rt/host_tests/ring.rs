//! The rings between two real threads: order, sleeping and waking under memory that really is shared.

use rt::abi::{self, Slot};
use rt::ring::{ClientRing, ServerRing};
use rt::shared::full_fence;
use rt::Shared;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::Duration;

const SLOTS: u32 = 8;

/// A peer that was not rung although it sleeps would wait this long: for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

fn server(memory: Shared, bell: Receiver<()>, client: Sender<()>, count: u64) {
    let mut ring = ServerRing::new(memory, SLOTS);
    let mut served = 0;
    while served < count {
        if let Some(request) = ring.take().unwrap() {
            assert_eq!(request.args[0], served);
            served += 1;
            if ring.publish(&Slot { args: [request.args[0] * 3, 0, 0, 0, 0], ..request }) {
                client.send(()).unwrap();
            }
            continue;
        }
        if ring.client_lags() {
            client.send(()).unwrap();
        }
        ring.announce_sleep();
        full_fence();
        if !ring.has_request() {
            bell.recv_timeout(FOR_EVER).expect("the server was not rung");
        }
        ring.announce_awake();
    }
    if ring.client_lags() {
        client.send(()).unwrap();
    }
}

fn client(memory: Shared, bell: Receiver<()>, server: Sender<()>, count: u64, depth: u64, wake_after: u32) {
    let mut ring = ClientRing::new(memory, SLOTS);
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < depth {
            ring.publish(&Slot { tag: sent as u32, args: [sent, 0, 0, 0, 0], ..Slot::default() });
            sent += 1;
        }
        if ring.server_wants_bell() {
            server.send(()).unwrap();
        }
        while let Some(reply) = ring.take().unwrap() {
            assert_eq!(reply.args[0], received * 3);
            received += 1;
        }
        if sent < count && sent - received < depth || received == count {
            continue;
        }
        ring.announce_sleep(wake_after.min((sent - received) as u32));
        full_fence();
        if !ring.has_reply() {
            bell.recv_timeout(FOR_EVER).expect("the client was not rung");
        }
        ring.announce_awake();
    }
}

#[test]
fn two_threads_lose_nothing_and_never_oversleep() {
    for (depth, wake_after, count) in [(1, 1, 20_000), (8, 1, 40_000), (8, 4, 40_000), (3, 2, 40_000)] {
        let mut words = vec![0u64; (abi::CHANNEL_REQUESTS + 2 * SLOTS as usize * Slot::SIZE + 4096) / 8];
        let base = (words.as_mut_ptr() as usize + 4095) & !4095;
        // SAFETY: within the vector, which outlives both threads.
        let memory = unsafe { Shared::new(base as *mut u8, abi::CHANNEL_REQUESTS + 2 * SLOTS as usize * Slot::SIZE) };
        let ((to_server, server_bell), (to_client, client_bell)) = (channel(), channel());
        std::thread::scope(|scope| {
            scope.spawn(move || server(memory, server_bell, to_client, count));
            scope.spawn(move || client(memory, client_bell, to_server, count, depth, wake_after));
        });
        drop(words);
    }
}

#[test]
fn indices_wrap() {
    let mut words = vec![0u64; 2 * 4096 / 8 + 1024];
    let base = (words.as_mut_ptr() as usize + 4095) & !4095;
    // SAFETY: within the vector.
    let memory = unsafe { Shared::new(base as *mut u8, abi::CHANNEL_REQUESTS + 2 * Slot::SIZE) };
    let (mut client, mut server) = (ClientRing::new(memory, 1), ServerRing::new(memory, 1));
    for n in 0..100_000u64 {
        client.publish(&Slot { args: [n; 5], ..Slot::default() });
        assert_eq!(server.take().unwrap().unwrap().args, [n; 5]);
        assert_eq!(server.take(), Ok(None));
        let _ = server.publish(&Slot { args: [n + 1; 5], ..Slot::default() });
        assert_eq!(client.take().unwrap().unwrap().args, [n + 1; 5]);
        assert_eq!(client.take(), Ok(None));
    }
}
