/* The capture core: a stream of chunks in, session tiles and closed sessions out, in one pass.
 *
 * core_formats.h finds the frames, core_links.h with core_shims.h, core_ip.h, core_tunnels.h and
 * core_decode.h the headers in them, core_fragments.h the endpoints of fragments, core_filter.h
 * what is wanted; in core_sessions.h with core_order.h packets become sessions, in core_rows.h
 * rows; core_engine.h drives them. One translation unit, so that a packet's way through it can be
 * inlined whole, and no Python: that is core.c.
 *
 * core_numpy/ keeps the same contract in plain Python and gives the same bits; records.py has the
 * row layouts, and the words for drops, ends and faults; filters.py compiles the filter. A change
 * of behaviour is a change in all of them.
 *
 * Everything that comes out of a capture is hostile: lengths are checked against what is left before
 * a byte is read, arithmetic is unsigned, loads are bytewise. Memory is bounded by one record, 40 MB
 * of fragments and 210 bytes a session that is open; tiles leave with the call that read them.
 */
#ifndef XAI_TRAFFIC_CORE_H
#define XAI_TRAFFIC_CORE_H

#include "core_engine.h"

#endif
