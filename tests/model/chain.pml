/* client -> relay -> counter, each with a state region: every amount is counted exactly once although each dies
 * once, between any two accesses to shared memory. The channels themselves are channel.pml's: here a link is one
 * mailbox each way, emptied when an end dies (new rings), and what is unanswered is then sent again with its tag.
 *
 * A transaction is what the runtime's `state` makes of one: stores to the live data, then the one store that
 * commits; who dies in between is rolled back: `x` is the live value, `x_kept` the committed one. A request is
 * known by its tag: the client's are the amounts 1, 2, ..; the relay's carry the amount beside them.
 * Mutations (an error must be found): see test_models.py. */
#define AMOUNTS 2
#ifdef TAGS_NOT_KEPT
#define TAGS_KEPT skip
#else
#define TAGS_KEPT tags_kept = tags
#endif
#define CLIENT 0
#define RELAY 1
#define COUNTER 2

byte up_request, up_reply;               /* client to relay and back: a tag; 0: empty */
byte down_request, down_amount, down_reply; /* relay to counter and back */
bool up_sent, down_sent;                 /* private to the sender: sent on the present rings */
bool dead[3], died[3];

byte next = 1, next_kept = 1;            /* client's state: its tag counter, with the outbox: one request, this one */
byte log, log_kept;                      /* relay's state: its reply log (one client, one buffer) */
byte out, out_kept, amount, amount_kept; /* relay's state: its outbox (tag; 0: empty), for which request */
byte tags, tags_kept;                    /* relay's state: its tag counter */
byte heard, heard_kept, total, total_kept; /* counter's state: its reply log, and the sum */
bool ended;                              /* the relay's status page: its client has died */
bool finished;

proctype Client() {
    do
    :: {
        do
        :: next > AMOUNTS -> finished = true; goto end
        :: d_step { next <= AMOUNTS && !up_sent -> up_request = next; up_sent = true } /* `Client::resubmit` */
        :: d_step { up_reply != 0 && up_reply != next -> up_reply = 0 }
        :: d_step { up_reply != 0 && up_reply == next -> up_reply = 0 };
            assert(total_kept >= next); /* what is acknowledged was counted */
            next++; /* a transaction: the answer is used, the outbox has the next request */
            d_step { next_kept = next; up_sent = false }
        od
    } unless { d_step { dead[CLIENT] -> /* `state::open`: rolled back; its links have new rings */
        dead[CLIENT] = false; next = next_kept; up_request = 0; up_reply = 0; up_sent = false; ended = true } }
    od;
end: skip
}

proctype Relay() {
    byte call; /* the request in progress: private memory */
    do
    :: {
        do
        :: d_step { up_request != 0 && call == 0 && !ended -> call = up_request; up_request = 0 };
            if
            :: d_step { call <= log -> up_reply = call; call = 0 } /* `Replies::find` */
#ifdef CALLER_FORGOTTEN
            :: else -> /* a transaction: tag counter and outbox */
#else
            :: d_step { call > log && out != 0 && amount == call -> skip } /* the outbox has it: under way already */
            :: call > log && !(out != 0 && amount == call) ->
#endif
                tags++;
                out = tags;
                amount = call;
                d_step { TAGS_KEPT; out_kept = out; amount_kept = amount; down_sent = false }
            fi
        :: d_step { out != 0 && !down_sent -> down_request = out; down_amount = amount; down_sent = true }
        :: d_step { down_reply != 0 && down_reply != out -> down_reply = 0 }
        :: d_step { down_reply != 0 && down_reply == out -> down_reply = 0 };
            log = amount; /* a transaction: `Replies::keep`, outbox emptied */
            out = 0;
            d_step { log_kept = log; out_kept = 0; down_sent = false };
            if
            :: d_step { call != 0 -> up_reply = call; call = 0 }
            :: call == 0 /* nobody has asked this instance yet: the client will, and find it in the log */
            fi
        :: finished -> goto end
        :: d_step { ended -> call = 0; ended = false } /* `Session::follow`: the client is another, its tickets are stale */
        od
    } unless { d_step { dead[RELAY] ->
        dead[RELAY] = false; ended = false; call = 0; log = log_kept; out = out_kept; amount = amount_kept; tags = tags_kept;
        up_request = 0; up_reply = 0; up_sent = false;
        down_request = 0; down_reply = 0; down_sent = false } }
    od;
end: skip
}

proctype Counter() {
    byte call, what;
    do
    :: {
        do
        :: d_step { down_request != 0 -> call = down_request; what = down_amount; down_request = 0 };
            if
            :: call == heard /* `Replies::find` */
            :: call != heard ->
#ifdef PUBLISH_FIRST
                down_reply = call;
#endif
                /* a transaction */
                total++;
                heard = call;
                d_step { total_kept = total; heard_kept = heard; assert(total_kept == what) } /* once, in order */
            fi;
            d_step { down_reply = call; call = 0; what = 0 }
        :: finished -> goto end
        od
    } unless { d_step { dead[COUNTER] ->
        dead[COUNTER] = false; call = 0; what = 0; total = total_kept; heard = heard_kept;
        down_request = 0; down_reply = 0; down_sent = false } }
    od;
end: assert(total_kept == AMOUNTS)
}

#define DIES(i) d_step { !finished && !died[i] -> died[i] = true; dead[i] = true }

proctype Deaths() {
    do
    :: DIES(CLIENT)
    :: DIES(RELAY)
    :: DIES(COUNTER)
    :: finished -> break
    od
}

init { atomic { run Client(); run Relay(); run Counter(); run Deaths() } }
