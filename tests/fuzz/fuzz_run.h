/* Run the capture core over a fuzzed input: see inputs.py, which takes inputs apart alike. */
#ifndef FUZZ_RUN_H
#define FUZZ_RUN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Memory that runs out where the input says so: the n-th time that any is asked for. */
static unsigned allocations_left; /* 0: there is always some */

static inline int allocation_fails(void)
{
    return allocations_left && --allocations_left == 0;
}

static inline void *fuzz_malloc(size_t n) { return allocation_fails() ? NULL : malloc(n); }
static inline void *fuzz_calloc(size_t n, size_t m) { return allocation_fails() ? NULL : calloc(n, m); }
static inline void *fuzz_realloc(void *p, size_t n) { return allocation_fails() ? NULL : realloc(p, n); }
static inline void *fuzz_aligned(size_t a, size_t n)
{
    return allocation_fails() ? NULL : aligned_alloc(a, n);
}

#define malloc fuzz_malloc
#define calloc fuzz_calloc
#define realloc fuzz_realloc
#define aligned_alloc fuzz_aligned
#include "core.h"
#undef malloc
#undef calloc
#undef realloc
#undef aligned_alloc

#include "fuzz_tables.h" /* made by inputs.py */

#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { OPTIONS = 16 };

typedef struct {
    Rules rules;
    const uint8_t *program, *capture;
    size_t program_size, size;
    uint8_t cuts, failing;
    bool expires;
    int64_t expire_time;
} Input;

/* Take an input apart; false if it is too short. */
static bool take_apart(const uint8_t *data, size_t size, Input *input)
{
    if (size < OPTIONS)
        return false;
    const uint8_t *options = data;
    data += OPTIONS, size -= OPTIONS;
    if (options[2] < OWN_PROGRAM) {
        input->program = filters[options[2] % FILTERS].code;
        input->program_size = filters[options[2] % FILTERS].size;
    } else {
        size_t wanted = (size_t)((options[2] - OWN_PROGRAM) % 13 * INSTRUCTION_SIZE);
        input->program = data;
        input->program_size = wanted < size ? wanted : size;
        data += input->program_size, size -= input->program_size;
    }
    const uint32_t *shape = shapes[options[3] % (sizeof shapes / sizeof *shapes)];
    input->rules = (Rules){
        .rule = options[0] % RULES,
        .layers = options[1] & 3,
        .width = shape[0],
        .limit = shape[1],
        .idle_timeout = idle_timeouts[options[4] & 7],
        .max_open = most_open[options[4] >> 3 & 7],
        .outer_only = options[1] & 4,
        .drop_retransmissions = options[1] & 8,
        .early = options[1] & 16,
    };
    input->capture = data;
    input->size = size;
    input->cuts = options[5];
    input->expires = options[6] & 1;
    input->failing = options[7];
    input->expire_time = (int64_t)little64(options + 8);
    return true;
}

/* ---- Pieces -------------------------------------------------------------------------------- */

typedef struct {
    size_t *sizes, count;
} Cuts;

static void add_cut(Cuts *cuts, size_t size)
{
    if (!(cuts->count & (cuts->count + 1))) /* room is always one less than a power of two */
        cuts->sizes = realloc(cuts->sizes, 2 * (cuts->count + 1) * sizeof *cuts->sizes);
    cuts->sizes[cuts->count++] = size;
}

/* Cut to the end of each record: over-reads then leave the allocated piece. */
static void cut_records(const uint8_t *p, size_t n, Cuts *cuts)
{
    size_t at = 0, base = 16, size_at = 8;
    bool section = n >= 4 && big32(p) == SECTION_HEADER;
    bool big = n >= 4 && (big32(p) == 0xA1B2C3D4 || big32(p) == 0xA1B23C4D);
    if (section) {
        big = n >= 12 && big32(p + 8) == 0x1A2B3C4D;
        base = 0, size_at = 4;
    } else if (n > 24) {
        add_cut(cuts, 24);
        at = 24;
    }
    while (n - at >= 16) {
        size_t size = base + (big ? big32(p + at + size_at) : little32(p + at + size_at));
        if (size < 12 || size > n - at)
            break;
        add_cut(cuts, size);
        at += size;
    }
}

static Cuts make_cuts(const Input *input, const uint8_t *p, size_t n)
{
    Cuts cuts = {NULL, 0};
    uint32_t value = input->cuts >> 2;
    size_t left = n;
    switch (input->cuts & 3) {
    case 1:
        cut_records(p, n, &cuts);
        break;
    case 2:
        value += 1 + (uint32_t)(n / 512); /* many pieces cost time */
        for (; left > value; left -= value)
            add_cut(&cuts, value);
        break;
    case 3:
        while (left) {
            value = (value * 1103515245u + 12345u) % 0x80000000u;
            size_t size = cut_sizes[value >> 16 & 7];
            size = size < left ? size : left;
            add_cut(&cuts, size);
            left -= size;
        }
        break;
    }
    return cuts;
}

/* ---- Running ------------------------------------------------------------------------------- */

static void check_state(const Core *core); /* in fuzz_checks.h */

static void feed_piece(Core *core, const uint8_t *p, size_t n)
{
    uint8_t *piece = malloc(n ? n : 1); /* to its last byte: reading on is seen */
    memcpy(piece, p, n);
    core_feed(core, piece, n);
    free(piece);
}

/* Run a core that was begun to its end; results are left in it. */
static void run_core(Core *core, const Input *input, const Cuts *cuts)
{
    size_t at = 0;
    for (size_t i = 0; i <= cuts->count; i++) {
        size_t size = i < cuts->count ? cuts->sizes[i] : input->size;
        size = size < input->size - at ? size : input->size - at;
        feed_piece(core, input->capture + at, size);
        at += size;
        if (!core->failed && !core->finished && (i % 16 == 0 || i == cuts->count))
            check_state(core);
        if (input->expires)
            core_expire(core, input->expire_time);
    }
    core_finish(core);
}

#endif
