/** @file Runs operations without the native kernels, on whatever engine runs. */
import { engine, unregisterKernel } from '@tensorflow/tfjs';

import { nativeKernel, nativeKernelNames, registerNativeKernels } from '../../src/native/kernels.ts';

/** Whether the running engine has native kernels. */
export function hasNativeKernels(): boolean {
  return engine().backendName === 'tensorflow' && nativeKernel('MoebiusRmsNorm') !== undefined;
}

/** Runs `body` with every native kernel out of reach: the portable bodies run. */
export function withPortableBodies<T>(body: () => T): T {
  if (!hasNativeKernels()) return body();
  for (const name of nativeKernelNames) unregisterKernel(name, 'tensorflow');
  try {
    return body();
  } finally {
    registerNativeKernels();
  }
}
