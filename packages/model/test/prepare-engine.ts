/**
 * @file The engine of this test process: one is named, or `auto` finds the fastest there is.
 */
import { createEngine, type EngineName } from '@moebius/tensor';

/** Starts the engine; returns its name. */
export async function prepareEngine(engine: EngineName | 'auto' = 'auto'): Promise<EngineName> {
  const { name } = await createEngine({ engine });
  return name;
}
