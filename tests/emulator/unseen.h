/* Host memory that the device may be using at the same time: tests look at it, and change it, in a
 * way that the thread sanitizer does not see. */
#ifndef GDNCP_TEST_UNSEEN_H
#define GDNCP_TEST_UNSEEN_H

#define UNSEEN __attribute__((no_sanitize_thread))

UNSEEN static inline float look_at(const float *value)
{
    return *(const volatile float *)value;
}

UNSEEN static inline void change(float *value, float changed)
{
    *(volatile float *)value = changed;
}

#endif
