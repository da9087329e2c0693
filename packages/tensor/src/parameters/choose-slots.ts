/**
 * @file Picks the slots of the active engine.
 */
import { scalar } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { createNativeSlots } from './native-slots.ts';
import type { SlotKind } from './parameter-slot.ts';
import { portableSlots } from './portable-slots.ts';

/** In-place slots where the engine has the fused AdamW kernel, else portable ones. */
export function chooseSlots(): SlotKind {
  if (nativeKernel('MoebiusAdamW') === undefined) return portableSlots;
  // TensorFlow names variables process-wide; the id of a fresh tensor is unique in the process.
  const probe = scalar(0);
  probe.dispose();
  return createNativeSlots(`moebius/${probe.id}`);
}
