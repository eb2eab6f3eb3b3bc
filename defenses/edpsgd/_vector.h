// What the parts of the kernel share: the processor features they are compiled for, and a few vector functions.
//
// Every function is compiled for AVX-512 and VAES by an attribute and not by a flag, so that the rest of the module
// runs on any processor and can say that this one is not up to it. Never compile this with -ffast-math: an example with
// a NaN or an infinity must come out as one.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,aes,vaes")))
#define INLINE TARGET static inline __attribute__((always_inline))

// A matrix [time, size] for each example of a batch; the strides are in floats, columns lie side by side.
typedef struct {
    const float *data;
    long batch, time, size;
} Rows;

INLINE __mmask16 first(long n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

INLINE __m512 splat(float x) { return _mm512_set1_ps(x); }

// e^x by Cephes' expf: within 2 ulp. NaN stays NaN; below -88 the result is about e^-88, which is 0 next to 1.
INLINE __m512 exp16(__m512 x) {
    // The bound is the first operand: where x is NaN these instructions return the second.
    x = _mm512_min_ps(splat(88.3f), _mm512_max_ps(splat(-88.3f), x));
    __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, splat(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(k, splat(-2.12194440e-4f), _mm512_fnmadd_ps(k, splat(0.693359375f), x));
    __m512 p = splat(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, splat(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, splat(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, splat(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, splat(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, splat(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), splat(1.f));
    return _mm512_scalef_ps(p, k);
}

INLINE __m512 sigmoid16(__m512 x) {
    return _mm512_div_ps(splat(1.f), _mm512_add_ps(splat(1.f), exp16(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// Near 0 the quotient of exponentials would lose every digit, so there it is Cephes' polynomial.
INLINE __m512 tanh16(__m512 x) {
    __m512 z = _mm512_mul_ps(x, x), p = splat(-5.70498872745e-3f);
    p = _mm512_fmadd_ps(p, z, splat(2.06390887954e-2f));
    p = _mm512_fmadd_ps(p, z, splat(-5.37397155531e-2f));
    p = _mm512_fmadd_ps(p, z, splat(1.33314422036e-1f));
    p = _mm512_fmadd_ps(p, z, splat(-3.33332819422e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, z), x, x);
    __m512 e = exp16(_mm512_add_ps(x, x));
    __m512 far = _mm512_sub_ps(splat(1.f), _mm512_div_ps(splat(2.f), _mm512_add_ps(e, splat(1.f))));
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(x), splat(0.625f), _CMP_GE_OQ), p, far);
}
