//! The reincarnation server: serves supervise@1. The hypervisor tells it who has failed, it says what to do.

#![no_std]
#![no_main]

mod memory;
mod policy;

use memory::{Memory, Record};
use policy::{History, Poisoned, Policy, STEPS};
use protocols::supervise::{self, ConfigureArgs, ConfigureReturns, FaultArgs, FaultReturns};
use rt::{kill_point, Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

struct Supervisor {
    memory: Memory,
}

impl supervise::Server for Supervisor {
    fn configure(&mut self, call: &mut Call<'_>, args: ConfigureArgs) -> Answer<ConfigureReturns> {
        let restart = match memory::restart_of(args.policy) {
            Some(restart) => restart,
            None => return Answer::Failed(Error::INVAL),
        };
        let mut backoff_ms = [0; STEPS];
        let mut table = [0; STEPS * 4];
        let bytes = args.steps as usize * 4;
        if args.steps as usize > STEPS || call.copy_input(&mut table[..bytes]).is_err() {
            return Answer::Failed(Error::INVAL);
        }
        for (step, word) in backoff_ms.iter_mut().zip(table[..bytes].chunks_exact(4)) {
            *step = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        }
        let ConfigureArgs { component, restarts, within_ms, steps, .. } = args;
        let poisoned = Poisoned(args.poisoned);
        let policy = Policy { restart, restarts, within_ms, steps, backoff_ms, poisoned };
        // Configured again (this server was replaced), a component keeps its history.
        let history = self.memory.get(component as usize).map_or(History::new(), |known| known.history);
        let foreseen = policy::foreseen(&policy, &history, history.last_ns()).into();
        match self.memory.put(component as usize, &Record { policy, history }) {
            Ok(()) => Answer::Done(ConfigureReturns { foreseen }),
            Err(error) => Answer::Failed(error),
        }
    }

    fn fault(&mut self, _call: &mut Call<'_>, args: FaultArgs) -> Answer<FaultReturns> {
        let mut record = match self.memory.get(args.component as usize) {
            Some(record) => record,
            None => return Answer::Failed(Error::NOENT),
        };
        let FaultArgs { epoch, kind, now_ns, .. } = args;
        let verdict = match policy::judge(&record.policy, &mut record.history, epoch, kind, now_ns) {
            Ok(verdict) => verdict,
            Err(policy::Stale) => return Answer::Failed(Error::STALE),
        };
        kill_point!("supervisor.before_keeping");
        // Kept before it is told: a successor that is asked again says the same.
        if let Err(error) = self.memory.put(args.component as usize, &record) {
            return Answer::Failed(error);
        }
        kill_point!("supervisor.before_verdict");
        let (action, delay_ms) = memory::action_of(verdict);
        let foreseen = policy::foreseen(&record.policy, &record.history, args.now_ns).into();
        Answer::Done(FaultReturns { action, delay_ms, foreseen, cure: record.history.cure })
    }
}

fn serve() {
    let mut supervisor = Supervisor { memory: Memory::open() };
    let mut port = ServerPort::open(&supervise::PROTOCOL, "supervise");
    rt::ready();
    loop {
        supervise::serve(&mut port, &mut supervisor);
        rt::wait(&mut [&mut port], None);
    }
}
