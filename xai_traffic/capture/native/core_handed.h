/* Rows: the memory that a core wrote to, handed to Python as it is. Part of core.c.
 *
 * Nothing is copied, and where a reader lets go of its rows before it feeds the next chunk, the core
 * writes to the same memory again, which is still in the cache.
 */
#ifndef XAI_TRAFFIC_CORE_HANDED_H
#define XAI_TRAFFIC_CORE_HANDED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

typedef enum { TILES, PACKET_ROWS, SESSION_ROWS, OUTPUTS } Output;

/* Memory of rows that nobody reads any more, for those to come. It is shared by a core and its rows,
 * so that rows do not keep the core; whoever looks at it holds the GIL. */
typedef struct {
    size_t holders;
    Buffer buffers[OUTPUTS];
    size_t usual[OUTPUTS]; /* bytes that the latest chunk made */
} Spare;

typedef struct {
    PyObject_HEAD
    Spare *spare;
    Output output;
    Buffer buffer;
} RowsObject;

/* Less is copied; and what one huge chunk made is given back. */
enum { LEAST_HANDED_OUT = 16 << 10, MOST_SPARE = 16 << 20 };

static void leave_spare(Spare *spare)
{
    if (!spare || --spare->holders)
        return;
    for (Output output = TILES; output < OUTPUTS; output++)
        free(spare->buffers[output].data);
    free(spare);
}

static void rows_dealloc(PyObject *self)
{
    RowsObject *rows = (RowsObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    Buffer *kept = &rows->spare->buffers[rows->output];
    if (!kept->data && rows->buffer.room <= MOST_SPARE)
        *kept = (Buffer){rows->buffer.data, 0, rows->buffer.room};
    else
        free(rows->buffer.data);
    leave_spare(rows->spare);
    freefunc deallocate = (freefunc)PyType_GetSlot(type, Py_tp_free);
    deallocate(self);
    Py_DECREF(type);
}

static int rows_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    Buffer *buffer = &((RowsObject *)self)->buffer;
    return PyBuffer_FillInfo(view, self, buffer->data, (Py_ssize_t)buffer->used, 1, flags);
}

static Py_ssize_t rows_length(PyObject *self)
{
    return (Py_ssize_t)((RowsObject *)self)->buffer.used;
}

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "Bytes that a Core emitted; their memory is used again once nobody holds them."},
    {Py_tp_dealloc, rows_dealloc},
    {Py_bf_getbuffer, rows_getbuffer},
    {Py_sq_length, rows_length},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    .name = "xai_traffic.capture._core.Rows",
    .basicsize = sizeof(RowsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

/* Hand out what a buffer holds: its memory itself, unless that is mostly empty. */
static PyObject *hand_out(PyObject *rows_type, Spare *spare, Output output, Buffer *buffer)
{
    spare->usual[output] = buffer->used;
    if (buffer->used < LEAST_HANDED_OUT || buffer->used < buffer->room / 2) {
        const char *data = buffer->data ? (const char *)buffer->data : "";
        PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)buffer->used);
        buffer->used = 0;
        if (buffer->room > MOST_SPARE) {
            free(buffer->data);
            *buffer = (Buffer){0};
        }
        return bytes;
    }
    PyTypeObject *type = (PyTypeObject *)rows_type;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    RowsObject *rows = (RowsObject *)allocate(type, 0);
    if (rows) {
        rows->spare = spare;
        spare->holders++;
        rows->output = output;
        rows->buffer = *buffer;
        *buffer = (Buffer){0};
    }
    return (PyObject *)rows;
}

/* Give a buffer without memory what is spare, or as much as the last one used. */
static void make_ready(Core *core, Spare *spare, Output output, Buffer *buffer)
{
    if (buffer->data)
        return;
    *buffer = spare->buffers[output];
    spare->buffers[output] = (Buffer){0};
    if (!buffer->data && spare->usual[output])
        reserve(core, buffer, spare->usual[output]);
}

#endif
