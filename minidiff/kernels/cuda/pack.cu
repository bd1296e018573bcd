// The weights (A,B,KH,KW) of the library as [tap][a][b], in the numbers that a product multiplies.
//
// Rows of b are filled up with zeros to `row` numbers, a multiple of 16 bytes, so that conv.cu can fetch them in the
// background. Read once and written once for each convolution: A B KH KW numbers, a few hundred kilobytes at most.
//
//   MATH
#include "tile.h"

using S = Number<MATH>::type;

KERNEL(pack)(const float* w, S* packed, int A, int B, int row, int taps) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < taps * A * row; i += gridDim.x * blockDim.x) {
    const int b = i % row, a = i / row % A, t = i / row / A;
    store(packed + i, b < B ? w[(a * B + b) * taps + t] : 0.f);
  }
}
