// sin, cos and tan of any float32, however large, without the stack frame that CUDA's own take for large ones.
//
// Counted in quarter turns, x is q = x · 2/π = n + f with a whole n and |f| ≤ ½, and then
//
//   sin x = ± sin(π f/2)  or  ± cos(π f/2),      which of the four by n mod 4
//
// The whole turns of a large x must be taken off exactly. x is m · 2^e with a whole m of 32 bits; bits of 2/π that give
// multiples of four quarter turns with m change nothing, so 96 bits from there on are enough, wherever they begin (Payne &
// Hanek 1983): 2 bits for n, and 64 for f after the smallest f that a float32 can have.
#pragma once
#include "device.h"

// 2/π in binary, 0.A2F9836E4E44…, after 64 zeros.
__constant__ uint32_t TWO_OVER_PI[] = {0, 0, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u};

DEVICE uint64_t two_over_pi(int bit) {                           // 64 bits of it, from this one on
  const uint32_t* word = TWO_OVER_PI + bit / 32;
  const int shift = bit % 32;
  const uint64_t whole = (uint64_t)word[0] << 32 | word[1];
  return shift ? whole << shift | word[2] >> (32 - shift) : whole;
}

// f of |x|; n mod 4 to `quarter`
DEVICE float quarter_turns(float x, int& quarter) {
  const uint32_t bits = __float_as_uint(x) & 0x7fffffffu;
  quarter = 0;
  if (bits >= 0x7f800000u) return x - x;                         // ±∞ and NaN have no angle
  if (bits < 0x3f490fdbu) return __uint_as_float(bits) * 0.63661977f;      // less than π/4: no turn to take off
  const int e = (int)(bits >> 23) - 127 - 31;
  const uint64_t m = bits << 8 | 0x80000000u;
  const uint64_t high = two_over_pi(e + 62), low = two_over_pi(e + 126) >> 32;
  const uint64_t q = m * high + (m * low >> 32);                 // q mod 4, in units of 2^-62
  const uint64_t rounded = q + (1ull << 61);
  quarter = (int)(rounded >> 62);
  return (float)(int64_t)(q - (rounded & 3ull << 62)) * 2.1684043e-19f;
}

DEVICE float turned(float x, int quarter, bool sine) {           // sin or cos of so many quarters and x more
  const float y = sine == (quarter % 2 == 0) ? sinpif(0.5f * x) : cospif(0.5f * x);
  return quarter + !sine & 2 ? -y : y;
}
DEVICE float sine(float x) {
  int quarter;
  const float f = quarter_turns(x, quarter), y = turned(f, quarter, true);
  return x < 0.f ? -y : y;
}
DEVICE float cosine(float x) {
  int quarter;
  const float f = quarter_turns(x, quarter);
  return turned(f, quarter, false);
}
DEVICE float tangent(float x) {
  int quarter;
  const float f = quarter_turns(x, quarter), y = turned(f, quarter, true) / turned(f, quarter, false);
  return x < 0.f ? -y : y;
}
