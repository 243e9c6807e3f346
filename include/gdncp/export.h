/**
 * @file
 * What every public header needs: symbol visibility and C linkage.
 */
#ifndef GDNCP_EXPORT_H
#define GDNCP_EXPORT_H

#if defined(__GNUC__)
#define GDNCP_API __attribute__((visibility("default")))
#else
#define GDNCP_API
#endif

#ifdef __cplusplus
#define GDNCP_BEGIN_DECLS extern "C" {
#define GDNCP_END_DECLS }
#else
#define GDNCP_BEGIN_DECLS
#define GDNCP_END_DECLS
#endif

#endif
