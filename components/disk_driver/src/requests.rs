//! The blk service: requests of clients become requests of the device, and their ends become answers.

use crate::geometry::{Geometry, Pool};
use crate::queue::Queue;
use crate::work::{Data, Outcome, Work};
use protocols::blk;
use rt::alloc::collections::VecDeque;
use rt::alloc::vec::Vec;
use rt::info;
use rt::wait::Source;
use rt::{hypercall, log, Answer, Call, ClientId, Error, ServerPort, Ticket};

/// What the device is to do, in the client's terms.
#[derive(Clone, Copy)]
enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    ReadGrant,
    WriteGrant,
}

/// Where a job's data is.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    /// Bus address in the client's pool.
    Pool(u64),
    /// A grant: the device's window on it is open exactly while the device has the job.
    Grant(u64),
}

/// A request on its way.
#[derive(Clone, Copy)]
pub struct Job {
    ticket: Ticket,
    operation: Operation,
    place: Place,
    sector: u64,
    /// Bytes; of a discard, sectors.
    amount: u32,
}

/// The service.
pub struct Disk {
    geometry: Geometry,
    rings: Rings,
    /// Jobs for which no queue has room yet, in the order they came.
    waiting: VecDeque<Job>,
    pools: Vec<(ClientId, Option<Pool>)>,
}

/// The device's queues, and what to wait for in them.
struct Rings(Vec<Queue<Job>>);

impl Disk {
    pub fn new(geometry: Geometry, queues: Vec<Queue<Job>>) -> Disk {
        Disk { geometry, rings: Rings(queues), waiting: VecDeque::new(), pools: Vec::new() }
    }

    /// Serves for ever. `after` is called in each round, when so many requests have been taken and not passed on yet.
    pub fn serve(mut self, mut after: impl FnMut(usize)) {
        let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
        rt::ready();
        loop {
            let taken = blk::serve(&mut port, &mut self);
            after(taken);
            self.collect(&mut port);
            self.rings.kick();
            rt::wait(&mut [&mut port, &mut self.rings], None);
        }
    }

    /// Answers what the device has finished, and gives it what has been waiting.
    fn collect(&mut self, port: &mut ServerPort) {
        for queue in &mut self.rings.0 {
            loop {
                match queue.take() {
                    Ok(Some(ended)) => {
                        rt::kill_point!("driver.before_reply");
                        finish(port, ended.token, ended.outcome)
                    }
                    Ok(None) => break,
                    // A restart resets the device, which is all that can help it.
                    Err(violation) => panic!("the device broke the rules: {:?}", violation),
                }
            }
        }
        while let Some(job) = self.waiting.pop_front() {
            match self.rings.submit(job) {
                Ok(()) => {}
                Err(Refused::Full) => {
                    self.waiting.push_front(job);
                    break;
                }
                Err(Refused::Error(error)) => answer(port, &job, Err(error)),
            }
        }
    }

    /// Passes a job on, or keeps it until there is room. The answer to give now.
    fn accept<R>(&mut self, job: Job) -> Answer<R> {
        if !self.waiting.is_empty() {
            self.waiting.push_back(job); // first come, first served
            return Answer::Later;
        }
        match self.rings.submit(job) {
            Ok(()) => Answer::Later,
            Err(Refused::Full) => {
                self.waiting.push_back(job);
                Answer::Later
            }
            Err(Refused::Error(error)) => Answer::Failed(error),
        }
    }

    fn transfer<R>(
        &mut self,
        call: &Call<'_>,
        operation: Operation,
        sector: u64,
        bytes: u32,
        place: impl FnOnce(&mut Disk) -> Result<Place, Error>,
    ) -> Answer<R> {
        let write = matches!(operation, Operation::Write | Operation::WriteGrant);
        let checked = self.geometry.check_transfer(sector, bytes, write).and_then(|()| place(self));
        match checked {
            Ok(place) => self.accept(Job { ticket: call.ticket(), operation, place, sector, amount: bytes }),
            Err(error) => Answer::Failed(error),
        }
    }

    /// Place of `bytes` at `offset` of a client's pool; `INVAL` if it lends none.
    fn in_pool(&mut self, client: ClientId, offset: u64, bytes: u32) -> Result<Place, Error> {
        let pool = self.pool_of(client).ok_or(Error::INVAL)?;
        pool.address(offset, bytes).map(Place::Pool)
    }

    /// A pool and its place on the bus stay the same as long as this driver lives.
    fn pool_of(&mut self, client: ClientId) -> Option<Pool> {
        if let Some((_, pool)) = self.pools.iter().find(|(known, _)| *known == client) {
            return *pool;
        }
        let region = info::pool_of(client.0).filter(|region| region.iova() != 0);
        let pool = region.map(|region| Pool { bus_address: region.iova(), bytes: region.size() as u64 });
        self.pools.push((client, pool));
        pool
    }
}

impl blk::Server for Disk {
    fn info(&mut self, _call: &mut Call<'_>) -> Answer<blk::InfoReturns> {
        let has = |present: bool, feature: u32| if present { feature } else { 0 };
        Answer::Done(blk::InfoReturns {
            sectors: self.geometry.sectors,
            block_bytes: self.geometry.block_bytes,
            features: has(self.geometry.read_only, blk::FEATURE_READ_ONLY)
                | has(self.geometry.flush, blk::FEATURE_FLUSH)
                | has(self.geometry.discard_sectors > 0, blk::FEATURE_DISCARD),
            max_bytes: self.geometry.max_bytes,
        })
    }

    fn read(&mut self, call: &mut Call<'_>, args: blk::ReadArgs) -> Answer<blk::ReadReturns> {
        let client = call.client();
        self.transfer(call, Operation::Read, args.sector, args.bytes, |disk| {
            disk.in_pool(client, args.pool_offset, args.bytes)
        })
    }

    fn write(&mut self, call: &mut Call<'_>, args: blk::WriteArgs) -> Answer<blk::WriteReturns> {
        let client = call.client();
        self.transfer(call, Operation::Write, args.sector, args.bytes, |disk| {
            disk.in_pool(client, args.pool_offset, args.bytes)
        })
    }

    fn read_grant(&mut self, call: &mut Call<'_>, args: blk::ReadGrantArgs) -> Answer<blk::ReadGrantReturns> {
        self.transfer(call, Operation::ReadGrant, args.sector, args.bytes, |_| Ok(Place::Grant(args.grant)))
    }

    fn write_grant(&mut self, call: &mut Call<'_>, args: blk::WriteGrantArgs) -> Answer<blk::WriteGrantReturns> {
        self.transfer(call, Operation::WriteGrant, args.sector, args.bytes, |_| Ok(Place::Grant(args.grant)))
    }

    fn flush(&mut self, call: &mut Call<'_>) -> Answer<()> {
        if !self.geometry.flush {
            return Answer::Done(()); // every write was durable when it was answered
        }
        let ticket = call.ticket();
        self.accept(Job { ticket, operation: Operation::Flush, place: Place::Nowhere, sector: 0, amount: 0 })
    }

    fn discard(&mut self, call: &mut Call<'_>, args: blk::DiscardArgs) -> Answer<()> {
        match self.geometry.check_discard(args.sector, args.sectors) {
            Ok(sectors) => self.accept(Job {
                ticket: call.ticket(),
                operation: Operation::Discard,
                place: Place::Nowhere,
                sector: args.sector,
                amount: sectors,
            }),
            Err(error) => Answer::Failed(error),
        }
    }

    fn session_ended(&mut self, client: ClientId) {
        self.waiting.retain(|job| job.ticket.client() != client);
        self.pools.retain(|(known, _)| *known != client);
    }
}

/// Why a job does not go to the device.
enum Refused {
    /// No queue has room now.
    Full,
    Error(Error),
}

impl Rings {
    fn submit(&mut self, job: Job) -> Result<(), Refused> {
        // The emptiest: each is served by a thread of its own.
        let queue = self.0.iter_mut().max_by_key(|queue| queue.room()).ok_or(Refused::Error(Error::IO))?;
        if queue.room() == 0 {
            return Err(Refused::Full);
        }
        let address = match job.place {
            Place::Nowhere => 0,
            Place::Pool(address) => address,
            Place::Grant(grant) => hypercall::dma_open(grant, job.ticket.client().0).map_err(Refused::Error)?,
        };
        let data = Data { address, bytes: job.amount };
        let work = match job.operation {
            Operation::Read | Operation::ReadGrant => Work::Read(data),
            Operation::Write | Operation::WriteGrant => Work::Write(data),
            Operation::Flush => Work::Flush,
            Operation::Discard => Work::Discard { sectors: job.amount },
        };
        queue.submit(work, job.sector, job).map_err(|_| Refused::Full)
    }

    /// Tells the device of new requests, where it wants to be told.
    fn kick(&mut self) {
        for (index, queue) in self.0.iter_mut().enumerate() {
            queue.kick(index);
        }
    }
}

impl Source for Rings {
    fn ready(&mut self) -> bool {
        self.0.iter().any(Queue::has_ended)
    }

    fn announce_sleep(&mut self) {
        self.0.iter_mut().for_each(Queue::announce_sleep);
    }

    fn announce_awake(&mut self) {
        self.0.iter_mut().for_each(Queue::announce_awake);
    }
}

/// Closes the window of a job that the device is done with, and answers it.
fn finish(port: &mut ServerPort, job: Job, outcome: Outcome) {
    if let Place::Grant(grant) = job.place {
        // Fails if the client has died or revoked the grant: then the window is closed already.
        let _ = hypercall::dma_close(grant, job.ticket.client().0);
    }
    let result = match outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed => Err(Error::IO),
        Outcome::Unsupported => Err(Error::NOSYS),
    };
    if let Err(error) = result {
        log!(warning, "device error at sector {}, {}: {}", job.sector, job.amount, error);
    }
    answer(port, &job, result);
}

fn answer(port: &mut ServerPort, job: &Job, result: Result<(), Error>) {
    let (ticket, bytes) = (job.ticket, job.amount);
    match job.operation {
        Operation::Read => blk::answer_read(port, ticket, result.map(|()| blk::ReadReturns { bytes }).into()),
        Operation::Write => blk::answer_write(port, ticket, result.map(|()| blk::WriteReturns { bytes }).into()),
        Operation::Flush => blk::answer_flush(port, ticket, result.into()),
        Operation::Discard => blk::answer_discard(port, ticket, result.into()),
        Operation::ReadGrant => {
            blk::answer_read_grant(port, ticket, result.map(|()| blk::ReadGrantReturns { bytes }).into())
        }
        Operation::WriteGrant => {
            blk::answer_write_grant(port, ticket, result.map(|()| blk::WriteGrantReturns { bytes }).into())
        }
    }
}
