/**
 * @file
 * The cores of this machine, and their shares among ranks.
 */
#ifndef GDNCP_TOPOLOGY_H
#define GDNCP_TOPOLOGY_H

#include <stdbool.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/** What gdncp_topology_bind() gave a rank. */
typedef struct gdncp_core_share {
    int num_cores; /**< threads worth starting: > 0; hardware threads of one core count once */
    bool bound;    /**< the process runs on these cores only */
    bool shared;   /**< other ranks of this machine have the same cores: there are too few */
} gdncp_core_share_t;

/**
 * Give this process its share of the cores that it is allowed to run on.
 *
 * With C allowed cores, rank r of n gets cores [r*C/n, (r+1)*C/n), rounded down, in the order of
 * the machine, so that neighbouring ranks are near each other and a share crosses as few
 * packages and memory nodes as it can. The process is bound to its share. With fewer cores than
 * ranks nothing is bound and each rank has one core, shared.
 *
 * A launcher that has bound the ranks already is left alone by passing local_rank 0 and
 * local_size 1: all allowed cores are then this rank's. Call it before starting threads;
 * only threads started later inherit the binding.
 *
 * @param local_rank  0 <= local_rank < local_size, counted on this machine
 * @param local_size  ranks on this machine, > 0
 * @param share_p     set on success
 */
GDNCP_API gdncp_status_t gdncp_topology_bind(int local_rank, int local_size,
                                             gdncp_core_share_t *share_p);

GDNCP_END_DECLS

#endif
