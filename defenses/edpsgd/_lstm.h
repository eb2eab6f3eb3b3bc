// The recursion of one direction of one LSTM layer, forwards and backwards; gates lie as torch has them: i, f, g, o.
#pragma once
#include "_gemm.h"

// Row n of a step: activations from the gates, then c, tanh(c) and h.
INLINE void cell(float *z, const float *before, float *c, float *tanh_c, float *h, long size) {
    for (long k = 0; k < size; k += 16) {
        __mmask16 some = first(size - k);
        __m512 i = sigmoid16(_mm512_maskz_loadu_ps(some, z + k));
        __m512 f = sigmoid16(_mm512_maskz_loadu_ps(some, z + size + k));
        __m512 g = tanh16(_mm512_maskz_loadu_ps(some, z + 2 * size + k));
        __m512 o = sigmoid16(_mm512_maskz_loadu_ps(some, z + 3 * size + k));
        __m512 now = _mm512_fmadd_ps(f, _mm512_maskz_loadu_ps(some, before + k), _mm512_mul_ps(i, g));
        __m512 t = tanh16(now);
        _mm512_mask_storeu_ps(z + k, some, i);
        _mm512_mask_storeu_ps(z + size + k, some, f);
        _mm512_mask_storeu_ps(z + 2 * size + k, some, g);
        _mm512_mask_storeu_ps(z + 3 * size + k, some, o);
        _mm512_mask_storeu_ps(c + k, some, now);
        _mm512_mask_storeu_ps(tanh_c + k, some, t);
        _mm512_mask_storeu_ps(h + k, some, _mm512_mul_ps(o, t));
    }
}

// Row n of a step, backwards: dL/dgates from the activations; dc goes from dL/dc of this step to that of the one
// before.
INLINE void cell_backward(float *d_gates, const float *z, const float *before, const float *tanh_c, const float *dh,
                          float *dc, long size) {
    const __m512 one = splat(1.f);
    for (long k = 0; k < size; k += 16) {
        __mmask16 some = first(size - k);
        __m512 i = _mm512_maskz_loadu_ps(some, z + k), f = _mm512_maskz_loadu_ps(some, z + size + k);
        __m512 g = _mm512_maskz_loadu_ps(some, z + 2 * size + k), o = _mm512_maskz_loadu_ps(some, z + 3 * size + k);
        __m512 t = _mm512_maskz_loadu_ps(some, tanh_c + k), above = _mm512_maskz_loadu_ps(some, dh + k);
        __m512 d = _mm512_mul_ps(above, _mm512_mul_ps(o, _mm512_fnmadd_ps(t, t, one)));
        d = _mm512_add_ps(d, _mm512_maskz_loadu_ps(some, dc + k));
        __m512 of_i = _mm512_mul_ps(d, _mm512_mul_ps(g, _mm512_mul_ps(i, _mm512_sub_ps(one, i))));
        __m512 of_f = _mm512_mul_ps(_mm512_maskz_loadu_ps(some, before + k), _mm512_mul_ps(f, _mm512_sub_ps(one, f)));
        __m512 of_g = _mm512_mul_ps(d, _mm512_mul_ps(i, _mm512_fnmadd_ps(g, g, one)));
        __m512 of_o = _mm512_mul_ps(above, _mm512_mul_ps(t, _mm512_mul_ps(o, _mm512_sub_ps(one, o))));
        _mm512_mask_storeu_ps(d_gates + k, some, of_i);
        _mm512_mask_storeu_ps(d_gates + size + k, some, _mm512_mul_ps(d, of_f));
        _mm512_mask_storeu_ps(d_gates + 2 * size + k, some, of_g);
        _mm512_mask_storeu_ps(d_gates + 3 * size + k, some, of_o);
        _mm512_mask_storeu_ps(dc + k, some, _mm512_mul_ps(d, f));
    }
}

// gates [time, batch, 4 size]: of the inputs alone, then activations. h, c [time + 1, batch, size]: the first is given.
// rows[t] of the batch take part in step t. Returns 0 where there is no memory.
TARGET static int lstm_forward(float *gates, float *h, float *c, float *tanh_c, const float *hh,
                               const int64_t *rows, long length, long batch, long size) {
    float *packed = malloc(sizeof(float) * packed_size(size, 4 * size));
    if (!packed) return 0;
    pack_right(packed, hh, 1, size, size, 4 * size);
    for (long t = 0; t < length; t++) {
        float *z = gates + t * batch * 4 * size, *b = c + t * batch * size, *a = h + t * batch * size;
        multiply(z, 4 * size, a, size, packed, size, rows[t], 4 * size);
        for (long n = 0; n < rows[t]; n++) {
            long at = n * size, next = (batch + n) * size;
            cell(z + 4 * at, b + at, b + next, tanh_c + t * batch * size + at, a + next, size);
        }
    }
    free(packed);
    return 1;
}

// d_gates [time, batch, 4 size] = dL/dgates, 0 for rows that do not take part. dh [time, batch, size]: dL/dh from
// above, and on return with what comes from later steps. dh0 [batch, size] must hold zeros. Returns 0 where there is
// no memory.
TARGET static int lstm_backward(float *d_gates, const float *gates, const float *c, const float *tanh_c, float *dh,
                                float *dc, float *dh0, const float *hh, const int64_t *rows, long length,
                                long batch, long size) {
    float *packed = malloc(sizeof(float) * packed_size(4 * size, size));
    if (!packed) return 0;
    pack_right(packed, hh, size, 1, 4 * size, size);
    for (long t = length - 1; t >= 0; t--) {
        float *d = d_gates + t * batch * 4 * size, *below = t ? dh + (t - 1) * batch * size : dh0;
        for (long n = 0; n < rows[t]; n++) {
            long at = (t * batch + n) * size;
            cell_backward(d + 4 * n * size, gates + 4 * at, c + at, tanh_c + at, dh + at, dc + n * size, size);
        }
        memset(d + rows[t] * 4 * size, 0, sizeof(float) * (size_t)((batch - rows[t]) * 4 * size));
        multiply(below, size, d, 4 * size, packed, 4 * size, rows[t], size);
    }
    free(packed);
    return 1;
}
