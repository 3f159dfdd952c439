/* Fuzz target: the C core against the NumPy core, which runs in a Python within this process. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fuzz_checks.h"
#include "mutator.h"

#ifndef FUZZ_TESTS
#error "FUZZ_TESTS: the folder above this one"
#endif

const char *__asan_default_options(void);

/* What Python never frees is its own matter. */
const char *__asan_default_options(void) { return "detect_leaks=0"; }

static PyObject *by_numpy;

/* A difference, or an exception of the NumPy core, ends the process: that is a find. */
#define NO_ERROR(object)                                                                           \
    do {                                                                                           \
        if (!(object)) {                                                                           \
            PyErr_Print();                                                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerInitialize(int *count, char ***arguments);

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count, (void)arguments;
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    PyConfig_SetBytesString(&config, &config.executable, FUZZ_PYTHON); /* whose packages are meant */
    HOLDS(!PyStatus_Exception(Py_InitializeFromConfig(&config)));
    PyConfig_Clear(&config);
    HOLDS(PyRun_SimpleString("import sys; sys.path[:0] = ['" FUZZ_TESTS "', '" FUZZ_SOURCE "']") == 0);
#ifdef SMALL_LIMITS
    HOLDS(PyRun_SimpleString("from fuzz import small_limits; small_limits.set_in_python()") == 0);
#endif
    PyObject *module = PyImport_ImportModule("fuzz.oracle");
    NO_ERROR(module);
    by_numpy = PyObject_GetAttrString(module, "by_numpy");
    NO_ERROR(by_numpy);
    return 0;
}

static void print_rows(const char *name, const uint8_t *rows, size_t size, size_t row)
{
    for (size_t at = 0; at < size; at += row) {
        fprintf(stderr, "  %s ", name);
        for (size_t i = 0; i < row && at + i < size; i++)
            fprintf(stderr, "%02x", rows[at + i]);
        fprintf(stderr, "\n");
    }
}

static bool equal_bytes(PyObject *theirs, const Buffer *ours, const char *what, size_t row)
{
    const uint8_t *data = (const uint8_t *)PyBytes_AsString(theirs);
    size_t size = (size_t)PyBytes_Size(theirs);
    if (size == ours->used && (!size || !memcmp(data, ours->data, size)))
        return true;
    fprintf(stderr, "%s differ\n", what);
    print_rows("C    ", ours->data, ours->used, row);
    print_rows("NumPy", data, size, row);
    return false;
}

static bool equal_number(PyObject *theirs, uint64_t ours, const char *what)
{
    uint64_t number = PyLong_AsUnsignedLongLong(theirs);
    if (number == ours)
        return true;
    fprintf(stderr, "%s: C %llu, NumPy %llu\n", what, (unsigned long long)ours,
            (unsigned long long)number);
    return false;
}

static void compare_results(const Core *core, PyObject *theirs)
{
    const uint64_t fault[3] = {core->fault, core->fault_offset,
                               core->fault ? core->fault_packet : 0};
    PyObject *part[6];
    for (int i = 0; i < 6; i++)
        NO_ERROR(part[i] = PyTuple_GetItem(theirs, i));
    bool all = equal_bytes(part[1], &core->packet_rows, "packet rows", PACKET_ROW);
    all &= equal_bytes(part[2], &core->session_rows, "session rows", SESSION_ROW);
    all &= !all || equal_bytes(part[0], &core->tiles, "tiles", core->rules.width);
    all &= equal_number(part[3], core->packets, "packets");
    for (int i = 0; i < DROPS; i++)
        all &= equal_number(PyTuple_GetItem(part[4], i), core->dropped[i], "dropped");
    for (int i = 0; i < 3; i++)
        all &= equal_number(PyTuple_GetItem(part[5], i), fault[i], "fault");
    HOLDS(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t secret[4] = {0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7,
                                       0xAEF17502108EF2D9}; /* the same, so that finds come again */
    Input input;
    if (!take_apart(data, size, &input))
        return 0;
    PyObject *theirs = PyObject_CallFunction(by_numpy, "y#", (const char *)data, (Py_ssize_t)size);
    NO_ERROR(theirs);
    bool no_program = PyTuple_Size(PyTuple_GetItem(theirs, 4)) == 0;
    Core core = {0};
    Cuts cuts = make_cuts(&input, input.capture, input.size);
    bool begun = core_begin(&core, &input.rules, input.program, input.program_size, secret);
    HOLDS(begun == !no_program);
    if (begun) {
        run_core(&core, &input, &cuts);
        compare_results(&core, theirs);
        check_results(&core, input.expires || input.rules.early);
    }
    Py_DECREF(theirs);
    core_end(&core);
    free(cuts.sizes);
    return 0;
}
