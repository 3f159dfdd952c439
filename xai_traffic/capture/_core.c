/* The capture core: a stream of chunks in, session tiles and closed sessions out, in one pass.
 *
 * core_numpy.py keeps the same contract in plain Python and gives the same bits; records.py has the
 * row layouts, and the words for drops, ends and faults; filters.py compiles the filter. A change
 * of behaviour is a change in all of them.
 *
 * Everything that comes out of a capture is hostile: lengths are checked against what is left before
 * a byte is read, arithmetic is unsigned, loads are bytewise. Memory is bounded by one record plus a
 * hundred bytes a session that is open; tiles leave with the call that read them.
 */
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
enum { PACKET_ROW = 48, SESSION_ROW = 96 };

typedef enum {
    UNSUPPORTED_LINK,
    NOT_IP,
    TRUNCATED,
    MALFORMED,
    FRAGMENT,
    FILTERED,
    DROPS,
    KEPT = DROPS
} Drop;

typedef enum { CAPTURE_END, NEW_CONNECTION, IDLE_TIMEOUT, EVICTED, GOES_ON } End;

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
    bool has_syn, last_was_syn;
} Session;

typedef struct {
    uint32_t tag;     /* low half of the key's hash: the slot it would like is tag & mask */
    uint32_t session; /* 0 = empty */
} Slot;

typedef struct {
    uint8_t *data;
    size_t used, room;
} Buffer;

enum { FIVE_TUPLE, CONNECTION, PCAPSPLITTER };
enum { ALL, NETWORK, TRANSPORT, PAYLOAD };
typedef enum { AT_START, IN_PCAP, IN_PCAPNG } Format;

typedef struct {
    PyObject_HEAD
    /* rules */
    int rule, layers;
    uint32_t width, limit;
    uint64_t idle_timeout, max_open;
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

/* ---- Capture formats ----------------------------------------------------------------------- */

/* Each reader looks at the n bytes from the beginning of a record, and returns how many of them it
 * has used up; or 0 when it set a fault, or set `need` to the number of bytes it wants to see. What
 * it wants never goes beyond what it then uses up, so a carry that meets `need` is used up whole. */

static void take_packet(Core *core, const Frame *frame);

static inline uint32_t get32(const Core *core, const uint8_t *p)
{
    return core->big_endian ? big32(p) : little32(p);
}

static inline uint16_t get16(const Core *core, const uint8_t *p)
{
    return core->big_endian ? big16(p) : little16(p);
}

static size_t wait_for(Core *core, size_t bytes)
{
    core->need = bytes;
    return 0;
}

static size_t stop(Core *core, Fault fault, uint64_t offset)
{
    core->fault = fault;
    core->fault_offset = offset;
    core->fault_packet = core->packets + 1;
    return 0;
}

static size_t read_pcap_header(Core *core, const uint8_t *p, size_t n)
{
    if (n < 24)
        return wait_for(core, 24);
    core->link = (uint16_t)get32(core, p + 20);
    core->format = IN_PCAP;
    return 24;
}

static inline size_t read_pcap_record(Core *core, const uint8_t *p, size_t n)
{
    if (n < 16)
        return wait_for(core, 16);
    uint32_t captured = get32(core, p + 8);
    if (captured > MAX_RECORD)
        return stop(core, RECORD_TOO_LONG, core->offset);
    if (n - 16 < captured)
        return wait_for(core, 16 + (size_t)captured);
    Frame frame = {
        .bytes = p + 16,
        .time = get32(core, p) * UINT64_C(1000000000) +
                (uint64_t)get32(core, p + 4) * core->nanoseconds,
        .captured = captured,
        .wire = get32(core, p + 12),
        .link = core->link,
    };
    take_packet(core, &frame);
    return 16 + (size_t)captured;
}

enum { SECTION_HEADER = 0x0A0D0D0A, INTERFACE = 1, OLD_PACKET = 2, SIMPLE_PACKET = 3 };
enum { ENHANCED_PACKET = 6, MAX_OPTIONS = 65536, MAX_PACKET_BLOCK = MAX_RECORD + 65536 };

/* Use up the block's first bytes; its rest is skipped, then its trailer is due. */
static size_t enter_block(Core *core, uint32_t length, uint32_t used)
{
    core->block_offset = core->offset;
    core->block_length = length;
    core->skip = length - used - 4;
    return used;
}

static size_t read_trailer(Core *core, const uint8_t *p, size_t n)
{
    if (n < 4)
        return wait_for(core, 4);
    if (get32(core, p) != core->block_length)
        return stop(core, BLOCK_LENGTH, core->block_offset);
    core->block_length = 0;
    return 4;
}

static size_t read_section(Core *core, const uint8_t *p, size_t n)
{
    if (n < 12)
        return wait_for(core, 12); /* the length can be read only in the byte order behind it */
    uint32_t order = big32(p + 8);
    if (order != 0x1A2B3C4D && order != 0x4D3C2B1A)
        return stop(core, BAD_BYTE_ORDER, core->offset);
    core->big_endian = order == 0x1A2B3C4D;
    uint32_t length = get32(core, p + 4);
    if (length < 28 || length % 4)
        return stop(core, BLOCK_LENGTH, core->offset);
    core->interface_count = 0;
    return enter_block(core, length, 12);
}

static uint64_t power10(unsigned exponent)
{
    uint64_t power = 1;
    while (exponent--)
        power *= 10;
    return power;
}

/* A unit is 10^-code seconds, or 2^-(code & 127). No 64-bit count of units of 10^-29 s makes a
 * nanosecond. */
static void set_resolution(Interface *interface, uint8_t code)
{
    interface->multiplier = interface->divisor = 0;
    interface->shift = 127;
    if (code & 0x80)
        interface->shift = code & 0x7F;
    else if (code <= 9)
        interface->multiplier = power10(9 - code);
    else if (code <= 28)
        interface->divisor = power10(code - 9);
}

static uint64_t nanoseconds_of(const Interface *interface, uint64_t units)
{
    if (interface->multiplier)
        return units * interface->multiplier + interface->offset;
    if (interface->divisor)
        return units / interface->divisor + interface->offset;
    unsigned __int128 scaled = (unsigned __int128)units * 1000000000u;
    return (uint64_t)(scaled >> interface->shift) + interface->offset;
}

static void read_interface_options(Core *core, Interface *interface, const uint8_t *p, size_t n)
{
    while (n >= 4) {
        uint16_t code = get16(core, p), length = get16(core, p + 2);
        p += 4, n -= 4;
        if (code == 0 || length > n)
            return;
        if ((code == 9 && length < 1) || (code == 14 && length < 8))
            return;
        if (code == 9)
            set_resolution(interface, p[0]);
        if (code == 14) {
            uint64_t low = get32(core, p + (core->big_endian ? 4 : 0));
            uint64_t high = get32(core, p + (core->big_endian ? 0 : 4));
            interface->offset = (high << 32 | low) * UINT64_C(1000000000);
        }
        size_t padded = ((size_t)length + 3) & ~(size_t)3;
        if (padded > n)
            return;
        p += padded, n -= padded;
    }
}

static size_t read_interface(Core *core, const uint8_t *p, size_t n, uint32_t length)
{
    if (length < 20)
        return stop(core, BLOCK_LENGTH, core->offset);
    if (core->interface_count == MAX_INTERFACES)
        return stop(core, TOO_MANY_INTERFACES, core->offset);
    uint32_t kept = least(length - 12, MAX_OPTIONS);
    if (n < 8 + (size_t)kept)
        return wait_for(core, 8 + (size_t)kept);
    if (core->interface_count == core->interface_room) {
        size_t room = core->interface_room ? 2 * core->interface_room : 8;
        Interface *more = realloc(core->interfaces, room * sizeof *more);
        if (!more) {
            core->failed = true;
            return 0;
        }
        core->interfaces = more;
        core->interface_room = room;
    }
    Interface *interface = &core->interfaces[core->interface_count++];
    interface->link = get16(core, p + 8);
    interface->snaplen = get32(core, p + 12);
    interface->offset = 0;
    set_resolution(interface, 6);
    read_interface_options(core, interface, p + 16, kept - 8);
    return enter_block(core, length, 8 + kept);
}

static size_t read_packet_block(Core *core, const uint8_t *p, size_t n, uint32_t type,
                                uint32_t length)
{
    uint32_t fixed = type == SIMPLE_PACKET ? 4 : 20;
    if (length < 12 + fixed || length > MAX_PACKET_BLOCK)
        return stop(core, BLOCK_LENGTH, core->offset);
    if (n < 8 + (size_t)fixed)
        return wait_for(core, 8 + (size_t)fixed);
    uint32_t number = 0, room = length - 12 - fixed;
    if (type == ENHANCED_PACKET)
        number = get32(core, p + 8);
    else if (type == OLD_PACKET)
        number = get16(core, p + 8);
    if (number >= core->interface_count)
        return stop(core, UNKNOWN_INTERFACE, core->offset);
    const Interface *interface = &core->interfaces[number];
    Frame frame = {.bytes = p + 8 + fixed, .link = interface->link};
    if (type == SIMPLE_PACKET) {
        frame.wire = get32(core, p + 8);
        frame.captured = least(frame.wire, room);
        if (interface->snaplen)
            frame.captured = least(frame.captured, interface->snaplen);
    } else {
        uint64_t high = get32(core, p + 12), low = get32(core, p + 16);
        frame.time = nanoseconds_of(interface, high << 32 | low);
        frame.captured = get32(core, p + 20);
        frame.wire = get32(core, p + 24);
    }
    if (frame.captured > room)
        return stop(core, BEYOND_BLOCK, core->offset);
    if (frame.captured > MAX_RECORD)
        return stop(core, RECORD_TOO_LONG, core->offset);
    if (n < length)
        return wait_for(core, length);
    if (get32(core, p + length - 4) != length)
        return stop(core, BLOCK_LENGTH, core->offset);
    take_packet(core, &frame);
    return length;
}

static size_t read_block(Core *core, const uint8_t *p, size_t n)
{
    if (core->block_length)
        return read_trailer(core, p, n);
    if (n < 8)
        return wait_for(core, 8);
    uint32_t type = get32(core, p);
    if (type == SECTION_HEADER)
        return read_section(core, p, n);
    uint32_t length = get32(core, p + 4);
    if (length < 12 || length % 4)
        return stop(core, BLOCK_LENGTH, core->offset);
    if (type == INTERFACE)
        return read_interface(core, p, n, length);
    if (type == ENHANCED_PACKET || type == SIMPLE_PACKET || type == OLD_PACKET)
        return read_packet_block(core, p, n, type, length);
    return enter_block(core, length, 8);
}

static size_t read_start(Core *core, const uint8_t *p, size_t n)
{
    if (n < 4)
        return wait_for(core, 4);
    uint32_t magic = big32(p);
    core->big_endian = magic == 0xA1B2C3D4 || magic == 0xA1B23C4D;
    core->nanoseconds = magic == 0xA1B23C4D || magic == 0x4D3CB2A1 ? 1 : 1000;
    switch (magic) {
    case 0xA1B2C3D4:
    case 0xA1B23C4D:
    case 0xD4C3B2A1:
    case 0x4D3CB2A1:
        return read_pcap_header(core, p, n);
    case SECTION_HEADER:
        if (n < 12)
            return wait_for(core, 12);
        core->format = IN_PCAPNG;
        return read_section(core, p, n);
    default:
        return stop(core, NOT_A_CAPTURE, 0);
    }
}

static inline size_t read_one(Core *core, const uint8_t *p, size_t n)
{
    if (core->format == IN_PCAP)
        return read_pcap_record(core, p, n);
    if (core->format == IN_PCAPNG)
        return read_block(core, p, n);
    return read_start(core, p, n);
}

/* Read a chunk; what is left of it begins a record that the next chunk goes on with. */
static void walk(Core *core, const uint8_t *p, size_t n)
{
    while (n && !core->fault && !core->failed) {
        if (core->skip) {
            size_t step = core->skip < n ? (size_t)core->skip : n;
            core->skip -= step;
            core->offset += step;
            p += step, n -= step;
            continue;
        }
        Buffer *carry = &core->carry;
        if (!carry->used) {
            size_t used = read_one(core, p, n);
            core->offset += used;
            p += used, n -= used;
            if (used || core->fault || core->failed)
                continue;
        }
        size_t missing = core->need - carry->used, step = missing < n ? missing : n;
        if (!reserve(core, carry, step))
            return;
        memcpy(carry->data + carry->used, p, step);
        carry->used += step;
        p += step, n -= step;
        if (carry->used == core->need) {
            size_t used = read_one(core, carry->data, carry->used);
            core->offset += used;
            if (used)
                carry->used = 0;
        }
    }
}

/* ---- Decoding ------------------------------------------------------------------------------ */

/* With so few tags and extension headers no header begins beyond the reach of a 16-bit offset. */
enum { MAX_TAGS = 8, MAX_EXTENSIONS = 16, TCP = 6, UDP = 17 };

static bool is_vlan(uint16_t type)
{
    return type == 0x8100 || type == 0x88A8 || type == 0x9100 || type == 0x9200;
}

/* Find the IP header and its version. */
static inline Drop decode_link(const Frame *frame, Packet *packet)
{
    const uint8_t *p = frame->bytes;
    uint32_t n = frame->captured, at, type_at;
    packet->network = 0;
    switch (frame->link) {
    case 1: /* Ethernet */
        at = 14, type_at = 12;
        break;
    case 113: /* Linux cooked */
        at = 16, type_at = 14;
        break;
    case 276: /* Linux cooked v2 */
        at = 20, type_at = 0;
        break;
    case 0:   /* BSD loopback: address family in the byte order of the sender */
    case 108: /* OpenBSD loopback */
        if (n < 4)
            return TRUNCATED;
        packet->network = 4;
        switch (p[0] || p[1] ? little32(p) : big32(p)) {
        case 2:
            packet->family = 4;
            return KEPT;
        case 24:
        case 28:
        case 30:
            packet->family = 6;
            return KEPT;
        }
        return NOT_IP;
    case 12: /* raw IP, under three numbers */
    case 14:
    case 101:
        if (n < 1)
            return TRUNCATED;
        packet->family = p[0] >> 4;
        return packet->family == 4 || packet->family == 6 ? KEPT : NOT_IP;
    case 228:
        packet->family = 4;
        return KEPT;
    case 229:
        packet->family = 6;
        return KEPT;
    default:
        return UNSUPPORTED_LINK;
    }
    if (n < at)
        return TRUNCATED;
    uint16_t type = big16(p + type_at);
    for (int tags = 0; is_vlan(type); tags++) {
        if (tags == MAX_TAGS)
            return NOT_IP;
        if (n - at < 4)
            return TRUNCATED;
        type = big16(p + at + 2);
        at += 4;
    }
    packet->network = at;
    packet->family = type == 0x0800 ? 4 : 6;
    return type == 0x0800 || type == 0x86DD ? KEPT : NOT_IP;
}

static inline Drop decode_ipv4(const Frame *frame, Packet *packet)
{
    const uint8_t *ip = frame->bytes + packet->network;
    uint32_t room = frame->captured - packet->network;
    if (room < 20)
        return TRUNCATED;
    uint32_t header = (ip[0] & 15) * 4, total = big16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20)
        return MALFORMED;
    if (room < header)
        return TRUNCATED;
    if (total && total < header)
        return MALFORMED;
    if (big16(ip + 6) & 0x3FFF) /* more fragments, or not the first */
        return FRAGMENT;
    packet->end = packet->network + (total ? least(total, room) : room);
    packet->transport = packet->network + header;
    packet->protocol = ip[9];
    packet->source = ip + 12;
    packet->destination = ip + 16;
    return KEPT;
}

static Drop decode_ipv6(const Frame *frame, Packet *packet)
{
    const uint8_t *ip = frame->bytes + packet->network;
    uint32_t room = frame->captured - packet->network;
    if (room < 40)
        return TRUNCATED;
    if (ip[0] >> 4 != 6)
        return MALFORMED;
    uint32_t at = 40, total = 40 + (uint32_t)big16(ip + 4);
    uint8_t next = ip[6];
    if (total > 40 || next == 59)
        room = least(room, total);
    for (int extensions = 0;; extensions++) {
        switch (next) {
        case 0:   /* hop by hop */
        case 43:  /* routing */
        case 44:  /* fragment */
        case 51:  /* authentication */
        case 60:  /* destination options */
        case 135: /* mobility */
        case 139: /* host identity */
        case 140: /* shim6 */
            break;
        default:
            packet->end = packet->network + room;
            packet->transport = packet->network + at;
            packet->protocol = next;
            packet->source = ip + 8;
            packet->destination = ip + 24;
            return KEPT;
        }
        if (extensions == MAX_EXTENSIONS)
            return MALFORMED;
        if (room - at < 8)
            return TRUNCATED;
        const uint8_t *p = ip + at;
        uint32_t length = next == 44 ? 8 : next == 51 ? (p[1] + 2u) * 4 : (p[1] + 1u) * 8;
        if (room - at < length)
            return TRUNCATED;
        if (next == 44 && big16(p + 2) & 0xFFF9)
            return FRAGMENT;
        next = p[0];
        at += length;
    }
}

static inline Drop decode_transport(const Frame *frame, Packet *packet)
{
    const uint8_t *p = frame->bytes + packet->transport;
    uint32_t room = packet->end - packet->transport, header = 0;
    packet->source_port = packet->destination_port = 0;
    packet->sequence = 0;
    packet->syn = false;
    if (packet->protocol == TCP) {
        if (room < 20)
            return TRUNCATED;
        header = (p[12] >> 4) * 4;
        if (header < 20)
            return MALFORMED;
        packet->sequence = big32(p + 4);
        packet->syn = (p[13] & 0x12) == 0x02;
    } else if (packet->protocol == UDP) {
        if (room < 8)
            return TRUNCATED;
        header = 8;
    }
    if (header) {
        packet->source_port = big16(p);
        packet->destination_port = big16(p + 2);
    }
    packet->payload = header <= room ? packet->transport + header : ABSENT;
    return KEPT;
}

static inline Drop decode(const Frame *frame, Packet *packet)
{
    Drop drop = decode_link(frame, packet);
    if (drop == KEPT)
        drop = packet->family == 4 ? decode_ipv4(frame, packet) : decode_ipv6(frame, packet);
    return drop == KEPT ? decode_transport(frame, packet) : drop;
}

/* ---- Filter -------------------------------------------------------------------------------- */

static bool on_side(int side, bool source, bool destination)
{
    switch (side) {
    case SOURCE:
        return source;
    case DESTINATION:
        return destination;
    case BOTH:
        return source && destination;
    default:
        return source || destination;
    }
}

static bool in_network(const uint8_t *address, const Instruction *network)
{
    unsigned bytes = network->bits / 8, rest = network->bits % 8;
    if (memcmp(address, network->address, bytes))
        return false;
    return !rest || (address[bytes] ^ network->address[bytes]) >> (8 - rest) == 0;
}

static inline bool in_range(uint32_t port, uint32_t range)
{
    return port >= (range & 0xFFFF) && port <= range >> 16;
}

/* Evaluate the postfix program; its stack is the bits of one word, the top the lowest. */
static inline bool matches(const Core *core, const Frame *frame, const Packet *packet)
{
    uint64_t stack = 1;
    const Instruction *end = core->program + core->instructions;
    for (const Instruction *i = core->program; i < end; i++) {
        bool value = false, top = stack & 1;
        switch (i->operation) {
        case OP_AND:
            stack = (stack >> 1) & (top ? UINT64_MAX : UINT64_MAX - 1);
            continue;
        case OP_OR:
            stack = (stack >> 1) | top;
            continue;
        case OP_NOT:
            stack ^= 1;
            continue;
        case OP_PROTOCOL:
            value = packet->protocol == i->value;
            break;
        case OP_FAMILY:
            value = packet->family == i->family;
            break;
        case OP_NET:
            value = packet->family == i->family && on_side(i->side, in_network(packet->source, i),
                                                           in_network(packet->destination, i));
            break;
        case OP_PORT:
            value = (packet->protocol == TCP || packet->protocol == UDP) &&
                    on_side(i->side, in_range(packet->source_port, i->value),
                            in_range(packet->destination_port, i->value));
            break;
        case OP_LESS:
            value = frame->wire <= i->value;
            break;
        case OP_GREATER:
            value = frame->wire >= i->value;
            break;
        }
        stack = stack << 1 | value;
    }
    return stack & 1;
}

/* Take over a program from filters.py; false if it is none. The checks are what makes `matches`
 * safe, so they do not rely on those in Python. */
static bool load_program(Core *core, const uint8_t *code, size_t size)
{
    size_t count = size / INSTRUCTION_SIZE, depth = 0;
    if (size % INSTRUCTION_SIZE || count > MAX_INSTRUCTIONS)
        return false;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = code + i * INSTRUCTION_SIZE;
        Instruction *to = &core->program[i];
        *to = (Instruction){p[0], p[1], p[2], p[3], little32(p + 4), {0}};
        memcpy(to->address, p + 8, 16);
        if (to->operation < OP_AND || to->operation > OP_GREATER || to->side > BOTH)
            return false;
        bool typed = to->operation == OP_FAMILY || to->operation == OP_NET;
        if (typed && to->family != 4 && to->family != 6)
            return false;
        if (to->operation == OP_NET && to->bits > (to->family == 4 ? 32 : 128))
            return false;
        size_t taken = to->operation <= OP_OR ? 2 : to->operation == OP_NOT ? 1 : 0;
        if (depth < taken)
            return false;
        depth += 1 - taken;
        if (depth > MAX_DEPTH)
            return false;
    }
    core->instructions = count;
    return !count || depth == 1;
}

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

static void emit_session(Core *core, const Session *session, End end)
{
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
    memset(row + 3, 0, 7);
    core->session_rows.used += SESSION_ROW;
}

/* ---- Sessions ------------------------------------------------------------------------------ */

/* Build the key; true if the packet's source is its second endpoint. Whole words are written, since
 * the hash reads them at once and would have to wait for bytes. */
static inline bool make_key(Key *key, const Packet *packet)
{
    const uint8_t *low = packet->source, *high = packet->destination;
    uint32_t low_port = packet->source_port, high_port = packet->destination_port;
    size_t size = packet->family == 4 ? 4 : 16;
    int order = memcmp(low, high, size);
    bool swapped = order ? order > 0 : low_port > high_port;
    if (swapped) {
        low = packet->destination, high = packet->source;
        low_port = packet->destination_port, high_port = packet->source_port;
    }
    memset(key, 0, sizeof *key);
    if (size == 4) {
        key->words[0] = little32(low);
        key->words[2] = little32(high);
    } else {
        memcpy(&key->words[0], low, 16);
        memcpy(&key->words[2], high, 16);
    }
    key->words[4] = low_port | high_port << 16 | (uint64_t)packet->protocol << 32 |
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
    bool swapped = make_key(&key, &packet);
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
    if (core->busy)
        PyErr_SetString(PyExc_RuntimeError, "another thread is inside this core");
    else
        core->busy = true;
    return core->busy && !PyErr_Occurred();
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
                   long long max_open)
{
    static const char *const rules[] = {"five_tuple", "connection", "pcapsplitter", NULL};
    static const char *const layer_names[] = {"all", "network", "transport", "payload", NULL};
    core->rule = index_of(rule, rules, "session rule");
    core->layers = core->rule < 0 ? -1 : index_of(layers, layer_names, "layers");
    if (core->layers < 0)
        return false;
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
    static char *names[] = {"rule",  "layers",          "program",  "width",
                            "limit", "idle_timeout_ns", "max_open", NULL};
    const char *rule, *layers, *code;
    Py_ssize_t size;
    long long width, limit, idle_timeout, max_open;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "ssy#LLLL:Core", names, &rule, &layers, &code,
                                     &size, &width, &limit, &idle_timeout, &max_open))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Core *core = (Core *)allocate(type, 0); /* all zero */
    if (core && !set_up(core, rule, layers, code, size, width, limit, idle_timeout, max_open))
        Py_CLEAR(core);
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
