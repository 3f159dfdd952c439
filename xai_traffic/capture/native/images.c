/* Put ragged sessions of tiles together into a dense batch, or into images, in the caller's memory.
 *
 * assembly.py says what comes out, and does the same in NumPy where this was not built. Everything
 * is checked as it is used: other threads may change the arrays meanwhile, as the GIL is released.
 */
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { SIDE = 8, ROW = 16, TILE = ROW * ROW, GRID = SIDE * SIDE, BAND = SIDE * TILE };

typedef struct {
    const uint8_t *tiles;
    int64_t rows; /* of tiles */
    const uint8_t *first, *count;
    int64_t sessions;
    uint8_t *out;
    uint8_t *held; /* tiles that each place of the batch held before; NULL: it may hold anything */
    int64_t places;
    int64_t width, grid;
} Job;

static inline int64_t number(const uint8_t *array, int64_t k)
{
    int64_t value;
    memcpy(&value, array + 8 * k, sizeof value);
    return value;
}

/* A session's tiles and how many; false if they are not all there. */
static inline bool session_at(const Job *job, int64_t k, const uint8_t **tiles, int64_t *count)
{
    int64_t begin = number(job->first, k), n = number(job->count, k);
    if (n < 0 || n > job->grid || (n > 0 && (begin < 0 || begin > job->rows - n)))
        return false;
    *tiles = job->tiles + (n ? begin * job->width : 0);
    *count = n;
    return true;
}

/* The sessions are drawn at random: fetch one while the one before it is copied. */
static inline void fetch(const Job *job, int64_t k)
{
#if defined(__GNUC__)
    const uint8_t *tiles;
    int64_t count;
    if (k >= job->sessions || !session_at(job, k, &tiles, &count))
        return;
    for (int64_t byte = 0; byte < count * job->width; byte += 64)
        __builtin_prefetch(tiles + byte, 0, 0);
#else
    (void)job, (void)k;
#endif
}

/* How far a place may differ from zero, in tiles; from now on it holds `count`. */
static inline int64_t replace_held(const Job *job, int64_t k, int64_t count)
{
    int64_t before = job->grid;
    if (job->held) {
        int64_t held = number(job->held, k);
        before = held >= 0 && held <= job->grid ? held : job->grid;
        memcpy(job->held + 8 * k, &count, sizeof count);
    }
    return before;
}

static inline void write_dense(uint8_t *out, const uint8_t *tiles, int64_t count, int64_t before,
                               int64_t width)
{
    memcpy(out, tiles, (size_t)(count * width));
    if (before > count)
        memset(out + count * width, 0, (size_t)((before - count) * width));
}

/* Tile k of an image is a block of 16 x 16 pixels; eight of them make a band of 16 lines. */
static inline void write_image(uint8_t *out, const uint8_t *tiles, int64_t count, int64_t before)
{
    int64_t most = before > count ? before : count;
    for (int64_t tile = 0; tile < most; tile += SIDE, out += BAND, tiles += BAND) {
        int64_t full = count - tile;
        if (full >= SIDE) {
            for (int y = 0; y < ROW; y++)
                for (int x = 0; x < SIDE; x++)
                    memcpy(out + (y * SIDE + x) * ROW, tiles + x * TILE + y * ROW, ROW);
        } else if (full <= 0) {
            memset(out, 0, BAND);
        } else {
            for (int y = 0; y < ROW; y++) {
                for (int x = 0; x < full; x++)
                    memcpy(out + (y * SIDE + x) * ROW, tiles + x * TILE + y * ROW, ROW);
                memset(out + (y * SIDE + full) * ROW, 0, (size_t)((SIDE - full) * ROW));
            }
        }
        if (full < SIDE)
            tiles -= BAND; /* nothing is read from it any more: do not point behind the end */
    }
}

/* Fill the whole batch; return the session that is wrong, -1 if none is. */
static int64_t assemble(const Job *job, bool images)
{
    int64_t size = job->grid * job->width;
    fetch(job, 0);
    for (int64_t k = 0; k < job->places; k++) {
        const uint8_t *tiles = job->tiles;
        int64_t count = 0;
        fetch(job, k + 1);
        if (k < job->sessions && !session_at(job, k, &tiles, &count))
            return k;
        int64_t before = replace_held(job, k, count);
        if (images)
            write_image(job->out + k * size, tiles, count, before);
        else
            write_dense(job->out + k * size, tiles, count, before, job->width);
    }
    return -1;
}

/* ---- Python -------------------------------------------------------------------------------- */

PyDoc_STRVAR(assemble_doc,
             "assemble(tiles, first, count, out, held, width, grid, images)\n--\n\n"
             "Fill `out` with sessions; see assembly.py.");

static PyObject *py_assemble(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *objects[5], *result = NULL;
    Py_buffer views[5] = {{0}};
    Py_ssize_t width, grid;
    int images, taken = 0;
    if (!PyArg_ParseTuple(args, "OOOOOnnp", &objects[0], &objects[1], &objects[2], &objects[3],
                          &objects[4], &width, &grid, &images))
        return NULL;
    int wanted = objects[4] == Py_None ? 4 : 5;
    for (; taken < wanted; taken++)
        if (PyObject_GetBuffer(objects[taken], &views[taken],
                               taken >= 3 ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
            goto done;
    if (width < 1 || grid < 1 || width > 65535 || grid > 65535 ||
        (images && (width != TILE || grid != GRID))) {
        PyErr_SetString(PyExc_ValueError, "no such layout of tiles");
        goto done;
    }
    Py_ssize_t size = width * grid;
    Job job = {
        .tiles = views[0].buf,
        .rows = views[0].len / width,
        .first = views[1].buf,
        .count = views[2].buf,
        .sessions = views[1].len / 8,
        .out = views[3].buf,
        .held = wanted == 5 ? views[4].buf : NULL,
        .places = views[3].len / size,
        .width = width,
        .grid = grid,
    };
    if (views[0].len % width || views[1].len % 8 || views[1].len != views[2].len ||
        views[3].len % size || job.sessions > job.places ||
        (job.held && views[4].len / 8 != job.places)) {
        PyErr_SetString(PyExc_ValueError, "the sizes of the arrays do not fit together");
        goto done;
    }
    int64_t wrong;
    Py_BEGIN_ALLOW_THREADS
    wrong = assemble(&job, images);
    Py_END_ALLOW_THREADS
    if (wrong >= 0)
        PyErr_Format(PyExc_IndexError, "the tiles of session %lld of the batch are not all there",
                     (long long)wrong);
    else
        result = Py_NewRef(Py_None);
done:
    while (taken-- > 0)
        PyBuffer_Release(&views[taken]);
    return result;
}

static PyMethodDef methods[] = {
    {"assemble", py_assemble, METH_VARARGS, assemble_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "xai_traffic.capture._images",
    .m_doc = "Batches of tiles and images, put together in C.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__images(void)
{
    return PyModuleDef_Init(&module);
}
