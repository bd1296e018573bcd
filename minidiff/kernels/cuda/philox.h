// Philox4x32-10: four random words from a counter of four words and a key of two (Salmon et al. 2011, section 3.3).
#pragma once
#include "device.h"

struct Words { uint32_t word[4]; };

DEVICE Words philox(Words c, uint32_t key0, uint32_t key1) {
  #pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c.word[0]), low0 = 0xD2511F53u * c.word[0];
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c.word[2]), low1 = 0xCD9E8D57u * c.word[2];
    c = Words{{high1 ^ c.word[1] ^ key0, low1, high0 ^ c.word[3] ^ key1, low0}};
    key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
  }
  return c;
}

// A number from [0,1) of the upper 24 bits of a word.
DEVICE float unit(uint32_t w) { return (float)(w >> 8) * 0x1p-24f; }

// Four standard normal numbers from four words: r cos θ and r sin θ, r = √(−2 ln u₁), θ = 2π u₂ (Box & Muller 1958).
DEVICE void normals(Words w, float (&z)[4]) {
  #pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const float r = sqrtf(-2.f * logf((float)((w.word[i] >> 8) + 1) * 0x1p-24f));
    const float half_turns = 2.f * unit(w.word[i + 1]);       // cosπ needs no slow path for large angles, which cosf has
    z[i] = r * cospif(half_turns);
    z[i + 1] = r * sinpif(half_turns);
  }
}
