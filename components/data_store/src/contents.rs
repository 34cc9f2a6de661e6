//! The state: names with their values, the last changes, and how far each subscriber has got.
//!
//! Every client has places for as many names as it may set, so nobody can take up another's. The changes are a ring;
//! where the next one takes the place of one that a subscriber has not acknowledged, that subscription has a gap.

use crate::names::covers;
use protocols::store::{
    ABSENT, CHANGES_MAX, KIND_BYTES, KIND_NONE, KIND_SIGNED, KIND_STRING, KIND_UNSIGNED, NAMES_MAX, NAME_MAX,
    SUBSCRIPTIONS_MAX, VALUE_MAX,
};
use rt::alloc::vec::Vec;
use rt::state::{plain, Bytes, Cell, Replies, Tx};
use rt::Error;

/// As in the manifest.
pub const CLIENTS: usize = 16;
pub const SLOTS: usize = 16;
const NAMES: usize = CLIENTS * NAMES_MAX as usize;
const CHANGES: usize = CHANGES_MAX as usize;
const NAME: usize = NAME_MAX as usize;
const VALUE: usize = VALUE_MAX as usize;

plain! {
    /// A change; of a name, the last one of it.
    #[derive(Clone, Copy)]
    struct Head {
        /// 0: there is none.
        number: u64,
        /// Of the name, to find it sooner.
        hash: u32,
        kind: u32,
        writer: u32,
        name_length: u16,
        value_length: u16,
    }
}

const NOTHING: Head = Head { number: 0, hash: 0, kind: 0, writer: 0, name_length: 0, value_length: 0 };

plain! {
    struct Item {
        head: Cell<Head>,
        name: Bytes<NAME>,
        value: Bytes<VALUE>,
    }
}

plain! {
    #[derive(Clone, Copy)]
    struct Position {
        acknowledged: u64,
        /// `FREE`, `WHOLE` or `GAP`.
        condition: u32,
        prefix_length: u32,
    }
}

const FREE: u32 = 0;
const WHOLE: u32 = 1;
const GAP: u32 = 2;

plain! {
    struct Subscription {
        position: Cell<Position>,
        prefix: Bytes<NAME>,
    }
}

plain! {
    pub struct Contents {
        pub replies: Replies<CLIENTS, SLOTS>,
        changes: Cell<u64>,
        names: [Item; NAMES],
        log: [Item; CHANGES],
        subscriptions: [[Subscription; SUBSCRIPTIONS_MAX as usize]; CLIENTS],
    }
}

/// A private copy of a change, or of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub number: u64,
    pub kind: u32,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// A name and what it is to be.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub name: &'a [u8],
    pub kind: u32,
    pub value: &'a [u8],
    /// The version the name must have; 0: any or none.
    pub expected: u64,
}

/// `INVAL` unless a value of this kind can be these bytes; `TOOBIG`.
pub fn check_value(kind: u32, value: &[u8]) -> Result<(), Error> {
    let is_sound = match kind {
        KIND_UNSIGNED | KIND_SIGNED => value.len() == 8,
        KIND_BYTES => true,
        KIND_STRING => core::str::from_utf8(value).is_ok(),
        _ => false,
    };
    match is_sound {
        _ if value.len() > VALUE => Err(Error::TOOBIG),
        true => Ok(()),
        false => Err(Error::INVAL),
    }
}

fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn copied<const N: usize>(bytes: &Bytes<N>, length: usize) -> Vec<u8> {
    let mut copy = Vec::new();
    copy.resize(length.min(N), 0);
    let _ = bytes.copy_to(0, &mut copy); // as many as there are
    copy
}

impl Item {
    fn is_named(&self, name: &[u8]) -> bool {
        let mut own = [0; NAME];
        let length = usize::from(self.head.get().name_length).min(NAME);
        self.name.copy_to(0, &mut own[..length]).is_ok() && own[..length] == *name
    }

    fn is_below(&self, prefix: &[u8]) -> bool {
        let mut own = [0; NAME];
        let length = usize::from(self.head.get().name_length).min(NAME);
        self.name.copy_to(0, &mut own[..length]).is_ok() && covers(prefix, &own[..length])
    }

    fn copy(&self) -> Change {
        let head = self.head.get();
        let (name, value) = (usize::from(head.name_length), usize::from(head.value_length));
        Change {
            number: head.number,
            kind: head.kind,
            name: copied(&self.name, name),
            value: copied(&self.value, value),
        }
    }

    fn fill(&self, tx: &mut Tx<'_>, number: u64, writer: u32, wanted: &Wanted<'_>) -> Result<(), Error> {
        let (name_length, value_length) = (wanted.name.len() as u16, wanted.value.len() as u16);
        let hash = hash(wanted.name);
        self.head.set(tx, Head { number, hash, kind: wanted.kind, writer, name_length, value_length });
        self.name.copy_from(tx, 0, wanted.name)?;
        self.value.copy_from(tx, 0, wanted.value)
    }
}

impl Subscription {
    fn prefix(&self) -> Vec<u8> {
        copied(&self.prefix, self.position.get().prefix_length as usize)
    }
}

impl Contents {
    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// All names there are, and those that count for `client`.
    pub fn names(&self, client: u32) -> (u32, u32) {
        let heads = self.names.iter().map(|item| item.head.get()).filter(|head| head.number > 0);
        heads.fold((0, 0), |(all, own), head| (all + 1, own + u32::from(head.writer == client)))
    }

    fn find(&self, name: &[u8]) -> Option<&Item> {
        let hash = hash(name);
        let is_it = |item: &&Item| {
            let head = item.head.get();
            head.number > 0 && head.hash == hash && item.is_named(name)
        };
        self.names.iter().find(is_it)
    }

    /// The name's value. `NOENT`.
    pub fn get(&self, name: &[u8]) -> Result<Change, Error> {
        self.find(name).map(Item::copy).ok_or(Error::NOENT)
    }

    /// The names below `prefix` that come after `after`, in order.
    pub fn list(&self, prefix: &[u8], after: &[u8]) -> Vec<Change> {
        let there = self.names.iter().filter(|item| item.head.get().number > 0 && item.is_below(prefix));
        let mut found: Vec<Change> = there.map(Item::copy).filter(|item| item.name.as_slice() > after).collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Gives a name its value; the number of this change. `STALE`: another version than expected; `INVAL`: another kind;
    /// `NOSPC`: the client has no place left.
    pub fn set(&self, tx: &mut Tx<'_>, client: u32, wanted: &Wanted<'_>) -> Result<u64, Error> {
        let place = self.find(wanted.name);
        let present = place.map_or(NOTHING, |item| item.head.get());
        check_version(wanted.expected, present.number)?;
        if present.number > 0 && present.kind != wanted.kind {
            return Err(Error::INVAL);
        }
        if present.number == 0 || present.writer != client {
            let (_, own) = self.names(client);
            if own >= NAMES_MAX {
                return Err(Error::NOSPC);
            }
        }
        let free = || self.names.iter().find(|item| item.head.get().number == 0);
        let place = place.or_else(free).ok_or(Error::NOSPC)?;
        let number = self.note(tx, client, wanted)?;
        place.fill(tx, number, client, wanted)?;
        Ok(number)
    }

    /// Deletes a name; the number of this change. `NOENT`; `STALE`: another version than expected.
    pub fn delete(&self, tx: &mut Tx<'_>, client: u32, name: &[u8], expected: u64) -> Result<u64, Error> {
        let place = self.find(name).ok_or(Error::NOENT)?;
        check_version(expected, place.head.get().number)?;
        place.head.set(tx, NOTHING);
        self.note(tx, client, &Wanted { name, kind: KIND_NONE, value: &[], expected })
    }

    /// Puts a change into the log; its number.
    fn note(&self, tx: &mut Tx<'_>, client: u32, wanted: &Wanted<'_>) -> Result<u64, Error> {
        let number = self.changes.get() + 1;
        let place = self.place(number);
        let oldest = place.head.get().number;
        for subscription in self.subscriptions.iter().flatten() {
            let position = subscription.position.get();
            // A number of 0 is never above.
            if position.condition == WHOLE && oldest > position.acknowledged && place.is_below(&subscription.prefix()) {
                subscription.position.set(tx, Position { condition: GAP, ..position });
            }
        }
        place.fill(tx, number, client, wanted)?;
        self.changes.set(tx, number);
        Ok(number)
    }

    /// Where the log has a change, or will have it.
    fn place(&self, number: u64) -> &Item {
        &self.log[(number % CHANGES as u64) as usize]
    }

    fn subscription(&self, client: u32, number: u32) -> Result<&Subscription, Error> {
        let of_client = self.subscriptions.get(client as usize).ok_or(Error::BADF)?;
        of_client.get(number as usize).ok_or(Error::BADF)
    }

    /// Begins a subscription, or finds it as it is; the number of the last change that is acknowledged.
    pub fn subscribe(
        &self,
        tx: &mut Tx<'_>,
        client: u32,
        number: u32,
        prefix: &[u8],
        anew: bool,
    ) -> Result<u64, Error> {
        let subscription = self.subscription(client, number)?;
        let position = subscription.position.get();
        if !anew && position.condition != FREE && subscription.prefix() == prefix {
            return Ok(position.acknowledged);
        }
        let acknowledged = self.changes.get();
        let prefix_length = prefix.len() as u32;
        subscription.position.set(tx, Position { acknowledged, condition: WHOLE, prefix_length });
        subscription.prefix.copy_from(tx, 0, prefix)?;
        Ok(acknowledged)
    }

    pub fn unsubscribe(&self, tx: &mut Tx<'_>, client: u32, number: u32) -> Result<(), Error> {
        let position = &self.subscription(client, number)?.position;
        position.set(tx, Position { condition: FREE, ..position.get() });
        Ok(())
    }

    /// Subscriptions there are; of one client, or of all.
    pub fn subscribed(&self, client: Option<u32>) -> u32 {
        let clients = self.subscriptions.iter().enumerate();
        let wanted = clients.filter(|(at, _)| client.map_or(true, |client| client as usize == *at));
        let all = wanted.flat_map(|(_, of_client)| of_client);
        all.filter(|each| each.position.get().condition != FREE).count() as u32
    }

    /// The first change of a subscription after number `after` that is not acknowledged; None: there is none yet.
    /// `GAP`: one was lost. `BADF`: no such subscription.
    pub fn next(&self, client: u32, number: u32, after: u64) -> Result<Option<Change>, Error> {
        let subscription = self.subscription(client, number)?;
        let position = subscription.position.get();
        match position.condition {
            WHOLE => {}
            GAP => return Err(Error::GAP),
            _ => return Err(Error::BADF),
        }
        let last = self.changes.get();
        let oldest = (last + 1).saturating_sub(CHANGES as u64);
        // Changes that are not in the log any more were not below the prefix: else there were a gap.
        let first = after.max(position.acknowledged).saturating_add(1).max(oldest);
        if first > last {
            return Ok(None);
        }
        let prefix = subscription.prefix();
        let found = (first..=last).map(|number| self.place(number)).find(|change| change.is_below(&prefix));
        Ok(found.map(Item::copy))
    }

    /// `RANGE`: there has not been such a change yet; `BADF`.
    pub fn acknowledge(&self, tx: &mut Tx<'_>, client: u32, number: u32, through: u64) -> Result<(), Error> {
        let cell = &self.subscription(client, number)?.position;
        let position = cell.get();
        if position.condition == FREE {
            return Err(Error::BADF);
        }
        if through > self.changes.get() {
            return Err(Error::RANGE);
        }
        if through > position.acknowledged {
            cell.set(tx, Position { acknowledged: through, ..position });
        }
        Ok(())
    }
}

/// `STALE` unless a name with version `present` (0: it is not there) is as expected.
fn check_version(expected: u64, present: u64) -> Result<(), Error> {
    let is_expected = match expected {
        0 => true,
        ABSENT => present == 0,
        version => version == present,
    };
    if is_expected {
        Ok(())
    } else {
        Err(Error::STALE)
    }
}
