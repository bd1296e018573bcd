// A batch gathered from the data set, which lies in the GPU's memory as bytes.
//
//   x[i,c,h,w] = p / 127.5 − 1,   p the pixel of image order[first + i], black (−1) in the frame around a smaller image
//
// `first` is read from memory, so that a CUDA graph gathers the next batch each time it is replayed.
//
//   bytes   a byte of a pixel in, four out
#include "device.h"

KERNEL(gather_batch)(const unsigned char* images, const long long* labels, const int* order, const int* first, float* x, long long* y,
                     int N, int C, int H, int W, int size) {
  const int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= (int64_t)N * C * size * size) return;
  const int w = k % size - (size - W) / 2, h = k / size % size - (size - H) / 2, c = k / size / size % C, i = k / size / size / C;
  const int64_t image = order[*first + i];
  const bool inside = h >= 0 && h < H && w >= 0 && w < W;
  x[k] = inside ? images[((image * C + c) * H + h) * W + w] / 127.5f - 1.f : -1.f;
  if (k % ((int64_t)C * size * size) == 0) y[i] = labels[image];
}
