/* Whether the filter lets a packet pass. Part of the capture core.
 *
 * filters.py compiles an expression to a postfix program of 24-byte instructions. Most programs ask
 * for nothing but protocol and ports, and most ports are not those they name: what a program says
 * then is worked out once, and running it is left for the rest.
 */
#ifndef XAI_TRAFFIC_CORE_FILTER_H
#define XAI_TRAFFIC_CORE_FILTER_H

#include "core_ip.h"

enum { OP_AND = 1, OP_OR, OP_NOT, OP_PROTOCOL, OP_FAMILY, OP_NET, OP_PORT, OP_LESS, OP_GREATER };
enum { EITHER, SOURCE, DESTINATION, BOTH };

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

/* Evaluate the program; its stack is the bits of one word, the top the lowest. */
static bool run_program(const Filter *filter, uint32_t wire, const Packet *packet)
{
    uint64_t stack = 1;
    const Instruction *end = filter->program + filter->instructions;
    for (const Instruction *i = filter->program; i < end; i++) {
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
            value = has_ports(packet->protocol) &&
                    on_side(i->side, in_range(packet->source_port, i->value),
                            in_range(packet->destination_port, i->value));
            break;
        case OP_LESS:
            value = wire <= i->value;
            break;
        case OP_GREATER:
            value = wire >= i->value;
            break;
        }
        stack = stack << 1 | value;
    }
    return stack & 1;
}

static inline bool is_named(const Filter *filter, uint16_t port)
{
    return filter->named[port / 64] >> port % 64 & 1;
}

static inline bool passes(const Filter *filter, uint32_t wire, const Packet *packet)
{
    if (filter->by_ports && !is_named(filter, packet->source_port) &&
        !is_named(filter, packet->destination_port))
        return filter->plain[packet->family == 6][packet->protocol];
    return run_program(filter, wire, packet);
}

/* Work out what the program says to packets with ports that it does not name. */
static void foresee(Filter *filter)
{
    filter->by_ports = true;
    for (size_t i = 0; i < filter->instructions; i++) {
        const Instruction *instruction = &filter->program[i];
        if (instruction->operation == OP_PORT)
            for (uint32_t port = instruction->value & 0xFFFF; port <= instruction->value >> 16; port++)
                filter->named[port / 64] |= UINT64_C(1) << port % 64;
        if (instruction->operation == OP_NET || instruction->operation >= OP_LESS)
            filter->by_ports = false;
    }
    Packet packet = {0};
    while (packet.source_port < UINT16_MAX && is_named(filter, packet.source_port))
        packet.source_port++;
    if (is_named(filter, packet.source_port)) /* then none is left to be foreseen */
        filter->by_ports = false;
    packet.destination_port = packet.source_port;
    for (int protocol = 0; filter->by_ports && protocol < 256; protocol++) {
        packet.protocol = (uint8_t)protocol;
        for (int six = 0; six < 2; six++) {
            packet.family = six ? 6 : 4;
            filter->plain[six][protocol] = run_program(filter, 0, &packet);
        }
    }
}

/* Take over a program from filters.py; false if it is none. The checks are what makes running it
 * safe, so they do not rely on those in Python. */
static bool load_program(Filter *filter, const uint8_t *code, size_t size)
{
    size_t count = size / INSTRUCTION_SIZE, depth = 0;
    if (size % INSTRUCTION_SIZE || count > MAX_INSTRUCTIONS)
        return false;
    filter->program = malloc((count + 1) * sizeof *filter->program);
    if (!filter->program)
        return false;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = code + i * INSTRUCTION_SIZE;
        Instruction *to = &filter->program[i];
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
    filter->instructions = count;
    if (count && depth != 1)
        return false;
    foresee(filter);
    return true;
}

#endif
