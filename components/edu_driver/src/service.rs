//! The edu service: one request after the other, each to its end.

use crate::device::{Direction, Edu, BUFFER_BYTES};
use protocols::edu;
use rt::{abi, hypercall, info, time, Answer, Call, ClientId, Error};

const NOTICED_MS: u64 = 20_000;

/// The service.
pub struct Service {
    device: Edu,
    /// Where the window was opened that is not closed again, for tests.
    kept: Option<u64>,
}

impl Service {
    pub fn new(device: Edu) -> Service {
        Service { device, kept: None }
    }

    /// Has the device write `word` to `address`. The word gets into the device from the private part of the ring object.
    fn write(&mut self, address: u64, word: u64) -> Result<(), Error> {
        let rings = info::region(info::RegionKind::Vring, None).ok_or(Error::IO)?;
        rings.memory()?.store_u64(abi::VRING_PRIVATE, word);
        self.device.transfer(Direction::In, rings.iova() + abi::VRING_PRIVATE as u64, 8)?;
        self.device.transfer(Direction::Out, address, 8)
    }

    fn fill(&mut self, client: ClientId, grant: u64, word: u64) -> Result<(), Error> {
        let address = hypercall::dma_open(grant, client.0)?;
        let written = self.write(address, word);
        // Fails if the client has died or revoked the grant: then the window is closed already.
        let _ = hypercall::dma_close(grant, client.0);
        written
    }

    fn fill_closed(&mut self, client: ClientId, grant: u64, word: u64) -> Result<(), Error> {
        let address = hypercall::dma_open(grant, client.0)?;
        hypercall::dma_close(grant, client.0)?;
        self.write(address, word)?;
        self.await_the_end()
    }

    /// A crime is answered only if nobody has noticed.
    fn await_the_end(&mut self) -> Result<(), Error> {
        let end = time::ticks().saturating_add(time::ms_to_ticks(NOTICED_MS));
        while time::ticks() < end {
            hypercall::wait(Some(time::ticks_to_ns(end.saturating_sub(time::ticks()))));
        }
        Ok(())
    }

    fn copy(&mut self, client: ClientId, args: edu::CopyArgs) -> Result<(), Error> {
        let pool = info::pool_of(client.0).filter(|pool| pool.iova() != 0).ok_or(Error::INVAL)?;
        let place = |offset: u64| place(pool.iova(), pool.size() as u64, offset, args.bytes);
        let (source, target) = (place(args.source)?, place(args.target)?);
        self.device.transfer(Direction::In, source, args.bytes)?;
        self.device.transfer(Direction::Out, target, args.bytes)
    }
}

/// Bus address of `bytes` at `offset` of a pool; `RANGE` unless they lie within it, `INVAL` if the device cannot copy
/// so many.
pub fn place(pool: u64, size: u64, offset: u64, bytes: u32) -> Result<u64, Error> {
    if bytes == 0 || bytes > BUFFER_BYTES {
        return Err(Error::INVAL);
    }
    match offset.checked_add(u64::from(bytes)) {
        Some(end) if end <= size => Ok(pool + offset),
        _ => Err(Error::RANGE),
    }
}

impl edu::Server for Service {
    fn identify(&mut self, _: &mut Call<'_>) -> Answer<edu::IdentifyReturns> {
        let identification = self.device.identification();
        self.device.check_liveness().map(|()| edu::IdentifyReturns { identification }).into()
    }

    fn factorial(&mut self, _: &mut Call<'_>, args: edu::FactorialArgs) -> Answer<edu::FactorialReturns> {
        self.device.factorial(args.number).map(|value| edu::FactorialReturns { value }).into()
    }

    fn copy(&mut self, call: &mut Call<'_>, args: edu::CopyArgs) -> Answer<()> {
        Service::copy(self, call.client(), args).into()
    }

    fn fill(&mut self, call: &mut Call<'_>, args: edu::FillArgs) -> Answer<()> {
        Service::fill(self, call.client(), args.grant, args.word).into()
    }

    fn outside(&mut self, _: &mut Call<'_>, args: edu::OutsideArgs) -> Answer<()> {
        let direction = if args.direction == 0 { Direction::In } else { Direction::Out };
        self.device.transfer(direction, args.address, 8).and_then(|()| self.await_the_end()).into()
    }

    fn fill_closed(&mut self, call: &mut Call<'_>, args: edu::FillClosedArgs) -> Answer<()> {
        Service::fill_closed(self, call.client(), args.grant, args.word).into()
    }

    fn keep(&mut self, call: &mut Call<'_>, args: edu::KeepArgs) -> Answer<()> {
        let opened = hypercall::dma_open(args.grant, call.client().0);
        opened.map(|address| self.kept = Some(address)).into()
    }

    fn fill_kept(&mut self, _: &mut Call<'_>, args: edu::FillKeptArgs) -> Answer<()> {
        self.kept.ok_or(Error::INVAL).and_then(|address| self.write(address, args.word)).into()
    }
}
