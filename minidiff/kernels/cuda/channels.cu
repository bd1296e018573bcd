// The channels of several images put side by side: y[p, offset + c] = x[p, c], a launch for each image.
//
//   bytes   x in, and as many out
//
//   A thread moves 16 bytes where all rows start at multiples of that (W = 4 words), else one number.
//   T (float or bf16)
#include "device.h"

template <class U> DEVICE void move(const U* x, U* y, int pixels, int width, int pitch, int pitch_y) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (int64_t)pixels * width) y[i / width * pitch_y + i % width] = x[i / width * pitch + i % width];
}

KERNEL(copy_channels)(const T* x, T* y, int pixels, int C, int pitch, int pitch_y) {
  constexpr int PER = 16 / sizeof(T);
  move(reinterpret_cast<const Four*>(x), reinterpret_cast<Four*>(y), pixels, C / PER, pitch / PER, pitch_y / PER);
}

KERNEL(copy_numbers)(const T* x, T* y, int pixels, int C, int pitch, int pitch_y) { move(x, y, pixels, C, pitch, pitch_y); }
