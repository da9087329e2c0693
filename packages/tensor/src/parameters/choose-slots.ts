/**
 * @file Picks the slots of the active engine.
 */
import type { SlotKind } from './parameter-slot.ts';
import { portableSlots } from './portable-slots.ts';

/** In-place slots where the engine has them, else portable ones. */
export function chooseSlots(): SlotKind {
  return portableSlots;
}
