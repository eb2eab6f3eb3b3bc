// Norms of per-example gradients: ghost norms from Gram matrices that are never stored whole, and LayerNorm.
#pragma once
#include "_vector.h"

// The sums of 16 vectors as one vector, in the order of ORDER.
INLINE __m512 sums(const __m512 *v) {
    __m512 t[8], u[4], w[2];
    for (int i = 0; i < 8; i++)
        t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xee));
    for (int i = 0; i < 4; i++)
        u[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd));
    for (int i = 0; i < 2; i++)
        w[i] = _mm512_add_ps(_mm512_unpacklo_ps(u[i], u[i + 2]), _mm512_unpackhi_ps(u[i], u[i + 2]));
    return _mm512_add_ps(_mm512_shuffle_ps(w[0], w[1], 0x44), _mm512_shuffle_ps(w[0], w[1], 0xee));
}

static const int ORDER[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};

// Four rows of a matrix from row t on; past its end, rows of zeros.
INLINE void four_rows(const float **rows, const float *x, long stride, long length, long t, const float *zeros) {
    for (int i = 0; i < 4; i++) rows[i] = t + i < length ? x + (t + i) * stride : zeros;
}

// acc[4 * i + j] += the products of rows a[i] and b[j], not yet summed up.
INLINE void products(__m512 *acc, const float **a, const float **b, long size) {
    for (int q = 0; q < 16; q++) acc[q] = _mm512_setzero_ps();
    for (long k = 0; k < size; k += 16) {
        __mmask16 some = first(size - k);
        __m512 y[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) y[j] = _mm512_maskz_loadu_ps(some, b[j] + k);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m512 x = _mm512_maskz_loadu_ps(some, a[i] + k);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) acc[4 * i + j] = _mm512_fmadd_ps(x, y[j], acc[4 * i + j]);
        }
    }
}

// The lower triangle of x x^T + one in tiles of 4 by 4, one after the other. Tiles off the diagonal stand for their
// mirror image as well, so they are doubled. Returns the trace of x x^T.
TARGET static double gram(float *tiles, const float *x, long stride, long length, long size, float one,
                          const float *zeros) {
    double trace = 0;
    for (long t = 0; t < length; t += 4) {
        const float *a[4], *b[4];
        four_rows(a, x, stride, length, t, zeros);
        for (long s = 0; s <= t; s += 4, tiles += 16) {
            __m512 acc[16];
            float sum[16];
            four_rows(b, x, stride, length, s, zeros);
            products(acc, a, b, size);
            _mm512_storeu_ps(sum, sums(acc));
            for (int q = 0; q < 16; q++) {
                tiles[ORDER[q]] = (s == t ? 1.f : 2.f) * (sum[q] + one);
                if (s == t && ORDER[q] % 5 == 0) trace += sum[q];
            }
        }
    }
    return trace;
}

// The sum of g g^T times those tiles, element by element; the trace of g g^T is added to `trace`.
TARGET static double inner(const float *tiles, const float *g, long stride, long length, long size,
                           const float *zeros, double *trace) {
    double total = 0;
    __m512 diagonal = _mm512_setzero_ps();
    for (long t = 0; t < length; t += 4) {
        const float *a[4], *b[4];
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        four_rows(a, g, stride, length, t, zeros);
        for (long s = 0; s <= t; s += 4, tiles += 16) {
            __m512 acc[16];
            four_rows(b, g, stride, length, s, zeros);
            products(acc, a, b, size);
#pragma GCC unroll 8
            for (int q = 0; q < 16; q += 2) {
                even = _mm512_fmadd_ps(splat(tiles[q]), acc[q], even);
                odd = _mm512_fmadd_ps(splat(tiles[q + 1]), acc[q + 1], odd);
            }
            if (s == t)
                for (int q = 0; q < 16; q += 5) diagonal = _mm512_add_ps(diagonal, acc[q]);
        }
        total += _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    }
    *trace += _mm512_reduce_add_ps(diagonal);
    return total;
}

TARGET static void sum_over_time(float *out, const float *x, long stride, long length, long size) {
    for (long k = 0; k < size; k += 16) {
        __mmask16 some = first(size - k);
        __m512 sum = _mm512_setzero_ps();
        for (long t = 0; t < length; t++) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(some, x + t * stride + k));
        _mm512_mask_storeu_ps(out + k, some, sum);
    }
}

// out[b] = sum over g of <a_b a_b^T + one, g_b g_b^T>: squared norms of the weight gradients g_b^T a_b, and of `one`
// biases. traces [batch, 2], if any, = the squared norms of a and of all g. sums[g] [batch, size], if any, = the sums
// of g over time, taken while g is in the cache. Returns 0 where there is no memory.
TARGET static int ghost(float *out, float *traces, Rows a, const Rows *gs, float *const *sums, int count, long batch,
                        long length, float one) {
    long tiles = (length + 3) / 4, widest = a.size;
    for (int i = 0; i < count; i++) widest = gs[i].size > widest ? gs[i].size : widest;
    float *gram_a = malloc(sizeof(float) * (size_t)(tiles * (tiles + 1) / 2 * 16));
    float *zeros = calloc((size_t)widest, sizeof(float));
    for (long b = 0; gram_a && zeros && b < batch; b++) {
        double total = 0, of_g = 0, of_a = gram(gram_a, a.data + b * a.batch, a.time, length, a.size, one, zeros);
        for (int i = 0; i < count; i++) {
            const float *g = gs[i].data + b * gs[i].batch;
            total += inner(gram_a, g, gs[i].time, length, gs[i].size, zeros, &of_g);
            if (sums[i]) sum_over_time(sums[i] + b * gs[i].size, g, gs[i].time, length, gs[i].size);
        }
        out[b] = (float)total;
        if (traces) {
            traces[2 * b] = (float)of_a;
            traces[2 * b + 1] = (float)of_g;
        }
    }
    int done = gram_a && zeros;
    free(gram_a);
    free(zeros);
    return done;
}

// LayerNorm: weight[b] = sum over t of g (x - mean) rstd, and bias[b] = sum over t of g, in one pass over x and g.
TARGET static void layer_norm(float *weight, float *bias, Rows x, Rows g, const float *mean, const float *rstd,
                              long batch, long length) {
    for (long b = 0; b < batch; b++)
        for (long k = 0; k < x.size; k += 16) {
            __mmask16 some = first(x.size - k);
            __m512 w = _mm512_setzero_ps(), s = _mm512_setzero_ps();
            for (long t = 0; t < length; t++) {
                __m512 slope = _mm512_maskz_loadu_ps(some, g.data + b * g.batch + t * g.time + k);
                __m512 value = _mm512_maskz_loadu_ps(some, x.data + b * x.batch + t * x.time + k);
                value = _mm512_mul_ps(_mm512_sub_ps(value, splat(mean[b * length + t])), splat(rstd[b * length + t]));
                w = _mm512_fmadd_ps(value, slope, w);
                s = _mm512_add_ps(s, slope);
            }
            _mm512_mask_storeu_ps(weight + b * x.size + k, some, w);
            _mm512_mask_storeu_ps(bias + b * x.size + k, some, s);
        }
}
