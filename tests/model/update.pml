/* A live update, as designed (the hypervisor does not do it yet; the names are of what exists, else in capitals):
 * 1. the operator asks, the reincarnation server decides (late: the request has been withdrawn, nothing happens);
 * 2. the old instance sees QUIESCE at the top of its loop, where no transaction is open, and waits in the hypercall
 *    QUIESCED; past its deadline the request is withdrawn, and if it comes late it is sent on at once;
 * 3. the hypervisor copies its state region; the new instance converts the copy, checks it, and calls `ready`;
 * 4. the switch: the old one is ended (process.py `lay_down`, `bury`), the epochs rise (channels.py `renew`), the copy
 *    becomes the region, the new one goes on; clients reconnect and replay.
 * Before 4 the old instance has its own region untouched and goes on with it if anything fails. Old and new are
 * process numbers 0, 1, 2: one more than there may be updates. Mutations: see test_models.py. */
#define UPDATES 2
#define DEATHS 1 /* of whatever component's instance, at any moment */
#define REQUESTS 2
#define NONE 255

mtype = { UNUSED, STARTING, READY, SERVING, WAITING, ENDED };
mtype is[UPDATES + DEATHS + 1] = UNUSED; /* each instance; WAITING: in the hypercall QUIESCED */
byte region, copy;            /* the state: requests executed, in order; the reply log is the same number */
bool copied;                  /* there is a copy */
byte running, next = NONE;    /* the present instance, and the one being made; */
byte made, updates, deaths;
bool quiesce, asked;          /* the request in the status page; the reincarnation server was asked */
byte ticket, verdict;         /* a verdict counts only for the request it was asked for */
byte epoch, client_epoch;     /* raised at each switch and death */
byte request, request_epoch, reply, reply_epoch; /* the client's request and its answer, by the rings' epoch */
byte acknowledged;
bool sent;                    /* by the client, in its present epoch */
bool finished;

#define REQUESTED (request != 0 && request_epoch == epoch)

proctype Instance(byte me) {
    byte call, over; /* the request in progress, and the epoch of the rings it came over */
    do
    :: is[me] == STARTING -> /* `update`: convert, check itself */
        if
        :: d_step { is[me] == STARTING -> is[me] = READY }
        :: d_step { is[me] == STARTING -> is[me] = ENDED; next = NONE; copied = false } /* check failed, or it died */
        :: is[me] == ENDED
        fi
    :: d_step { is[me] == SERVING && quiesce && me == running -> is[me] = WAITING } /* loop top */
    :: d_step { is[me] == SERVING && !quiesce && me == running && REQUESTED -> call = request; over = epoch; request = 0 };
        if
        :: d_step { is[me] == SERVING && call > region -> /* commit; not found in the reply log */
                assert(me == running);
                region++;
                assert(region == call) /* once, in order */
            }
        :: call <= region || is[me] != SERVING
        fi;
        if
        :: d_step { is[me] == SERVING && over == epoch -> reply = call; reply_epoch = over; call = 0; over = 0 }
        :: d_step { is[me] != SERVING || over != epoch -> call = 0; over = 0 } /* nobody reads the old rings */
        fi
    :: is[me] == ENDED -> break
    :: finished && is[me] != STARTING -> break
    od
}

inline cancel() { /* the copy and who was made for it go; the old instance goes on */
    d_step {
        if
        :: next != NONE -> is[next] = ENDED; next = NONE
        :: else
        fi;
        quiesce = false; copied = false; asked = false; ticket++;
        if
        :: is[running] == WAITING -> is[running] = SERVING
        :: else
        fi
    }
}

proctype Hypervisor() {
end_loop:
    do
    :: d_step { updates < UPDATES && !asked && !quiesce && !finished -> /* a second one meanwhile: `busy` */
            updates++; asked = true; ticket++ }
    :: d_step { asked && verdict == ticket && verdict != 0 -> asked = false; quiesce = true }
    :: (asked || quiesce) && !finished -> cancel() /* any deadline: of the verdict, of quiescing, of `ready`; a failure */
#ifdef COPIED_EARLY
    :: d_step { quiesce && !copied && next == NONE -> copy = region; copied = true }
#else
    :: d_step { quiesce && !copied && next == NONE && is[running] == WAITING -> copy = region; copied = true }
#endif
    :: d_step { quiesce && copied && next == NONE && made < UPDATES + DEATHS -> /* START_UPDATE */
            made++; next = made; is[next] = STARTING }
    :: d_step { next != NONE && quiesce && copied && is[next] == READY && is[running] == WAITING ->
#ifndef OLD_SERVES_ON
            is[running] = ENDED;
#else
            is[running] = SERVING;
#endif
            region = copy; running = next; is[running] = SERVING; epoch++;
            next = NONE; quiesce = false; copied = false }
    :: d_step { deaths < DEATHS && !finished && made < UPDATES + DEATHS -> /* of the running one, also while it waits */
            deaths++; is[running] = ENDED;
            if
            :: next != NONE -> is[next] = ENDED; next = NONE
            :: else
            fi;
            quiesce = false; copied = false; asked = false; ticket++;
            made++; running = made; epoch++; is[running] = SERVING } /* recovery.py `_restart`, with the old program */
    od
}

/* The verdict comes when it comes, perhaps for a request that was withdrawn; or never. */
proctype ReincarnationServer() {
    byte about;
end_idle:
    do
    :: d_step { asked && verdict != ticket -> about = ticket };
        d_step { true -> verdict = about; about = 0 }
    od
}

proctype Client() {
    bool died;
    do
    :: d_step { acknowledged < REQUESTS && client_epoch != epoch -> client_epoch = epoch; request = 0; reply = 0; sent = false }
    :: d_step { acknowledged < REQUESTS && client_epoch == epoch && request == 0 && reply == 0 && !sent ->
            request = acknowledged + 1; request_epoch = epoch; sent = true }
    :: d_step { acknowledged < REQUESTS && client_epoch == epoch && reply != 0 && reply_epoch == epoch ->
            acknowledged++; assert(reply == acknowledged); reply = 0; sent = false;
            assert(region >= acknowledged) } /* what is acknowledged is in the state */
    :: d_step { !died && acknowledged < REQUESTS -> died = true; epoch++ } /* restarted: new rings, the same tags */
    :: d_step { acknowledged == REQUESTS -> finished = true }; break
    od
}

/* Exactly one instance serves: never two, and none only while the old one waits for the new one. */
#define SERVES(i) (is[i] == SERVING)
#define COUNT (SERVES(0) + SERVES(1) + SERVES(2) + SERVES(3))
proctype Watch() {
end_good: d_step { !(COUNT == 1 || (COUNT == 0 && is[running] == WAITING && quiesce)) -> assert(false) }
}

proctype Finish() { finished; assert(region == REQUESTS) }

init {
    byte n;
    atomic {
        is[0] = SERVING;
        for (n : 0 .. UPDATES + DEATHS) { run Instance(n) }
        run Hypervisor(); run ReincarnationServer(); run Client(); run Finish(); run Watch()
    }
}
