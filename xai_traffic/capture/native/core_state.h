/* What the parts of the capture core share: the words of records.py, the rules, the state. */
#ifndef XAI_TRAFFIC_CORE_STATE_H
#define XAI_TRAFFIC_CORE_STATE_H

#include "core_memory.h"

/* ---- The words of records.py and rules.py -------------------------------------------------- */

enum { NONE = 65535, ANY = 255, MAX_RECORD = 262144, MAX_INTERFACES = 1 << 20 };
enum { PACKET_ROW = 56, SESSION_ROW = 128 };
enum { ICMP = 1, TCP = 6, UDP = 17, ICMP6 = 58, SCTP = 132 };

typedef enum {
    UNSUPPORTED_LINK,
    NOT_IP,
    ENCRYPTED,
    TRUNCATED,
    MALFORMED,
    FRAGMENT,
    FILTERED,
    REPEATED,
    DROPS,
    KEPT = DROPS
} Drop;

typedef enum {
    CAPTURE_END,
    NEW_CONNECTION,
    IDLE_TIMEOUT,
    EVICTED,
    CLOSED,
    ACTIVE_TIMEOUT,
    PACKET_LIMIT,
    QUIET,
    GOES_ON
} End;

enum { CUT = 1, RETRANSMISSION = 2, OUT_OF_ORDER = 4, FRAGMENTED = 8 };

typedef enum { NO_TUNNEL, IPIP, SIX_IN_FOUR, GRE, VXLAN, GENEVE, GTP, TEREDO } Tunnel;

typedef enum {
    NO_FAULT,
    NOT_A_CAPTURE,
    CUT_SHORT,
    RECORD_TOO_LONG,
    BLOCK_LENGTH,
    UNKNOWN_INTERFACE,
    BEYOND_BLOCK,
    BAD_BYTE_ORDER,
    TOO_MANY_INTERFACES
} Fault;

enum { FIVE_TUPLE, CONNECTION, PCAPSPLITTER, ZEEK, NFSTREAM, HOST_PAIR, UNIDIRECTIONAL, RULES };
enum { ALL, NETWORK, TRANSPORT, PAYLOAD, LAYERS };

typedef struct {
    int rule, layers;
    uint32_t width, limit; /* 1 to 65535 */
    uint64_t idle_timeout, max_open;
    bool outer_only, drop_retransmissions, early;
} Rules;

/* ---- A packet on its way ------------------------------------------------------------------- */

enum { ABSENT = UINT32_MAX };

/* One record of the capture. */
typedef struct {
    const uint8_t *bytes;
    uint64_t time; /* an int64 in two's complement, so that hostile times wrap without harm */
    uint64_t number;
    uint32_t captured, wire;
    uint16_t link;
} Frame;

/* What a session, or a fragmented datagram, is known by; addresses of IPv4 padded with zeros. */
typedef struct {
    uint64_t words[5];
} Key;

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

/* What decoding finds in a frame: offsets from its first byte, ABSENT where there is no such. */
typedef struct {
    uint32_t network, transport, payload;
    uint32_t end, declared; /* of the datagram: within the frame, and as its header has it */
    uint32_t outer;         /* first IP header, the one at `network` where it lies in no tunnel */
    const uint8_t *source, *destination, *outer_source, *outer_destination;
    uint16_t source_port, destination_port;
    uint8_t family, protocol;
    uint8_t tunnel, depth, outer_family; /* outer_family 0 at depth 0 */
    uint8_t icmp_type, icmp_code;
    uint8_t flags; /* control bits of a whole TCP header */
    bool fragmented;
    uint32_t sequence;
} Packet;

/* SYN without ACK, which opens a connection. */
static inline bool opens(const Packet *packet)
{
    return (packet->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The datagrams of which a frame holds pieces, from the outermost tunnel inwards. */
enum { MAX_TUNNELS = 4 };
typedef struct {
    unsigned begun;              /* of how many it has the first piece */
    bool waits;                  /* whether only the first piece of `later` knows the endpoints */
    Key first[MAX_TUNNELS + 1], later;
} Pieces;

/* A packet that is decoded and let pass: BATCH of them go on together (see core_engine.h). */
typedef struct {
    Key key;
    uint32_t tag;
    bool swapped; /* the sender is the key's second endpoint */
    const Frame *frame;
    Packet packet;
} Passenger;

/* ---- Sessions ------------------------------------------------------------------------------ */

enum { MAX_GAPS = 2, REMEMBERED = 8 };

/* One direction of a TCP session: the sequence number it should go on with, the gaps it left. */
typedef struct {
    uint32_t next, from[MAX_GAPS], to[MAX_GAPS];
} Order;

/* What a session has seen. Of the two FINs the second is the responder's. */
enum {
    SWAPPED = 1, /* the initiator is the key's second endpoint */
    REPORTED = 2,
    HAS_SYN = 4,
    AFTER_SYN = 8, /* the latest packet opened a connection */
    BEGAN_WITH_SYN = 16,
    ANSWERED = 32,
    RESET = 64,
    FINISHED = 128,
    FINISHED_BOTH = 128 | 256
};

/* Three lines of the cache, those that every packet touches first. */
typedef struct {
    _Alignas(CACHE_LINE) Key key;
    uint64_t packets, bytes, payload_bytes;

    uint64_t last_time, number;
    Order order[2];
    uint8_t gaps[2]; /* 0: nothing sent in this direction; else one more than the gaps */
    uint16_t state;
    uint32_t first_syn; /* sequence number, if HAS_SYN */

    uint64_t first_time, first_clock, last_clock;
    uint32_t older, newer;  /* neighbours by number among the open ones, 0 = none */
    uint32_t tag;           /* as its slot has it */
    uint32_t outer;         /* in core->outers, 0 = none */
    uint32_t history[2];    /* in core->histories, 0 = none */
    uint8_t turn[2];        /* which entry of the history is the oldest */
    uint8_t tunnel, depth, outer_family, icmp_type, icmp_code;
} Session;

_Static_assert(sizeof(Session) == 3 * CACHE_LINE, "half a million sessions must fit in 100 MB");

typedef struct {
    uint8_t source[16], destination[16];
} Outer;

typedef struct {
    uint64_t segments[REMEMBERED]; /* hashes, 0 = none yet */
} History;

typedef struct {
    uint32_t tag;     /* low half of the key's hash: the slot it would like is tag & mask */
    uint32_t session; /* 0 = empty */
} Slot;

/* Things of one size, known by number; 0 is none. They stay where they are while others come. */
enum { POOL_BLOCK = 1 << 15 };
typedef struct {
    uint8_t **blocks;
    uint32_t block_count, block_room, used, free;
} Pool;

/* ---- Fragments ----------------------------------------------------------------------------- */

enum { MAX_DATAGRAMS = 4096, MAX_WAITING = 64, MAX_WAITING_BYTES = 1 << 24 };

typedef struct Waiting {
    struct Waiting *next;
    Frame frame;
    uint8_t bytes[];
} Waiting;

typedef struct {
    Key key;
    uint64_t made; /* time of the packet that made the entry */
    uint16_t next; /* in its bucket, 0 = none */
    uint16_t older, newer;
    uint16_t waiting_count;
    Waiting *waiting, *last_waiting;
    bool resolved;
    uint8_t family, protocol, tunnel, depth, outer_family;
    uint16_t source_port, destination_port;
    uint8_t source[16], destination[16], outer_source[16], outer_destination[16];
} Datagram;

/* ---- The core ------------------------------------------------------------------------------ */

enum { MAX_INSTRUCTIONS = 1024, MAX_DEPTH = 64, INSTRUCTION_SIZE = 24 };

typedef struct {
    uint8_t operation, side, family, bits;
    uint32_t value;
    uint8_t address[16];
} Instruction;

typedef struct {
    Instruction *program;
    size_t instructions;
    bool by_ports;            /* the program asks for nothing but family, protocol and ports */
    bool plain[2][256];       /* then what it says, by family and protocol, to ports it does not */
    uint64_t named[65536 / 64]; /* name: a bit for each port that it does */
} Filter;

typedef struct {
    uint64_t multiplier; /* nanoseconds a unit of time, 0 if a unit is shorter than that */
    uint64_t divisor;    /* units a nanosecond, 0 if 2^shift units make a second instead */
    uint64_t offset;     /* nanoseconds to add, modulo 2^64 */
    uint32_t snaplen;
    uint16_t link;
    uint8_t shift;
} Interface;

typedef struct {
    uint8_t *data;
    size_t used, room;
} Buffer;

typedef enum { AT_START, IN_PCAP, IN_PCAPNG } Format;
enum { BATCH = 32 };

typedef struct {
    Rules rules;
    Filter filter;
    uint64_t secret[4];

    /* where the stream stands */
    Format format;
    bool big_endian, finished;
    bool failed; /* out of memory: what was emitted is incomplete */
    uint64_t offset;
    Buffer carry; /* the beginning of a record that straddles chunks */
    size_t need;  /* bytes the carry must hold before reading can go on */
    uint64_t skip;
    uint64_t block_offset;
    uint32_t block_length; /* not 0: this block's trailer is due after `skip` bytes */
    uint32_t nanoseconds;  /* pcap: per unit of the fraction */
    uint16_t link;
    Interface *interfaces;
    size_t interface_count, interface_room;

    /* frames found that are not decoded yet: their bytes lie in the chunk or in the carry */
    unsigned frames;
    Frame batch[BATCH];
    Passenger passengers[BATCH];

    /* sessions */
    Pool sessions, outers, histories;
    uint32_t oldest, newest;
    uint64_t open, next_number;
    uint64_t clock; /* nfstream: latest time of a packet, ms */
    Slot *slots;
    uint32_t slot_mask;

    /* fragmented datagrams: entry 0 is none; made when the first fragment comes */
    Datagram *datagrams;
    uint16_t *buckets;
    uint16_t datagram_count, free_datagram, oldest_datagram, newest_datagram;
    uint64_t waiting, waiting_bytes;

    /* results */
    Buffer tiles, packet_rows, session_rows;
    uint64_t packets, dropped[DROPS];
    Fault fault;
    uint64_t fault_offset, fault_packet;
} Core;

/* ---- Memory -------------------------------------------------------------------------------- */

/* Make room for `more` bytes behind those in use; on failure the core is marked, not moved. */
static bool reserve(Core *core, Buffer *buffer, size_t more)
{
    if (buffer->room - buffer->used >= more)
        return true;
    size_t room = buffer->room ? buffer->room : 4096;
    while (room - buffer->used < more) {
        if (room > SIZE_MAX / 4) {
            core->failed = true;
            return false;
        }
        room *= 2;
    }
    uint8_t *data = realloc(buffer->data, room);
    if (!data) {
        core->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->room = room;
    return true;
}

static inline void *item(const Pool *pool, uint32_t index, size_t size)
{
    return pool->blocks[index / POOL_BLOCK] + index % POOL_BLOCK * size;
}

/* Take an item out of the pool, with whatever is in it; 0 when there is no memory. */
static uint32_t take_item(Core *core, Pool *pool, size_t size)
{
    uint32_t index = pool->free;
    if (index) {
        memcpy(&pool->free, item(pool, index, size), sizeof pool->free);
        return index;
    }
    if (pool->used == pool->block_count * POOL_BLOCK) {
        if (pool->block_count == pool->block_room) {
            uint32_t room = pool->block_room ? 2 * pool->block_room : 8;
            uint8_t **blocks = NULL;
            if (room <= UINT32_MAX / POOL_BLOCK)
                blocks = realloc(pool->blocks, room * sizeof *blocks);
            if (!blocks) {
                core->failed = true;
                return 0;
            }
            pool->blocks = blocks;
            pool->block_room = room;
        }
        uint8_t *block = allocate_lines(POOL_BLOCK * size, pool->block_count > 0);
        if (!block) {
            core->failed = true;
            return 0;
        }
        pool->blocks[pool->block_count++] = block;
        pool->used += pool->used == 0; /* number 0 is none */
    }
    return pool->used++;
}

static inline void give_item(Pool *pool, uint32_t index, size_t size)
{
    memcpy(item(pool, index, size), &pool->free, sizeof pool->free);
    pool->free = index;
}

static void free_pool(Pool *pool)
{
    for (uint32_t i = 0; i < pool->block_count; i++)
        free(pool->blocks[i]);
    free(pool->blocks);
    *pool = (Pool){0};
}

static inline Session *session_at(const Core *core, uint32_t index)
{
    return item(&core->sessions, index, sizeof(Session));
}

#endif
