/* Memory that tables and pools lie in. Part of the capture core. */
#ifndef XAI_TRAFFIC_CORE_MEMORY_H
#define XAI_TRAFFIC_CORE_MEMORY_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* madvise */
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core_bytes.h"

#define PREFETCH(address) __builtin_prefetch(address)

enum { CACHE_LINE = 64, LARGE_PAGE = 2 << 20 };

/* Allocate a multiple of a cache line. Half a million sessions in pages of 4 KiB are more than the
 * processor keeps addresses of: what is visited at random is better in large pages. */
static void *allocate_lines(size_t size, bool large_pages)
{
    large_pages &= size % LARGE_PAGE == 0; /* as aligned_alloc demands */
    void *memory = aligned_alloc(large_pages ? LARGE_PAGE : CACHE_LINE, size);
#ifdef MADV_HUGEPAGE
    if (memory && large_pages)
        madvise(memory, size, MADV_HUGEPAGE); /* if not, it is slower */
#endif
    return memory;
}

#endif
