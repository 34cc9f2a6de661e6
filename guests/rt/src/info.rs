//! What the hypervisor tells this VM about itself. The pages are read-only here; the hypervisor rewrites
//! channel entries when a peer is replaced, so every value is read when it is asked for, never kept by reference.

use crate::abi::{self, ChannelEntry, Info, RegionEntry};
use crate::error::Error;
use crate::platform;
use crate::shared::Shared;
use alloc::vec::Vec;
use core::ptr;

/// Why this instance was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Fresh,
    Restart,
    Update,
}

/// Which end of a channel this VM has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Client,
    Server,
}

/// Kinds of memory objects other than channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    Pool,
    Vring,
    GrantObject,
    State,
    Telemetry,
    Arguments,
    /// Registers of a device.
    Mmio,
}

/// A copy of `T` at `offset` of the info pages.
fn read<T: Copy>(offset: usize) -> T {
    assert!(offset + core::mem::size_of::<T>() <= abi::INFO_PAGES * abi::PAGE_SIZE);
    // SAFETY: within the info pages (mapped for the VM's life); T is a plain ABI layout, any bytes are valid.
    unsafe { ptr::read_volatile((platform::info_page() + offset) as *const T) }
}

fn info() -> Info {
    read(0)
}

/// Panics unless the pages are what this program was built for.
pub fn check() {
    let info = info();
    assert!(info.magic == abi::INFO_MAGIC, "the info page has no magic number");
    assert!(info.abi_version == abi::ABI_VERSION, "built for another ABI version");
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(&[])
}

/// A name of at most 32 bytes.
#[derive(Clone, Copy)]
pub struct Name([u8; 32]);

impl Name {
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(text(&self.0)).unwrap_or("?")
    }
}

/// This component's name.
pub fn name() -> Name {
    Name(info().name)
}

/// This instance's epoch.
pub fn epoch() -> u32 {
    info().epoch
}

/// A number no other instance of this system has.
pub fn instance() -> u64 {
    info().instance
}

pub fn start() -> Start {
    match info().start {
        abi::START_RESTART => Start::Restart,
        abi::START_UPDATE => Start::Update,
        _ => Start::Fresh,
    }
}

/// What this instance is to do about poisoned state: one of `abi::CURE_*`.
pub fn cure() -> u32 {
    info().cure
}

/// The request that its predecessor has died of, if this instance is to quarantine it; 0: none.
pub fn quarantined() -> u64 {
    match cure() {
        abi::CURE_QUARANTINE => info().suspect,
        _ => 0,
    }
}

/// Host CPUs this system may use.
pub fn cpus() -> u32 {
    info().cpus
}

pub fn tsc_khz() -> u64 {
    read(Info::OFFSET_TSC_KHZ)
}

/// (first address, bytes) of the heap.
pub fn heap() -> (usize, usize) {
    let info = info();
    (info.heap_base as usize, info.heap_size as usize)
}

/// Longest spin before a wait, nanoseconds; zero with one CPU.
pub fn spin_ns() -> u64 {
    let info = info();
    if info.cpus > 1 {
        info.spin_ns
    } else {
        0
    }
}

/// CLOCK_REALTIME in ns when this instance was started.
pub fn wall_clock_ns() -> u64 {
    // SAFETY: within the status page, which is mapped for the VM's life; aligned.
    unsafe { ptr::read_volatile((platform::status_page() + abi::STATUS_WALL_CLOCK) as *const u64) }
}

/// Is this instance to come to rest, because a new version of it is about to take over?
#[inline]
pub fn is_to_rest() -> bool {
    // SAFETY: within the status page, which is mapped for the VM's life; aligned.
    unsafe { ptr::read_volatile((platform::status_page() + abi::STATUS_QUIESCE) as *const u32) != 0 }
}

/// One channel end of this VM, as its entry is now.
#[derive(Clone, Copy)]
pub struct ChannelInfo {
    pub index: u32,
    pub entry: ChannelEntry,
}

impl ChannelInfo {
    /// The interface, as in the manifest.
    pub fn name(&self) -> &str {
        core::str::from_utf8(text(&self.entry.name)).unwrap_or("?")
    }

    /// The component at the other end.
    pub fn peer(&self) -> &str {
        core::str::from_utf8(text(&self.entry.peer)).unwrap_or("?")
    }

    pub fn role(&self) -> Option<Role> {
        match self.entry.role {
            abi::ROLE_CLIENT => Some(Role::Client),
            abi::ROLE_SERVER => Some(Role::Server),
            _ => None,
        }
    }

    /// What the policy says about this channel (for example the subtree a client may see).
    pub fn parameter(&self) -> Vec<u8> {
        let (start, length) = (self.entry.parameter_offset as usize, self.entry.parameter_length as usize);
        let end = abi::INFO_PAGES * abi::PAGE_SIZE;
        (start..start + length).take_while(|at| *at < end).map(read::<u8>).collect()
    }
}

/// The channel end with this index, if there is one.
pub fn channel(index: u32) -> Option<ChannelInfo> {
    let count = info().channels.min(abi::CHANNELS as u32);
    if index >= count {
        return None;
    }
    let entry = read(abi::INFO_CHANNELS + index as usize * ChannelEntry::SIZE);
    Some(ChannelInfo { index, entry })
}

/// Every channel end of this VM.
pub fn channels() -> impl Iterator<Item = ChannelInfo> {
    (0..abi::CHANNELS as u32).map_while(channel)
}

/// The first channel end with this interface name and role.
pub fn channel_named(name: &str, role: Role) -> Option<ChannelInfo> {
    channels().find(|channel| channel.name() == name && channel.role() == Some(role))
}

/// One memory object of this VM.
#[derive(Clone, Copy)]
pub struct Region {
    /// Its place in the table of regions.
    pub index: u32,
    pub entry: RegionEntry,
}

impl Region {
    pub fn name(&self) -> &str {
        core::str::from_utf8(text(&self.entry.name)).unwrap_or("?")
    }

    pub fn kind(&self) -> Option<RegionKind> {
        match self.entry.kind {
            abi::REGION_KIND_POOL => Some(RegionKind::Pool),
            abi::REGION_KIND_VRING => Some(RegionKind::Vring),
            abi::REGION_KIND_GRANT_OBJECT => Some(RegionKind::GrantObject),
            abi::REGION_KIND_STATE => Some(RegionKind::State),
            abi::REGION_KIND_TELEMETRY => Some(RegionKind::Telemetry),
            abi::REGION_KIND_ARGUMENTS => Some(RegionKind::Arguments),
            abi::REGION_KIND_MMIO => Some(RegionKind::Mmio),
            _ => None,
        }
    }

    /// The channel a pool or grant object belongs to.
    pub fn channel(&self) -> Option<u32> {
        Some(self.entry.channel).filter(|channel| (*channel as usize) < abi::CHANNELS)
    }

    pub fn size(&self) -> usize {
        self.entry.size as usize
    }

    /// Where the device sees it; 0 if it does not.
    pub fn iova(&self) -> u64 {
        self.entry.iova
    }

    /// Of a pool: bytes of one buffer. Of registers: the BAR's number.
    pub fn unit(&self) -> usize {
        self.entry.unit as usize
    }

    /// The memory; `ACCESS` if it is not mapped here (a driver has offsets into a pool, not its bytes).
    pub fn memory(&self) -> Result<Shared, Error> {
        if self.entry.address == 0 {
            return Err(Error::ACCESS);
        }
        // SAFETY: the hypervisor maps the region there for the VM's life (a pool: replaced under the same address).
        Ok(unsafe { Shared::new(self.entry.address as usize as *mut u8, self.size()) })
    }
}

/// Every region of this VM.
pub fn regions() -> impl Iterator<Item = Region> {
    let count = info().regions.min(abi::REGIONS as u32);
    (0..count).map(|index| Region { index, entry: read(abi::INFO_REGIONS + index as usize * RegionEntry::SIZE) })
}

/// The first region of this kind; `name` None: whatever its name.
pub fn region(kind: RegionKind, name: Option<&str>) -> Option<Region> {
    regions().find(|r| r.kind() == Some(kind) && name.map_or(true, |name| r.name() == name))
}

/// The objects this component may lend, in the order `hypercall::grant` counts them.
pub fn grant_objects() -> impl Iterator<Item = Region> {
    regions().filter(|r| r.kind() == Some(RegionKind::GrantObject))
}

/// The pool of a channel.
pub fn pool_of(channel: u32) -> Option<Region> {
    regions().find(|r| r.kind() == Some(RegionKind::Pool) && r.channel() == Some(channel))
}

/// Features negotiated with the component's device.
pub fn device_features() -> u64 {
    read(abi::INFO_DEVICE)
}

/// The device's configuration space.
pub fn device_config() -> [u8; 256] {
    read(abi::INFO_DEVICE + 8)
}
