/* Pictures of layouts: what text and SVG have in common. */
#ifndef GDNCP_LAYOUT_PICTURE_H
#define GDNCP_LAYOUT_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "gdncp/layout.h"

typedef struct picture_colour {
    int red; /* 0..255 */
    int green;
    int blue;
} picture_colour_t;

/* Ranks beside each other are told apart, also by those who see few colours. */
picture_colour_t picture_colour(int rank);

/* The longest sequence, with its padding, is as wide as the picture. At least 1. */
int64_t picture_longest(const gdncp_layout_t *layout);

/* How often the next token of a sequence is on another rank: each such border hands on a state, and
 * the rows that the convolution looks back on. */
int64_t picture_num_borders(const gdncp_layout_t *layout);

/* The (query, key) pairs of causal attention on this layout, of all ranks, at least 1, and of one.
 * A rank has 1 / num_ranks of them where the layout balances the work. */
double picture_attention(const gdncp_layout_t *layout);
double picture_rank_attention(const gdncp_layout_t *layout, int rank);

/* "dual_chunk_swap, 4 ranks: 192 tokens in 2 sequences, 16 segments, 14 borders between ranks" */
void picture_title(const gdncp_layout_t *layout, char *text, size_t size);

/* Print the picture for a terminal of so many columns. */
void picture_print(const gdncp_layout_t *layout, bool in_colour, int columns, FILE *file);

/* Write it as SVG. */
void picture_write_svg(const gdncp_layout_t *layout, FILE *file);

#endif
