/**
 * @file
 * All of gdncp's public headers.
 */
#ifndef GDNCP_GDNCP_H
#define GDNCP_GDNCP_H

#include "checkpoint.h"
#include "comm.h"
#include "device.h"
#include "environment.h"
#include "exchange.h"
#include "export.h"
#include "heads.h"
#include "index_maps.h"
#include "init.h"
#include "layer.h"
#include "layout.h"
#include "layout_from.h"
#include "layout_inline.h"
#include "memory.h"
#include "nccl.h"
#include "ops.h"
#include "ops_decode.h"
#include "pattern.h"
#include "plan.h"
#include "safetensors.h"
#include "sections.h"
#include "status.h"
#include "tensor.h"
#include "topology.h"
#include "trace.h"
#include "unpad.h"
#include "weights.h"

#endif
