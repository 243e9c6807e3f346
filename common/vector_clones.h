/* How loops are made into vector code: copies of a function for what processors have. */
#ifndef GDNCP_VECTOR_CLONES_H
#define GDNCP_VECTOR_CLONES_H

/* Put before a static function whose loops are worth copies for processors with AVX2 and FMA, and
 * with AVX-512; which one runs is settled when the library is loaded. (A function that is not
 * static is exported by its resolver, hidden or not.) Sanitizers cannot instrument the resolver. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) &&   \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define GDNCP_VECTOR_CLONES                                                                        \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define GDNCP_VECTOR_CLONES
#endif

/* Put before a loop none of whose iterations reads what another one writes, where the compiler
 * cannot see that. */
#if defined(__GNUC__) && !defined(__clang__)
#define GDNCP_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#else
#define GDNCP_INDEPENDENT_ITERATIONS
#endif

#define GDNCP_ALWAYS_INLINE static inline __attribute__((always_inline))

#endif
