/* Grants: an owner lends two objects to its peer, which has room to map one of them at a time; the peer's first
 * instance may be killed, and a second one takes its place. Revoke, unmap, regrant, and the owner's own death come
 * at any moment. A tender carries out what it is sent in order (a queue for its socket), later.
 *
 * One handler of the hypervisor's event loop is one atomic step. Properties: once a revoke is answered nobody can
 * reach the object; what a grantee has been told it has mapped is there until it gives it back or it is taken; at the
 * end no grant is left and no use is counted twice or for ever. Mutations: see test_models.py. */
#define OBJECTS 2
#define GRANTEES 2 /* instances of the peer */
#define NOBODY 255

mtype = { MAP, UNMAP_OWN, UNMAP_TAKEN, RESULT };
chan tender[GRANTEES] = [6] of { mtype, byte, byte }; /* APPLY and RESULT records: object, generation */
chan acks[GRANTEES] = [6] of { mtype, byte, byte };   /* ACKs on their way to the event loop */

typedef Grant { /* grants.py `Grant` */
    bool there, lent;
    byte generation, mapped, busy, waiting; /* `lent`: its `active`; `mapped`: the grantee or NOBODY; `waiting`: length of `on_idle` */
    bool answer;                            /* the owner's hypercall `revoke` is among them */
};
Grant grants[OBJECTS];
byte holds[GRANTEES * OBJECTS]; /* instances.py `holds`, for each grant */
byte window[GRANTEES] = NOBODY; /* what the page tables of a grantee's VM really show at the one address */
bool frozen[GRANTEES], gone[GRANTEES], calling[GRANTEES];
byte running;                   /* the present grantee; GRANTEES: none will come any more */
bool grantee_runs = true, owner_alive = true, revoking, ended;
byte answered_to = NOBODY;      /* the object of the last revoke that was answered */
byte regrants;

#define REACHES(o) ((window[0] == o && !gone[0]) || (window[1] == o && !gone[1]))
#define OFFERED(o) (grants[o].there && grants[o].lent)
#define IN_USE(o) (grants[o].mapped != NOBODY || grants[o].busy > 0)

inline settle(o) { /* `Grant.settle`, `free` of `GrantTable.revoke` */
    if
    :: grants[o].there && !grants[o].lent && grants[o].waiting > 0 && !IN_USE(o) ->
        assert(!REACHES(o)); /* nobody can reach it: its owner may be answered, its memory be used anew */
        grants[o].there = false;
        grants[o].waiting = 0;
        if
        :: grants[o].answer && owner_alive -> revoking = false
        :: else
        fi;
        grants[o].answer = false
    :: else
    fi
}

inline take_back(o) { /* process.py `take_back`, `_unmap` */
    grants[o].lent = false;
    grants[o].waiting++;
#ifdef ANSWERED_EARLY
    if
    :: grants[o].mapped != NOBODY -> tender[grants[o].mapped] ! UNMAP_TAKEN, o, grants[o].generation;
        grants[o].mapped = NOBODY
    :: else
    fi;
#else
    if
    :: grants[o].mapped != NOBODY -> tender[grants[o].mapped] ! UNMAP_TAKEN, o, grants[o].generation
    :: else
    fi;
#endif
    settle(o)
}

inline grant(o) { /* `GrantTable.add` */
    grants[o].there = true; grants[o].lent = true; grants[o].mapped = NOBODY;
    grants[o].generation++; regrants++
}

inline revoke(o) {
    revoking = true; grants[o].answer = true;
    take_back(o)
}

proctype Owner() { /* hypercalls.py `_grant`, `_revoke` */
    byte o;
    do
    :: atomic { owner_alive && !revoking && regrants < 3 && !grants[0].there -> o = 0; grant(o) }
    :: atomic { owner_alive && !revoking && regrants < 3 && !grants[1].there -> o = 1; grant(o) }
    :: atomic { owner_alive && !revoking && grants[0].there && grants[0].lent -> o = 0; revoke(o) }
    :: atomic { owner_alive && !revoking && grants[1].there && grants[1].lent -> o = 1; revoke(o) }
    :: atomic { !owner_alive -> break }
    :: atomic { owner_alive -> /* dies: `lay_down` */
        owner_alive = false; revoking = false;
        if
        :: grants[0].there -> take_back(0)
        :: else
        fi;
        if
        :: grants[1].there -> take_back(1)
        :: else
        fi;
        break }
    od
}

/* The grantee's guest: hypercalls.py `_map_grant`, `_unmap_grant`, `_copied`. It waits for each answer. */
proctype Guest(byte me) {
    byte o;
    bool has; /* it was told that it has one mapped */
end_idle:
    do
    :: frozen[me] || ended -> break
    :: atomic { me == running && grantee_runs && !calling[me] && !has && owner_alive ->
            if
            :: o = 0
            :: o = 1
            fi;
            if
            :: (OFFERED(o) && grants[o].mapped == NOBODY && grants[0].mapped != me && grants[1].mapped != me) ->
                grants[o].mapped = me; calling[me] = true; has = true; tender[me] ! MAP, o, grants[o].generation
            :: else -> o = 0 /* refused: `noent`, `busy` */
            fi }
    :: atomic { me == running && grantee_runs && !calling[me] && has ->
            has = false;
            if
            :: grants[o].there && grants[o].lent && grants[o].mapped == me ->
                /* nobody took it: it must be there */
                assert(window[me] == o);
                calling[me] = true; tender[me] ! UNMAP_OWN, o, grants[o].generation
            :: else
            fi;
            o = 0 }
    od
}

proctype Tender(byte me) { /* tender.c `apply`; a frozen one does nothing more */
    mtype what;
    byte o, generation;
end_idle:
    do
    :: d_step { !frozen[me] && len(tender[me]) > 0 && len(acks[me]) < 6 ->
            tender[me] ? what, o, generation;
            if
            :: what == MAP -> window[me] = o; calling[me] = false
            :: what == UNMAP_OWN || what == UNMAP_TAKEN -> window[me] = NOBODY; acks[me] ! what, o, generation
            :: what == RESULT -> calling[me] = false
            fi;
            what = 0; o = 0; generation = 0 }
    :: frozen[me] -> break
    od
}

proctype Hypervisor() {
    mtype what;
    byte o, generation, g, kills;
end_idle:
    do
    :: atomic { grantee_runs && len(acks[running]) > 0 -> /* `unmapped` of `_unmap_grant` and of `_unmap` */
            acks[running] ? what, o, generation;
            if
            :: grants[o].there && grants[o].generation == generation -> /* else: a Grant that nobody knows any more */
                grants[o].mapped = NOBODY;
                settle(o)
            :: else
            fi;
            if
            :: what == UNMAP_OWN -> tender[running] ! RESULT, 0, 0
            :: else
            fi;
            what = 0; o = 0; generation = 0 }
    :: atomic { grantee_runs && (kills == 0 || ended) -> /* a death, or the deadline of a revocation: `lay_down` */
            kills++; grantee_runs = false; frozen[running] = true;
            for (o : 0 .. OBJECTS - 1) {
                if
                :: grants[o].mapped == running -> /* `Grant.orphan` */
                    grants[o].mapped = NOBODY; grants[o].busy++; holds[running * OBJECTS + o]++
                :: else
                fi
            }
            o = 0 }
    :: atomic { !grantee_runs && running < GRANTEES - 1 -> /* `_restart` does not wait for the dead one's end */
            running++; grantee_runs = true }
    :: atomic { g < GRANTEES && frozen[g] && !gone[g] -> /* `_tender_gone`, `_forget` */
            gone[g] = true; window[g] = NOBODY;
            for (o : 0 .. OBJECTS - 1) {
#ifndef HOLD_FORGOTTEN
                grants[o].busy = grants[o].busy - holds[g * OBJECTS + o];
#endif
                holds[g * OBJECTS + o] = 0;
                settle(o)
            }
            o = 0; g++ }
    od
}

proctype Finish() { /* once the owner is dead every grant is freed, whoever was killed: no leak */
    !owner_alive;
    !grants[0].there && !grants[1].there;
    assert(!IN_USE(0) && !IN_USE(1));
    ended = true
}

init {
    atomic {
        grants[0].mapped = NOBODY; grants[1].mapped = NOBODY;
        run Owner(); run Hypervisor(); run Finish();
        run Guest(0); run Guest(1); run Tender(0); run Tender(1)
    }
}
