//! The reincarnation server: serves supervise@1. The hypervisor tells it who has failed, it says what to do.

#![no_std]
#![no_main]

extern crate alloc;

mod memory;
mod policy;

use memory::{Memory, Record};
use policy::{History, Policy, Restart, Verdict, STEPS};
use protocols::supervise::{self, ConfigureArgs, ConfigureReturns, FaultArgs, FaultReturns, RecoveredArgs};
use rt::info::{self, RegionKind};
use rt::{kill_point, log, Answer, Call, Error, ServerPort, Shared};

rt::component! { fresh: fresh, restart: recovered, update: recovered }

struct Supervisor {
    memory: Memory,
}

impl supervise::Server for Supervisor {
    fn configure(&mut self, call: &mut Call<'_>, args: ConfigureArgs) -> Answer<ConfigureReturns> {
        let restart = match args.policy {
            supervise::POLICY_ALWAYS => Restart::Always,
            supervise::POLICY_NEVER => Restart::Never,
            supervise::POLICY_BACKOFF => Restart::Backoff,
            _ => return Answer::Failed(Error::INVAL),
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
        let policy = Policy { restart, restarts, within_ms, steps, backoff_ms };
        // Configured again (this server was replaced), a component keeps its history.
        let history = self.memory.get(component as usize).map_or(History::new(), |known| known.history);
        let foreseen = policy::foreseen(&policy, &history, history.last_ns()).into();
        if self.memory.put(component as usize, Record { policy, history }) {
            Answer::Done(ConfigureReturns { foreseen })
        } else {
            Answer::Failed(Error::NOSPC)
        }
    }

    fn fault(&mut self, _call: &mut Call<'_>, args: FaultArgs) -> Answer<FaultReturns> {
        let mut record = match self.memory.get(args.component as usize) {
            Some(record) => *record,
            None => return Answer::Failed(Error::NOENT),
        };
        let verdict = match policy::judge(&record.policy, &mut record.history, args.epoch, args.now_ns) {
            Ok(verdict) => verdict,
            Err(policy::Stale) => return Answer::Failed(Error::STALE),
        };
        kill_point!("supervisor.before_keeping");
        // Kept before it is told: a successor that is asked again says the same.
        let _ = self.memory.put(args.component as usize, record);
        kill_point!("supervisor.before_verdict");
        let (action, delay_ms) = match verdict {
            Verdict::Restart => (supervise::ACTION_RESTART, 0),
            Verdict::RestartAfterMs(delay_ms) => (supervise::ACTION_RESTART_AFTER_DELAY, delay_ms),
            Verdict::GiveUp => (supervise::ACTION_GIVE_UP, 0),
        };
        let foreseen = policy::foreseen(&record.policy, &record.history, args.now_ns).into();
        Answer::Done(FaultReturns { action, delay_ms, foreseen })
    }

    fn recovered(&mut self, _call: &mut Call<'_>, args: RecoveredArgs) -> Answer<()> {
        match self.memory.get(args.component as usize) {
            Some(_) => Answer::Done(()),
            None => Answer::Failed(Error::NOENT),
        }
    }
}

fn region() -> Option<Shared> {
    let region = info::region(RegionKind::State, None).and_then(|region| region.memory().ok());
    if region.map_or(true, |region| region.len() < memory::SIZE) {
        log!(warning, "no state region of {} bytes: what is known does not outlive this instance", memory::SIZE);
    }
    region
}

fn fresh() {
    serve(Memory::fresh(region()));
}

fn recovered() {
    serve(Memory::recovered(region()));
}

fn serve(memory: Memory) {
    let mut supervisor = Supervisor { memory };
    let mut port = ServerPort::open(&supervise::PROTOCOL, "supervise");
    rt::ready();
    loop {
        supervise::serve(&mut port, &mut supervisor);
        rt::wait(&mut [&mut port], None);
    }
}
