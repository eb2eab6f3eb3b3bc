// Matrix products in tiles of 6 rows by 64 columns, the most that the 32 vector registers hold.
#pragma once
#include "_vector.h"

enum { TALL = 6, WIDE = 64, DEEP = 256 };  // DEEP * WIDE floats of the right matrix stay in the second cache

// out[:rows, :columns] += x y over `depth`; x(i, k) = x[i * across + k * along], y is packed WIDE columns to a line.
TARGET static void tile(float *out, long line, const float *x, long across, long along, const float *y, long depth,
                        long rows, long columns) {
    __m512 acc[TALL][4];
    const float *from[TALL];
    for (int i = 0; i < TALL; i++) from[i] = x + (i < rows ? i : rows - 1) * across;
    for (int i = 0; i < TALL; i++)
        for (int j = 0; j < 4; j++) acc[i][j] = _mm512_setzero_ps();
    for (long i = 0; i < rows; i++)
        for (int j = 0; j < 4; j++) _mm_prefetch((const char *)(out + i * line + 16 * j), _MM_HINT_T0);
    for (long k = 0; k < depth; k++, y += WIDE) {
        __m512 right[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) right[j] = _mm512_loadu_ps(y + 16 * j);
#pragma GCC unroll 6
        for (int i = 0; i < TALL; i++) {
            __m512 left = splat(from[i][k * along]);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) acc[i][j] = _mm512_fmadd_ps(left, right[j], acc[i][j]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < TALL; i++) {
        if (i >= rows) break;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __mmask16 some = columns > 16 * j ? first(columns - 16 * j) : 0;
            float *to = out + i * line + 16 * j;
            _mm512_mask_storeu_ps(to, some, _mm512_add_ps(_mm512_maskz_loadu_ps(some, to), acc[i][j]));
        }
    }
}

// Pack y(k, n) = y[k * along + n * across] into panels of WIDE columns, zeros past the last one.
TARGET static void pack_right(float *packed, const float *y, long along, long across, long depth, long columns) {
    for (long n = 0; n < columns; n += WIDE)
        for (long k = 0; k < depth; k++, packed += WIDE)
            for (int j = 0; j < WIDE; j++) packed[j] = n + j < columns ? y[k * along + (n + j) * across] : 0.f;
}

static size_t packed_size(long depth, long columns) { return (size_t)((columns + WIDE - 1) / WIDE * WIDE * depth); }

// out [rows, columns] += x [rows, depth] times a packed matrix.
TARGET static void multiply(float *out, long line, const float *x, long across, const float *packed, long depth,
                            long rows, long columns) {
    for (long n = 0; n < columns; n += WIDE, packed += depth * WIDE)
        for (long i = 0; i < rows; i += TALL)
            tile(out + i * line + n, line, x + i * across, across, 1, packed, depth,
                 rows - i < TALL ? rows - i : TALL, columns - n < WIDE ? columns - n : WIDE);
}

// Pack columns i .. i + TALL of some rows, each times its weight; with `sums`, add up what was packed.
INLINE void pack_left(float *packed, const float *const *rows, const float *weights, long i, long size, long depth,
                      float *sums) {
    __mmask16 some = first(size - i < TALL ? size - i : TALL), all = first(TALL);
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < depth; k++, packed += TALL) {
        // A weight of 0 drops the row, which may hold a NaN.
        __mmask16 wanted = weights[k] == 0.f ? 0 : some;
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(wanted, rows[k] + i), splat(weights[k]));
        _mm512_mask_storeu_ps(packed, all, v);
        sum = _mm512_add_ps(sum, v);
    }
    if (sums) _mm512_mask_storeu_ps(sums + i, some, _mm512_add_ps(sum, _mm512_maskz_loadu_ps(some, sums + i)));
}

// out [x.size, y.size] += sum over b, t of weights[b] x[b, t]^T y[b, t]; `sums` [x.size], if any, += the same without
// y: the gradients of a linear layer's weight and bias, each example with a weight of its own. Returns 0 where there
// is no memory.
TARGET static int weighted_sum(float *out, long line, float *sums, Rows x, Rows y, const float *weights, long batch,
                               long length) {
    const float *xs[DEEP], *ys[DEEP];
    float ws[DEEP], *left = malloc(sizeof(float) * (size_t)((x.size + TALL - 1) / TALL * TALL * DEEP + 16));
    float *right = malloc(sizeof(float) * DEEP * WIDE);
    for (long done = 0; left && right && done < batch * length; done += DEEP) {
        long depth = batch * length - done < DEEP ? batch * length - done : DEEP;
        for (long k = 0; k < depth; k++) {
            long b = (done + k) / length, t = (done + k) % length;
            xs[k] = x.data + b * x.batch + t * x.time;
            ys[k] = y.data + b * y.batch + t * y.time;
            ws[k] = weights[b];
        }
        for (long i = 0; i < x.size; i += TALL) pack_left(left + i * depth, xs, ws, i, x.size, depth, sums);
        for (long n = 0; n < y.size; n += WIDE) {
            long columns = y.size - n < WIDE ? y.size - n : WIDE;
            for (long k = 0; k < depth; k++)
                for (int j = 0; j < 4; j++) {
                    __mmask16 some = columns > 16 * j && ws[k] != 0.f ? first(columns - 16 * j) : 0;
                    _mm512_storeu_ps(right + k * WIDE + 16 * j, _mm512_maskz_loadu_ps(some, ys[k] + n + 16 * j));
                }
            for (long i = 0; i < x.size; i += TALL)
                tile(out + i * line + n, line, left + i * depth, 1, TALL, right, depth,
                     x.size - i < TALL ? x.size - i : TALL, columns);
        }
    }
    int enough = left && right;
    free(left);
    free(right);
    return enough;
}

// out [rows, columns] += x [rows, depth] y, where y(k, n) = y[k * along + n * across]. Returns 0 where there is no
// memory.
TARGET static int product(float *out, const float *x, const float *y, long along, long across, long rows,
                          long depth, long columns) {
    float *packed = malloc(sizeof(float) * packed_size(DEEP, columns));
    if (!packed) return 0;
    for (long k = 0; k < depth; k += DEEP) {
        long deep = depth - k < DEEP ? depth - k : DEEP;
        pack_right(packed, y + k * along, along, across, deep, columns);
        multiply(out, columns, x + k, depth, packed, deep, rows, columns);
    }
    free(packed);
    return 1;
}
