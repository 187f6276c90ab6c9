#include "fuzz_targets.h"

#include "os/os.h"
#include "runner.h"

#include <dirent.h>
#include <stdio.h>

static void fuzz_mutate(uint8_t *data, size_t *size, FuzzDice *dice) {
    static const char *const pieces[] = {
        "\r\n",     "\n",  "\"",  "\\u", "{",    "]",        ",",       ":",
        "0",        "9",   " ",   ";",   "\xFF", "\xE2\x82", "chunked", "Content-Length: 1\r\n",
        "HTTP/1.1", "1e9", "null"};
    for (uint32_t edits = 1 + fuzz_roll(dice, 3); edits > 0; edits--) {
        size_t at = fuzz_roll(dice, (uint32_t)*size + 1);
        uint32_t kind = fuzz_roll(dice, 3);
        const char *piece = pieces[fuzz_roll(dice, COUNT_OF(pieces))];
        size_t length = strlen(piece);
        if (kind == 0 && at < *size) {
            data[at] ^= (uint8_t)(1u << fuzz_roll(dice, 8));
        } else if (kind == 1 && at < *size) {
            memmove(data + at, data + at + 1, --*size - at);
        } else if (*size + length <= FUZZ_INPUT_BYTES_MAX) {
            memmove(data + at + length, data + at, *size - at);
            memcpy(data + at, piece, length);
            *size += length;
        }
    }
}

size_t fuzz_replay(const char *name, void (*target)(const uint8_t *data, size_t size), uint32_t mutations) {
    static uint8_t memory[2 * FUZZ_INPUT_BYTES_MAX], mutated[FUZZ_INPUT_BYTES_MAX];
    char path[1024];
    snprintf(path, sizeof path, "fuzz/corpus/%s", name);
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", test_data_path(path));
    DIR *entries = opendir(folder);
    if (!entries) return 0;
    size_t files = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] == '.') continue;
        TEST_CASE_LABEL("%s/%s", path, entry->d_name);
        snprintf(path, sizeof path, "%.512s/%.255s", folder, entry->d_name);
        Arena arena = arena_from_memory(memory, sizeof memory);
        Str input;
        Error err;
        REQUIRE(os_file_read(path, FUZZ_INPUT_BYTES_MAX, &arena, &input, &err));
        target((const uint8_t *)input.ptr, input.len);
        // Keyed by the content, so that the order of the folder does not matter.
        FuzzDice dice = {.key = input.len ? (uint8_t)input.ptr[0] + input.len : 0};
        for (uint32_t i = 0; i < mutations; i++) {
            size_t size = input.len;
            memcpy(mutated, input.ptr, size);
            fuzz_mutate(mutated, &size, &dice);
            target(mutated, size);
        }
        files++;
    }
    closedir(entries);
    return files;
}
