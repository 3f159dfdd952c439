/* What the parts of the capture core share: bytes, the words of records.py, the state. */
#ifndef XAI_TRAFFIC_CORE_H
#define XAI_TRAFFIC_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading and writing bytes ------------------------------------------------------------- */

static inline uint16_t big16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint16_t little16(const uint8_t *p) { return (uint16_t)(p[1] << 8 | p[0]); }

static inline uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint32_t little32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static inline uint8_t *put16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    return p + 2;
}

static inline uint8_t *put32(uint8_t *p, uint32_t value)
{
    put16(p, value);
    put16(p + 2, value >> 16);
    return p + 4;
}

static inline uint8_t *put64(uint8_t *p, uint64_t value)
{
    put32(p, (uint32_t)value);
    put32(p + 4, (uint32_t)(value >> 32));
    return p + 8;
}

static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* ---- The words of records.py --------------------------------------------------------------- */

enum { NONE = 65535, MAX_RECORD = 262144, MAX_INTERFACES = 1 << 20 };
enum { PACKET_ROW = 56, SESSION_ROW = 128 };

typedef enum {
    UNSUPPORTED_LINK,
    NOT_IP,
    ENCRYPTED,
    TRUNCATED,
    MALFORMED,
    FRAGMENT,
    FILTERED,
    RETRANSMITTED,
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

enum { CUT = 1 };

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

/* ---- State --------------------------------------------------------------------------------- */

enum { MAX_INSTRUCTIONS = 1024, MAX_DEPTH = 64, INSTRUCTION_SIZE = 24 };
enum { OP_AND = 1, OP_OR, OP_NOT, OP_PROTOCOL, OP_FAMILY, OP_NET, OP_PORT, OP_LESS, OP_GREATER };
enum { EITHER, SOURCE, DESTINATION, BOTH };

typedef struct {
    uint8_t operation, side, family, bits;
    uint32_t value;
    uint8_t address[16];
} Instruction;

typedef struct {
    uint64_t multiplier; /* nanoseconds a unit of time, 0 if a unit is shorter than that */
    uint64_t divisor;    /* units a nanosecond, 0 if 2^shift units make a second instead */
    uint64_t offset;     /* nanoseconds to add, modulo 2^64 */
    uint32_t snaplen;
    uint16_t link;
    uint8_t shift;
} Interface;

/* One record of the capture. */
typedef struct {
    const uint8_t *bytes;
    uint64_t time; /* an int64 in two's complement, so that hostile times wrap without harm */
    uint32_t captured, wire;
    uint16_t link;
} Frame;

/* What decoding finds in a frame: offsets from its first byte. */
typedef struct {
    uint32_t network, transport, payload, end;
    const uint8_t *source, *destination;
    uint16_t source_port, destination_port;
    uint8_t family, protocol;
    bool syn;          /* TCP SYN without ACK */
    uint32_t sequence; /* of a TCP segment */
} Packet;

enum { ABSENT = UINT32_MAX };

/* Both endpoints in one order whichever of them sent, IPv4 padded with zeros. */
typedef struct {
    uint64_t words[5];
} Key;

typedef struct {
    Key key;
    uint64_t number, first_time, last_time, packets, bytes, payload_bytes;
    uint32_t first_syn;    /* sequence number, if has_syn */
    uint32_t older, newer; /* neighbours by number among the open ones, 0 = none */
    bool swapped;          /* the initiator is the key's second endpoint */
    bool has_syn, last_was_syn, reported;
} Session;

typedef struct {
    uint32_t tag;     /* low half of the key's hash: the slot it would like is tag & mask */
    uint32_t session; /* 0 = empty */
} Slot;

typedef struct {
    uint8_t *data;
    size_t used, room;
} Buffer;

enum { FIVE_TUPLE, CONNECTION, PCAPSPLITTER, ZEEK, NFSTREAM, HOST_PAIR, UNIDIRECTIONAL };
enum { ANY = 255 };
enum { ALL, NETWORK, TRANSPORT, PAYLOAD };
typedef enum { AT_START, IN_PCAP, IN_PCAPNG } Format;

typedef struct {
    PyObject_HEAD
    /* rules */
    int rule, layers;
    uint32_t width, limit;
    uint64_t idle_timeout, max_open;
    bool outer_only, drop_retransmissions, early;
    Instruction *program;
    size_t instructions;

    /* where the stream stands */
    Format format;
    bool big_endian, finished;
    bool busy;   /* a thread is inside, perhaps without the GIL */
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

    /* sessions */
    uint64_t secret[4];
    Session *sessions; /* [0] is never used, so that 0 can mean none */
    uint32_t session_count, session_room, free_session;
    uint32_t oldest, newest;
    uint64_t open, next_number;
    Slot *slots;
    uint32_t slot_mask;

    /* results */
    Buffer tiles, packet_rows, session_rows;
    uint64_t packets, dropped[DROPS];
    Fault fault;
    uint64_t fault_offset, fault_packet;
} Core;

/* Make room for `more` bytes behind those in use; on failure the core is marked, not moved. */
static bool reserve(Core *core, Buffer *buffer, size_t more)
{
    if (buffer->room - buffer->used >= more)
        return true;
    size_t room = buffer->room ? buffer->room : 4096;
    while (room - buffer->used < more) {
        if (room > PY_SSIZE_T_MAX / 2) {
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

#endif
