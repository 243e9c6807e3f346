/*
 * Runs a fuzz target where libFuzzer is not: on every file of a folder, and on a fixed number of
 * inputs made from them and from nothing, always the same ones.
 *
 *     fuzz_TARGET RUNS FOLDER
 */
#include <dirent.h>

#include "fuzz_input.h"

enum { MAX_BYTES = 1024, MAX_FILES = 256 };

typedef struct bytes {
    uint8_t data[MAX_BYTES];
    size_t size;
} bytes_t;

static uint64_t draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* What is found in the folder; exits where there is none. */
static int read_folder(const char *path, bytes_t *files)
{
    DIR *const folder = opendir(path);
    const struct dirent *entry;
    int count = 0;

    if (folder == NULL) {
        fprintf(stderr, "%s: expected a folder of inputs\n", path);
        exit(1);
    }
    while ((entry = readdir(folder)) != NULL && count < MAX_FILES) {
        char name[1024];

        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        FILE *const file = fopen(name, "rb");

        if (file != NULL) {
            files[count].size = fread(files[count].data, 1, MAX_BYTES, file);
            fclose(file);
            count++;
        }
    }
    closedir(folder);
    return count;
}

/* Small bytes are more frequent than large ones; 240 and above have a meaning of their own. */
static uint8_t draw_byte(uint64_t *state)
{
    const uint64_t choice = draw(state) % 8;

    return (uint8_t)(choice < 5 ? draw(state) % 24 : choice < 7 ? draw(state) % 256 : 240);
}

/* Change, insert, remove or repeat a few bytes. */
static void mutate(uint64_t *state, bytes_t *input)
{
    for (uint64_t changes = 1 + draw(state) % 4; changes > 0; changes--) {
        const size_t at = input->size > 0 ? draw(state) % input->size : 0;

        switch (draw(state) % 3) {
        case 0:
            if (input->size > 0) {
                input->data[at] = draw_byte(state);
            }
            break;
        case 1:
            if (input->size < MAX_BYTES) {
                memmove(input->data + at + 1, input->data + at, input->size - at);
                input->data[at] = draw_byte(state);
                input->size++;
            }
            break;
        default:
            if (input->size > 0) {
                memmove(input->data + at, input->data + at + 1, input->size - at - 1);
                input->size--;
            }
            break;
        }
    }
}

/* The target gets memory of exactly the input's size. */
static void run(const bytes_t *input)
{
    uint8_t *const exact = malloc(input->size > 0 ? input->size : 1);

    FUZZ_CHECK(exact != NULL);
    memcpy(exact, input->data, input->size);
    LLVMFuzzerTestOneInput(exact, input->size);
    free(exact);
}

int main(int argc, char **argv)
{
    static bytes_t files[MAX_FILES];
    uint64_t state = 20261128;

    if (argc != 3) {
        fprintf(stderr, "usage: %s RUNS FOLDER\n", argv[0]);
        return 1;
    }
    const long runs = strtol(argv[1], NULL, 10);
    const int num_files = read_folder(argv[2], files);

    for (int f = 0; f < num_files; f++) {
        run(&files[f]);
    }
    for (long r = 0; r < runs; r++) {
        bytes_t input = {.size = 0};

        if (num_files > 0 && r % 2 == 0) {
            input = files[draw(&state) % (uint64_t)num_files];
            mutate(&state, &input);
        } else {
            input.size = draw(&state) % 128;
            for (size_t i = 0; i < input.size; i++) {
                input.data[i] = draw_byte(&state);
            }
        }
        run(&input);
    }
    printf("%d files, %ld other inputs\n", num_files, runs);
    return 0;
}
