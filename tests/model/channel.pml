/* One client, one server, one connection: rings, sleep flags and doorbells, status pages, epochs, reconnect,
 * replay, reply log. Deaths come at any moment; deadlines and complaints are left out (both ends are honest).
 *
 * Memory is sequentially consistent here: wherever the code depends on more than that it has a fence
 * (`full_fence` in ring.rs and wait.rs); -DNO_FENCE moves the one load that the fence holds back.
 *
 * Variants (no error is to be found):
 *   (none)         server with a state region and a reply log, client with a state region: exactly once
 *   IDEMPOTENT     server without state: the old instance may still run beside the new one; at least once
 *   FRESH_CLIENT   a client that loses its state begins a new session
 *   WAKE_AFTER=2   the client asks to be woken at two replies (`Client::wake_after`)
 * Mutations (an error must be found): see test_models.py. */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef SERVER_DEATHS
#define SERVER_DEATHS 2
#endif
#ifndef CLIENT_DEATHS
#define CLIENT_DEATHS 1
#endif
#ifndef WAKE_AFTER
#define WAKE_AFTER 1
#endif
#define SLOTS 2 /* and data buffers: request r uses buffer r % SLOTS, as a tag's low byte says */
#define EPOCHS (1 + SERVER_DEATHS + CLIENT_DEATHS)
#define NEVER 255
#if defined(IDEMPOTENT) || defined(NOT_RELEASED) || defined(SHARED_EDGE)
#define LINGER
#endif
#ifdef FRESH_CLIENT
#define CLIENT_HANDED_OVER true
#else
#define CLIENT_HANDED_OVER client_stopped[client]
#endif
#ifdef IDEMPOTENT
#define HANDED_OVER(stopped) true
#define MOST 255
#else
#define HANDED_OVER(stopped) (stopped) /* recovery.py `_released`: state waits for the real end of the process */
#define MOST 1
#endif
#ifdef NOT_RELEASED
#undef HANDED_OVER
#define HANDED_OVER(stopped) true
#endif
#ifdef SAME_RINGS
#define RINGS rings[0]
#else
#define RINGS rings[ep]
#endif

mtype = { DEAD, OPEN, REOPEN }; /* what a status page says (abi.toml, channel_state) */
mtype = { NONE, PENDING, ACKED };

typedef Rings {
    byte request_tail, request_head, reply_tail, reply_head, wake_at;
    bool server_sleep, client_sleep;
    byte request[SLOTS], reply[SLOTS], reply_epoch[SLOTS];
};
Rings rings[EPOCHS];      /* new memory in every epoch (channels.py `renew`) */
byte users[EPOCHS];       /* ghost: processes that have them mapped */
byte life;               /* ghost: how often the client has lost its state; an honest hypervisor's `session` */
byte epoch, session;      /* as the hypervisor counts them */
mtype server_page = OPEN, client_page = OPEN;
byte server, client;      /* number of the present instance of each */
bool server_runs, client_runs;
bool server_stopped[SERVER_DEATHS + 1], client_stopped[CLIENT_DEATHS + 1]; /* its process does nothing more */
bool server_bell[SERVER_DEATHS + 1], client_bell[CLIENT_DEATHS + 1]; /* an edge for each epoll (tender.c `wake`) */
bool burying;             /* a process that has ended clears its variables first: fewer states */
bool busy;                /* the event loop of the hypervisor is in a handler */
mtype phase[REQUESTS];    /* the client's state region: what became of each request */
byte log_session[SLOTS], log_tag[SLOTS] = NEVER; /* the server's state region: its reply log */
byte executed[REQUESTS * (CLIENT_DEATHS + 1)];   /* ghost: how often each request of each session was executed */
bool finished;            /* ghost: every request is acknowledged */

#ifdef SHARED_EDGE /* if who wakes up read the eventfd, as one does with level-triggered events */
#define SERVER_BELL server_bell[0]
#else
#define SERVER_BELL server_bell[me]
#endif
#define RING_SERVER for (n : 0 .. SERVER_DEATHS) { server_bell[n] = !server_stopped[n] } n = 0
#define RING_CLIENT for (n : 0 .. CLIENT_DEATHS) { client_bell[n] = !client_stopped[n] } n = 0

/* Memory that nobody can reach any more is as good as empty: fewer states. */
#define ENTER ep = epoch; users[ep]++
#ifdef SAME_RINGS
#define LEAVE users[ep]--
#else
#define LEAVE users[ep]--; \
    if \
    :: users[ep] == 0 && ep != epoch -> \
        rings[ep].request_tail = 0; rings[ep].request_head = 0; rings[ep].reply_tail = 0; rings[ep].reply_head = 0; \
        rings[ep].wake_at = 0; rings[ep].server_sleep = false; rings[ep].client_sleep = false; \
        for (n : 0 .. SLOTS - 1) { \
            rings[ep].request[n] = 0; rings[ep].reply[n] = 0; rings[ep].reply_epoch[n] = 0 \
        } n = 0 \
    :: else \
    fi
#endif

/* A d_step is one access to what others see, with the private steps around it. ------------------------
 * client.rs, replay.rs */

#ifdef NO_FENCE
#define LOAD_BEFORE asleep = RINGS.server_sleep /* the processor loads before its own store is seen */
#define LOAD_AFTER skip
#else
#define LOAD_BEFORE skip
#define LOAD_AFTER asleep = RINGS.server_sleep
#endif

inline ring_if_needed() { /* client.rs; ring.rs `ClientRing::server_wants_bell` */
    LOAD_AFTER;
    d_step {
        unrung = 0;
        if
        :: !asleep -> rung_at = NEVER
        :: asleep && (RINGS.request_head == tail || rung_at == RINGS.request_head)
        :: else -> rung_at = RINGS.request_head; RING_SERVER
        fi;
        asleep = false
    }
}

/* Requests are sent in order, after a reconnect those that are unanswered again (replay.rs `resume`): `next` says
 * how far that has come. A new one waits until its buffer is free. */
#define TO_SEND (next < REQUESTS && (phase[next] != NONE || next < SLOTS || phase[next - SLOTS] == ACKED))
#define TO_TAKE (RINGS.reply_tail != head)
#define CLIENT_OPEN (!finished && client_page == OPEN && open)

proctype Client(byte me) provided (!burying || client_stopped[me]) {
    byte ep, head, tail, next, n, tag, unrung, rung_at = NEVER;
    bool open, asleep, ready;
end_unborn:
    d_step { (client == me && client_runs) || client_stopped[me] -> ENTER };
    {
        do
        :: finished -> break
        :: d_step { !finished && client_page == REOPEN && !busy && client_runs && client == me ->
                /* `follow`, `reconnect`; hypercalls.py `_reconnect`: one handler of the event loop. Where the offer
                 * was withdrawn between the two (`again`) the page says what to do next. */
                client_page = OPEN; LEAVE; ENTER; head = 0; tail = 0; unrung = 0; rung_at = NEVER;
                open = true; next = 0
            }
        :: d_step { !finished && client_page == OPEN && !open -> open = true; next = 0 }
        :: d_step { !finished && client_page == DEAD && open -> open = false; unrung = 0 }
        :: d_step { CLIENT_OPEN && TO_SEND -> LOAD_BEFORE; ready = phase[next] != ACKED };
            if
            :: d_step { ready -> /* `submit` (commit of the outbox), `send`, `publish` */
                    phase[next] = PENDING;
                    RINGS.request[tail % SLOTS] = next;
                    tail++;
                    RINGS.request_tail = tail;
                    unrung++; next++; ready = false
                };
                if
                :: unrung >= WAKE_AFTER -> ring_if_needed()
                :: else
                fi
            :: d_step { !ready -> next++ }
            fi
        :: d_step { CLIENT_OPEN && !TO_SEND && TO_TAKE -> /* `take_reply`, `accept` */
                tag = RINGS.reply[head % SLOTS];
                assert(RINGS.reply_epoch[head % SLOTS] == ep); /* no reply of an old epoch */
                assert(phase[tag] == PENDING);                 /* nor one to nothing */
                RINGS.reply[head % SLOTS] = 0;
                RINGS.reply_epoch[head % SLOTS] = 0;
                head++;
                RINGS.reply_head = head
            };
            d_step { /* the answer is used: commit */
                phase[tag] = ACKED;
                assert(executed[life * REQUESTS + tag] >= 1);
                finished = true;
                for (n : 0 .. REQUESTS - 1) { finished = finished && phase[n] == ACKED }
                n = 0; tag = 0
            }
#if WAKE_AFTER > 1 /* else every request was rung for at once */
        :: CLIENT_OPEN && !TO_SEND && !TO_TAKE && unrung > 0 -> ring_if_needed() /* wait.rs `pass_on` */
#endif
        :: d_step { !finished && client_page == DEAD && !open -> skip };
            if
            :: client_page != DEAD /* `has_news` */
            :: client_bell[me] -> client_bell[me] = false
            fi
        :: d_step { CLIENT_OPEN && !TO_SEND && !TO_TAKE && unrung == 0 ->
                for (n : 0 .. REQUESTS - 1) { tag = tag + (phase[n] == PENDING) }
                n = 0; /* `announce`: as many as wanted, or as are outstanding */
                RINGS.wake_at = head + (tag > WAKE_AFTER -> WAKE_AFTER : (tag == 0 -> 1 : tag));
                RINGS.client_sleep = true;
                tag = 0
            };
#ifndef NO_SECOND_LOOK
            ready = client_page != OPEN; /* `has_news` */
            d_step { true -> ready = ready || TO_TAKE };
#endif
            if
            :: d_step { ready -> ready = false; RINGS.client_sleep = false }
            :: d_step { !ready && client_bell[me] -> client_bell[me] = false; RINGS.client_sleep = false }
            fi
        od
    } unless { d_step { client_stopped[me] ->
        burying = false; LEAVE; ep = 0; head = 0; tail = 0; next = 0; tag = 0; unrung = 0; rung_at = 0;
        open = false; asleep = false; ready = false } }
}

/* ---- session.rs, server.rs ------------------------------------------------------------------------- */

inline client_wants_bell(only_at_threshold) { /* ring.rs */
    asleep = RINGS.client_sleep;
    d_step {
        if
        :: !asleep -> rung_at = NEVER
        :: asleep && ((only_at_threshold && tail < RINGS.wake_at) || RINGS.reply_head == tail
                      || rung_at == RINGS.reply_head)
        :: else -> rung_at = RINGS.reply_head; RING_CLIENT
        fi;
        asleep = false
    }
}

inline publish_reply() { /* `Session::reply`, `ServerRing::publish` */
    d_step {
        RINGS.reply[tail % SLOTS] = tag;
        RINGS.reply_epoch[tail % SLOTS] = ep;
        tail++;
        RINGS.reply_tail = tail
    };
    client_wants_bell(true)
}

inline execute() { /* a transaction: the change, and `Replies::keep`; nothing has happened before its commit */
    if
    :: d_step { found -> found = false }
    :: d_step { !found ->
#ifdef IDEMPOTENT
            executed[peer_life * REQUESTS + tag] = 1; /* or more */
#else
            executed[peer_life * REQUESTS + tag]++;
            assert(executed[peer_life * REQUESTS + tag] == 1);
#endif
            log_session[tag % SLOTS] = peer;
            log_tag[tag % SLOTS] = tag
        }
    fi
}

#define TO_SERVE (RINGS.request_tail != head)
#define SERVER_OPEN (server_page == OPEN && open)

proctype Server(byte me) provided (!burying || server_stopped[me]) {
    byte ep, head, tail, tag, n, peer, peer_life, rung_at = NEVER;
    bool open, asleep, ready, found;
end_unborn:
    d_step { (server == me && server_runs) || server_stopped[me] -> ENTER; peer = session; peer_life = life; open = server_page == OPEN };
    {
        do
        :: d_step { server_page == REOPEN && !busy && server_runs && server == me -> /* `Session::follow` */
                server_page = OPEN; LEAVE; ENTER; head = 0; tail = 0; rung_at = NEVER; open = true; peer = session; peer_life = life
            }
        :: d_step { server_page == OPEN && !open -> open = true }
        :: d_step { server_page == DEAD && open -> open = false }
        :: d_step { SERVER_OPEN && TO_SERVE -> /* `Session::take`, `Replies::find` */
                tag = RINGS.request[head % SLOTS];
                RINGS.request[head % SLOTS] = 0;
                head++;
                RINGS.request_head = head;
#if !defined(NO_LOG) && !defined(IDEMPOTENT)
                found = log_tag[tag % SLOTS] == tag && log_session[tag % SLOTS] == peer
#endif
            };
#ifdef REPLY_FIRST
            publish_reply();
            execute();
#else
            execute();
            publish_reply();
#endif
            tag = 0
        :: d_step { server_page == DEAD && !open -> skip };
end_away:   if
            :: server_page != DEAD
            :: SERVER_BELL -> SERVER_BELL = false
            fi
        :: d_step { SERVER_OPEN && !TO_SERVE -> skip };
#if WAKE_AFTER > 1 /* else it would only wake those who are woken anyway */
            client_wants_bell(false); /* wait.rs `before_idle` */
#endif
            RINGS.server_sleep = true;
#ifndef NO_SECOND_LOOK
            ready = server_page != OPEN; /* `Session::ready` */
            d_step { true -> ready = ready || TO_SERVE };
#endif
end_asleep: if
            :: d_step { ready -> ready = false; RINGS.server_sleep = false }
            :: d_step { !ready && SERVER_BELL -> SERVER_BELL = false; RINGS.server_sleep = false }
            fi
        od
    } unless { d_step { server_stopped[me] ->
        burying = false; LEAVE; ep = 0; head = 0; tail = 0; tag = 0; peer = 0; peer_life = 0; rung_at = 0;
        open = false; asleep = false; ready = false; found = false } }
}

/* ---- hypervisor -------------------------------------------------------------------------------------- */

#define SERVER_CONDEMNED(i) (server > i || (server == i && !server_runs))
#define CLIENT_CONDEMNED(i) (client > i || (client == i && !client_runs))

#ifdef LINGER /* who is not heard any more goes on for a while (process `Ends`) */
#define STOP_SERVER skip
#define STOP_CLIENT skip
#else
#define STOP_SERVER burying = true; server_stopped[server] = true; server_bell[server] = false
#define STOP_CLIENT burying = true; client_stopped[client] = true; client_bell[client] = false
#endif

proctype Hypervisor() provided (!burying) {
    byte n;
end_loop:
    do
    :: d_step { server_runs && server < SERVER_DEATHS && !finished -> /* `Recovery.begin` */
            server_runs = false; client_page = DEAD; STOP_SERVER }
    :: d_step { client_runs && client < CLIENT_DEATHS && !finished ->
            client_runs = false; server_page = DEAD; STOP_CLIENT }
    :: !server_runs && HANDED_OVER(server_stopped[server]) -> /* `_proceed`, `_restart` */
        d_step {
            busy = true;
            epoch++;
            server_page = (client_runs -> OPEN : DEAD);
            server++;
            server_runs = true
        };
        if
        :: client_runs -> client_page = REOPEN; d_step { RING_CLIENT } /* `offer_reopen`: status page, then doorbell */
        :: else
        fi;
        busy = false
    :: !client_runs && CLIENT_HANDED_OVER ->
        d_step {
            busy = true;
            epoch++;
            client_page = (server_runs -> OPEN : DEAD);
            client++;
#ifdef FRESH_CLIENT
            for (n : 0 .. REQUESTS - 1) { phase[n] = NONE }
            n = 0;
            life++;
#ifndef SESSION_KEPT
            session++;
#endif
#endif
            client_runs = true
        };
        if
        :: server_runs -> server_page = REOPEN; d_step { RING_SERVER }
        :: else
        fi;
        busy = false
    od
}

#ifdef LINGER
proctype Ends() provided (!burying) { /* processes that were ended are really gone, sooner or later */
end_loop:
    do
    :: d_step { SERVER_CONDEMNED(0) && !server_stopped[0] -> burying = true; server_stopped[0] = true; server_bell[0] = false }
#if SERVER_DEATHS > 1
    :: d_step { SERVER_CONDEMNED(1) && !server_stopped[1] -> burying = true; server_stopped[1] = true; server_bell[1] = false }
#endif
#if CLIENT_DEATHS > 0
    :: d_step { CLIENT_CONDEMNED(0) && !client_stopped[0] && !finished -> burying = true; client_stopped[0] = true; client_bell[0] = false }
#endif
    od
}

#endif

/* No deadlock and no lost wake-up: a client that sleeps for ever, or a request that is never answered, leaves this
 * process where it may not end. That nothing goes round in circles for ever is the property `answered`. */
proctype Finish() { finished }

init {
    byte n;
    atomic {
        for (n : 0 .. REQUESTS - 1) { phase[n] = NONE }
        server_runs = true;
        client_runs = true;
        for (n : 0 .. SERVER_DEATHS) { run Server(n) }
        for (n : 0 .. CLIENT_DEATHS) { run Client(n) }
        run Hypervisor();
#ifdef LINGER
        run Ends();
#endif
        run Finish()
    }
}

#ifdef LIVENESS
ltl answered { <> finished }
#endif
