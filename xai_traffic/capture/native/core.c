/* The capture core for Python: the type Core. The core itself, core.h, knows nothing of Python. */
#include "core_handed.h"

typedef struct {
    PyObject *rows_type;
} ModuleState;

typedef struct {
    PyObject_HEAD
    Core core;
    bool busy; /* a thread is inside, perhaps without the GIL */
    PyObject *rows_type;
    Spare *spare;
} CoreObject;

static Buffer *buffer_of(Core *core, Output output)
{
    Buffer *buffers[OUTPUTS] = {&core->tiles, &core->packet_rows, &core->session_rows};
    return buffers[output];
}

/* Go into the core, with memory to write to. */
static bool enter_core(CoreObject *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is inside this core");
        return false;
    }
    for (Output output = TILES; output < OUTPUTS; output++)
        make_ready(&self->core, self->spare, output, buffer_of(&self->core, output));
    self->busy = true;
    return true;
}

static PyObject *leave_core(CoreObject *self)
{
    self->busy = false;
    if (self->core.failed)
        return PyErr_NoMemory();
    PyObject *outputs = PyTuple_New(OUTPUTS);
    for (Output output = TILES; outputs && output < OUTPUTS; output++) {
        Buffer *buffer = buffer_of(&self->core, output);
        PyObject *taken = hand_out(self->rows_type, self->spare, output, buffer);
        if (!taken || PyTuple_SetItem(outputs, output, taken) < 0)
            Py_CLEAR(outputs);
    }
    if (!outputs)
        self->core.failed = true;
    return outputs;
}

static PyObject *type_feed(PyObject *object, PyObject *chunk)
{
    CoreObject *self = (CoreObject *)object;
    Py_buffer view;
    if (PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    bool entered = enter_core(self);
    if (entered) {
        Py_BEGIN_ALLOW_THREADS
        core_feed(&self->core, view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return entered ? leave_core(self) : NULL;
}

static PyObject *type_finish(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    CoreObject *self = (CoreObject *)object;
    if (!enter_core(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    core_finish(&self->core);
    Py_END_ALLOW_THREADS
    return leave_core(self);
}

static PyObject *type_expire(PyObject *object, PyObject *time)
{
    CoreObject *self = (CoreObject *)object;
    long long before = PyLong_AsLongLong(time);
    if ((before == -1 && PyErr_Occurred()) || !enter_core(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    core_expire(&self->core, before);
    Py_END_ALLOW_THREADS
    PyObject *outputs = leave_core(self);
    PyObject *rows = outputs ? Py_XNewRef(PyTuple_GetItem(outputs, SESSION_ROWS)) : NULL;
    Py_XDECREF(outputs);
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

static bool draw_secret(uint64_t secret[4])
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *drawn = os ? PyObject_CallMethod(os, "urandom", "i", 32) : NULL;
    Py_XDECREF(os);
    if (!drawn)
        return false;
    char *bytes = NULL;
    Py_ssize_t size = 0;
    bool done = PyBytes_AsStringAndSize(drawn, &bytes, &size) == 0 && size == 32;
    if (done)
        memcpy(secret, bytes, 32);
    Py_DECREF(drawn);
    return done;
}

/* The words of an enumeration become their numbers; the ranges are the caller's to check. */
static bool read_words(Rules *rules, const char *rule, const char *layers, const char *tunnels,
                       const char *retransmissions)
{
    static const char *const rule_names[] = {"five_tuple", "connection", "pcapsplitter",   "zeek",
                                             "nfstream",   "host_pair",  "unidirectional", NULL};
    static const char *const layer_names[] = {"all", "network", "transport", "payload", NULL};
    static const char *const tunnelled[] = {"inner", "outer", NULL};
    static const char *const retransmitted[] = {"keep", "drop", NULL};
    int outer, drop;
    if ((rules->rule = index_of(rule, rule_names, "session rule")) < 0 ||
        (rules->layers = index_of(layers, layer_names, "layers")) < 0 ||
        (outer = index_of(tunnels, tunnelled, "choice of tunnels")) < 0 ||
        (drop = index_of(retransmissions, retransmitted, "choice of retransmissions")) < 0)
        return false;
    rules->outer_only = outer;
    rules->drop_retransmissions = drop;
    return true;
}

static PyObject *type_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"rule",  "layers",          "program",  "width",
                            "limit", "idle_timeout_ns", "max_open", "tunnels",
                            "retransmissions",          "early",    NULL};
    const char *rule, *layers, *code, *tunnels = "inner", *retransmissions = "keep";
    Py_ssize_t size;
    long long width, limit, idle_timeout, max_open;
    int early = 0;
    Rules rules = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "ssy#LLLL|ssp:Core", names, &rule, &layers,
                                     &code, &size, &width, &limit, &idle_timeout, &max_open,
                                     &tunnels, &retransmissions, &early) ||
        !read_words(&rules, rule, layers, tunnels, retransmissions))
        return NULL;
    if (width < 1 || width > UINT16_MAX || limit < 1 || limit > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "width and limit must be from 1 to 65535");
        return NULL;
    }
    if (idle_timeout < 0 || max_open < 0) {
        PyErr_SetString(PyExc_ValueError, "idle_timeout_ns and max_open must not be negative");
        return NULL;
    }
    rules.width = (uint32_t)width;
    rules.limit = (uint32_t)limit;
    rules.idle_timeout = (uint64_t)idle_timeout;
    rules.max_open = (uint64_t)max_open;
    rules.early = early;
    uint64_t secret[4];
    if (!draw_secret(secret))
        return NULL;
    const ModuleState *state = PyType_GetModuleState(type);
    if (!state)
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    CoreObject *self = (CoreObject *)allocate(type, 0); /* all zero */
    if (!self)
        return NULL;
    self->rows_type = Py_NewRef(state->rows_type);
    if ((self->spare = calloc(1, sizeof *self->spare)))
        self->spare->holders = 1;
    else
        self->core.failed = true;
    if (self->spare && core_begin(&self->core, &rules, (const uint8_t *)code, (size_t)size, secret))
        return (PyObject *)self;
    if (self->core.failed)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_ValueError, "program is no compiled filter");
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void type_dealloc(PyObject *object)
{
    CoreObject *self = (CoreObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    core_end(&self->core);
    leave_spare(self->spare);
    Py_XDECREF(self->rows_type);
    freefunc deallocate = (freefunc)PyType_GetSlot(type, Py_tp_free);
    deallocate(object);
    Py_DECREF(type);
}

static PyObject *type_packets(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((CoreObject *)self)->core.packets);
}

static PyObject *type_dropped(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *counts = PyTuple_New(DROPS);
    for (int i = 0; counts && i < DROPS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(((CoreObject *)self)->core.dropped[i]);
        if (!count || PyTuple_SetItem(counts, i, count) < 0)
            Py_CLEAR(counts);
    }
    return counts;
}

static PyObject *type_fault(PyObject *self, void *Py_UNUSED(closure))
{
    const Core *core = &((CoreObject *)self)->core;
    return Py_BuildValue("(iKK)", (int)core->fault, (unsigned long long)core->fault_offset,
                         (unsigned long long)core->fault_packet);
}

static PyMethodDef type_methods[] = {
    {"feed", type_feed, METH_O,
     "feed(chunk, /)\n--\n\nRead a chunk of any size; return what it completed as three "
     "bytes-like objects: tiles,\nPACKET rows, SESSION rows. The GIL is released meanwhile."},
    {"finish", type_finish, METH_NOARGS,
     "finish()\n--\n\nEnd the stream: close all sessions; return what feed() returns."},
    {"expire", type_expire, METH_O,
     "expire(time_ns, /)\n--\n\nReport the open sessions without a packet since then; return SESSION "
     "rows.\nThey stay open, and are not reported again."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef type_attributes[] = {
    {"packets", type_packets, NULL, "Packets seen so far, also those dropped.", NULL},
    {"dropped", type_dropped, NULL, "Packets dropped, parallel to records.DROPS.", NULL},
    {"fault", type_fault, NULL,
     "(index into records.FAULTS, byte offset of the record, number of its packet).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "Core(rule, layers, program, width, limit, idle_timeout_ns, max_open, "
                "tunnels='inner', retransmissions='keep', early=False)\n--\n\n"
                "Turn a stream of capture bytes into sessions and tiles."},
    {Py_tp_new, type_new},
    {Py_tp_dealloc, type_dealloc},
    {Py_tp_methods, type_methods},
    {Py_tp_getset, type_attributes},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "xai_traffic.capture._core.Core",
    .basicsize = sizeof(CoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

static int module_exec(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    state->rows_type = PyType_FromModuleAndSpec(module, &rows_spec, NULL);
    PyObject *type = state->rows_type ? PyType_FromModuleAndSpec(module, &type_spec, NULL) : NULL;
    int status = type ? PyModule_AddObjectRef(module, "Core", type) : -1;
    Py_XDECREF(type);
    return status;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ModuleState *state = PyModule_GetState(module);
    Py_VISIT(state->rows_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    Py_CLEAR(state->rows_type);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The capture core in C; core_numpy/ is its twin in plain Python.",
    .m_size = sizeof(ModuleState),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module); }
