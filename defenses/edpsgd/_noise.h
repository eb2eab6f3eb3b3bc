// Gaussian noise: AES-128 in counter mode (FIPS 197, SP 800-38A), four blocks to a vector, then Box-Muller in float32.
#pragma once
#include "_vector.h"

TARGET static __m128i next_round_key(__m128i key, __m128i assist) {
    assist = _mm_shuffle_epi32(assist, 0xff);
    for (int i = 0; i < 3; i++) key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    return _mm_xor_si128(key, assist);
}

TARGET static void expand_key(const uint8_t *key, __m512i *rounds) {
    __m128i k = _mm_loadu_si128((const __m128i *)key);
    rounds[0] = _mm512_broadcast_i32x4(k);
#define ROUND(i, constant) \
    k = next_round_key(k, _mm_aeskeygenassist_si128(k, constant)); \
    rounds[i] = _mm512_broadcast_i32x4(k);
    ROUND(1, 1) ROUND(2, 2) ROUND(3, 4) ROUND(4, 8) ROUND(5, 16)
    ROUND(6, 32) ROUND(7, 64) ROUND(8, 128) ROUND(9, 0x1b) ROUND(10, 0x36)
#undef ROUND
}

// Encrypt 8 vectors at a time: AES has a latency of several cycles and this keeps the unit busy.
INLINE void encrypt(__m512i x[8], const __m512i *rounds) {
    for (int q = 0; q < 8; q++) x[q] = _mm512_xor_si512(x[q], rounds[0]);
    for (int r = 1; r < 10; r++)
        for (int q = 0; q < 8; q++) x[q] = _mm512_aesenc_epi128(x[q], rounds[r]);
    for (int q = 0; q < 8; q++) x[q] = _mm512_aesenclast_epi128(x[q], rounds[10]);
}

// A uniform of 32 bits ends at 2^-33, and the normals at 6.8 sigma. Words below this one, one in 2^20, get 32 bits more.
#define COARSE 4096

INLINE __mmask16 coarse(__m512i bits) { return _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(COARSE)); }

// Where in its cell, of size 2^-32, a uniform lies: in the middle, or for coarse words where 32 further bits say.
INLINE __m512 place(__m512i bits, __m512i finer) {
    __m512 there = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepu32_ps(finer), splat(0.5f)), splat(0x1p-32f));
    return _mm512_mask_mov_ps(splat(0.5f), coarse(bits), there);
}

// -log((bits + place) / 2^32), by Cephes' logf on a mantissa in [0.75, 1.5). Float cannot hold bits near 2^32; there the
// distance from 1 is taken from the inverted bits, so that small radii are not rounded to a few values.
INLINE __m512 minus_log(__m512i bits, __m512 place) {
    const __m512 unit = splat(2.3283064365386963e-10f);
    __m512 u = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepu32_ps(bits), place), unit);
    __m512i inverted = _mm512_xor_si512(bits, _mm512_set1_epi32(-1));
    __m512 near = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepu32_ps(inverted), splat(0.5f)), unit);
    __mmask16 upper = _mm512_cmp_ps_mask(u, splat(0.75f), _CMP_GE_OQ);
    __m512 e = _mm512_getexp_ps(u), m = _mm512_getmant_ps(u, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
    __mmask16 folded = _mm512_cmp_ps_mask(m, splat(1.f), _CMP_LT_OQ);  // getexp gives floor(log2): one too few there
    e = _mm512_mask_add_ps(e, folded, e, splat(1.f));
    e = _mm512_mask_mov_ps(e, upper, _mm512_setzero_ps());
    __m512 f = _mm512_mask_sub_ps(_mm512_sub_ps(m, splat(1.f)), upper, _mm512_setzero_ps(), near);
    __m512 z = _mm512_mul_ps(f, f), p = splat(7.0376836292e-2f);
    p = _mm512_fmadd_ps(p, f, splat(-1.1514610310e-1f));
    p = _mm512_fmadd_ps(p, f, splat(1.1676998740e-1f));
    p = _mm512_fmadd_ps(p, f, splat(-1.2420140846e-1f));
    p = _mm512_fmadd_ps(p, f, splat(1.4249322787e-1f));
    p = _mm512_fmadd_ps(p, f, splat(-1.6668057665e-1f));
    p = _mm512_fmadd_ps(p, f, splat(2.0000714765e-1f));
    p = _mm512_fmadd_ps(p, f, splat(-2.4999993993e-1f));
    p = _mm512_fmadd_ps(p, f, splat(3.3333331174e-1f));
    p = _mm512_mul_ps(_mm512_mul_ps(p, f), z);
    p = _mm512_fmadd_ps(e, splat(-2.12194440e-4f), p);
    p = _mm512_add_ps(_mm512_fnmadd_ps(z, splat(0.5f), p), f);
    return _mm512_fnmsub_ps(e, splat(0.693359375f), p);
}

// Cosine and sine of 2 pi bits / 2^32: quarter turns first, then polynomials on an eighth of a turn either way.
INLINE void cos_sin(__m512i bits, __m512 *cosine, __m512 *sine) {
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(bits), splat(2.3283064365386963e-10f));  // turns, in [-0.5, 0.5]
    __m512 quarter = _mm512_roundscale_ps(_mm512_mul_ps(v, splat(4.f)), 8);
    __m512 t = _mm512_mul_ps(_mm512_fnmadd_ps(quarter, splat(0.25f), v), splat(6.283185307f)), z = _mm512_mul_ps(t, t);
    __m512 s = _mm512_fmadd_ps(splat(-1.9515295891e-4f), z, splat(8.3321608736e-3f));
    s = _mm512_fmadd_ps(s, z, splat(-1.6666654611e-1f));
    s = _mm512_fmadd_ps(_mm512_mul_ps(s, z), t, t);
    __m512 c = _mm512_fmadd_ps(splat(2.443315711809948e-5f), z, splat(-1.388731625493765e-3f));
    c = _mm512_fmadd_ps(c, z, splat(4.166664568298827e-2f));
    c = _mm512_fmadd_ps(_mm512_mul_ps(c, z), z, _mm512_fnmadd_ps(z, splat(0.5f), splat(1.f)));
    __m512i q = _mm512_cvtps_epi32(quarter), two = _mm512_set1_epi32(2);
    __mmask16 odd = _mm512_test_epi32_mask(q, _mm512_set1_epi32(1));
    __mmask16 minus_sine = _mm512_test_epi32_mask(q, two);
    __mmask16 minus_cosine = _mm512_test_epi32_mask(_mm512_add_epi32(q, _mm512_set1_epi32(1)), two);
    __m512 a = _mm512_mask_blend_ps(odd, s, c), b = _mm512_mask_blend_ps(odd, c, s);
    *sine = _mm512_mask_sub_ps(a, minus_sine, _mm512_setzero_ps(), a);
    *cosine = _mm512_mask_sub_ps(b, minus_cosine, _mm512_setzero_ps(), b);
}

// Encrypt `blocks` blocks of 16 bytes, each by itself: for tests against published vectors.
TARGET static void aes_blocks(uint8_t *out, const uint8_t *in, long blocks, const uint8_t *key) {
    __m512i rounds[11], x[8];
    expand_key(key, rounds);
    for (long o = 0; o < blocks; o += 32) {
        uint8_t buffer[512] = {0};
        size_t size = (size_t)(blocks - o < 32 ? blocks - o : 32) * 16;
        memcpy(buffer, in + 16 * o, size);
        for (int q = 0; q < 8; q++) x[q] = _mm512_loadu_si512(buffer + 64 * q);
        encrypt(x, rounds);
        for (int q = 0; q < 8; q++) _mm512_storeu_si512(buffer + 64 * q, x[q]);
        memcpy(out + 16 * o, buffer, size);
    }
}

// -log of 16 uniforms, each of two words: for tests, which cannot wait until the key stream has a word of zeros.
TARGET static void minus_logs(float *out, const uint8_t *bits, const uint8_t *finer) {
    __m512i b = _mm512_loadu_si512(bits), f = _mm512_loadu_si512(finer);
    _mm512_storeu_ps(out, minus_log(b, place(b, f)));
}

// The words that refine those of a vector of blocks: the same counters with a one in their upper half, which no other
// words come from.
TARGET static __attribute__((noinline)) __m512i finer_words(__m512i counters, const __m512i *rounds) {
    __m512i x[8] = {_mm512_or_si512(counters, _mm512_set_epi64(1, 0, 1, 0, 1, 0, 1, 0))};
    encrypt(x, rounds);
    return x[0];
}

// Write n normals, from block `counter` on; 128 normals use 32 blocks, the even vectors for radii, the odd for angles.
TARGET static void normal(float *out, long n, float std, const uint8_t *key, uint64_t counter) {
    __m512i rounds[11], count[8], x[8];
    expand_key(key, rounds);
    for (int q = 0; q < 8; q++) {
        uint64_t c = counter + 4 * (uint64_t)q;
        count[q] = _mm512_set_epi64(0, c + 3, 0, c + 2, 0, c + 1, 0, c);
    }
    const __m512i next = _mm512_set_epi64(0, 32, 0, 32, 0, 32, 0, 32);
    for (long o = 0; o < n; o += 128) {
        float last[128], *to = n - o >= 128 ? out + o : last;
        for (int q = 0; q < 8; q++) {
            x[q] = count[q];
        }
        encrypt(x, rounds);
        for (int q = 0; q < 4; q++) {
            __m512 c, s, radius, where = splat(0.5f);
            if (__builtin_expect(coarse(x[2 * q]), 0)) where = place(x[2 * q], finer_words(count[2 * q], rounds));
            radius = _mm512_sqrt_ps(_mm512_mul_ps(splat(2.f), minus_log(x[2 * q], where)));
            radius = _mm512_mul_ps(radius, splat(std));
            cos_sin(x[2 * q + 1], &c, &s);
            _mm512_storeu_ps(to + 32 * q, _mm512_mul_ps(radius, c));
            _mm512_storeu_ps(to + 32 * q + 16, _mm512_mul_ps(radius, s));
        }
        for (int q = 0; q < 8; q++) count[q] = _mm512_add_epi64(count[q], next);
        if (to == last) memcpy(out + o, last, (size_t)(n - o) * sizeof(float));
    }
}
