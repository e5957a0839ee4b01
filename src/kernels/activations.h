// The constants of activations.inl.h, shared by all SIMD targets.
#pragma once
#include <cstdint>

namespace bn2d::kernels {

// kExp: e^-r for |r| <= ln 2 / 2; relative error 2.0e-8 (float), 1.6e-17 (double) before the
// roundings of its sum. kTail: S of activations.inl.h; 3.0e-8 for t <= 13.3, 1.3e-16 for t <= 38.
template <class A>
struct ActivationConstants;

template <>
struct ActivationConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr uint32_t kOneBits = 0x3F800000u;
  static constexpr float kWhole = 0x1.8p23f;  // adding it rounds to a whole number
  static constexpr float kGrid = 0x1.8p19f;   // to a multiple of 2^-4
  static constexpr float kLog2E = 0x1.715476p+0f;
  static constexpr float kLn2Hi = 0x1.62e4p-1f,
                         kLn2Lo = 0x1.7f7d1cp-20f;  // 16 bits: its products with k are exact
  // e^-v: where it is infinite, still finite, and 0. Gelu: where e^(-t^2/2) is 0.
  static constexpr float kInfinite = -88.8f, kFinite = -87, kZero = 88, kZeroOfGelu = 13.25f;
  static constexpr float kDensity = 0x1.988454p-2f;  // 1/sqrt(2*pi)
  static constexpr float kExp[] = {0x1p+0f,        -0x1p+0f,        0x1p-1f,        -0x1.555404p-3f,
                                   0x1.5554acp-5f, -0x1.126fb8p-7f, 0x1.6d7544p-10f};
  static constexpr float kTail[] = {
      0x1.82b4bcp-3f, 0x1.373e3ap-2f,  0x1.8c6d9p-2f,   0x1.7dff5ap-2f, 0x1.eeda58p-3f,
      0x1.eda6bcp-5f, -0x1.cea71ap-5f, -0x1.9d9646p-5f, 0x1.bbb6c4p-7f, 0x1.e5e228p-7f};
};

template <>
struct ActivationConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr uint64_t kOneBits = 0x3FF0000000000000u;
  static constexpr double kWhole = 0x1.8p52, kGrid = 0x1.8p32;  // 2^-20
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2Hi = 0x1.62e42fefa38p-1, kLn2Lo = 0x1.ef35793c76730p-45;  // 42 bits
  static constexpr double kInfinite = -709.9, kFinite = -708, kZero = 709, kZeroOfGelu = 37.65625;
  static constexpr double kDensity = 0x1.9884533d43651p-2;
  static constexpr double kExp[] = {0x1p+0,
                                    -0x1p+0,
                                    0x1.0000000000011p-1,
                                    -0x1.555555555555ap-3,
                                    0x1.555555554f0bap-5,
                                    -0x1.111111110f21ep-7,
                                    0x1.6c16c1880029fp-10,
                                    -0x1.a01a01b1461c5p-13,
                                    0x1.a01991a10d9aep-16,
                                    -0x1.71ddf56d8deb5p-19,
                                    0x1.28b4101c77212p-22,
                                    -0x1.af632a0f7e2cep-26};
  static constexpr double kTail[] = {
      0x1.82b4bb8c94dcep-3,  0x1.373e3a893c287p-2,   0x1.8c6dbf2cfc2f5p-2,   0x1.7dff2bff688adp-2,
      0x1.eec4cc3e46349p-3,  0x1.ee276103451b1p-5,   -0x1.c81719cbbe49bp-5,  -0x1.ab825f7c59e47p-5,
      0x1.17a4a756a227fp-7,  0x1.e4a4153f091ffp-6,   -0x1.0012a54b357e5p-11, -0x1.26cf7c162f956p-6,
      0x1.7fe8cfa47104bp-11, 0x1.8d33c04dbbd5fp-7,   -0x1.4fb32723b25b5p-9,  -0x1.11adcebfceedep-7,
      0x1.1b4cf28e6f50ap-8,  0x1.4a7afa452c328p-8,   -0x1.48434f254cd5dp-8,  -0x1.eb49d8588a59ap-10,
      0x1.dcaf807eb7adap-9,  -0x1.64d514cbc4344p-14, -0x1.ff0f0de646c48p-11};
};

}  // namespace bn2d::kernels
