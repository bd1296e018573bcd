// GELU and its slope, exact (through erf) or by a tanh: Hendrycks & Gimpel 2016.
#pragma once
#include "device.h"

enum Activation { NONE, GELU, GELU_TANH, SILU };

// y = x Φ(x), with Φ(x) = ½ (1 + erf(x / √2)), or ½ (1 + tanh(√(2/π) (x + 0.044715 x³)));   SiLU: y = x / (1 + e⁻ˣ)
template <Activation A> DEVICE float activation(float x) {
  if constexpr (A == GELU) return 0.5f * x * (1.f + erff(x * 0.70710678f));
  if constexpr (A == GELU_TANH) return 0.5f * x * (1.f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
  if constexpr (A == SILU) return x / (1.f + expf(-x));
  return x;
}

// dy/dx: Φ(x) + x φ(x), with φ(x) = e^{−x²/2} / √(2π);   SiLU: s (1 + x (1 − s)), with s = 1 / (1 + e⁻ˣ)
template <Activation A> DEVICE float slope(float x) {
  if constexpr (A == GELU) return 0.5f * (1.f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
  if constexpr (A == GELU_TANH) {
    const float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.f + t) + 0.5f * x * (1.f - t * t) * 0.79788456f * (1.f + 3.f * 0.044715f * x * x);
  }
  if constexpr (A == SILU) {
    const float s = 1.f / (1.f + expf(-x));
    return s * (1.f + x * (1.f - s));
  }
  return 1.f;
}
