//! Lends a page, takes it back, and calls the borrower once more: the honest party beside `revoked_grant`.
//!
//! Exits with 0 if the borrower has written to the page while it was lent and not afterwards, and if the last
//! call was answered in spite of the borrower's death.

#![no_std]
#![no_main]

use protocols::blk::{self, ReadGrantArgs};
use rt::abi;
use rt::info::RegionKind;

rt::program!(main);

/// What the borrower writes while it may.
const WRITTEN: u64 = 0x600d;

fn main(_: rt::Args) -> i32 {
    let mut client = blk::Client::connect("blk").expect("interface blk");
    let page = rt::info::region(RegionKind::GrantObject, None).and_then(|region| region.memory().ok());
    let page = page.expect("a grant object that is mapped here");
    let rights = abi::GRANT_RIGHTS_READ | abi::GRANT_RIGHTS_WRITE;
    let grant = match rt::hypercall::grant(0, client.channel(), rights as u32) {
        Ok(grant) => grant,
        Err(_) => return 2,
    };
    if client.read_grant(&ReadGrantArgs { sector: 0, grant, bytes: 512 }).is_err() {
        return 3;
    }
    if page.load_u64(0) != WRITTEN {
        return 4;
    }
    if rt::hypercall::revoke(grant).is_err() {
        return 5;
    }
    if client.flush().is_err() {
        return 6;
    }
    if page.load_u64(0) != WRITTEN {
        return 7;
    }
    0
}
