//! Arguments, last words, shared memory, time.

use rt::log::{last_words, panic_message, Line};
use rt::{fake, Args, Error, Shared};
use std::fmt::Write;

fn args(bytes: &[u8]) -> Vec<Vec<u8>> {
    Args::parse(bytes).iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn arguments_end_with_a_nul_each() {
    assert_eq!(args(b""), Vec::<Vec<u8>>::new());
    assert_eq!(args(b"ls\0-l\0"), [b"ls".to_vec(), b"-l".to_vec()]);
    assert_eq!(args(b"ls\0\0x"), [b"ls".to_vec(), b"".to_vec(), b"x".to_vec()]);
    let given = Args::parse(b"a\0b\0");
    assert_eq!((given.len(), given.get(1), given.get(2)), (2, Some(&b"b"[..]), None));
}

#[test]
fn the_message_of_a_panic_is_found_in_either_form() {
    assert_eq!(panic_message("panicked at 'it\n's over', src/main.rs:3:5"), "it\n's over");
    assert_eq!(panic_message("panicked at src/main.rs:3:5:\nit's over\nreally"), "it's over\nreally");
    assert_eq!(panic_message("who knows"), "who knows");
    let words = |text| String::from_utf8(last_words(text, Some(("a.rs", 7))).as_bytes().to_vec()).unwrap();
    assert_eq!(words("panicked at a.rs:7:1:\nbad"), "bad, at a.rs:7");
    assert_eq!(
        words("panicked at x:1:1:\nmemory allocation of 8 bytes failed"),
        "out of memory: memory allocation of 8 bytes failed, at a.rs:7"
    );
}

#[test]
fn a_line_takes_what_fits() {
    let mut line = Line::new();
    for _ in 0..2000 {
        line.write_str("abc").unwrap();
    }
    assert_eq!(line.as_bytes().len(), rt::abi::LOG_MAX);
}

#[test]
fn shared_memory_is_never_left() {
    let mut bytes = vec![7u8; 64];
    // SAFETY: the vector outlives its use here.
    let memory = unsafe { Shared::new(bytes.as_mut_ptr(), 64) };
    let mut out = [0; 8];
    memory.copy_in(56, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    memory.copy_out(56, &mut out).unwrap();
    assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8]);
    for offset in [57, 64, 65, usize::MAX] {
        assert_eq!(memory.copy_out(offset, &mut out), Err(Error::RANGE));
        assert_eq!(memory.copy_in(offset, &out), Err(Error::RANGE));
        assert_eq!(memory.part(offset, 8).err(), Some(Error::RANGE));
    }
    assert_eq!(memory.part(60, usize::MAX).err(), Some(Error::RANGE));
    memory.copy_to(56, memory, 0, 8).unwrap();
    assert_eq!(memory.load_u32(0), 0x0403_0201);
    memory.store_u16(2, 0xaabb);
    assert_eq!(memory.load_u64(0), 0x0807_0605_aabb_0201);
}

#[test]
fn ticks_and_nanoseconds() {
    fake::reset();
    fake::write(rt::abi::Info::OFFSET_TSC_KHZ, 2_500_000u64);
    assert_eq!(rt::time::ns_to_ticks(1_000), 2_500);
    assert_eq!(rt::time::ticks_to_ns(2_500), 1_000);
    assert_eq!(rt::time::ms_to_ticks(2), 5_000_000);
    assert_eq!(rt::time::ns_to_ticks(u64::MAX), u64::MAX);
    assert_eq!(rt::time::ms_to_ticks(u64::MAX), u64::MAX);
}

#[test]
fn nothing_counts_before_start() {
    // A spare begins with pages that are right only once it is adopted, and may have to wait for long.
    fake::reset();
    fake::write(0, rt::abi::Info::default());
    fake::set_wall_clock(5);
    fake::set_handler(Box::new(|number, _| {
        assert_eq!(number, rt::abi::HYPERCALL_START);
        fake::reset();
        fake::advance(1_000_000);
        fake::set_wall_clock(1_700_000_000_000_000_000);
        (0, 0)
    }));
    rt::start::begin();
    let since = rt::time::wall_clock_ns() - 1_700_000_000_000_000_000;
    assert!((1..100).contains(&since), "{since} ns after the adoption");
    fake::advance(50_000);
    assert!((50_000..50_100).contains(&(rt::time::wall_clock_ns() - 1_700_000_000_000_000_000)));
}

#[test]
fn errors_have_names() {
    assert_eq!(format!("{}", Error::DEAD), "dead (-200)");
    assert_eq!(format!("{:?}", Error::from_number(-9999)), "unknown error (-9999)");
    assert_eq!(Error::from_number(3), Error::PROTOCOL);
}
