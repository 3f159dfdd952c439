/* From a stream of bytes to frames: pcap and pcapng. Part of the capture core.
 *
 * Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
 *
 * Each reader looks at the n bytes from the beginning of a record, and returns how many of them it
 * has used up; or 0 when it set a fault, or set `need` to the number of bytes it wants to see. What
 * it wants never goes beyond what it then uses up, so a carry that meets `need` is used up whole.
 */
#ifndef XAI_TRAFFIC_CORE_FORMATS_H
#define XAI_TRAFFIC_CORE_FORMATS_H

#include "core_state.h"

/* Take the frames that were found, in their order; in core_engine.h. */
static void settle(Core *core);

/* Count a frame; it is taken with others, before the chunk or the carry that holds it is left. */
static inline void take_frame(Core *core, Frame frame)
{
    frame.number = ++core->packets;
    core->batch[core->frames++] = frame;
    if (core->frames == BATCH)
        settle(core);
}

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
    take_frame(core, (Frame){
                         .bytes = p + 16,
                         .time = get32(core, p) * UINT64_C(1000000000) +
                                 (uint64_t)get32(core, p + 4) * core->nanoseconds,
                         .captured = captured,
                         .wire = get32(core, p + 12),
                         .link = core->link,
                     });
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
    take_frame(core, frame);
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

/* Read pcap records as long as they are whole and right: what all the time is spent on. */
static inline size_t read_pcap_records(Core *core, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (n - at >= 16) {
        uint32_t captured = get32(core, p + at + 8);
        if (captured > MAX_RECORD || n - at - 16 < captured)
            break;
        read_pcap_record(core, p + at, n - at);
        at += 16 + (size_t)captured;
    }
    return at;
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
            size_t used = core->format == IN_PCAP ? read_pcap_records(core, p, n) : 0;
            if (!used)
                used = read_one(core, p, n);
            core->offset += used;
            p += used, n -= used;
            if (used || core->fault || core->failed)
                continue;
        }
        size_t missing = core->need - carry->used, step = missing < n ? missing : n;
        if (!reserve(core, carry, step))
            break;
        memcpy(carry->data + carry->used, p, step);
        carry->used += step;
        p += step, n -= step;
        if (carry->used == core->need) {
            size_t used = read_one(core, carry->data, carry->used);
            core->offset += used;
            settle(core);
            if (used)
                carry->used = 0;
        }
    }
    settle(core);
}

/* Set the fault of a stream that ends where it should not. */
static void end_of_stream(Core *core)
{
    if (core->fault)
        return;
    if (core->format == AT_START)
        stop(core, core->carry.used < 4 ? NOT_A_CAPTURE : CUT_SHORT, 0);
    else if (core->block_length)
        stop(core, CUT_SHORT, core->block_offset);
    else if (core->carry.used)
        stop(core, CUT_SHORT, core->offset);
}

#endif
