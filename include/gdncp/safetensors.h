/**
 * @file
 * Reading and writing .safetensors files, the format of layer dumps.
 *
 * A file is an 8-byte little-endian header length, a JSON header of names, dtypes,
 * shapes and byte ranges, and the data. Files are not trusted: every length, offset, shape
 * and range is checked against the file's size before it is used.
 */
#ifndef GDNCP_SAFETENSORS_H
#define GDNCP_SAFETENSORS_H

#include <stdint.h>

#include "export.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

typedef struct gdncp_safetensors gdncp_safetensors_t;

/**
 * Open a file and check its header in full. The data is mapped, not read.
 * @param file_p  set on success; free with gdncp_safetensors_close()
 * @return GDNCP_OK, GDNCP_ERR_IO (cannot be opened or read), GDNCP_ERR_FORMAT (truncated, hostile
 * or malformed; the sentence names the file, the tensor and what is wrong),
 * GDNCP_ERR_OUT_OF_MEMORY.
 */
GDNCP_API gdncp_status_t gdncp_safetensors_open(const char *path, gdncp_safetensors_t **file_p);

/** Close a file; its tensors' data goes with it. NULL does nothing. */
GDNCP_API void gdncp_safetensors_close(gdncp_safetensors_t *file);

GDNCP_API int64_t gdncp_safetensors_num_tensors(const gdncp_safetensors_t *file);

/** Name of tensor @p index, in the order of the file's header; NULL outside it. Owned by the file.
 */
GDNCP_API const char *gdncp_safetensors_name(const gdncp_safetensors_t *file, int64_t index);

/**
 * A tensor by name: contiguous, over the mapped (read-only) data.
 * @return GDNCP_ERR_FORMAT where there is none of that name, or where its dtype or number of
 * dimensions is one gdncp has no name for.
 */
GDNCP_API gdncp_status_t gdncp_safetensors_get(const gdncp_safetensors_t *file, const char *name,
                                               gdncp_tensor_t *tensor_p);

/** Value of a metadata key; NULL where there is none. Owned by the file. */
GDNCP_API const char *gdncp_safetensors_metadata(const gdncp_safetensors_t *file, const char *key);

/** One named tensor to write. */
typedef struct gdncp_named_tensor {
    const char *name;
    gdncp_tensor_t tensor; /**< contiguous, on the CPU */
} gdncp_named_tensor_t;

/**
 * Write a file whole or not at all (a temporary beside it, then a rename).
 * @param metadata  [2 * num_metadata] keys and values in turn
 */
GDNCP_API gdncp_status_t gdncp_safetensors_write(const char *path,
                                                 const gdncp_named_tensor_t *tensors,
                                                 int64_t num_tensors, const char *const *metadata,
                                                 int64_t num_metadata);

GDNCP_END_DECLS

#endif
