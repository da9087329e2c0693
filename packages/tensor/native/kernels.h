/**
 * @file The table of all kernels: one function per file of kernels.
 *
 * Licensed under the Apache License, Version 2.0.
 */
#ifndef MOEBIUS_KERNELS_H_
#define MOEBIUS_KERNELS_H_

#include <vector>

#include "kernel.h"

namespace moebius {

std::vector<Kernel> attentionKernels();
std::vector<Kernel> crossEntropyKernels();
std::vector<Kernel> decodeKernels();
std::vector<Kernel> expertFeedForwardKernels();
std::vector<Kernel> linearKernels();
std::vector<Kernel> normRopeKernels();
std::vector<Kernel> optimizerKernels();
std::vector<Kernel> rowKernels();

inline std::vector<Kernel> allKernels() {
  std::vector<Kernel> all;
  for (const auto& group : {attentionKernels(), crossEntropyKernels(), decodeKernels(), expertFeedForwardKernels(), linearKernels(),
                            normRopeKernels(), optimizerKernels(), rowKernels()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace moebius

#endif  // MOEBIUS_KERNELS_H_
