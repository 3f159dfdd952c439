/* Fuzz target: the capture core alone. No memory error, no undefined behaviour, every invariant.
 *
 * Each input is read in pieces under one secret, then again as a whole under another: neither may
 * make a difference. Where the input says so, memory runs out instead.
 */
#include "fuzz_checks.h"
#include "mutator.h"

static const uint64_t secrets[2][4] = {
    {0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89},
    {0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7, 0xAEF17502108EF2D9},
};

static void run_without_memory(const Input *input, const Cuts *cuts)
{
    Core core = {0};
    allocations_left = input->failing;
    if (core_begin(&core, &input->rules, input->program, input->program_size, secrets[1])) {
        run_core(&core, input, cuts);
        HOLDS(!core.failed || !allocations_left);
        allocations_left = 0;
        run_core(&core, input, cuts); /* whoever goes on all the same comes to no harm */
    }
    allocations_left = 0;
    core_end(&core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input;
    if (!take_apart(data, size, &input))
        return 0;
    Cuts cuts = make_cuts(&input, input.capture, input.size), whole = {NULL, 0};
    if (input.failing) {
        run_without_memory(&input, &cuts);
        free(cuts.sizes);
        return 0;
    }
    Core core = {0}, again = {0};
    if (core_begin(&core, &input.rules, input.program, input.program_size, secrets[0])) {
        run_core(&core, &input, &cuts);
        HOLDS(!core.failed);
        check_results(&core, input.expires || input.rules.early);
        HOLDS(core_begin(&again, &input.rules, input.program, input.program_size, secrets[1]));
        run_core(&again, &input, input.expires ? &cuts : &whole);
        check_same(&core, &again);
        /* All is over: nothing more comes. */
        size_t rows = core.session_rows.used;
        core_feed(&core, input.capture, input.size);
        core_expire(&core, INT64_MAX);
        core_finish(&core);
        HOLDS(core.session_rows.used == rows);
        check_same(&core, &again);
    }
    core_end(&again);
    core_end(&core);
    free(cuts.sizes);
    return 0;
}

#ifdef STANDALONE /* no fuzzer: run the files given, to measure what they cover */
int main(int count, char **paths)
{
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        HOLDS(file && !fseek(file, 0, SEEK_END));
        size_t size = (size_t)ftell(file);
        uint8_t *data = malloc(size + 1);
        rewind(file);
        HOLDS(data && fread(data, 1, size, file) == size);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
#endif
