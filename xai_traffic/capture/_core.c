/* The capture core: a stream of chunks in, session tiles and closed sessions out, in one pass.
 *
 * _core_formats.h finds the frames, _core_decode.h their headers; here packets become sessions, and
 * sessions rows. One translation unit, so that a packet's way through it can be inlined whole.
 *
 * core_numpy.py keeps the same contract in plain Python and gives the same bits; records.py has the
 * row layouts, and the words for drops, ends and faults; filters.py compiles the filter. A change
 * of behaviour is a change in all of them.
 *
 * Everything that comes out of a capture is hostile: lengths are checked against what is left before
 * a byte is read, arithmetic is unsigned, loads are bytewise. Memory is bounded by one record plus a
 * hundred bytes a session that is open; tiles leave with the call that read them.
 */
#include "_core.h"
#include "_core_decode.h"
#include "_core_formats.h"

/* ---- Output -------------------------------------------------------------------------------- */

/* An offset in the frame as one in the tile, NONE where the tile does not have it. */
static inline uint32_t in_tile(uint32_t offset, uint32_t start)
{
    return offset >= start && offset - start < NONE ? offset - start : NONE;
}

static void emit_packet(Core *core, const Session *session, const Frame *frame,
                        const Packet *packet, bool direction)
{
    if (!reserve(core, &core->tiles, core->width) ||
        !reserve(core, &core->packet_rows, PACKET_ROW))
        return;
    uint32_t start = 0, end = packet->end;
    uint32_t network = packet->network, transport = packet->transport, payload = packet->payload;
    if (core->layers == ALL)
        end = frame->captured; /* with the trailer of the link layer */
    else if (core->layers == NETWORK)
        start = network;
    else if (core->layers == TRANSPORT)
        start = transport;
    else if (payload != ABSENT)
        start = payload;
    else
        end = 0, network = transport = ABSENT;
    uint32_t length = least(end - start, core->width);

    uint8_t *tile = core->tiles.data + core->tiles.used;
    memcpy(tile, frame->bytes + start, length);
    memset(tile + length, 0, core->width - length);
    core->tiles.used += core->width;

    uint8_t *row = core->packet_rows.data + core->packet_rows.used;
    row = put64(row, session->number);
    row = put64(row, core->packets);
    row = put64(row, frame->time);
    row = put32(row, frame->captured);
    row = put32(row, frame->wire);
    row = put16(row, (uint32_t)session->packets);
    row = put16(row, start);
    row = put16(row, length);
    row = put16(row, in_tile(network, start));
    row = put16(row, in_tile(transport, start));
    row = put16(row, in_tile(payload, start));
    row = put16(row, frame->link);
    row[0] = packet->protocol;
    row[1] = direction;
    row = put16(row + 2, NONE);
    row = put16(row, frame->captured < frame->wire ? CUT : 0);
    memset(row, 0, 4);
    core->packet_rows.used += PACKET_ROW;
}

/* Write the address of the key's endpoint 0 or 1, as it stands in a packet. */
static void put_address(uint8_t *p, const Key *key, int endpoint)
{
    const uint64_t *words = key->words + 2 * endpoint;
    if (key->words[4] >> 40 == 6) {
        memcpy(p, words, 16);
        return;
    }
    memset(p, 0, 16);
    put32(p, (uint32_t)words[0]);
}

static void emit_session(Core *core, Session *session, End end)
{
    if (session->reported)
        return;
    session->reported = core->early || end == QUIET;
    if (!reserve(core, &core->session_rows, SESSION_ROW))
        return;
    uint64_t ports = session->key.words[4];
    bool swapped = session->swapped;
    uint8_t *row = core->session_rows.data + core->session_rows.used;
    row = put64(row, session->number);
    row = put64(row, session->first_time);
    row = put64(row, session->last_time);
    row = put64(row, session->packets);
    row = put64(row, session->bytes);
    row = put64(row, session->payload_bytes);
    put_address(row, &session->key, swapped);
    put_address(row + 16, &session->key, !swapped);
    row = put16(row + 32, (uint32_t)(swapped ? ports >> 16 : ports));
    row = put16(row, (uint32_t)(swapped ? ports : ports >> 16));
    row = put16(row, session->packets < core->limit ? (uint32_t)session->packets : core->limit);
    row[0] = (uint8_t)(ports >> 32);
    row[1] = (uint8_t)(ports >> 40);
    row[2] = (uint8_t)end;
    memset(row + 3, 0, 41);
    core->session_rows.used += SESSION_ROW;
}

/* ---- Sessions ------------------------------------------------------------------------------ */

/* Build the key; true if the packet's source is its second endpoint. Whole words are written, since
 * the hash reads them at once and would have to wait for bytes. */
static inline bool make_key(const Core *core, Key *key, const Packet *packet)
{
    const uint8_t *low = packet->source, *high = packet->destination;
    uint32_t low_port = packet->source_port, high_port = packet->destination_port;
    size_t size = packet->family == 4 ? 4 : 16;
    int order = memcmp(low, high, size);
    if (core->rule == HOST_PAIR)
        low_port = high_port = 0;
    bool swapped = order ? order > 0 : low_port > high_port;
    if (core->rule == UNIDIRECTIONAL)
        swapped = false;
    if (swapped) {
        low = packet->destination, high = packet->source;
        uint32_t port = low_port;
        low_port = high_port, high_port = port;
    }
    memset(key, 0, sizeof *key);
    if (size == 4) {
        key->words[0] = little32(low);
        key->words[2] = little32(high);
    } else {
        memcpy(&key->words[0], low, 16);
        memcpy(&key->words[2], high, 16);
    }
    key->words[4] = low_port | high_port << 16 |
                    (uint64_t)(core->rule == HOST_PAIR ? ANY : packet->protocol) << 32 |
                    (uint64_t)packet->family << 40;
    return swapped;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Hash under a secret, so that nobody can choose addresses that all meet in one slot. */
static inline uint32_t hash(const Core *core, const Key *key)
{
    const uint64_t *k = key->words, *s = core->secret;
    uint64_t h = mix(k[0] ^ s[0], k[2] ^ s[1]) ^ mix(k[1] ^ s[2], k[3] ^ s[3]);
    return (uint32_t)mix(h ^ s[2], k[4] ^ s[0]);
}

/* Return the slot of the key, or the empty one where it would go. */
static inline uint32_t find(const Core *core, const Key *key, uint32_t tag)
{
    uint32_t at = tag & core->slot_mask;
    for (; core->slots[at].session; at = (at + 1) & core->slot_mask)
        if (core->slots[at].tag == tag &&
            !memcmp(&core->sessions[core->slots[at].session].key, key, sizeof *key))
            break;
    return at;
}

/* Empty a slot, and move up those behind it that it kept from their place. */
static void vacate(Core *core, uint32_t hole)
{
    uint32_t mask = core->slot_mask;
    for (uint32_t at = (hole + 1) & mask; core->slots[at].session; at = (at + 1) & mask) {
        uint32_t home = core->slots[at].tag & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            core->slots[hole] = core->slots[at];
            hole = at;
        }
    }
    core->slots[hole].session = 0;
}

static bool grow_slots(Core *core)
{
    uint64_t size = core->slots ? 2 * ((uint64_t)core->slot_mask + 1) : 1024;
    Slot *slots = size <= UINT32_MAX ? calloc((size_t)size, sizeof *slots) : NULL;
    if (!slots) {
        core->failed = true;
        return false;
    }
    uint32_t mask = (uint32_t)size - 1;
    for (uint64_t i = 0; core->slots && i <= core->slot_mask; i++) {
        if (!core->slots[i].session)
            continue;
        uint32_t at = core->slots[i].tag & mask;
        while (slots[at].session)
            at = (at + 1) & mask;
        slots[at] = core->slots[i];
    }
    free(core->slots);
    core->slots = slots;
    core->slot_mask = mask;
    return true;
}

static uint32_t allocate_session(Core *core)
{
    uint32_t index = core->free_session;
    if (index) {
        core->free_session = core->sessions[index].newer;
        return index;
    }
    if (core->session_count == core->session_room) {
        uint64_t room = core->session_room ? 2 * (uint64_t)core->session_room : 512;
        Session *sessions = NULL;
        if (room <= UINT32_MAX && room <= PY_SSIZE_T_MAX / sizeof *sessions)
            sessions = realloc(core->sessions, (size_t)room * sizeof *sessions);
        if (!sessions) {
            core->failed = true;
            return 0;
        }
        core->sessions = sessions;
        core->session_room = (uint32_t)room;
    }
    return core->session_count++;
}

static void close_session(Core *core, uint32_t slot, End end)
{
    uint32_t index = core->slots[slot].session;
    Session *session = &core->sessions[index];
    emit_session(core, session, end);
    vacate(core, slot);
    *(session->older ? &core->sessions[session->older].newer : &core->oldest) = session->newer;
    *(session->newer ? &core->sessions[session->newer].older : &core->newest) = session->older;
    session->newer = core->free_session;
    core->free_session = index;
    core->open--;
}

static uint32_t open_session(Core *core, const Key *key, uint32_t tag, const Frame *frame,
                             bool swapped)
{
    if (core->max_open && core->open >= core->max_open) {
        const Key *eldest = &core->sessions[core->oldest].key;
        close_session(core, find(core, eldest, hash(core, eldest)), EVICTED);
    }
    if (core->open >= core->slot_mask / 2 && !grow_slots(core))
        return 0;
    uint32_t index = allocate_session(core);
    if (!index)
        return 0;
    core->slots[find(core, key, tag)] = (Slot){tag, index};
    core->sessions[index] = (Session){
        .key = *key,
        .number = core->next_number++,
        .first_time = frame->time,
        .last_time = frame->time,
        .older = core->newest,
        .swapped = swapped,
    };
    *(core->newest ? &core->sessions[core->newest].newer : &core->oldest) = index;
    core->newest = index;
    core->open++;
    return index;
}

/* Tell whether, and why, this packet ends the session of its key. */
static inline End end_of(const Core *core, const Session *session, const Frame *frame,
                         const Packet *packet)
{
    int64_t now = (int64_t)frame->time, last = (int64_t)session->last_time;
    if (core->idle_timeout && now > last &&
        frame->time - session->last_time > core->idle_timeout)
        return IDLE_TIMEOUT;
    if (!packet->syn)
        return GOES_ON;
    if (core->rule == CONNECTION && session->has_syn && session->first_syn != packet->sequence)
        return NEW_CONNECTION;
    if (core->rule == PCAPSPLITTER && !session->last_was_syn)
        return NEW_CONNECTION;
    return GOES_ON;
}

static void take_packet(Core *core, const Frame *frame)
{
    Packet packet;
    core->packets++;
    Drop drop = decode(frame, &packet);
    if (drop == KEPT && !matches(core, frame, &packet))
        drop = FILTERED;
    if (drop != KEPT) {
        core->dropped[drop]++;
        return;
    }
    Key key;
    bool swapped = make_key(core, &key, &packet);
    uint32_t tag = hash(core, &key), slot = find(core, &key, tag);
    uint32_t index = core->slots[slot].session;
    if (index) {
        End end = end_of(core, &core->sessions[index], frame, &packet);
        if (end != GOES_ON) {
            close_session(core, slot, end);
            index = 0;
        }
    }
    if (!index && !(index = open_session(core, &key, tag, frame, swapped)))
        return;
    Session *session = &core->sessions[index];
    if (packet.syn && !session->has_syn) {
        session->has_syn = true;
        session->first_syn = packet.sequence;
    }
    session->last_was_syn = packet.syn;
    if ((int64_t)frame->time > (int64_t)session->last_time)
        session->last_time = frame->time;
    if (session->packets < core->limit)
        emit_packet(core, session, frame, &packet, swapped != session->swapped);
    session->packets++;
    session->bytes += frame->wire;
    if (packet.payload != ABSENT)
        session->payload_bytes += packet.end - packet.payload;
    if (core->early && session->packets == core->limit)
        emit_session(core, session, PACKET_LIMIT);
}

static void end_stream(Core *core)
{
    if (core->finished || core->failed)
        return;
    core->finished = true;
    if (!core->fault) {
        if (core->format == AT_START)
            stop(core, core->carry.used < 4 ? NOT_A_CAPTURE : CUT_SHORT, 0);
        else if (core->block_length)
            stop(core, CUT_SHORT, core->block_offset);
        else if (core->carry.used)
            stop(core, CUT_SHORT, core->offset);
    }
    for (uint32_t at = core->oldest; at; at = core->sessions[at].newer)
        emit_session(core, &core->sessions[at], CAPTURE_END);
}

/* ---- Python type --------------------------------------------------------------------------- */

/* Buffers of ordinary chunks are kept for the next call; what one huge chunk made is given back. */
enum { KEPT_ROOM = 16 << 20 };

static void release(Buffer *buffer)
{
    free(buffer->data);
    *buffer = (Buffer){NULL, 0, 0};
}

static PyObject *take_output(Buffer *buffer)
{
    const char *data = buffer->data ? (const char *)buffer->data : "";
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)buffer->used);
    buffer->used = 0;
    if (buffer->room > KEPT_ROOM)
        release(buffer);
    return bytes;
}

static PyObject *take_outputs(Core *core)
{
    if (core->failed)
        return PyErr_NoMemory();
    PyObject *tiles = take_output(&core->tiles);
    PyObject *packets = take_output(&core->packet_rows);
    PyObject *sessions = take_output(&core->session_rows);
    if (!tiles || !packets || !sessions)
        core->failed = true;
    return Py_BuildValue("(NNN)", tiles, packets, sessions);
}

static bool enter(Core *core)
{
    if (core->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is inside this core");
        return false;
    }
    core->busy = true;
    return true;
}

static PyObject *core_feed(PyObject *self, PyObject *chunk)
{
    Core *core = (Core *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!enter(core)) {
        PyBuffer_Release(&view);
        return NULL;
    }
    if (!core->finished) {
        Py_BEGIN_ALLOW_THREADS
        walk(core, view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    PyObject *outputs = take_outputs(core);
    core->busy = false;
    return outputs;
}

static PyObject *core_finish(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Core *core = (Core *)self;
    if (!enter(core))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    end_stream(core);
    Py_END_ALLOW_THREADS
    PyObject *outputs = take_outputs(core);
    core->busy = false;
    return outputs;
}

static PyObject *core_expire(PyObject *self, PyObject *time)
{
    Core *core = (Core *)self;
    long long before = PyLong_AsLongLong(time);
    if ((before == -1 && PyErr_Occurred()) || !enter(core))
        return NULL;
    for (uint32_t at = core->oldest; at && !core->failed; at = core->sessions[at].newer)
        if ((int64_t)core->sessions[at].last_time < before)
            emit_session(core, &core->sessions[at], QUIET);
    PyObject *rows = core->failed ? PyErr_NoMemory() : take_output(&core->session_rows);
    core->busy = false;
    return rows;
}

static int index_of(const char *word, const char *const words[], const char *what)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(word, words[i]))
            return i;
    PyErr_Format(PyExc_ValueError, "unknown %s '%s'", what, word);
    return -1;
}

static bool draw_secret(Core *core)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *drawn = os ? PyObject_CallMethod(os, "urandom", "i", (int)sizeof core->secret) : NULL;
    Py_XDECREF(os);
    if (!drawn)
        return false;
    char *bytes = NULL;
    Py_ssize_t size = 0;
    bool done = PyBytes_AsStringAndSize(drawn, &bytes, &size) == 0 &&
                size == (Py_ssize_t)sizeof core->secret;
    if (done)
        memcpy(core->secret, bytes, sizeof core->secret);
    Py_DECREF(drawn);
    return done;
}

static bool set_up(Core *core, const char *rule, const char *layers, const char *code,
                   Py_ssize_t size, long long width, long long limit, long long idle_timeout,
                   long long max_open, const char *tunnels, const char *retransmissions)
{
    static const char *const tunnelled[] = {"inner", "outer", NULL};
    static const char *const retransmitted[] = {"keep", "drop", NULL};
    static const char *const rules[] = {"five_tuple", "connection", "pcapsplitter",
                                        "zeek",       "nfstream",   "host_pair",
                                        "unidirectional", NULL};
    static const char *const layer_names[] = {"all", "network", "transport", "payload", NULL};
    core->rule = index_of(rule, rules, "session rule");
    core->layers = core->rule < 0 ? -1 : index_of(layers, layer_names, "layers");
    if (core->layers < 0)
        return false;
    int outer = index_of(tunnels, tunnelled, "choice of tunnels");
    int drop = outer < 0 ? -1 : index_of(retransmissions, retransmitted, "retransmissions");
    if (drop < 0)
        return false;
    core->outer_only = outer;
    core->drop_retransmissions = drop;
    if (width < 1 || width > UINT16_MAX || limit < 1 || limit > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "width and limit must be from 1 to 65535");
        return false;
    }
    if (idle_timeout < 0 || max_open < 0) {
        PyErr_SetString(PyExc_ValueError, "idle_timeout_ns and max_open must not be negative");
        return false;
    }
    core->width = (uint32_t)width;
    core->limit = (uint32_t)limit;
    core->idle_timeout = (uint64_t)idle_timeout;
    core->max_open = (uint64_t)max_open;
    core->session_count = 1;
    core->program = malloc(MAX_INSTRUCTIONS * sizeof *core->program);
    core->sessions = malloc(512 * sizeof *core->sessions);
    core->session_room = 512;
    if (!core->program || !core->sessions || !grow_slots(core)) {
        PyErr_NoMemory();
        return false;
    }
    if (!load_program(core, (const uint8_t *)code, (size_t)size)) {
        PyErr_SetString(PyExc_ValueError, "program is no compiled filter");
        return false;
    }
    return draw_secret(core);
}

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"rule",     "layers",  "program",         "width", "limit",
                            "idle_timeout_ns",
                            "max_open", "tunnels", "retransmissions", "early", NULL};
    const char *rule, *layers, *code, *tunnels = "inner", *retransmissions = "keep";
    int early = 0;
    Py_ssize_t size;
    long long width, limit, idle_timeout, max_open;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "ssy#LLLL|ssp:Core", names, &rule, &layers,
                                     &code, &size, &width, &limit, &idle_timeout, &max_open,
                                     &tunnels, &retransmissions, &early))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Core *core = (Core *)allocate(type, 0); /* all zero */
    if (core && !set_up(core, rule, layers, code, size, width, limit, idle_timeout, max_open,
                        tunnels, retransmissions))
        Py_CLEAR(core);
    if (core)
        core->early = early;
    return (PyObject *)core;
}

static void core_dealloc(PyObject *self)
{
    Core *core = (Core *)self;
    PyTypeObject *type = Py_TYPE(self);
    release(&core->carry);
    release(&core->tiles);
    release(&core->packet_rows);
    release(&core->session_rows);
    free(core->program);
    free(core->interfaces);
    free(core->sessions);
    free(core->slots);
    freefunc deallocate = (freefunc)PyType_GetSlot(type, Py_tp_free);
    deallocate(self);
    Py_DECREF(type);
}

static PyObject *core_packets(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Core *)self)->packets);
}

static PyObject *core_dropped(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *counts = PyTuple_New(DROPS);
    for (int i = 0; counts && i < DROPS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(((Core *)self)->dropped[i]);
        if (!count || PyTuple_SetItem(counts, i, count) < 0)
            Py_CLEAR(counts);
    }
    return counts;
}

static PyObject *core_fault(PyObject *self, void *Py_UNUSED(closure))
{
    Core *core = (Core *)self;
    return Py_BuildValue("(iKK)", (int)core->fault, (unsigned long long)core->fault_offset,
                         (unsigned long long)core->fault_packet);
}

static PyMethodDef core_methods[] = {
    {"feed", core_feed, METH_O,
     "feed(chunk, /)\n--\n\nRead a chunk of any size; return what it completed as three bytes "
     "objects: tiles,\nPACKET rows, SESSION rows. The GIL is released meanwhile."},
    {"finish", core_finish, METH_NOARGS,
     "finish()\n--\n\nEnd the stream: close all sessions; return what feed() returns."},
    {"expire", core_expire, METH_O,
     "expire(time_ns, /)\n--\n\nReport the open sessions without a packet since then; return SESSION "
     "rows.\nThey stay open, and are not reported again."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef core_attributes[] = {
    {"packets", core_packets, NULL, "Packets seen so far, also those dropped.", NULL},
    {"dropped", core_dropped, NULL, "Packets dropped, parallel to records.DROPS.", NULL},
    {"fault", core_fault, NULL,
     "(index into records.FAULTS, byte offset of the record, number of its packet).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_doc, "Core(rule, layers, program, width, limit, idle_timeout_ns, max_open)\n--\n\n"
                "Turn a stream of capture bytes into sessions and tiles."},
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_methods, core_methods},
    {Py_tp_getset, core_attributes},
    {0, NULL},
};

static PyType_Spec core_spec = {
    .name = "xai_traffic.capture._core.Core",
    .basicsize = sizeof(Core),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = core_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &core_spec, NULL);
    if (!type)
        return -1;
    int status = PyModule_AddObjectRef(module, "Core", type);
    Py_DECREF(type);
    return status;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The capture core in C; core_numpy.py is its twin in plain Python.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module); }
