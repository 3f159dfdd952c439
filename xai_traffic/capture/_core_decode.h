/* From a frame to the headers in it, and whether the filter lets it pass. Part of _core.c.
 *
 * Sources: RFC 791, RFC 8200, RFC 9293, RFC 768, IEEE 802.1Q, tcpdump.org's list of link types.
 */
#include "_core.h"

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
