//! The few things that only a VM has: the hypercall and doorbell stores, the info and status pages, the TSC.
//! Everything above is ordinary code that a host test runs over `fake`.

#[cfg(host_test)]
pub use crate::fake::{doorbell, hypercall, info_page, status_page, ticks};

#[cfg(not(host_test))]
pub use vm::{doorbell, hypercall, info_page, status_page, ticks};

#[cfg(not(host_test))]
mod vm {
    use crate::abi;
    use core::arch::asm;

    /// One hypercall; returns RAX (0 or a negative error) and RDX.
    ///
    /// # Safety
    /// Calls that name memory (`log`, `copy_grant`, ...) make the host read or write it: the caller owns it.
    pub unsafe fn hypercall(number: u64, arguments: [u64; 6]) -> (i64, u64) {
        let [a, b, c, d, e, f] = arguments;
        let (result, second): (i64, u64);
        // The store leaves the VM; whoever serves it answers in RAX and RDX and keeps every other register.
        asm!(
            "mov dword ptr [{page}], eax",
            page = in(reg) abi::HYPERCALL_PAGE,
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, inlateout("rdx") c => second, in("r10") d, in("r8") e, in("r9") f,
            options(nostack, preserves_flags),
        );
        (result, second)
    }

    /// Rings doorbell `index`. One this VM does not have ends it with a `doorbell` fault.
    pub fn doorbell(index: u32) {
        let address = abi::DOORBELL_PAGE + 8 * index as usize;
        // SAFETY: a store to the doorbell page has no effect on this VM's memory.
        unsafe { asm!("mov dword ptr [{}], eax", in(reg) address, in("eax") 1, options(nostack, preserves_flags)) }
    }

    /// Address of the info pages.
    pub fn info_page() -> usize {
        abi::INFO
    }

    /// Address of the status page.
    pub fn status_page() -> usize {
        abi::RO_WINDOW
    }

    /// The time-stamp counter.
    #[inline]
    pub fn ticks() -> u64 {
        // SAFETY: RDTSC reads a register; CR4.TSD is clear.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
}
