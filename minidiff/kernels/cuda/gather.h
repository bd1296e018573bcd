// Pixels and their channels, fetched for products over patches of an image.
#pragma once
#include "device.h"

struct Pixel {
  int image, row, column;
  int there;                                            // 0 for a row of the tile beyond the last pixel
};

// Channels c, c + 1, … of a pixel, 16 bytes of them, into shared memory; zeros beyond channel C and where `inside` is false.
// In the background where C allows it: else number by number, as the channels of a pixel need not start at a multiple of 16.
template <int C, class S> DEVICE void fetch16(S* to, const S* pixel, int c, bool inside) {
  constexpr int PER = 16 / sizeof(S);
  if constexpr (C % PER == 0) copy16(to, pixel + c, inside && c < C);
  else
    #pragma unroll
    for (int e = 0; e < PER; e++) to[e] = inside && c + e < C ? pixel[c + e] : S{};
}

// Two neighbours at once; the first at an even place.
DEVICE void store2(float* p, float first, float second) { *reinterpret_cast<float2*>(p) = float2{first, second}; }
DEVICE void store2(bf16* p, float first, float second) { *reinterpret_cast<uint32_t*>(p) = pack_bf16(first, second); }
