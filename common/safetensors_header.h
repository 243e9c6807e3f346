/* The JSON header of a .safetensors file, checked in full. */
#ifndef GDNCP_SAFETENSORS_HEADER_H
#define GDNCP_SAFETENSORS_HEADER_H

#include <jansson.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* What is longer is refused: JSON takes some thirty times its length in memory. */
#define GDNCP_SAFETENSORS_MAX_HEADER ((int64_t)16 << 20)

#define GDNCP_SAFETENSORS_METADATA "__metadata__"

typedef struct gdncp_safetensors_entry {
    const char *name;       /* owned by the header's root, as dtype_text is */
    const char *dtype_text; /* as in the file */
    int64_t ndim;           /* may exceed GDNCP_MAX_DIMS; shape is then not set */
    int64_t shape[GDNCP_MAX_DIMS];
    int64_t begin; /* bytes [begin, end) of the data */
    int64_t end;
} gdncp_safetensors_entry_t;

typedef struct gdncp_safetensors_header {
    json_t *root;
    gdncp_safetensors_entry_t *entries; /* [count], in the order of the file */
    int64_t count;
} gdncp_safetensors_header_t;

/* Parse and check a header of `length` bytes whose data of `data_bytes` bytes begins at byte
 * `data_offset` of the file. path: for sentences. header: set on success, to be released. */
gdncp_status_t gdncp_safetensors_header_parse(const char *path, const char *text, size_t length,
                                              int64_t data_offset, int64_t data_bytes,
                                              gdncp_safetensors_header_t *header);

void gdncp_safetensors_header_release(gdncp_safetensors_header_t *header);

/* The format's name of a dtype ("BF16"); NULL for a value outside the enum. */
const char *gdncp_safetensors_dtype_text(gdncp_dtype_t dtype);

/* The dtype of that name. false: there is none in gdncp. */
bool gdncp_safetensors_find_dtype(const char *text, gdncp_dtype_t *dtype_p);

/* Not empty, no control characters (a name is printed), and not the metadata's key. */
bool gdncp_safetensors_is_good_name(const char *name);

#endif
