/* Loops that compilers turn into vector code, with copies for processors that have wider vectors.
 */
#ifndef GDNCP_VECTOR_CLONES_H
#define GDNCP_VECTOR_CLONES_H

/* Put before a static function whose loops are worth a second copy for processors with AVX2 and
 * FMA. (One that is not static is exported by its resolver, hidden or not.) Sanitizers cannot
 * instrument the resolver that picks a copy. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) &&   \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define GDNCP_HAS_VECTOR_CLONES
#define GDNCP_VECTOR_CLONES __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define GDNCP_VECTOR_CLONES
#endif

/* What such a loop calls must become part of it. */
#define GDNCP_ALWAYS_INLINE static inline __attribute__((always_inline))

#endif
